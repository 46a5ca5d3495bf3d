"""A client's HTTP connection: its side of the counting, and the life of it.

Once it leaves HTTP it lives on as a relay, counted on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from proxy.http.exchange import Service
from proxy.http.http1_near import Http1Near
from proxy.http.http2_near import Http2Near
from proxy.net.connection import About, Tally, error_name
from proxy.net.relay import Relay
from proxy.net.stream import Stream
from proxy.runtime import Runtime
from proxy.telemetry.transport import SideSlots


@final
class HttpConnection:
    """One connection of a client's, from its first request to its end."""

    __slots__ = (
        "_drains",
        "_gone",
        "_near",
        "_protocol",
        "_relay",
        "_runtime",
        "_service",
        "_tally",
        "about",
        "opened_at",
    )

    def __init__(
        self,
        runtime: Runtime,
        stream: Stream,
        service: Service,
        slots: SideSlots,
        about: About,
        gone: Callable[[HttpConnection], None],
        *,
        is_http2: bool,
        drains: bool,
    ) -> None:
        self.about: Final = about
        self.opened_at: Final = runtime.clock.monotonic()
        self._runtime = runtime
        self._tally = Tally(stream, slots)
        self._service = service
        self._gone = gone
        self._relay: Relay | None = None
        self._drains = drains
        self._protocol = "HTTP/2" if is_http2 else "HTTP/1"
        self._near: Http1Near | Http2Near
        if is_http2:
            self._near = Http2Near(runtime.poller, stream, service, self)
        else:
            self._near = Http1Near(runtime.poller, stream, service, self)

    @property
    def stream(self) -> Stream:
        """The client's stream."""
        return self._tally.stream

    def start(self, early: bytes) -> None:
        """Begin to serve; ``early`` has been read before."""
        self._runtime.connections.add(self)
        self._runtime.ticker.add(self._near)
        try:
            self._near.start(early)
        except Exception as error:  # one connection's bug must not end another's count
            self._runtime.log.exception("session broke", code="internal")
            self._tally.stream.abort(error)
        if self._runtime.drain.started:
            self.drain()

    def count(self) -> None:
        """Bring the byte counters up to now."""
        self._tally.count()

    def describe(self) -> dict[str, object]:
        """Return who, whither and how much so far."""
        stream = self._tally.stream
        return {
            **self.about.facts(),
            "protocol": self._protocol,
            "client_address": self._tally.peer(),
            "bytes_from_client": stream.bytes_in,
            "bytes_to_client": stream.bytes_out,
        }

    def drain(self) -> None:
        """End with what is on its way, if this side is one that leaves first."""
        if self._drains and self._relay is None:
            self._near.drain()

    def cut(self, error: Exception) -> None:
        """End now."""
        if self._relay is not None:
            self._relay.cut(error)
        else:
            self._tally.stream.abort(error)

    def near_switched(self, relay: Relay) -> None:
        """Live on as a relay."""
        self._relay = relay
        self._runtime.ticker.discard(self._near)
        self._service.left_http(self.cut)

    def near_closed(self, error: Exception | None) -> None:
        """Count the end."""
        runtime = self._runtime
        self._service.ended()
        self._tally.close(error_name(error))
        runtime.ticker.discard(self._near)
        runtime.connections.discard(self)
        self._gone(self)
        runtime.leave()

    def relay_done(self, error: Exception | None) -> None:
        """Count the end of what it became."""
        self.near_closed(error)
