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
from proxy.wire.http2_listener import Http2Listener
from proxy.wire.http2_server import Http2Server
from proxy.wire.http2_stream import Stream as Http2Stream
from proxy.wire.http2_stream import StreamListener
from proxy.wire.http_field import Field, Fields
from proxy.wire.http_message import HTTP_2, NONE_SENSITIVE, RequestHead, ResponseHead
from proxy.wire.native import without_fields, without_hop_by_hop
from proxy.wire.orig_proto import has_ridden, ride_back

_CODING: Final = frozenset((b"transfer-encoding",))
MAX_UNREAD: Final = 524_288
"""Octets of frames that wait for a client; while there are more, it is not read. Content alone
never comes to as much (``Http2Limits.output``)."""
GOAWAY_S: Final = 1.0
"""How long after the first GOAWAY the last stream is named: a round trip, generously."""


@final
class Http2Response(Near, StreamListener):
    """One stream of a connection."""

    __slots__ = ("_credit", "_is_held", "_near", "_stream", "exchange", "is_riding")

    def __init__(self, near: Http2Near, stream: Http2Stream, *, is_riding: bool) -> None:
        self._near = near
        self._stream = stream
        self._credit = 0
        self._is_held = False
        self.exchange: Exchange | None = None
        self.is_riding = is_riding
        """The client spoke HTTP/1 to the sidecar that sent this."""

    def send_head(self, head: ResponseHead, *, ended: bool) -> None:
        """Send a response's head."""
        near = self._near
        if self.is_riding and head.version != HTTP_2:
            fields = ride_back(head)
        elif head.version == HTTP_2:
            fields = head.fields
        else:
            fields = plain_fields(head)
        near.codec.send_head(
            self._stream, head.status, fields, ends=ended, never_indexed=head.never_indexed
        )
        near.link.cork()
        if ended:
            self._finish()

    def send_body(self, data: bytes) -> bool:
        """Send content, as its windows allow."""
        near = self._near
        waiting = near.codec.send_data(self._stream, data, ends=False)
        near.link.cork()
        return waiting == 0

    def send_end(self, trailers: Fields) -> None:
        """End the response."""
        near = self._near
        near.codec.send_trailers(self._stream, trailers)
        near.link.cork()
        self._finish()

    def send_last(self, data: bytes) -> None:
        """Send the last content, and the stream's end in the same frame where it can be."""
        near = self._near
        near.codec.send_data(self._stream, data, ends=True)
        near.link.cork()
        self._finish()

    def cut(self, error: MeshError) -> None:
        """Reset the stream, with the server's own code if it gave one."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            near = self._near
            near.codec.reset(self._stream, exchange.reset_code)
            near.link.cork()

    def hold(self) -> None:
        """Give the client no more credit for this stream."""
        self._is_held = True

    def release(self) -> None:
        """Give the credit that was kept back: some of it is all streams', and outlives this one."""
        self._is_held = False
        if self._credit:
            self._near.codec.acknowledge(self._stream, self._credit)
            self._credit = 0
            self._near.link.cork()

    def switch(self, far: Stream, early: bytes) -> None:
        """Never asked for: a request of HTTP/2 has no upgrade, and CONNECT is refused."""
        far.abort()

    def on_response(self, head: ResponseHead, *, ended: bool) -> None:
        """Never called: a client has nothing to answer."""

    def on_content(self, data: bytes, credit: int, *, ended: bool) -> None:
        """Pass content on, and give credit for it when there is room for more."""
        exchange = self.exchange
        if exchange is not None and data:
            exchange.on_request_body(data)
        if credit:
            if self._is_held:
                self._credit += credit
                self._near.codec.lend(self._stream, credit)
            else:
                self._near.codec.acknowledge(self._stream, credit)
        if ended:
            self.on_trailers((), NONE_SENSITIVE)

    def on_trailers(self, fields: Fields, never_indexed: frozenset[Field]) -> None:
        """Pass the request's end on."""
        if self.exchange is not None:
            self.exchange.on_request_end(fields)

    def on_room(self) -> None:
        """Let the response go on."""
        if self.exchange is not None:
            self.exchange.near_has_room()

    def on_reset(self, error: int, reason: str) -> None:
        """Give the exchange up."""
        exchange, self.exchange = self.exchange, None
        if reason and (exchange is None or exchange.case is None):
            self._near.on_refused(self._stream.id, reason)
        if exchange is None:
            return
        if reason:
            exchange.near_is_gone(
                ClientProtocolError(f"the client broke a rule of HTTP/2: {reason}", code=reason)
            )
        else:
            exchange.near_is_gone(
                ClosedEarlyError(f"the client reset the stream with error {error}")
            )

    def on_lost(self, error: Exception | None) -> None:
        """Give the exchange up."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.near_is_gone()

    def _finish(self) -> None:
        """Let the stream go; a request still on its way is asked to stop (RFC 9113 §8.1)."""
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        self.release()
        self._stream.listener = None
        near = self._near
        if not exchange.request_ended:
            near.codec.reset_behind(self._stream, NO_ERROR)
        near.settle()


def plain_fields(head: ResponseHead) -> Fields:
    """Return the fields of an HTTP/1 response for a client that speaks HTTP/2 itself."""
    return without_fields(without_hop_by_hop(head.fields), _CODING)


@final
class Http2Near(Sink, LinkOwner, Http2Listener):
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
    )

    def __init__(self, poller: Poller, stream: Stream, service: Service, owner: NearOwner) -> None:
        self.stream: Final = stream
        self.codec: Final = Http2Server(self)
        self.link: Final = Http2Link(poller, stream, self.codec, self)
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
        self.codec.on_time(now)
        if self.codec.waiting_output:
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
        self.codec.feed(data, now)
        self.link.cork()

    def on_request(self, stream: Http2Stream, head: RequestHead, *, ended: bool) -> None:
        """Begin an exchange."""
        is_riding = has_ridden(head)
        response = Http2Response(self, stream, is_riding=is_riding)
        exchange = Exchange(head, response, self._poller, ended=ended, is_riding=is_riding)
        response.exchange = exchange
        stream.listener = response
        self._service.begin(exchange)

    def on_refused(self, stream_id: int, reason: str) -> None:
        """Count what broke a rule."""
        self._service.refused(reason)

    def on_settings(self) -> None:
        """Nothing waits for them."""

    def on_pong(self, payload: bytes) -> None:
        """Nothing waits for it: whatever comes is a sign of life."""

    def on_goaway(self, last_stream_id: int, error: int, debug: bytes) -> None:
        """Nothing waits for it: a server opens no streams."""

    def on_broken(self, error: int, reason: str) -> None:
        """Count what broke a rule, and close."""
        self._service.refused(reason)
        self.link.uncork()
        self.stream.end()
        self.stream.close()

    def refill(self) -> None:
        """Nothing waits but in streams."""

    def on_end(self) -> None:
        """A client of HTTP/2 that ends its half is gone: nothing can be asked any more."""
        if not self.codec.is_awaited:
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
        self.codec.let_go(error)
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.near_closed(error)
