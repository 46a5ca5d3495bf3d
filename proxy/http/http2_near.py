"""A client that speaks HTTP/2: many requests on one connection at a time."""

from __future__ import annotations

from typing import Final, final

from core.errors import ClientProtocolError, ClosedEarlyError, MeshError
from proxy.http.exchange import NO_ERROR, Exchange, Near, Service
from proxy.http.http1_near import NearOwner
from proxy.http.http2_link import PING_S, PONG_S, Http2Link, LinkOwner
from proxy.net.poller import Poller
from proxy.net.stream import Sink, Stream
from proxy.wire.buffer import Buffer, owned
from proxy.wire.http2_event import (
    ConnectionEnded,
    DataReceived,
    Http2Event,
    RequestReceived,
    StreamReset,
    TrailersReceived,
)
from proxy.wire.http2_server import Http2Server
from proxy.wire.http_field import Fields
from proxy.wire.http_message import HTTP_2, ResponseHead
from proxy.wire.native import without_fields, without_hop_by_hop
from proxy.wire.orig_proto import has_ridden, ride_back

_CODING: Final = frozenset((b"transfer-encoding",))
MAX_UNREAD: Final = 524_288
"""Octets of frames that wait for a client; while there are more, it is not read. Content alone
never comes to as much (``Http2Limits.output``)."""
GOAWAY_S: Final = 1.0
"""How long after the first GOAWAY the last stream is named: a round trip, generously."""


@final
class Http2Response(Near):
    """One stream of a connection."""

    __slots__ = ("_credit", "_is_held", "_near", "exchange", "id", "is_riding")

    def __init__(self, near: Http2Near, stream_id: int, *, is_riding: bool) -> None:
        self._near = near
        self._credit = 0
        self._is_held = False
        self.exchange: Exchange | None = None
        self.id = stream_id
        self.is_riding = is_riding
        """The client spoke HTTP/1 to the sidecar that sent this."""

    def send_head(self, head: ResponseHead, *, ended: bool) -> None:
        """Send a response's head."""
        near = self._near
        if self.is_riding and head.version != HTTP_2:
            fields = ride_back(head).fields
        elif head.version == HTTP_2:
            fields = head.fields
        else:
            fields = plain_fields(head)
        near.codec.send_head(
            self.id, head.status, fields, ends=ended, never_indexed=head.never_indexed
        )
        near.link.cork()
        if ended:
            self._finish()

    def send_body(self, data: bytes) -> bool:
        """Send content, as its windows allow."""
        near = self._near
        waiting = near.codec.send_data(self.id, data, ends=False)
        near.link.cork()
        return waiting == 0

    def send_end(self, trailers: Fields) -> None:
        """End the response."""
        near = self._near
        near.codec.send_trailers(self.id, trailers)
        near.link.cork()
        self._finish()

    def send_last(self, data: bytes) -> None:
        """Send the last content, and the stream's end in the same frame where it can be."""
        near = self._near
        near.codec.send_data(self.id, data, ends=True)
        near.link.cork()
        self._finish()

    def cut(self, error: MeshError) -> None:
        """Reset the stream, with the server's own code if it gave one."""
        exchange = self.exchange
        near = self._near
        if exchange is not None and near.streams.pop(self.id, None) is not None:
            near.codec.reset(self.id, exchange.reset_code)
            near.link.cork()
        self.exchange = None

    def hold(self) -> None:
        """Give the client no more credit for this stream."""
        self._is_held = True

    def release(self) -> None:
        """Give the credit that was kept back: some of it is all streams', and outlives this one."""
        self._is_held = False
        if self._credit:
            self._near.codec.acknowledge(self.id, self._credit)
            self._credit = 0
            self._near.link.cork()

    def switch(self, far: Stream, early: bytes) -> None:
        """Never asked for: a request of HTTP/2 has no upgrade, and CONNECT is refused."""
        far.abort()

    def take(self, event: DataReceived) -> None:
        """Pass content on, and give credit for it when there is room for more."""
        exchange = self.exchange
        if exchange is not None and event.data:
            exchange.on_request_body(event.data)
        if event.credit:
            if self._is_held:
                self._credit += event.credit
                self._near.codec.lend(self.id, event.credit)
            else:
                self._near.codec.acknowledge(self.id, event.credit)

    def _finish(self) -> None:
        """Let the stream go; a request still on its way is asked to stop (RFC 9113 §8.1)."""
        exchange, self.exchange = self.exchange, None
        self.release()
        near = self._near
        if near.streams.pop(self.id, None) is None:
            return
        if self._credit:
            near.codec.acknowledge(self.id, self._credit)
            self._credit = 0
        if exchange is not None and not exchange.request_ended:
            near.codec.reset_behind(self.id, NO_ERROR)
        near.settle()


def plain_fields(head: ResponseHead) -> Fields:
    """Return the fields of an HTTP/1 response for a client that speaks HTTP/2 itself."""
    return without_fields(without_hop_by_hop(head.fields), _CODING)


@final
class Http2Near(Sink, LinkOwner):
    """One connection of a client's."""

    __slots__ = (
        "_named_last",
        "_owner",
        "_poller",
        "_service",
        "_shut_down",
        "codec",
        "link",
        "stream",
        "streams",
    )

    def __init__(self, poller: Poller, stream: Stream, service: Service, owner: NearOwner) -> None:
        self.stream: Final = stream
        self.codec: Final = Http2Server()
        self.link: Final = Http2Link(poller, stream, self.codec, self)
        self.streams: Final[dict[int, Http2Response]] = {}
        self._poller = poller
        self._service = service
        self._owner: NearOwner | None = owner
        self._shut_down = -1.0
        """When the client was asked to open no more streams; below zero: it was not."""
        self._named_last = False

    def start(self, early: bytes) -> None:
        """Begin to read; ``early`` has come before."""
        self.stream.set_sink(self)
        self.link.cork()
        if early:
            self._feed(early)
        if self.stream.ended_in:
            self.on_end()
        else:
            self.stream.resume()

    def drain(self) -> None:
        """Ask the client to open no more streams; close when the last has ended."""
        if self._shut_down < 0 and not self.stream.closed:
            self._shut_down = self._poller.loop.time()
            self.codec.shut_down()
            self.link.cork()

    def settle(self) -> None:
        """Close a drained connection."""
        if self._named_last and not self.codec.active and not self.stream.closed:
            self.link.uncork()
            if not self.stream.congested:
                self.stream.end()
                self.stream.close()

    def on_tick(self, now: float) -> None:
        """Look after streams that do not move, a client that is silent, and our own leaving."""
        for event in self.codec.on_time(now):
            self._take(event)
            self.link.cork()
        if self._shut_down >= 0 and not self._named_last and now - self._shut_down >= GOAWAY_S:
            self._named_last = True
            self.codec.go_away()
            self.link.cork()
        self.settle()
        if self.stream.closed:
            return
        error = self.link.beat(now, PING_S, PONG_S)
        if error is not None:
            self.stream.abort(error)

    def on_data(self, data: Buffer) -> None:
        """Read frames."""
        self._feed(owned(data))
        if self.stream.congested and self.codec.waiting_output > MAX_UNREAD:
            # It asks on and on, reads nothing, and heads of answers have no window.
            self.stream.pause()

    def _feed(self, data: bytes) -> None:
        now = self._poller.now
        self.link.heard = now
        for event in self.codec.feed(data, now):
            self._take(event)
        self.link.cork()

    def _take(self, event: Http2Event) -> None:
        if isinstance(event, RequestReceived):
            self._begin(event)
        elif isinstance(event, DataReceived):
            response = self.streams.get(event.stream_id)
            if response is None:
                self.codec.acknowledge(event.stream_id, event.credit)
                return
            response.take(event)
            if event.ended and response.exchange is not None:
                response.exchange.on_request_end(())
        elif isinstance(event, TrailersReceived):
            response = self.streams.get(event.stream_id)
            if response is not None and response.exchange is not None:
                response.exchange.on_request_end(event.fields)
        elif isinstance(event, StreamReset):
            self._reset(event)
        elif isinstance(event, ConnectionEnded):
            self._service.refused(event.reason)
            self.link.uncork()
            self.stream.end()
            self.stream.close()

    def _begin(self, event: RequestReceived) -> None:
        head = event.head
        is_riding = has_ridden(head)
        response = Http2Response(self, event.stream_id, is_riding=is_riding)
        exchange = Exchange(head, response, self._poller, ended=event.ended, is_riding=is_riding)
        response.exchange = exchange
        self.streams[event.stream_id] = response
        self._service.begin(exchange)

    def _reset(self, event: StreamReset) -> None:
        response = self.streams.pop(event.stream_id, None)
        exchange = response.exchange if response is not None else None
        if event.reason and (exchange is None or exchange.case is None):
            self._service.refused(event.reason)
        if response is None or exchange is None:
            return
        response.exchange = None
        if event.reason:
            exchange.near_is_gone(
                ClientProtocolError(
                    f"the client broke a rule of HTTP/2: {event.reason}", code=event.reason
                )
            )
        else:
            exchange.near_is_gone(
                ClosedEarlyError(f"the client reset the stream with error {event.error}")
            )

    def refill(self, drained: list[int]) -> None:
        """Let responses go on."""
        for stream_id in drained:
            response = self.streams.get(stream_id)
            if response is not None and response.exchange is not None:
                response.exchange.near_has_room()

    def on_end(self) -> None:
        """A client of HTTP/2 that ends its half is gone: nothing can be asked any more."""
        if not self.streams:
            self.link.uncork()
            self.stream.end()
            self.stream.close()
        else:
            self.stream.abort()

    def on_drained(self) -> None:
        """Send what had to wait."""
        self.link.uncork()
        self.stream.resume()
        self.settle()

    def on_closed(self, error: Exception | None) -> None:
        """Take the exchanges along."""
        self.link.let_go()
        streams = list(self.streams.values())
        self.streams.clear()
        for response in streams:
            exchange, response.exchange = response.exchange, None
            if exchange is not None:
                exchange.near_is_gone()
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.near_closed(error)
