"""An HTTP/2 connection without its socket: frames in, calls out, frames to send (RFC 9113).

What both ends share; ``http2_server`` and ``http2_client`` add what only one of them does.
``feed`` what was received, and act on what the listener is told; send, ``acknowledge`` content
that was passed on, ``reset``; ``take`` what is to be written. Every rule of the RFC that keeps
two ends in step is kept: states, windows, settings, sizes. Server push, priorities and extended
CONNECT are not spoken.

A peer's fault never raises. One that breaks a message ends its stream: RST_STREAM goes out and
``on_reset`` is called. One that breaks the connection ends it: GOAWAY goes out, ``on_broken`` is
called, nothing that follows is read. Both name a row of ``http2_reason``.

Bounds: content by the windows, whose credit returns only when ``acknowledge`` says that it was
passed on; fields, streams, floods and what waits to be sent by ``Http2Limits``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.wire.http2_frame import (
    ACK,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE,
    GOAWAY,
    HAS_PRIORITY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    frame,
    read_four,
    read_settings,
)
from proxy.wire.http2_header import Section, trailer_fault
from proxy.wire.http2_limit import Http2Limits
from proxy.wire.http2_listener import Http2Listener
from proxy.wire.http2_stream import ENDED, RESET_BY_PEER, RESET_BY_US, Stream
from proxy.wire.http2_streams import Http2Streams
from proxy.wire.native import Decoder, new_decoder

_FREE_UPDATES: Final = 4
"""Window updates that a frame of content entitles the peer to, beyond what noise allows."""


class Http2Connection(Http2Streams):
    """The frames that both ends read."""

    def __init__(
        self, listener: Http2Listener, limits: Http2Limits, preface: bytes, *, is_server: bool
    ) -> None:
        super().__init__(listener, limits, is_server=is_server)
        self._decoder: Final[Decoder] = new_decoder(limits.header_list, limits.header_list_hard)
        self._decode: Final[Callable[[bytes], Section | str]] = self._decoder.decode
        self._rest = b""
        self._preface_left = preface
        self._has_settings = False
        self._peer_leaves = False
        self._free_updates = 0
        self._block: list[bytes] = []
        self._block_stream = 0
        self._block_size = 0
        self._block_ends = False
        self._block_depends = False
        self._peer_streams = -1
        self._peer_header_list = -1

    @property
    def peer_header_list(self) -> int:
        """The largest field section the peer takes, as it counts; -1: it has not said."""
        return self._peer_header_list

    def feed(self, data: bytes, now: float) -> None:
        """Take what was received at ``now`` (seconds, never going back) and tell what it meant."""
        if self._is_ended:
            return
        self._now = now
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at = 0
        if self._preface_left:
            at = self._read_preface(data)
            if self._preface_left:
                if not self._is_ended:
                    self._rest = data
                return
        end = len(data)
        while end - at >= 9:
            # Compiled, an octet is a load; a struct is a call and an object for each number.
            size = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if size > FRAME_SIZE:
                self._end("http2-frame-size")
                return
            behind = at + 9 + size
            if behind > end:
                break
            high = (data[at + 5] & 0x7F) << 24 | data[at + 6] << 16
            stream_id = high | data[at + 7] << 8 | data[at + 8]
            payload = data[at + 9 : behind]
            why = self._take_frame(data[at + 3], data[at + 4], stream_id, payload)
            if why:
                self._end(why)
            if self.is_ended:
                return
            at = behind
        if at < end:
            self._rest = data[at:] if at else data

    def _read_preface(self, data: bytes) -> int:
        """Read as much of the client's preface as has come; return where the frames begin."""
        wanted = self._preface_left
        if data.startswith(wanted):
            self._preface_left = b""
            return len(wanted)
        if not wanted.startswith(data):
            self._end("http2-preface")
        return 0

    def _take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> str:
        """Act on one frame; return why the connection must end, or nothing."""
        if self._block_stream and (kind != CONTINUATION or stream_id != self._block_stream):
            return "http2-continuation"
        if kind == DATA:
            return self._on_data(flags, stream_id, payload)
        if kind == HEADERS:
            return self._on_headers(flags, stream_id, payload)
        if not self._has_settings and (kind != SETTINGS or flags & ACK):
            return "http2-preface"
        if kind == WINDOW_UPDATE:
            return self._on_window_update(stream_id, payload)
        if kind == CONTINUATION:
            return self._on_continuation(flags, payload)
        if kind == RST_STREAM:
            return self._on_reset(stream_id, payload)
        return self._take_rare_frame(kind, flags, stream_id, payload)

    def _take_rare_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> str:
        """Act on a frame that comes seldom."""
        if kind == SETTINGS:
            return self._on_settings(flags, stream_id, payload)
        if kind == PING:
            return self._on_ping(flags, stream_id, payload)
        if kind == GOAWAY:
            return self._on_goaway(stream_id, payload)
        if kind == PUSH_PROMISE:
            return "http2-push"
        if kind == PRIORITY:
            if stream_id == 0:
                return "http2-stream-zero"
            if len(payload) != 5:
                return "http2-frame-size"
            if read_four(payload[:4]) & MAX_STREAM_ID == stream_id:
                stream = self._streams.get(stream_id)
                if stream is None:
                    return "http2-self-dependency"
                return self._fail_stream(stream, "http2-self-dependency")
        return self._spend_noise()

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> str:
        size = len(payload)
        if stream_id == 0:
            return "http2-stream-zero"
        if flags & PADDED:
            if size == 0:
                return "http2-frame-size"
            padding = payload[0]
            if padding >= size:
                return "http2-padding"
            payload = payload[1 : size - padding]
        self._receive_window -= size
        if self._receive_window < 0:
            return "http2-window-exceeded"
        stream = self._streams.get(stream_id)
        if stream is None or not stream.is_remote_open:
            return self._on_data_too_late(stream_id, stream, size)
        ends = flags & END_STREAM != 0
        length = len(payload)
        if length:
            self._noise.refund()
        elif not ends and (why := self._spend_noise()):
            return why
        why = stream.take_content(size, length, ends=ends)
        if why:
            return self._fail_stream(stream, why)
        listener = stream.listener
        if ends:
            self._end_remote(stream)
        if listener is not None and (length or ends):
            listener.on_content(payload, size, ended=ends)
        else:
            self.acknowledge(stream, size)
        return ""

    def _on_data_too_late(self, stream_id: int, stream: Stream | None, size: int) -> str:
        """Drop content for a stream that does not take any; its credit returns at once."""
        if self._is_idle(stream_id):
            return "http2-idle-stream"
        self._return_credit(size)
        if stream is not None:
            return self._fail_stream(stream, "http2-closed-stream")
        how = self._closed.how(stream_id)
        if how == RESET_BY_US:
            return self._spend_noise() if size == 0 else ""
        if how == ENDED:
            return "http2-closed-stream"
        return self._refuse(stream_id, "http2-closed-stream")

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> str:
        if not self._has_settings:
            return "http2-preface"
        if stream_id == 0:
            return "http2-stream-zero"
        depends = False
        if flags & (PADDED | HAS_PRIORITY):
            begin = 0
            end = len(payload)
            if flags & PADDED:
                if end == 0:
                    return "http2-frame-size"
                end -= payload[0]
                begin = 1
            if flags & HAS_PRIORITY:
                if len(payload) < begin + 5:
                    return "http2-frame-size"
                depends = read_four(payload[begin : begin + 4]) & MAX_STREAM_ID == stream_id
                begin += 5
            if begin > end:
                return "http2-padding"
            payload = payload[begin:end]
        ends = flags & END_STREAM != 0
        if flags & END_HEADERS:
            return self._on_block(stream_id, payload, ends=ends, depends=depends)
        self._block = [payload]
        self._block_stream = stream_id
        self._block_size = len(payload)
        self._block_ends = ends
        self._block_depends = depends
        return ""

    def _on_continuation(self, flags: int, payload: bytes) -> str:
        if not self._block_stream:
            return "http2-continuation"
        self._block.append(payload)
        self._block_size += len(payload)
        limits = self._limits
        if self._block_size > limits.header_block or len(self._block) > limits.header_frames:
            return "http2-header-bomb"
        if not flags & END_HEADERS:
            return self._spend_noise() if not payload else ""
        block = b"".join(self._block)
        self._block = []
        stream_id = self._block_stream
        self._block_stream = 0
        return self._on_block(stream_id, block, ends=self._block_ends, depends=self._block_depends)

    def _on_block(self, stream_id: int, block: bytes, *, ends: bool, depends: bool) -> str:
        """Act on a whole header block."""
        section = self._decode(block)
        if isinstance(section, str):
            return section
        self._noise.refund()
        stream = self._streams.get(stream_id)
        if depends and stream is not None:
            return self._fail_stream(stream, "http2-self-dependency")
        why = self._on_section(stream_id, stream, section, ends=ends)
        if depends and not why:
            stream = self._streams.get(stream_id)
            if stream is not None:
                return self._fail_stream(stream, "http2-self-dependency")
        return why

    def _on_trailers(self, stream: Stream, section: Section, *, ends: bool) -> str:
        why = trailer_fault(section)
        if not why and not ends:
            why = "http2-trailers"
        if not why and stream.expected > 0:
            why = "http2-content-length"
        if why:
            return self._fail_stream(stream, why)
        listener = stream.listener
        self._end_remote(stream)
        if listener is not None:
            listener.on_trailers(section.fields, section.never_indexed)
        return ""

    def _on_reset(self, stream_id: int, payload: bytes) -> str:
        if stream_id == 0:
            return "http2-stream-zero"
        if len(payload) != 4:
            return "http2-frame-size"
        stream = self._streams.get(stream_id)
        if stream is None:
            return "http2-idle-stream" if self._is_idle(stream_id) else self._spend_noise()
        listener = stream.listener
        self._drop(stream, RESET_BY_PEER)
        if listener is not None:
            listener.on_reset(read_four(payload), "")
        if stream.is_answered or self._now - stream.opened_at >= self._limits.rapid:
            return ""
        return self._spend_reset()

    def _on_window_update(self, stream_id: int, payload: bytes) -> str:
        if len(payload) != 4:
            return "http2-frame-size"
        increment = read_four(payload) & MAX_WINDOW
        outbox = self._outbox
        if outbox.data_frames:
            self._free_updates = min(
                self._limits.noise, self._free_updates + _FREE_UPDATES * outbox.data_frames
            )
            outbox.data_frames = 0
        if self._free_updates:
            self._free_updates -= 1
        elif why := self._spend_noise():
            return why
        if stream_id == 0:
            if increment == 0:
                return "http2-window-zero"
            if not outbox.grow(increment):
                return "http2-window-overflow"
            self._reap()
            return ""
        stream = self._streams.get(stream_id)
        if stream is None:
            return "http2-idle-stream" if self._is_idle(stream_id) else ""
        if increment == 0:
            return self._fail_stream(stream, "http2-window-zero")
        if not outbox.grow_stream(stream, increment):
            return self._fail_stream(stream, "http2-window-overflow")
        outbox.flush()
        self._reap()
        return ""

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> str:
        if stream_id:
            return "http2-stream-zero"
        if flags & ACK:
            return "http2-frame-size" if payload else self._spend_noise()
        if len(payload) % 6:
            return "http2-frame-size"
        window = self._outbox.initial_window
        for key, value in read_settings(payload):
            if key == INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    return "http2-setting-window"
                window = value
            elif why := self._on_setting(key, value):
                return why
        self._has_settings = True
        self._outbox.add(SETTINGS_ACK)
        if window != self._outbox.initial_window and not self._move_windows(window):
            return "http2-window-overflow"
        if self._listener is not None:
            self._listener.on_settings()
        return self._spend_reply()

    def _on_setting(self, key: int, value: int) -> str:
        """Take over one setting; unknown ones are passed over (RFC 9113 §6.5.2)."""
        if key == HEADER_TABLE_SIZE:
            self._outbox.encoder.resize(value)
        elif key == ENABLE_PUSH:
            if value > 1 or (value == 1 and not self._is_server):
                return "http2-setting"
        elif key == MAX_CONCURRENT_STREAMS:
            self._peer_streams = value
        elif key == MAX_FRAME_SIZE:
            if not FRAME_SIZE <= value < 2**24:
                return "http2-setting"
        elif key == MAX_HEADER_LIST_SIZE:
            self._peer_header_list = value
        return ""

    def _move_windows(self, window: int) -> bool:
        """Follow a new initial window on every stream; False: one would pass 2^31-1."""
        outbox = self._outbox
        change = window - outbox.initial_window
        outbox.initial_window = window
        for stream in self._streams.values():
            if not outbox.grow_stream(stream, change):
                return False
        outbox.flush()
        self._reap()
        return True

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> str:
        if stream_id:
            return "http2-stream-zero"
        if len(payload) != 8:
            return "http2-frame-size"
        if flags & ACK:
            if self._listener is not None:
                self._listener.on_pong(payload)
            return self._spend_noise()
        self._outbox.add(frame(PING, ACK, 0, payload))
        return self._spend_reply()

    def _on_goaway(self, stream_id: int, payload: bytes) -> str:
        if stream_id:
            return "http2-stream-zero"
        if len(payload) < 8:
            return "http2-frame-size"
        last = read_four(payload[:4]) & MAX_STREAM_ID
        self._peer_leaves = True
        self._on_last_stream(last)
        if self._listener is not None:
            self._listener.on_goaway(last, read_four(payload[4:8]), payload[8:])
        return self._spend_noise()

    def _on_section(
        self, stream_id: int, stream: Stream | None, section: Section, *, ends: bool
    ) -> str:
        """Act on a field section; return why the connection must end, or nothing.

        ``stream`` is None where none is open by that number.
        """
        raise NotImplementedError

    def _is_idle(self, stream_id: int) -> bool:
        """Tell whether nobody has opened a stream yet."""
        raise NotImplementedError

    def _on_last_stream(self, last: int) -> None:
        """Act on the last stream that the peer will look at."""
