"""What waits to be sent on an HTTP/2 connection: frames in order, content by its windows.

The caller corks: frames gather here until ``take``. Content goes out at once while the windows
of stream and connection allow it and no more than ``limit`` octets are queued; beyond that it
waits in its stream, and the streams that may send take turns, one frame each (RFC 9113 §5.2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, final

from proxy.wire.http2_frame import (
    DATA,
    DEFAULT_WINDOW,
    END_STREAM,
    FRAME_SIZE,
    HEAD,
    MAX_WINDOW,
)
from proxy.wire.http2_stream import Stream
from proxy.wire.http_field import Field, Fields
from proxy.wire.native import Encoder, data_frame, new_encoder

_COPIED: Final = 1_024
"""Octets of content up to which one piece is cheaper than two."""


@final
class Outbox:
    """The sending half of a connection."""

    def __init__(self, limit: int) -> None:
        self.encoder: Final[Encoder] = new_encoder()
        self._head: Final[Callable[[int, Fields, Fields, frozenset[Field], bool], bytes]] = (
            self.encoder.head
        )
        self.window = DEFAULT_WINDOW
        """Octets of content that the peer takes on the whole connection."""
        self.initial_window = DEFAULT_WINDOW
        """Octets that the peer takes on a new stream."""
        self.size = 0
        """Octets of frames that wait for ``take``."""
        self.data_frames = 0
        """Frames of content made since somebody set this to 0."""
        self.drained: list[Stream] = []
        """Streams whose content waited and is all on its way."""
        self.finished: list[Stream] = []
        """Streams whose end waited and is on its way."""
        self._limit: Final = limit
        self._frames: list[bytes | memoryview] = []
        self._ready: deque[Stream] = deque()

    def add(self, frames: bytes) -> None:
        """Queue frames that need no window."""
        self._frames.append(frames)
        self.size += len(frames)

    def take(self) -> bytes:
        """Return what is queued; what waited behind its size is queued then."""
        frames = self._frames
        if not frames:
            return b""
        self._frames = []
        self.size = 0
        first = frames[0]
        data = first if len(frames) == 1 and isinstance(first, bytes) else b"".join(frames)
        if self._ready:
            self.flush()
        return data

    def send_head(
        self, stream: Stream, pseudo: Fields, fields: Fields, never: frozenset[Field], *, ends: bool
    ) -> None:
        """Queue a head."""
        self.add(self._head(stream.id, pseudo, fields, never, ends))
        if ends:
            stream.is_finished = True
            stream.is_local_open = False

    def send_data(self, stream: Stream, data: bytes, *, ends: bool) -> None:
        """Queue content, or let it wait in its stream."""
        size = len(data)
        if ends:
            stream.is_finished = True
        if size == 0:
            if ends and stream.waiting_size == 0:
                self._frame(stream, data, ends=True)
            return
        if (
            stream.waiting_size == 0
            and size <= FRAME_SIZE
            and size <= self.window
            and size <= stream.send_window
            and self.size < self._limit
        ):
            self._frame(stream, data, ends=ends)
            return
        if stream.waiting is None:
            stream.waiting = deque()
        stream.waiting.append(data)
        stream.waiting_size += size
        self.schedule(stream)
        self.flush()

    def send_trailers(self, stream: Stream, fields: Fields, never: frozenset[Field]) -> None:
        """Queue the fields behind the content, once the content is on its way."""
        if not fields:
            self.send_data(stream, b"", ends=True)
            return
        stream.is_finished = True
        stream.trailers = fields
        stream.never_indexed = never
        if stream.waiting_size == 0:
            self._finish(stream)

    def grow(self, increment: int) -> bool:
        """Add to the connection's window; False: it would pass 2^31-1."""
        self.window += increment
        if self.window > MAX_WINDOW:
            return False
        if self._ready:
            self.flush()
        return True

    def grow_stream(self, stream: Stream, increment: int) -> bool:
        """Add to a stream's window, or take from it; False: it would pass 2^31-1."""
        stream.send_window += increment
        if stream.send_window > MAX_WINDOW:
            return False
        if stream.waiting_size:
            self.schedule(stream)
        return True

    def schedule(self, stream: Stream) -> None:
        """Let a stream take its turn, if it has something and its window is open."""
        if not stream.is_ready and stream.waiting_size and stream.send_window > 0:
            stream.is_ready = True
            self._ready.append(stream)

    def drop(self, stream: Stream) -> None:
        """Forget what waits in a stream that was reset."""
        stream.waiting = None
        stream.waiting_size = 0
        stream.is_finished = True
        stream.is_local_open = False
        if stream.is_ready:
            stream.is_ready = False
            self._ready.remove(stream)

    def rest(self) -> None:
        """Let no stream take a turn, before all of them are dropped: searching each is slow."""
        for stream in self._ready:
            stream.is_ready = False
        self._ready.clear()

    def flush(self) -> None:
        """Make frames of what waits, a frame for each stream in turn."""
        ready = self._ready
        while ready and self.window > 0 and self.size < self._limit:
            stream = ready.popleft()
            stream.is_ready = False
            waiting = stream.waiting
            room = min(FRAME_SIZE, self.window, stream.send_window)
            if waiting is None or room <= 0:
                continue  # the peer's settings have shut its window since
            piece = waiting[0]
            if len(piece) <= room:
                waiting.popleft()
            else:
                rest = memoryview(piece)
                piece = rest[:room]
                waiting[0] = rest[room:]
            stream.waiting_size -= len(piece)
            if stream.waiting_size:
                self._frame(stream, piece, ends=False)
                self.schedule(stream)
                continue
            self.drained.append(stream)
            if not stream.is_finished:
                self._frame(stream, piece, ends=False)
                continue
            if stream.trailers:
                self._frame(stream, piece, ends=False)
                self._finish(stream)
            else:
                self._frame(stream, piece, ends=True)
            self.finished.append(stream)

    def _frame(self, stream: Stream, piece: bytes | memoryview, *, ends: bool) -> None:
        """Queue one frame of content."""
        size = len(piece)
        if size <= _COPIED and isinstance(piece, bytes):
            self._frames.append(data_frame(stream.id, piece, ends))
        else:
            flags = END_STREAM if ends else 0
            self._frames.append(HEAD.pack(size >> 8, size & 0xFF, DATA, flags, stream.id))
            self._frames.append(piece)
        self.size += size + 9
        self.window -= size
        stream.send_window -= size
        stream.stalled_since = -1.0
        self.data_frames += 1
        if ends:
            stream.is_local_open = False

    def _finish(self, stream: Stream) -> None:
        """Queue the trailers, which end the stream."""
        ends = True
        self.add(self._head(stream.id, (), stream.trailers, stream.never_indexed, ends))
        stream.is_local_open = False
