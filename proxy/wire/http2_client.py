"""The client's end of an HTTP/2 connection: requests go, responses come (RFC 9113 §8)."""

from __future__ import annotations

from typing import Final, final

from proxy.wire.http2_connection import Http2Connection
from proxy.wire.http2_frame import (
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    INITIAL_WINDOW_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_STREAM_ID,
    PREFACE,
    REFUSED_STREAM,
    settings_frame,
)
from proxy.wire.http2_header import Section, response_head
from proxy.wire.http2_limit import HTTP2_LIMITS, Http2Limits
from proxy.wire.http2_listener import Http2Listener
from proxy.wire.http2_stream import RESET_BY_PEER, RESET_BY_US, Stream
from proxy.wire.http2_streams import announce_window
from proxy.wire.http_field import Field, Fields, value_of
from proxy.wire.http_message import NONE_SENSITIVE

ASSUMED_STREAMS: Final = 100
"""How many streams a server allows before its settings have come, as hyper assumes."""


@final
class Http2Client(Http2Connection):
    """Sends requests, reads responses."""

    def __init__(self, listener: Http2Listener, limits: Http2Limits = HTTP2_LIMITS) -> None:
        super().__init__(listener, limits, b"", is_server=False)
        self._next_id = 1
        values = [(ENABLE_PUSH, 0), (MAX_HEADER_LIST_SIZE, limits.header_list)]
        if limits.stream_window != DEFAULT_WINDOW:
            values.append((INITIAL_WINDOW_SIZE, limits.stream_window))
        self._outbox.add(PREFACE + settings_frame(values) + announce_window(limits))

    @property
    def can_open(self) -> bool:
        """Whether another stream may be opened now; the peer's settings may change that."""
        if self._is_ended or self._peer_leaves or self._next_id > MAX_STREAM_ID:
            return False
        allowed = self._peer_streams
        if allowed < 0:
            allowed = self._limits.streams if self._has_settings else ASSUMED_STREAMS
        return len(self._streams) < min(allowed, self._limits.streams)

    @property
    def is_leaving(self) -> bool:
        """The server takes no new streams: what is open ends, then the connection does."""
        return self._is_ended or self._peer_leaves or self._next_id > MAX_STREAM_ID

    def send_request(
        self,
        pseudo: Fields,
        fields: Fields,
        *,
        ends: bool,
        never_indexed: frozenset[Field] = NONE_SENSITIVE,
    ) -> Stream:
        """Open a stream with a request's head and return it, to be given its listener.

        Raises:
            ValueError: none can be opened; ask ``can_open`` first.

        """
        if not self.can_open:
            raise ValueError("no stream can be opened")
        stream_id = self._next_id
        self._next_id = stream_id + 2
        stream = Stream(stream_id, self._outbox.initial_window, self._limits.stream_window)
        stream.has_no_content = value_of(pseudo, b":method") == b"HEAD"
        self._streams[stream_id] = stream
        self._outbox.send_head(stream, pseudo, fields, never_indexed, ends=ends)
        return stream

    def _is_idle(self, stream_id: int) -> bool:
        return stream_id % 2 == 0 or stream_id >= self._next_id

    def _on_last_stream(self, last: int) -> None:
        """Give up the streams that the server will not look at; they can be tried elsewhere."""
        for stream in list(self._streams.values()):
            if stream.id > last and not stream.is_gone:
                listener = stream.listener
                self._drop(stream, RESET_BY_PEER)
                if listener is not None:
                    listener.on_reset(REFUSED_STREAM, "")

    def _on_section(
        self, stream_id: int, stream: Stream | None, section: Section, *, ends: bool
    ) -> str:
        if stream is None:
            if self._is_idle(stream_id):
                return "http2-idle-stream"
            how = self._closed.how(stream_id)
            if how in (0, RESET_BY_US):
                return self._spend_noise()
            return "http2-closed-stream"
        if not stream.is_remote_open:
            return self._fail_stream(stream, "http2-closed-stream")
        if stream.has_head:
            return self._on_trailers(stream, section, ends=ends)
        return self._on_response(stream, section, ends=ends)

    def _on_response(self, stream: Stream, section: Section, *, ends: bool) -> str:
        """Read a head, final or not."""
        head = response_head(section)
        if isinstance(head, str):
            return self._fail_stream(stream, head)
        if head.status >= 200:
            stream.has_head = True
            if stream.has_no_content or head.status in (204, 304):
                stream.expected = 0
            elif ends and section.length > 0:
                return self._fail_stream(stream, "http2-content-length")
            else:
                stream.expected = section.length
        elif ends:
            return self._fail_stream(stream, "http2-interim")
        listener = stream.listener
        if ends:
            self._end_remote(stream)
        if listener is not None:
            listener.on_response(head, ended=ends)
        return ""
