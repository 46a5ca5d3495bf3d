"""The ends of HTTP/2 for tests: what they are told are events, and streams are numbers."""

from __future__ import annotations

from typing import Final, final

from proxy.wire.http2_client import Http2Client
from proxy.wire.http2_connection import Http2Connection
from proxy.wire.http2_limit import HTTP2_LIMITS, Http2Limits
from proxy.wire.http2_reason import REASONS
from proxy.wire.http2_server import Http2Server
from proxy.wire.http2_stream import Stream
from proxy.wire.http_field import Field, Fields
from proxy.wire.http_message import NONE_SENSITIVE, RequestHead, ResponseHead
from tests.wire.http2_event import (
    ConnectionEnded,
    DataReceived,
    GoAwayReceived,
    Http2Event,
    PingAnswered,
    RequestReceived,
    ResponseReceived,
    SettingsChanged,
    StreamReset,
    TrailersReceived,
)


@final
class Heard:
    """Listens to a connection."""

    def __init__(self) -> None:
        self.events: list[Http2Event] = []
        self.streams: dict[int, Stream] = {}

    def listen(self, stream: Stream) -> None:
        """Listen to a stream, too."""
        self.streams[stream.id] = stream
        stream.listener = HeardOfStream(stream.id, self.events)

    def on_request(self, stream: Stream, head: RequestHead, *, ended: bool) -> None:
        self.listen(stream)
        self.events.append(RequestReceived(stream.id, head, ended))

    def on_refused(self, stream_id: int, reason: str) -> None:
        self.events.append(StreamReset(stream_id, REASONS[reason].error, reason))

    def on_settings(self) -> None:
        self.events.append(SettingsChanged())

    def on_pong(self, payload: bytes) -> None:
        self.events.append(PingAnswered(payload))

    def on_goaway(self, last_stream_id: int, error: int, debug: bytes) -> None:
        self.events.append(GoAwayReceived(last_stream_id, error, debug))

    def on_broken(self, error: int, reason: str) -> None:
        self.events.append(ConnectionEnded(error, reason))


class HeardOfStream:
    """Listens to a stream."""

    def __init__(self, stream_id: int, events: list[Http2Event]) -> None:
        self._id = stream_id
        self._events = events

    def on_response(self, head: ResponseHead, *, ended: bool) -> None:
        self._events.append(ResponseReceived(self._id, head, ended))

    def on_content(self, data: bytes, credit: int, *, ended: bool) -> None:
        self._events.append(DataReceived(self._id, data, credit, ended))

    def on_trailers(self, fields: Fields, never_indexed: frozenset[Field]) -> None:
        self._events.append(TrailersReceived(self._id, fields, never_indexed))

    def on_room(self) -> None:
        raise AssertionError("nobody told the streams that drained")

    def on_reset(self, error: int, reason: str) -> None:
        self._events.append(StreamReset(self._id, error, reason))

    def on_lost(self, error: Exception | None) -> None:
        raise AssertionError("nobody let the connection go")


class End:
    """One end, and what it was told since somebody asked."""

    def __init__(self, codec: Http2Connection, heard: Heard) -> None:
        self.codec: Final = codec
        self._heard: Final = heard

    @property
    def is_ended(self) -> bool:
        return self.codec.is_ended

    @property
    def active(self) -> int:
        return self.codec.active

    @property
    def waiting_output(self) -> int:
        return self.codec.waiting_output

    @property
    def peer_header_list(self) -> int:
        return self.codec.peer_header_list

    @property
    def lacks(self) -> int:
        """What the connection's window lacks of what was announced."""
        codec = self.codec
        return codec._limits.connection_window - codec._receive_window - codec._credit

    def _told(self) -> list[Http2Event]:
        told = list(self._heard.events)
        self._heard.events.clear()
        return told

    def feed(self, data: bytes, now: float) -> list[Http2Event]:
        self.codec.feed(data, now)
        return self._told()

    def on_time(self, now: float) -> list[Http2Event]:
        self.codec.on_time(now)
        return self._told()

    def take(self) -> bytes:
        return self.codec.take()

    def drained(self) -> list[int]:
        return [stream.id for stream in self.codec.drained()]

    def stream(self, stream_id: int) -> Stream:
        """Return a stream that was opened once."""
        return self._heard.streams[stream_id]

    def send_data(self, stream_id: int, data: bytes, *, ends: bool) -> int:
        return self.codec.send_data(self.stream(stream_id), data, ends=ends)

    def send_trailers(
        self,
        stream_id: int,
        fields: Fields,
        *,
        never_indexed: frozenset[Field] = NONE_SENSITIVE,
    ) -> None:
        self.codec.send_trailers(self.stream(stream_id), fields, never_indexed=never_indexed)

    def acknowledge(self, stream_id: int, credit: int) -> None:
        self.codec.acknowledge(self.stream(stream_id), credit)

    def lend(self, stream_id: int, credit: int) -> None:
        self.codec.lend(self.stream(stream_id), credit)

    def reset(self, stream_id: int, error: int) -> None:
        self.codec.reset(self.stream(stream_id), error)

    def reset_behind(self, stream_id: int, error: int) -> None:
        self.codec.reset_behind(self.stream(stream_id), error)

    def ping(self, payload: bytes) -> None:
        self.codec.ping(payload)

    def go_away(self) -> None:
        self.codec.go_away()


@final
class Server(End):
    """A server's end."""

    def __init__(
        self, limits: Http2Limits = HTTP2_LIMITS, *, host_may_differ: bool = False
    ) -> None:
        heard = Heard()
        self._server: Final = Http2Server(heard, limits, host_may_differ=host_may_differ)
        super().__init__(self._server, heard)

    def send_head(
        self,
        stream_id: int,
        status: int,
        fields: Fields,
        *,
        ends: bool,
        never_indexed: frozenset[Field] = NONE_SENSITIVE,
    ) -> None:
        self._server.send_head(
            self.stream(stream_id), status, fields, ends=ends, never_indexed=never_indexed
        )

    def shut_down(self) -> None:
        self._server.shut_down()


@final
class Client(End):
    """A client's end."""

    def __init__(self, limits: Http2Limits = HTTP2_LIMITS) -> None:
        heard = Heard()
        self._client: Final = Http2Client(heard, limits)
        super().__init__(self._client, heard)

    @property
    def can_open(self) -> bool:
        return self._client.can_open

    @property
    def is_leaving(self) -> bool:
        return self._client.is_leaving

    def send_request(
        self,
        pseudo: Fields,
        fields: Fields,
        *,
        ends: bool,
        never_indexed: frozenset[Field] = NONE_SENSITIVE,
    ) -> int:
        stream = self._client.send_request(pseudo, fields, ends=ends, never_indexed=never_indexed)
        self._heard.listen(stream)
        return stream.id
