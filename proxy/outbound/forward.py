"""Requests of an application that takes us for its HTTP proxy (RFC 9112 §3.2.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, final

from core.errors import ClientProtocolError, MeshError
from discovery.model import Address
from proxy.http.exchange import Exchange, Service
from proxy.outbound.lookup import Lookup
from proxy.runtime import Runtime
from proxy.telemetry.http import OutboundHttp
from proxy.wire.http_message import Form
from proxy.wire.native import without_fields

MAX_DESTINATIONS: Final = 64
"""Destinations that one connection keeps at hand."""
_FOR_PROXIES: Final = frozenset((b"proxy-authorization", b"proxy-connection"))
_HINT: Final = "send GET http://HOST/…, or begin the connection with CONNECT HOST:PORT"


@final
class ForwardRequests(Service):
    """The requests of one connection, each to the destination that it names."""

    __slots__ = ("_lookup", "_make", "_runtime", "_services", "_telemetry")

    def __init__(
        self,
        runtime: Runtime,
        lookup: Lookup,
        telemetry: OutboundHttp,
        make: Callable[[Address], Service],
    ) -> None:
        """Take what makes the service of a destination's requests."""
        self._runtime = runtime
        self._lookup = lookup
        self._telemetry = telemetry
        self._make = make
        self._services: dict[Address, Service] = {}

    def begin(self, exchange: Exchange) -> None:
        """Find out where a request goes, and give it to that destination's service."""
        try:
            host, port = _named(exchange)
            found = self._lookup.known(host, port)
            if found is not None:
                self._carry(exchange, found)
                return
        except MeshError as error:
            self._refuse(exchange, error)
            return
        self._runtime.spawn(self._ask(exchange, host, port))

    async def _ask(self, exchange: Exchange, host: str, port: int) -> None:
        try:
            self._carry(exchange, await self._lookup.find(host, port))
        except MeshError as error:
            self._refuse(exchange, error)

    def _carry(self, exchange: Exchange, destination: Address) -> None:
        """Pass a request on in the form that a server is sent. Raises RefusedError for a loop."""
        if exchange.is_over:
            return
        self._runtime.refuse_own_listener(destination)
        service = self._services.get(destination)
        if service is None:
            if len(self._services) >= MAX_DESTINATIONS:
                self._services.clear()
            service = self._services[destination] = self._make(destination)
        head = exchange.head
        form = Form.ASTERISK if head.path == b"*" else Form.ORIGIN
        fields = without_fields(head.fields, _FOR_PROXIES)
        exchange.head = replace(head, form=form, fields=fields)
        service.begin(exchange)

    def _refuse(self, exchange: Exchange, error: MeshError) -> None:
        self._telemetry.failed(error.code)
        exchange.fail(error)

    def refused(self, code: str) -> None:
        """Count a message that breaks the protocol's rules."""
        self._telemetry.failed(code)


def _named(exchange: Exchange) -> tuple[str, int]:
    """Return the host and port that a request names.

    Raises ClientProtocolError (``no-destination``) for one that names none to a proxy.
    """
    head = exchange.head
    if head.form is not Form.ABSOLUTE:
        raise ClientProtocolError(
            "this is the sidecar's own port, and the request does not say where it goes",
            hint=_HINT,
            code="no-destination",
        )
    if head.scheme != b"http":
        raise ClientProtocolError(
            "the sidecar makes no TLS connections for an application",
            hint="begin with CONNECT HOST:443, and speak TLS inside",
            code="no-destination",
        )
    authority = head.authority.decode("ascii")
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, ""
    number = int(port or "80")
    if not 0 < number < 65_536:
        raise ClientProtocolError(f"{port} is no port", hint=_HINT, code="no-destination")
    return host.strip("[]"), number
