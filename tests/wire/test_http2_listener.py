"""What a listener may do when it is told something: anything, on any stream, at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import pytest

from proxy.wire.http2_client import Http2Client
from proxy.wire.http2_limit import Http2Limits
from proxy.wire.http2_server import Http2Server
from proxy.wire.http2_stream import Stream
from proxy.wire.http_field import Field, Fields
from proxy.wire.http_message import RequestHead, ResponseHead
from tests.wire.http2_talk import (
    GET,
    OK,
    POST,
    PREFACE,
    data,
    goaway,
    headers,
    reset,
    settings,
    window,
)


@final
class Acting:
    """Listens to a connection and to its streams, and acts on what it is told."""

    def __init__(self, act: Callable[[str, Stream], None] = lambda *_: None) -> None:
        self.told: list[str] = []
        self.act = act
        """What is done with a stream when anything is told of it."""

    def listen(self, stream: Stream) -> Stream:
        """Listen to a stream."""
        stream.listener = ActingOnStream(self, stream)
        return stream

    def tell(self, what: str, stream: Stream) -> None:
        """Write down what was told of a stream, and act."""
        self.told.append(f"{what} {stream.id}")
        self.act(what, stream)

    def on_request(self, stream: Stream, head: RequestHead, *, ended: bool) -> None:
        self.listen(stream)
        self.tell("request", stream)

    def on_refused(self, stream_id: int, reason: str) -> None:
        self.told.append(f"refused {stream_id}")

    def on_settings(self) -> None:
        self.told.append("settings")

    def on_pong(self, payload: bytes) -> None:
        raise AssertionError(payload)

    def on_goaway(self, last_stream_id: int, error: int, debug: bytes) -> None:
        self.told.append("goaway")

    def on_broken(self, error: int, reason: str) -> None:
        self.told.append(reason)


@final
class ActingOnStream:
    """Listens to a stream."""

    def __init__(self, acting: Acting, stream: Stream) -> None:
        self._acting = acting
        self._stream = stream

    def on_response(self, head: ResponseHead, *, ended: bool) -> None:
        self._acting.tell("response", self._stream)

    def on_content(self, data: bytes, credit: int, *, ended: bool) -> None:
        self._acting.tell("content", self._stream)

    def on_trailers(self, fields: Fields, never_indexed: frozenset[Field]) -> None:
        self._acting.tell("trailers", self._stream)

    def on_room(self) -> None:
        raise AssertionError("nobody told the streams that drained")

    def on_reset(self, error: int, reason: str) -> None:
        self._acting.tell("reset", self._stream)

    def on_lost(self, error: Exception | None) -> None:
        self._acting.tell(f"lost by {error}", self._stream)


Act = Callable[[Http2Server, str, Stream], None]


def served(act: Act, frames: bytes) -> tuple[Http2Server, Acting]:
    """Return a server whose listener acts while it is fed."""
    acting = Acting()
    server = Http2Server(acting)
    acting.act = lambda what, stream: act(server, what, stream)
    server.feed(PREFACE + settings() + frames, 0.0)
    return server, acting


def called(count: int, limits: Http2Limits | None = None) -> tuple[Http2Client, Acting]:
    """Return a client whose listener gives all its streams up as soon as one is."""
    acting = Acting()
    client = Http2Client(acting, limits or Http2Limits())
    client.feed(settings(), 0.0)
    streams = [
        acting.listen(client.send_request(tuple(POST), (), ends=False)) for _ in range(count)
    ]

    def give_up(_: str, __: Stream) -> None:
        for stream in streams:
            client.reset(stream, 8)

    acting.act = give_up
    for stream in streams:
        client.send_data(stream, bytes(100_000), ends=False)
    return client, acting


def test_a_request_is_answered_while_its_frame_is_read() -> None:
    """Content that follows is dropped, and its credit returns."""

    def answer(server: Http2Server, _: str, stream: Stream) -> None:
        server.send_head(stream, 403, (), ends=True)
        server.reset_behind(stream, 0)

    frames = headers(1) + headers(3, POST, ends=False) + data(3) + headers(5)
    server, acting = served(answer, frames)
    assert acting.told == ["settings", "request 1", "request 3", "request 5"]
    assert (server.active, server.is_ended, server._credit) == (0, False, 1)


@pytest.mark.parametrize("frame", [data(1), data(1, b""), headers(1, ()), reset(1), window(1, 1)])
def test_another_stream_is_reset_while_a_frame_is_read(frame: bytes) -> None:
    """What comes on it is dropped."""
    opened: list[Stream] = []

    def swap(server: Http2Server, _: str, stream: Stream) -> None:
        for each in opened:
            server.reset(each, 8)
        opened.append(stream)

    frames = headers(1, POST, ends=False) + headers(3, POST, ends=False) + frame + headers(5)
    server, acting = served(swap, frames)
    assert acting.told == ["settings", "request 1", "request 3", "request 5"]
    assert (server.active, server.is_ended) == (1, False)


@pytest.mark.parametrize("frame", [data(1), headers(1, ()), window(1, 0)])
def test_a_stream_is_reset_because_of_what_comes_on_it(frame: bytes) -> None:
    """Its end, or its fault, does no harm to what was let go."""

    def drop(server: Http2Server, what: str, stream: Stream) -> None:
        if what != "request":
            server.reset(stream, 8)

    server, acting = served(drop, headers(1, POST, ends=False) + frame + headers(3))
    assert len(acting.told) == 4
    assert (server.active, server.is_ended) == (1, False)


def test_a_connection_is_let_go_while_a_frame_is_read() -> None:
    """Nothing that follows is read, and who listens is told once."""

    def close(server: Http2Server, _: str, stream: Stream) -> None:
        if stream.id == 3:
            server.let_go(ValueError("closed"))
            server.let_go(None)

    server, acting = served(close, headers(1) + headers(3) + headers(5) + bytes(9))
    wanted = ["settings", "request 1", "request 3", "lost by closed 1", "lost by closed 3"]
    assert acting.told == wanted
    assert (server.active, server.is_awaited) == (0, False)
    server.feed(headers(7), 0.0)
    assert acting.told == wanted


def test_who_listened_on_a_broken_connection_is_told_when_it_is_let_go() -> None:
    """Nothing is sent on its streams meanwhile."""
    server, acting = served(lambda *_: None, headers(1, GET) + data(0))
    assert acting.told == ["settings", "request 1", "http2-stream-zero"]
    assert (server.active, server.is_awaited) == (0, True)
    (stream,) = server._streams.values()
    server.take()
    server.send_head(stream, 200, (), ends=False)
    assert server.send_data(stream, b"x", ends=True) == 0
    server.reset(stream, 8)
    assert server.take() == b""
    server.let_go(None)
    assert acting.told[3:] == ["lost by None 1"]


def test_streams_are_given_up_while_others_are() -> None:
    """Each is told of at most once, whoever gives it up."""
    client, acting = called(3)
    client.feed(goaway(0), 0.0)
    assert acting.told == ["settings", "reset 1", "goaway"]
    client, acting = called(3, Http2Limits(stall=1.0))
    client.on_time(0.0)
    client.on_time(2.0)
    assert acting.told == ["settings", "reset 1"]
    client, acting = called(2)
    client.feed(headers(1, OK, ends=False) + headers(3, OK), 0.0)
    assert acting.told == ["settings", "response 1"]
    assert client.active == 0
