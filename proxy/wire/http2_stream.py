"""One HTTP/2 stream: which halves are open, what is counted, what waits (RFC 9113 §5.1, §5.2)."""

from __future__ import annotations

from collections import deque
from typing import Final, final

from proxy.wire.http_field import Field, Fields
from proxy.wire.http_message import NONE_SENSITIVE

ENDED: Final = 1
"""How a stream closed: both sides sent all they had."""
RESET_BY_PEER: Final = 2
RESET_BY_US: Final = 3
"""What the peer sent before it learned of it is dropped."""

REMEMBERED: Final = 256
"""How many closed streams are remembered: more than fit into a round trip."""


@final
class Stream:
    """The state of one open or half-closed stream."""

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
    """How the streams ended that closed lately: one place for each of the numbers in a row.

    Streams close in another order than they open, but not by far: a number meets the one before
    it in its place only as many streams later as there are places.
    """

    def __init__(self) -> None:
        self._ids = [0] * REMEMBERED
        self._how = [0] * REMEMBERED

    def add(self, stream_id: int, how: int) -> None:
        """Remember how a stream ended, and forget the one that had its place."""
        # A client's streams have odd numbers, and no others are opened.
        place = (stream_id >> 1) % REMEMBERED
        self._ids[place] = stream_id
        self._how[place] = how

    def how(self, stream_id: int) -> int:
        """Return how a stream ended; 0: it is not remembered."""
        place = (stream_id >> 1) % REMEMBERED
        return self._how[place] if self._ids[place] == stream_id else 0
