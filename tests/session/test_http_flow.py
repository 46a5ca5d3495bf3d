"""What arrives when: events one by one, and nobody's slowness fills the sidecars."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable

import pytest

from identity.generation import Generation
from tests.peers.http_ways import WAYS, run_http1, run_way
from tests.session.apps import serve
from tests.session.http_talk import PATIENCE_S, Client, Script, client

HELD_KIB = 512
"""What two sidecars may hold for one stream, with what application and client hold here: two reads
and two windows of 64 KiB each, as much again in the two programs."""
STREAMS = 10


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("framing", ["chunked", "until-close"])
async def test_events_arrive_one_by_one(
    web: Generation, api: Generation, way: str, framing: str
) -> None:
    """Each event reaches the client before the next one is sent."""
    seen: asyncio.Queue[None] = asyncio.Queue()
    is_chunked = framing == "chunked"

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        coding = b"Transfer-Encoding: chunked\r\n" if is_chunked else b"Connection: close\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + coding + b"\r\n")
        for number in range(100):
            await seen.get()
            event = b"data: %d\n\n" % number
            writer.write(b"%x\r\n%b\r\n" % (len(event), event) if is_chunked else event)
        await seen.get()
        if is_chunked:
            writer.write(b"0\r\n\r\n")

    app = Script(tell)
    async with (
        serve(app.serve) as address,
        run_way(way, web, api, address) as pair,
        client(pair.entry) as talk,
    ):
        talk.get("/events", "Accept: text/event-stream")
        head = await talk.head()
        assert b"content-type: text/event-stream" in head.lower()
        for number in range(100):
            seen.put_nowait(None)
            assert await talk.chunk() == b"data: %d\n\n" % number
        seen.put_nowait(None)
        assert await talk.chunk() == b""
    assert not app.failures


async def _settled(amount: Callable[[], int]) -> int:
    """Wait until ``amount`` no longer changes; return it."""
    async with asyncio.timeout(3 * PATIENCE_S):
        before = 0
        while not (now := amount()) or now != before:
            before = now
            await asyncio.sleep(0.5)
    return before


def _traced_kib() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] // 1024


@pytest.mark.parametrize("way", WAYS)
async def test_a_slow_reader_holds_back_the_application(
    web: Generation, api: Generation, way: str
) -> None:
    """The sidecars hold no more than their bound, and go on when the reader does."""
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
        while True:
            writer.write(bytes(65_536))
            sent += 65_536
            await writer.drain()

    app = Script(pour)
    tracemalloc.start()
    try:
        async with serve(app.serve) as address, run_way(way, web, api, address) as pair:
            before = _traced_kib()
            async with asyncio.TaskGroup() as tasks:

                async def one(held: asyncio.Event) -> None:
                    async with client(pair.entry) as talk:
                        talk.get()
                        await talk.head()
                        await held.wait()
                        for _ in range(100):
                            await talk.reader.readexactly(100_000)
                        talk.writer.transport.abort()

                go_on = asyncio.Event()
                for _ in range(STREAMS):
                    tasks.create_task(one(go_on))
                await _settled(lambda: sent)
                held = _traced_kib() - before
                print(f"held {held / STREAMS:.0f} KiB a stream, sent {sent // 1024} KiB")
                go_on.set()
            assert held < STREAMS * HELD_KIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("way", WAYS)
async def test_a_slow_application_holds_back_the_upload(
    web: Generation, api: Generation, way: str
) -> None:
    """The same towards the application."""
    go_on = asyncio.Event()
    size = 10_000_000

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        await reader.readexactly(size)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    app = Script(wait)
    tracemalloc.start()
    try:
        async with serve(app.serve) as address, run_way(way, web, api, address) as pair:
            before = _traced_kib()
            given = 0

            async def one() -> None:
                nonlocal given
                async with client(pair.entry) as talk:
                    talk.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
                    for _ in range(100):
                        talk.send(bytes(size // 100))
                        await talk.writer.drain()
                        given += 1
                    assert await talk.response() == (200, b"ok")

            async with asyncio.TaskGroup() as tasks:
                for _ in range(STREAMS):
                    tasks.create_task(one())
                await _settled(lambda: given)
                held = _traced_kib() - before
                print(f"held {held / STREAMS:.0f} KiB a stream")
                go_on.set()
            assert held < STREAMS * HELD_KIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("way", WAYS)
async def test_requests_ahead_wait_for_their_answers_to_be_read(
    web: Generation, api: Generation, way: str
) -> None:
    """A client that asks and asks and reads nothing is not served on and on."""
    async with run_http1(way, web, api) as (pair, app), client(pair.entry) as talk:
        asks = asyncio.get_running_loop().create_task(_ask_on(talk))
        answered = await _settled(lambda: len(app.heads))
        print(f"answered {answered}")
        assert answered < 3_000
        asks.cancel()
        for _ in range(min(answered, 100)):
            status, content = await talk.response()
            assert (status, len(content)) == (200, 60_000)


async def _ask_on(talk: Client) -> None:
    while True:
        for _ in range(100):
            talk.get("/bytes/60000")
        await talk.writer.drain()
        await asyncio.sleep(0)


@pytest.mark.parametrize("way", WAYS)
async def test_slow_readers_do_not_hold_up_others(
    web: Generation, api: Generation, way: str
) -> None:
    """Thirty that read nothing fill what one connection may have on its way; others go on."""
    async with run_http1(way, web, api) as (pair, app), asyncio.TaskGroup() as tasks:

        async def wait(over: asyncio.Event) -> None:
            async with client(pair.entry) as talk:
                talk.get("/bytes/100000000")
                await over.wait()

        over = asyncio.Event()
        for _ in range(30):
            tasks.create_task(wait(over))
        await _settled(lambda: len(app.heads))
        async with client(pair.entry) as talk:
            for _ in range(3):
                talk.get("/bytes/1000000")
                async with asyncio.timeout(PATIENCE_S):
                    assert (await talk.response())[0] == 200
        over.set()
