"""What the access log is told of one client's requests; made only where there is such a log."""

from __future__ import annotations

import time
from typing import Final, final

from discovery.model import Metadata
from policy.model import Client, Permit, Verdict
from proxy.http.exchange import Exchange
from proxy.telemetry.access_line import Entry, Origin
from proxy.telemetry.access_log import AccessLog
from proxy.wire.http_message import HTTP_2, HTTP_10, HTTP_11, RequestHead
from proxy.wire.native import value_of
from proxy.wire.orig_proto import mark_of
from proxy.wire.trace_context import trace_id_of

MAX_ORIGINS: Final = 64
"""Ways to be let in or refused that one connection keeps at hand."""

_Decided = tuple[Metadata, Metadata | None, Metadata | None]


@final
class Record:
    """What will be logged of one request."""

    __slots__ = ("_answered_at", "_carried_at", "_entry", "_log", "attempts")

    def __init__(self, log: AccessLog, entry: Entry) -> None:
        self._log = log
        self._entry = entry
        self._carried_at = -1.0
        self._answered_at = -1.0
        self.attempts = 1

    def carried(self) -> None:
        """Note that the application is waited for from now on."""
        self._carried_at = time.monotonic()

    def answered(self) -> None:
        """Note that its answer has begun to come."""
        self._answered_at = time.monotonic()

    def write(self, exchange: Exchange, code: str) -> None:
        """Log the request, which is over; ``code``: what went wrong, empty for nothing."""
        entry = self._entry
        now = time.monotonic()
        waited = 0.0
        if self._carried_at >= 0:
            until = self._answered_at if self._answered_at >= 0 else now
            waited = until - self._carried_at
        entry.status = exchange.status
        entry.request_bytes = exchange.received
        entry.response_bytes = exchange.sent
        entry.total_s = now - exchange.began
        entry.processing_s = max(0.0, entry.total_s - waited)
        entry.attempts = self.attempts
        entry.error = code
        self._log.add(entry)


@final
class Journal:
    """The requests of one client's connection."""

    __slots__ = ("_address", "_identity", "_log", "_origins")

    def __init__(self, log: AccessLog, client: Client, address: str) -> None:
        """Take the client and its address with its port, ``ip:port``."""
        self._log = log
        self._address = address
        self._identity = str(client.identity or "")
        self._origins: dict[_Decided, Origin] = {}

    def begin(self, head: RequestHead, verdict: Verdict) -> Record:
        """Note a request as the client sent it, and what policy said."""
        fields = head.fields
        return Record(
            self._log,
            Entry(
                origin=self._origin(verdict),
                began_at=time.time(),
                method=head.method,
                authority=head.authority,
                path=head.path,
                version=_version_of(head),
                user_agent=value_of(fields, b"user-agent") or b"",
                trace_id=trace_id_of(fields),
            ),
        )

    def _origin(self, verdict: Verdict) -> Origin:
        authorization = verdict.authorization if isinstance(verdict, Permit) else None
        key = (verdict.server, verdict.route, authorization)
        origin = self._origins.get(key)
        if origin is None:
            if len(self._origins) >= MAX_ORIGINS:
                self._origins.clear()
            origin = self._origins[key] = Origin(
                self._address,
                self._identity,
                server=str(verdict.server),
                route=str(verdict.route or ""),
                authorization=str(authorization or ""),
            )
        return origin


def _version_of(head: RequestHead) -> int:
    """Return the version that the client itself spoke to its own sidecar."""
    mark = mark_of(head) if head.version == HTTP_2 else None
    if mark is None:
        return head.version
    return HTTP_10 if mark.startswith(b"HTTP/1.0") else HTTP_11
