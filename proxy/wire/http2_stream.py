"""One HTTP/2 stream: which halves are open, what is counted, what waits (RFC 9113 §5.1, §5.2)."""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol, final

from proxy.wire.http_field import Field, Fields
from proxy.wire.http_message import NONE_SENSITIVE, ResponseHead

ENDED: Final = 1
"""How a stream closed: both sides sent all they had."""
RESET_BY_PEER: Final = 2
RESET_BY_US: Final = 3
"""What the peer sent before it learned of it is dropped."""

REMEMBERED: Final = 256
"""How many resets are remembered: more than fit into a round trip."""


class StreamListener(Protocol):
    """Who is told what comes on a stream, until it is over; ``http2_listener`` says when."""

    __slots__ = ()

    def on_response(self, head: ResponseHead, *, ended: bool) -> None:
        """Take a server's answer; 1xx heads come before the final one."""
        ...

    def on_content(self, data: bytes, credit: int, *, ended: bool) -> None:
        """Take content; ``credit`` is to be acknowledged once it has been passed on.

        It is what the content took of the windows: its octets and its padding.
        """
        ...

    def on_trailers(self, fields: Fields, never_indexed: frozenset[Field]) -> None:
        """Take the fields behind the content, which end the message."""
        ...

    def on_room(self) -> None:
        """Go on: content that waited is all on its way."""
        ...

    def on_reset(self, error: int, reason: str) -> None:
        """Take notice that the stream ended before its time.

        ``error`` is the code of RST_STREAM (RFC 9113 §7), the peer's or ours; ``reason`` the row
        of ``http2_reason`` for what the peer broke, empty when the peer gave up.
        """
        ...

    def on_lost(self, error: Exception | None) -> None:
        """Take notice that the connection is over, and why."""
        ...


@final
class Stream:
    """The state of one stream. Whoever sends on it holds it, and may do so after its end."""

    listener: StreamListener | None = None
    """Who is told what comes; None: nobody waits for it any more."""
    is_gone: bool = False
    """Both sides have ended it, or one has reset it: what is sent on it goes nowhere."""
    is_remote_open: bool = True
    """The peer may still send content or trailers."""
    is_local_open: bool = True
    """We have not sent the end of the stream."""
    has_head: bool = False
    """The request's head, or the response's final one, has come."""
    has_no_content: bool = False
    """The response to HEAD, or one whose status has no content."""
    expected: int = -1
    """Octets of content that Content-Length still promises; -1: it promised none."""

    unacknowledged: int = 0
    """Octets that were handed out and not acknowledged."""
    lent: int = 0
    """How many of these the connection's window has got back already."""
    credit: int = 0
    """Octets acknowledged that the peer has not been told of."""

    waiting: deque[bytes | memoryview] | None = None
    """Content that waits for the window or for the output to empty."""
    waiting_size: int = 0
    is_finished: bool = False
    """The end of what we send has been handed over; it may wait behind content."""
    resets_behind: int = -1
    """The error code of a reset that follows our end, if the peer has not ended by then; -1: none.
    """
    trailers: Fields = ()
    never_indexed: frozenset[Field] = NONE_SENSITIVE
    opened_at: float = 0.0
    """When the request came, in seconds."""
    is_answered: bool = False
    """A head of the response is on its way."""
    is_ready: bool = False
    """It stands in the queue of those that may send."""
    stalled_since: float = -1.0
    """When waiting content was first seen not to move; below zero: it moves."""

    def __init__(self, stream_id: int, send_window: int, receive_window: int) -> None:
        self.id: Final = stream_id
        self.send_window = send_window
        """Octets that we may still send; below zero after a change of settings."""
        self.receive_window = receive_window
        """Octets that the peer may still send."""

    def take_content(self, size: int, length: int, *, ends: bool) -> str:
        """Count a frame of ``size`` octets with ``length`` of content; return what it breaks."""
        self.unacknowledged += size
        self.receive_window -= size
        if self.receive_window < 0:
            return "http2-window-exceeded"
        if not self.has_head:
            return "http2-no-head"
        if self.expected >= 0:
            self.expected -= length
            if self.expected < 0 or (ends and self.expected):
                return "http2-content-length"
        return ""


@final
class ClosedStreams:
    """How the streams ended that are not open any more: those that were reset lately are kept.

    Every other one has ended as it should, and costs nothing. Nobody can tell that of numbers up
    to one that was reset and forgotten since, nor of those that a client left out.
    """

    def __init__(self) -> None:
        self._resets: Final[dict[int, int]] = {}
        self._unsure = 0

    def add(self, stream_id: int, how: int) -> None:
        """Remember a reset, and forget the oldest where there are too many."""
        resets = self._resets
        if len(resets) >= REMEMBERED and stream_id not in resets:
            oldest = next(iter(resets))
            del resets[oldest]
            self.blur(oldest)
        resets[stream_id] = how

    def blur(self, stream_id: int) -> None:
        """Say of no stream up to this one that it has ended as it should."""
        self._unsure = max(self._unsure, stream_id)

    def how(self, stream_id: int) -> int:
        """Return how a stream ended that was open once; 0: nobody can tell."""
        how = self._resets.get(stream_id, 0)
        return how if how or stream_id <= self._unsure else ENDED
