"""A server that speaks HTTP/2: many requests on one connection at a time."""

from __future__ import annotations

from typing import Final, Protocol, final

from core.errors import Fault, MeshError, ServerProtocolError, UnreachableError
from discovery.model import KeepAlive
from proxy.http.exchange import CANCEL, Exchange, Far
from proxy.http.http2_link import OWING_S, Http2Link, LinkOwner
from proxy.net.alarm import Alarm
from proxy.net.poller import Poller
from proxy.net.stream import Sink, Stream
from proxy.ticker import TICK_S
from proxy.wire.buffer import Buffer, owned
from proxy.wire.http2_client import Http2Client
from proxy.wire.http2_frame import REFUSED_STREAM
from proxy.wire.http2_listener import Http2Listener
from proxy.wire.http2_stream import Stream as Http2Stream
from proxy.wire.http2_stream import StreamListener
from proxy.wire.http_field import Field, Fields
from proxy.wire.http_message import RequestHead, ResponseHead
from proxy.wire.orig_proto import Http2Head

_SOON_S: Final = 0.05
"""The least time between two looks."""


def why_closed(error: Exception | None) -> MeshError:
    """Return what the requests of a server's connection are told that ended with ``error``.

    What would be a client's fault on its own connection is the server's on this one.
    """
    if isinstance(error, MeshError) and error.where is not Fault.CLIENT:
        return error
    reason = f"the server's connection was lost: {error or 'closed'}"
    return UnreachableError(reason, code="far-closed")


class Http2FarOwner(Protocol):
    """Who opens streams on the connection."""

    __slots__ = ()

    def far_changed(self) -> None:
        """Take notice that streams may be opened that could not be, or no more."""
        ...

    def far_closed(self, far: Http2Far, error: Exception | None) -> None:
        """Take notice that the connection is over."""
        ...


@final
class Http2Request(Far, StreamListener):
    """One stream of a connection."""

    __slots__ = ("_credit", "_exchange", "_far", "_is_held", "_stream")

    def __init__(self, far: Http2Far, exchange: Exchange, stream: Http2Stream) -> None:
        self._far = far
        self._credit = 0
        """Octets of content that came while it was held."""
        self._is_held = False
        self._exchange = exchange
        self._stream = stream

    def send_body(self, data: bytes) -> bool:
        """Send content, as its windows allow."""
        far = self._far
        waiting = far.codec.send_data(self._stream, data, ends=False)
        far.link.cork()
        return waiting == 0

    def send_end(self, trailers: Fields) -> None:
        """End the request."""
        far = self._far
        far.codec.send_trailers(self._stream, trailers)
        far.link.cork()

    def cancel(self) -> None:
        """Give the stream up."""
        far = self._far
        far.codec.reset(self._stream, CANCEL)
        far.link.cork()

    def hold(self) -> None:
        """Give the server no more credit for this stream."""
        self._is_held = True

    def release(self) -> None:
        """Give the credit that was kept back: some of it is all streams', and outlives this one."""
        self._is_held = False
        if self._credit:
            self._far.codec.acknowledge(self._stream, self._credit)
            self._credit = 0
            self._far.link.cork()

    def on_response(self, head: ResponseHead, *, ended: bool) -> None:
        """Pass a head on."""
        if ended:
            self._stream.listener = None
        self._exchange.on_response_head(head, ended=ended)

    def on_content(self, data: bytes, credit: int, *, ended: bool) -> None:
        """Pass content on, and give credit for it when there is room for more."""
        if ended:
            self._end(credit)
            if data:
                self._exchange.on_response_last(data)
            else:
                self._exchange.on_response_end(())
            return
        if data:
            self._exchange.on_response_body(data)
        if credit:
            if self._is_held:
                self._credit += credit
                self._far.codec.lend(self._stream, credit)
            else:
                self._far.codec.acknowledge(self._stream, credit)

    def on_trailers(self, fields: Fields, never_indexed: frozenset[Field]) -> None:
        """Pass the response's end on."""
        self._end(0)
        self._exchange.on_response_end(fields)

    def _end(self, credit: int) -> None:
        """Give the connection's credit back: the response is over, and nobody will release it."""
        self._stream.listener = None
        self._far.codec.acknowledge(self._stream, self._credit + credit)
        self._credit = 0

    def on_room(self) -> None:
        """Let the request go on."""
        self._exchange.far_has_room()

    def on_reset(self, error: int, reason: str) -> None:
        """Tell the exchange that it gets no answer from here."""
        exchange = self._exchange
        exchange.reset_code = error
        why: MeshError
        if reason:
            why = broken(reason)
        elif error == REFUSED_STREAM:
            exchange.is_reset = True
            why = UnreachableError("the server refused the stream", code="http2-refused")
        else:
            exchange.is_reset = True
            why = UnreachableError(
                f"the server reset the stream with error {error}", code="http2-reset"
            )
        exchange.on_far_failure(why)

    def on_lost(self, error: Exception | None) -> None:
        """Tell the exchange that it gets no answer from here."""
        self._exchange.on_far_failure(why_closed(error))


def broken(reason: str) -> ServerProtocolError:
    """Return the error of a server that broke a rule, by its row of ``http2_reason``."""
    return ServerProtocolError(f"the server broke a rule of HTTP/2: {reason}", code="http2-broken")


@final
class Http2Far(Sink, LinkOwner, Http2Listener):
    """One connection to a server."""

    __slots__ = (
        *("_alarm", "_is_leaving", "_keep_alive", "_owner", "_poller"),
        *("codec", "link", "stream"),
    )

    def __init__(
        self,
        poller: Poller,
        stream: Stream,
        owner: Http2FarOwner,
        keep_alive: KeepAlive | None = None,
    ) -> None:
        """Take a stream that is connected.

        ``keep_alive``: how a silent server is asked for a sign of life. None: it is not, for
        servers of gRPC take pings of strangers for an attack (gRFC A8).
        """
        self.stream: Final = stream
        self.codec: Final = Http2Client(self)
        self.link: Final = Http2Link(poller, stream, self.codec, self)
        self._poller = poller
        self._owner: Http2FarOwner | None = owner
        self._is_leaving = False
        self._keep_alive = keep_alive
        self._alarm: Alarm | None = None
        if keep_alive is not None and keep_alive.interval_s < TICK_S:
            self._alarm = Alarm(poller.loop, self)
            self._alarm.set(self.link.heard + keep_alive.interval_s)
        stream.set_sink(self)
        stream.resume()
        self.link.cork()

    @property
    def can_open(self) -> bool:
        """Whether another stream may be opened now."""
        return not self._is_leaving and not self.stream.closed and self.codec.can_open

    @property
    def is_leaving(self) -> bool:
        """Whether no stream will be opened on it any more."""
        return self._is_leaving or self.stream.closed or self.codec.is_leaving

    def open(self, exchange: Exchange, head: Http2Head) -> None:
        """Open a stream with a request's head and what has come of its content."""
        pseudo, fields = head
        never = exchange.head.never_indexed
        stream = self.codec.send_request(
            pseudo, fields, ends=exchange.is_whole, never_indexed=never
        )
        stream.listener = request = Http2Request(self, exchange, stream)
        self.link.cork()
        exchange.join(request)

    def leave(self) -> None:
        """Open no more streams; close when the last one has ended."""
        self._is_leaving = True
        self.settle()

    def settle(self) -> None:
        """Close a connection that nothing more will be asked of."""
        if self.is_leaving and not self.codec.active and not self.stream.closed:
            self.link.uncork()
            self.stream.end()
            self.stream.close()

    def on_tick(self, now: float) -> None:
        """Look after streams that do not move and a server that is silent."""
        self.codec.on_time(now)
        if self.codec.waiting_output:
            self.link.cork()
        self.settle()
        if self._alarm is None:
            self._beat(now)

    def on_alarm(self) -> None:
        """Look after a server that is asked for signs of life more often than once a second."""
        now = self._poller.loop.time()
        self._beat(now)
        if self._alarm is not None and self._keep_alive is not None:
            self._alarm.set(max(now + _SOON_S, self.link.next_beat(*self._beats(self._keep_alive))))

    def _beat(self, now: float) -> None:
        keep_alive = self._keep_alive
        if keep_alive is None or self.stream.closed:
            return
        if not keep_alive.while_idle and not self.codec.is_awaited:
            return
        error = self.link.beat(now, *self._beats(keep_alive))
        if error is not None:
            self.stream.abort(error)

    def _beats(self, keep_alive: KeepAlive) -> tuple[float, float]:
        """Return after how much silence to ask, and how long to wait for the answer."""
        ping_s = keep_alive.interval_s
        return min(ping_s, OWING_S) if self.codec.is_awaited else ping_s, keep_alive.timeout_s

    def on_data(self, data: Buffer) -> None:
        """Read frames."""
        now = self._poller.now
        self.link.heard = now
        self.codec.feed(owned(data), now)
        self.link.cork()
        self.settle()

    def on_request(self, stream: Http2Stream, head: RequestHead, *, ended: bool) -> None:
        """Never called: a server opens no streams."""

    def on_refused(self, stream_id: int, reason: str) -> None:
        """Nobody waits for that stream any more."""

    def on_settings(self) -> None:
        """Begin what waited for a stream, if one may be opened now."""
        self._changed()

    def on_pong(self, payload: bytes) -> None:
        """Nothing waits for it: whatever comes is a sign of life."""

    def on_goaway(self, last_stream_id: int, error: int, debug: bytes) -> None:
        """Open streams elsewhere from now on."""
        self._changed()

    def on_broken(self, error: int, reason: str) -> None:
        """Close."""
        self.link.uncork()
        self.stream.abort(broken(reason))

    def _changed(self) -> None:
        if self._owner is not None:
            self._owner.far_changed()

    def on_end(self) -> None:
        """Without the server's half nothing more will be answered."""
        self.stream.abort(UnreachableError("the server ended the connection", code="far-closed"))

    def on_drained(self) -> None:
        """Send what had to wait."""
        self.link.uncork()

    def refill(self) -> None:
        """Begin requests that waited for a stream to end."""
        self._changed()

    def on_closed(self, error: Exception | None) -> None:
        """Take the exchanges along."""
        self.link.let_go()
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.far_closed(self, error)
        self.codec.let_go(error)
