"""The streams of an HTTP/2 connection: sending, acknowledging, ending, and what is counted.

``http2_connection`` reads frames on top of it. Credit for received content returns to the peer
only when ``acknowledge`` says that it was passed on, so that a stream never holds more than its
window, nor all streams together more than the connection's and what ``lend`` spared that. What a
peer can do again and again without sending anything of use is counted in two allowances, one for
streams that it gives up and one for frames that carry nothing.
"""

from __future__ import annotations

from typing import Final

from proxy.wire.http2_frame import (
    DEFAULT_WINDOW,
    NO_ERROR,
    PING,
    frame,
    goaway_frame,
    reset_frame,
    window_frame,
)
from proxy.wire.http2_limit import Allowance, Http2Limits
from proxy.wire.http2_listener import Http2Listener
from proxy.wire.http2_outbox import Outbox
from proxy.wire.http2_reason import REASONS
from proxy.wire.http2_stream import RESET_BY_US, ClosedStreams, Stream, StreamListener
from proxy.wire.http_field import Field, Fields
from proxy.wire.http_message import NONE_SENSITIVE


class Http2Streams:
    """The streams of one end, and what it has to send."""

    def __init__(self, listener: Http2Listener, limits: Http2Limits, *, is_server: bool) -> None:
        self._listener: Http2Listener | None = listener
        self._limits: Final = limits
        self._is_server: Final = is_server
        self._outbox: Final = Outbox(limits.output)
        self._streams: Final[dict[int, Stream]] = {}
        self._closed: Final = ClosedStreams()
        self._resets: Final = Allowance(limits.resets, limits.resets_per_second)
        self._noise: Final = Allowance(limits.noise, limits.noise_per_second)
        self._now = 0.0
        self._is_ended = False
        self._last_peer_id = 0
        self._receive_window = limits.connection_window
        self._credit = 0
        self._lent = 0
        self._replies = 0

    @property
    def is_ended(self) -> bool:
        """Nothing more is read; what is queued is still to be written."""
        return self._is_ended

    @property
    def active(self) -> int:
        """How many streams are open or half closed."""
        return 0 if self._is_ended else len(self._streams)

    @property
    def is_awaited(self) -> bool:
        """Whether anybody listens to a stream."""
        return any(stream.listener is not None for stream in self._streams.values())

    @property
    def waiting_output(self) -> int:
        """How many octets of frames ``take`` would return."""
        return self._outbox.size

    def take(self) -> bytes:
        """Return what is to be written now; call it again until it is empty, or cork."""
        data = self._outbox.take()
        self._replies = 0
        self._reap()
        return data

    def drained(self) -> list[Stream]:
        """Return the streams whose content waited and is on its way now, once."""
        drained = self._outbox.drained
        if drained:
            self._outbox.drained = []
        return drained

    def send_data(self, stream: Stream, data: bytes, *, ends: bool) -> int:
        """Send content; return how many octets of the stream wait for its window.

        Nothing happens on a stream that was reset meanwhile. Send no more while some wait:
        ``drained`` names the stream when none do.
        """
        if stream.is_gone:
            return 0
        if stream.is_finished:
            raise ValueError(f"the end of stream {stream.id} has been sent")
        self._outbox.send_data(stream, data, ends=ends)
        self._settle(stream)
        return stream.waiting_size

    def send_trailers(
        self,
        stream: Stream,
        fields: Fields,
        *,
        never_indexed: frozenset[Field] = NONE_SENSITIVE,
    ) -> None:
        """Send the fields behind the content; they end the stream."""
        if stream.is_gone:
            return
        if stream.is_finished:
            raise ValueError(f"the end of stream {stream.id} has been sent")
        self._outbox.send_trailers(stream, fields, never_indexed)
        self._settle(stream)

    def acknowledge(self, stream: Stream, credit: int) -> None:
        """Let the peer send as much again as ``credit`` of a stream's content was."""
        credit = min(credit, stream.unacknowledged)
        stream.unacknowledged -= credit
        if stream.is_remote_open:
            stream.credit += credit
            if stream.credit * 2 >= self._limits.stream_window:
                self._outbox.add(window_frame(stream.id, stream.credit))
                stream.receive_window += stream.credit
                stream.credit = 0
        if stream.lent:
            repaid = min(stream.lent, credit)
            stream.lent -= repaid
            self._lent -= repaid
            credit -= repaid
        self._return_credit(credit)

    def lend(self, stream: Stream, credit: int) -> None:
        """Spare the connection's window content that its stream holds back for now.

        Whoever is slow to take it must not hold up the other streams. Only what the stream's own
        window allows is held so, and no more than ``Http2Limits.lent`` in all.
        """
        if stream.is_gone:
            return
        credit = min(credit, stream.unacknowledged - stream.lent, self._limits.lent - self._lent)
        stream.lent += credit
        self._lent += credit
        self._return_credit(credit)

    def reset(self, stream: Stream, error: int) -> None:
        """Give up a stream; what the peer still sends on it is dropped."""
        if not stream.is_gone:
            self._outbox.add(reset_frame(stream.id, error))
            self._drop(stream, RESET_BY_US)

    def reset_behind(self, stream: Stream, error: int) -> None:
        """Give up what the peer still sends, once all that we send is on its way (§8.1)."""
        if stream.is_local_open:
            stream.resets_behind = error
        else:
            self.reset(stream, error)

    def ping(self, payload: bytes) -> None:
        """Ask the peer for a sign of life, eight octets long; the answer is told by ``on_pong``."""
        if len(payload) != 8:
            raise ValueError("a ping holds eight octets")
        self._outbox.add(frame(PING, 0, 0, payload))

    def go_away(self, error: int = NO_ERROR) -> None:
        """Tell the peer that no stream after the last one is looked at."""
        self._outbox.add(goaway_frame(self._last_peer_id, error, b""))

    def on_time(self, now: float) -> None:
        """Reset the streams whose content has not moved for too long; call it once a second."""
        for stream in list(self._streams.values()):
            if stream.waiting_size == 0:
                continue
            if stream.stalled_since < 0:
                stream.stalled_since = now
            elif now - stream.stalled_since >= self._limits.stall:
                self._fail_stream(stream, "http2-stalled")

    def let_go(self, error: Exception | None) -> None:
        """Read and tell no more, but to who listens to a stream: the connection is over."""
        self._is_ended = True
        self._listener = None
        listeners = [stream.listener for stream in self._streams.values()]
        self._outbox.rest()
        for stream in self._streams.values():
            self._forget(stream)
        self._streams.clear()
        # Whoever is told may act on the other streams, too: they are over by then.
        for listener in listeners:
            if listener is not None:
                listener.on_lost(error)

    def _end_remote(self, stream: Stream) -> None:
        """Note that the peer has sent all it had on a stream."""
        stream.is_remote_open = False
        if not stream.is_local_open:
            self._close(stream)

    def _settle(self, stream: Stream) -> None:
        """Look after a stream that something was sent on, and after those that waited."""
        if not stream.is_local_open:
            self._end_local(stream)
        self._reap()

    def _reap(self) -> None:
        """Look after the streams whose end waited and is on its way."""
        finished = self._outbox.finished
        if finished:
            self._outbox.finished = []
            for stream in finished:
                self._end_local(stream)

    def _end_local(self, stream: Stream) -> None:
        """Close a stream whose end is on its way, if the peer has ended it too."""
        if stream.is_gone:
            return
        if not stream.is_remote_open:
            self._close(stream)
        elif stream.resets_behind >= 0:
            self.reset(stream, stream.resets_behind)

    def _close(self, stream: Stream) -> None:
        """Let go of a stream that both sides have ended; its content may be acknowledged yet."""
        del self._streams[stream.id]
        self._resets.refund()
        stream.is_gone = True
        stream.listener = None
        if stream.lent:
            self._repay(stream)

    def _drop(self, stream: Stream, how: int) -> None:
        """Let go of a stream that was reset; its content will not be passed on."""
        del self._streams[stream.id]
        self._closed.add(stream.id, how)
        self._repay(stream)
        self._return_credit(stream.unacknowledged)
        self._forget(stream)

    def _repay(self, stream: Stream) -> None:
        """Settle with a stream that is over: the connection's window has lent it enough."""
        self._lent -= stream.lent
        stream.unacknowledged -= stream.lent
        stream.lent = 0

    def _forget(self, stream: Stream) -> None:
        """Let nothing more be sent on a stream, nor acknowledged."""
        self._outbox.drop(stream)
        stream.is_gone = True
        stream.listener = None
        stream.unacknowledged = 0

    def _return_credit(self, credit: int) -> None:
        """Let the peer send as much again on the connection, told in few large updates."""
        self._credit += credit
        if self._credit * 2 >= self._limits.connection_window:
            self._outbox.add(window_frame(0, self._credit))
            self._receive_window += self._credit
            self._credit = 0

    def _fail_stream(self, stream: Stream, reason: str) -> str:
        """End a stream for a fault of the peer's; return why the connection must, too."""
        if stream.is_gone:
            return ""
        listener = stream.listener
        self._drop(stream, RESET_BY_US)
        return self._refuse(stream.id, reason, listener)

    def _refuse(self, stream_id: int, reason: str, listener: StreamListener | None = None) -> str:
        """Answer a fault on a stream that is not open (any more)."""
        error = REASONS[reason].error
        self._closed.add(stream_id, RESET_BY_US)
        self._outbox.add(reset_frame(stream_id, error))
        why = self._spend_reset() or self._count_reply()
        if listener is not None:
            listener.on_reset(error, reason)
        else:
            self._tell_refused(stream_id, reason)
        return why

    def _tell_refused(self, stream_id: int, reason: str) -> None:
        if self._listener is not None:
            self._listener.on_refused(stream_id, reason)

    def _spend_noise(self) -> str:
        """Count a frame that carries nothing."""
        return "" if self._noise.spend(self._now) else "http2-noise"

    def _spend_reset(self) -> str:
        """Count a stream that a client gave up, or lost by a fault of its own."""
        if not self._is_server or self._resets.spend(self._now):
            return ""
        return "http2-resets"

    def _spend_reply(self) -> str:
        """Count a frame that only asks for an answer."""
        return self._spend_noise() or self._count_reply()

    def _count_reply(self) -> str:
        """Count an answer that waits to be sent."""
        self._replies += 1
        return "http2-replies" if self._replies > self._limits.replies else ""

    def _end(self, reason: str) -> None:
        """End the connection for a fault of the peer's."""
        error = REASONS[reason].error
        self._is_ended = True
        self._outbox.rest()
        for stream in self._streams.values():
            self._outbox.drop(stream)
            stream.is_gone = True
            stream.unacknowledged = 0
        self._outbox.add(goaway_frame(self._last_peer_id, error, reason.encode("ascii")))
        if self._listener is not None:
            self._listener.on_broken(error, reason)


def announce_window(limits: Http2Limits) -> bytes:
    """Return the update that opens the connection's window, beyond what it has by itself."""
    more = limits.connection_window - DEFAULT_WINDOW
    return window_frame(0, more) if more > 0 else b""
