"""A server that takes few streams at once: requests beyond wait, and go on when one is free."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from identity.generation import Generation
from policy.model import Protocol
from tests.session.http_wire import DIRECTIONS, evil2, http2, run_side
from tests.wire import http2_talk as wire

MAX_CONCURRENT_STREAMS: Final = 3
ONE: Final = wire.settings((MAX_CONCURRENT_STREAMS, 1))


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_stream_that_ends_makes_room(api: Generation, direction: str) -> None:
    """Though nothing else is asked, nor the server's settings change."""
    app = evil2(lambda stream: wire.headers(stream, wire.OK), hello=ONE)
    async with run_side(api, direction, app, Protocol.HTTP2) as side, http2(side.entry) as client:
        client.say(wire.headers(1))
        await client.until_stream(1)
        client.say(b"".join(wire.headers(each) for each in (3, 5, 7, 9)))
        for each in (3, 5, 7, 9):
            await client.until_stream(each)
            assert client.status(each) == 200


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_stream_that_is_given_up_makes_room(api: Generation, direction: str) -> None:
    """The server has nothing to say about it."""
    answers = {1: wire.headers(1, wire.OK), 5: wire.headers(5, wire.OK)}
    app = evil2(lambda stream: answers.get(stream, b""), hello=ONE)
    async with run_side(api, direction, app, Protocol.HTTP2) as side, http2(side.entry) as client:
        client.say(wire.headers(1))
        await client.until_stream(1)
        client.say(wire.headers(3))
        await asyncio.sleep(0.1)
        client.say(wire.headers(5))
        await asyncio.sleep(0.1)
        client.say(wire.reset(3))
        await client.until_stream(5)
        assert client.status(5) == 200
