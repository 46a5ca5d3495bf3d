"""Credit that was held back belongs to the connection, and comes back when its stream is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from identity.generation import Generation
from policy.model import Protocol
from tests.session.http_wire import DIRECTIONS, evil2, http2, run_side
from tests.wire import http2_talk as wire

INITIAL_WINDOW_SIZE: Final = 4
ROUNDS: Final = 40
"""More than there would be in the connection's window if none came back."""


def content(stream: int, *, ends: bool) -> bytes:
    """Return as much content as just fits into its stream's window."""
    begin = b"".join(wire.data(stream, bytes(16_000), ends=False) for _ in range(3))
    return begin + wire.data(stream, bytes(16_000), ends=ends)


def answer(stream: int) -> bytes:
    """Return an answer with content."""
    return wire.headers(stream, wire.OK, ends=False) + content(stream, ends=True)


def answer_with_trailers(stream: int) -> bytes:
    """Return an answer with content and trailers, as gRPC's are."""
    trailers = wire.headers(stream, ((b"grpc-status", b"0"),))
    return wire.headers(stream, wire.OK, ends=False) + content(stream, ends=False) + trailers


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("said", [answer, answer_with_trailers])
async def test_answers_that_end_while_their_client_is_slow(
    api: Generation, direction: str, said: Callable[[int], bytes]
) -> None:
    """However many do, the connection to the server has its whole window for the next."""
    shut = wire.PREFACE + wire.settings((INITIAL_WINDOW_SIZE, 0)) + wire.window(0, 10_000_000)
    async with (
        run_side(api, direction, evil2(said), Protocol.HTTP2) as side,
        http2(side.entry, hello=shut) as client,
    ):
        for stream in range(1, 2 * ROUNDS, 2):
            client.say(wire.headers(stream))
            while not client.status(stream) and await client.read():
                pass
            client.say(wire.window(stream, 64_000))
            await client.until_stream(stream)
            assert client.resets == {}
            assert client.status(stream) == 200, stream
        assert await side.errors() == {}


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_requests_that_are_answered_unread(api: Generation, direction: str) -> None:
    """However many were, the client's connection has its whole window for the next."""
    app = evil2(
        lambda stream: wire.headers(stream, wire.OK),
        hello=wire.settings((INITIAL_WINDOW_SIZE, 0)),
    )
    async with run_side(api, direction, app, Protocol.HTTP2) as side, http2(side.entry) as client:
        for stream in range(1, 2 * ROUNDS, 2):
            client.say(wire.headers(stream, wire.POST, ends=False))
            client.say(content(stream, ends=True))
            await client.until_stream(stream)
            assert client.resets == {}
            assert client.status(stream) == 200, stream
