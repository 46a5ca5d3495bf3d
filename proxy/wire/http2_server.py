"""The server's end of an HTTP/2 connection: requests come, responses go (RFC 9113 §8)."""

from __future__ import annotations

from typing import Final, final

from proxy.wire.http2_connection import Http2Connection
from proxy.wire.http2_frame import (
    DEFAULT_WINDOW,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    MAX_STREAM_ID,
    NO_ERROR,
    PREFACE,
    goaway_frame,
    reset_frame,
    settings_frame,
)
from proxy.wire.http2_header import Section, request_head
from proxy.wire.http2_hpack_decoder import TOO_LARGE
from proxy.wire.http2_limit import HTTP2_LIMITS, Http2Limits
from proxy.wire.http2_listener import Http2Listener
from proxy.wire.http2_stream import RESET_BY_US, Stream
from proxy.wire.http2_streams import announce_window
from proxy.wire.http_field import Field, Fields
from proxy.wire.http_message import NONE_SENSITIVE

_TOO_LARGE: Final[Fields] = ((b":status", b"431"), (b"content-length", b"0"))
_ENDS: Final = True
_STATUS: Final[dict[int, Fields]] = {}
"""The pseudo-header fields of responses by their status, each made when it is first sent."""


def _status_of(status: int) -> Fields:
    fields: Fields = ((b":status", b"%d" % status),)
    if 100 <= status <= 999:
        _STATUS[status] = fields
    return fields


@final
class Http2Server(Http2Connection):
    """Reads requests, sends responses."""

    def __init__(
        self,
        listener: Http2Listener,
        limits: Http2Limits = HTTP2_LIMITS,
        *,
        host_may_differ: bool = False,
    ) -> None:
        super().__init__(listener, limits, PREFACE, is_server=True)
        self._host_may_differ: Final = host_may_differ
        self._takes_streams = True
        values = [
            (MAX_CONCURRENT_STREAMS, limits.streams),
            (MAX_HEADER_LIST_SIZE, limits.header_list),
        ]
        if limits.stream_window != DEFAULT_WINDOW:
            values.append((INITIAL_WINDOW_SIZE, limits.stream_window))
        self._outbox.add(settings_frame(values) + announce_window(limits))

    def send_head(
        self,
        stream: Stream,
        status: int,
        fields: Fields,
        *,
        ends: bool,
        never_indexed: frozenset[Field] = NONE_SENSITIVE,
    ) -> None:
        """Send a response's head, or a 1xx before it; nothing on a stream that was reset."""
        if stream.is_gone:
            return
        if stream.is_finished:
            raise ValueError(f"the end of stream {stream.id} has been sent")
        pseudo = _STATUS.get(status) or _status_of(status)
        stream.is_answered = True
        self._outbox.send_head(stream, pseudo, fields, never_indexed, ends=ends)
        if ends:
            self._end_local(stream)

    def shut_down(self) -> None:
        """Ask the client to open no more streams; those on their way are still served.

        ``go_away`` names the last one, a round trip later (RFC 9113 §6.8).
        """
        self._outbox.add(goaway_frame(MAX_STREAM_ID, NO_ERROR, b""))

    def go_away(self, error: int = NO_ERROR) -> None:
        """Tell the client which stream was the last; later ones are refused."""
        self._takes_streams = False
        super().go_away(error)

    def _is_idle(self, stream_id: int) -> bool:
        return stream_id % 2 == 0 or stream_id > self._last_peer_id

    def _on_section(
        self, stream_id: int, stream: Stream | None, section: Section, *, ends: bool
    ) -> str:
        if stream is None:
            return self._on_request(stream_id, section, ends=ends)
        if not stream.is_remote_open:
            return self._fail_stream(stream, "http2-closed-stream")
        return self._on_trailers(stream, section, ends=ends)

    def _on_request(self, stream_id: int, section: Section, *, ends: bool) -> str:
        """Open a stream, if it may be opened."""
        if stream_id % 2 == 0:
            return "http2-stream-id"
        if stream_id <= self._last_peer_id:
            how = self._closed.how(stream_id)
            if how == RESET_BY_US:
                return ""
            return "http2-closed-stream" if how else "http2-stream-id"
        if stream_id > self._last_peer_id + 2:
            self._closed.blur(stream_id - 2)
        self._last_peer_id = stream_id
        if not self._takes_streams:
            return self._refuse(stream_id, "http2-draining")
        if len(self._streams) >= self._limits.streams:
            return self._refuse(stream_id, "http2-too-many-streams")
        head = request_head(section, host_may_differ=self._host_may_differ)
        if isinstance(head, str):
            if head == TOO_LARGE:
                return self._answer_too_large(stream_id, ends=ends)
            return self._refuse(stream_id, head)
        stream = Stream(stream_id, self._outbox.initial_window, self._limits.stream_window)
        stream.has_head = True
        stream.opened_at = self._now
        stream.expected = section.length
        if ends:
            if section.length > 0:
                return self._refuse(stream_id, "http2-content-length")
            stream.is_remote_open = False
        self._streams[stream_id] = stream
        if self._listener is not None:
            self._listener.on_request(stream, head, ended=ends)
        return ""

    def _answer_too_large(self, stream_id: int, *, ends: bool) -> str:
        """Answer 431 to fields past the announced size (RFC 9113 §10.5.1)."""
        encoder = self._outbox.encoder
        self._outbox.add(encoder.head(stream_id, _TOO_LARGE, (), NONE_SENSITIVE, _ENDS))
        if not ends:
            self._outbox.add(reset_frame(stream_id, NO_ERROR))
            self._closed.add(stream_id, RESET_BY_US)
        self._tell_refused(stream_id, TOO_LARGE)
        return self._spend_reset() or self._count_reply()
