"""Two ends of HTTP/2 without a network: what is asked is answered, what comes is acknowledged."""

from __future__ import annotations

from typing import Final, final

from proxy.wire.http2_client import Http2Client
from proxy.wire.http2_server import Http2Server
from proxy.wire.http2_stream import Stream
from proxy.wire.http_field import Field, Fields
from proxy.wire.http_message import RequestHead, ResponseHead


class Heard:
    """What an end is told and does nothing about."""

    def on_request(self, stream: Stream, head: RequestHead, *, ended: bool) -> None:
        """Take a request."""

    def on_response(self, head: ResponseHead, *, ended: bool) -> None:
        """Take an answer."""

    def on_content(self, data: bytes, credit: int, *, ended: bool) -> None:
        """Take content."""

    def on_trailers(self, fields: Fields, never_indexed: frozenset[Field]) -> None:
        """Take trailers."""

    def on_room(self) -> None:
        """Take notice that content is on its way."""

    def on_reset(self, error: int, reason: str) -> None:
        """Take notice that a stream broke."""
        raise RuntimeError(f"a stream was reset: {error} {reason}")

    def on_lost(self, error: Exception | None) -> None:
        """Take notice that the connection is over."""

    def on_refused(self, stream_id: int, reason: str) -> None:
        """Take notice that a stream broke."""
        raise RuntimeError(f"stream {stream_id} was refused: {reason}")

    def on_settings(self) -> None:
        """Take notice of settings."""

    def on_pong(self, payload: bytes) -> None:
        """Take notice of an answer to a ping."""

    def on_goaway(self, last_stream_id: int, error: int, debug: bytes) -> None:
        """Take notice that the peer leaves."""

    def on_broken(self, error: int, reason: str) -> None:
        """Take notice that the connection broke."""
        raise RuntimeError(f"the connection broke: {error} {reason}")


@final
class Served(Heard):
    """A server's end, which answers each request when it has ended."""

    def __init__(self, answer: Fields, body: bytes) -> None:
        self.codec: Final = Http2Server(self)
        self.size = 0
        """Octets of content that came."""
        self._answer: Final = answer
        self._body: Final = body
        self._stream: Stream | None = None

    def on_request(self, stream: Stream, head: RequestHead, *, ended: bool) -> None:
        """Answer, or wait for the end."""
        if ended:
            self._send(stream)
        else:
            self._stream = stream
            stream.listener = self

    def on_content(self, data: bytes, credit: int, *, ended: bool) -> None:
        """Count content."""
        stream = self._stream
        if stream is not None:
            self.size += len(data)
            self.codec.acknowledge(stream, credit)
            if ended:
                self._send(stream)

    def _send(self, stream: Stream) -> None:
        self.codec.send_head(stream, 200, self._answer, ends=not self._body)
        if self._body:
            self.codec.send_data(stream, self._body, ends=True)


@final
class Asked(Heard):
    """A client's end, which keeps the last answer's head."""

    def __init__(self) -> None:
        self.codec: Final = Http2Client(self)
        self.head: ResponseHead | None = None
        self._stream: Stream | None = None

    def ask(self, pseudo: Fields, fields: Fields, *, ends: bool = True) -> Stream:
        """Send a request's head."""
        self.head = None
        stream = self.codec.send_request(pseudo, fields, ends=ends)
        self._stream = stream
        stream.listener = self
        return stream

    def on_response(self, head: ResponseHead, *, ended: bool) -> None:
        """Keep the head."""
        self.head = head

    def on_content(self, data: bytes, credit: int, *, ended: bool) -> None:
        """Give credit."""
        if self._stream is not None:
            self.codec.acknowledge(self._stream, credit)
