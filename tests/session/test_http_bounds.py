"""How much a sidecar holds for whoever does not read: as docs/http.md states it, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator

import hyperframe.frame as hf
import pytest

from identity.generation import Generation
from policy.model import Protocol
from proxy.net.socket_call import READ_BYTES
from proxy.net.stream import Stream
from proxy.wire import http2_stream
from proxy.wire.http2_limit import HTTP2_LIMITS
from tests.session.apps import App
from tests.session.http_wire import Side, evil2, http2, run_side, until
from tests.wire import http2_talk as wire

PIECE = b"x" * 16_384
OPEN_WIDE = wire.PREFACE + wire.settings() + wire.window(0, 1 << 24)
OVERHEAD = 4_096
"""Heads, and the frames or chunk lines about the content."""
MARK = ((b"host", b"a"), (b"l5d-orig-proto", b"HTTP/1.1"))


def held() -> int:
    """Return how many octets wait for somebody to read them, in this process's sidecars."""
    total = 0
    for each in gc.get_objects():
        if isinstance(each, Stream):
            total += each.backlog_bytes
        elif isinstance(each, http2_stream.Stream):
            total += each.waiting_size
    return total


async def stuck() -> int:
    """Wait until nothing moves any more; return the most that was held."""
    most = last = 0
    still = 0
    async with asyncio.timeout(20):
        while still < 10:
            await asyncio.sleep(0.02)
            now = held()
            still = still + 1 if now == last and now else 0
            last, most = now, max(most, now)
    return most


@contextlib.asynccontextmanager
async def settled_side(
    generation: Generation, app: App, protocol: Protocol = Protocol.HTTP1
) -> AsyncIterator[Side]:
    """Run a sidecar before an application until it has frozen what is there.

    What is frozen is not listed: of what comes later all is, and of other tests' nothing.
    """
    before = gc.get_freeze_count()
    async with run_side(generation, "inbound", app, protocol) as side:
        await until(lambda: gc.get_freeze_count() != before)
        yield side


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with content that does not end."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"4000\r\n" + PIECE + b"\r\n")
            await writer.drain()
    writer.close()


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept, and read nothing until the client is gone."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    with contextlib.suppress(OSError):
        while not writer.transport.is_closing():
            await asyncio.sleep(0.02)
            if DONE.is_set():
                break
    writer.transport.abort()


DONE = asyncio.Event()


async def test_a_client_of_http1_that_does_not_read(api: Generation) -> None:
    """Two reads of the server's, framed anew."""
    async with settled_side(api, endless) as side:
        _, writer = await asyncio.open_connection(side.entry.ip, side.entry.port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert 0 < await stuck() <= 2 * READ_BYTES + OVERHEAD
        writer.transport.abort()


@pytest.mark.parametrize("streams", [1, 8])
async def test_a_client_of_http2_that_gives_no_credit(api: Generation, streams: int) -> None:
    """One read a stream, behind what its window has let go."""
    async with (
        settled_side(api, endless, Protocol.HTTP2) as side,
        http2(side.entry, hello=OPEN_WIDE) as client,
    ):
        for number in range(streams):
            client.say(wire.headers(2 * number + 1, (*wire.GET, *MARK)))
        await client.until(lambda: len(client.bodies) == streams)
        assert 0 < await stuck() <= streams * (READ_BYTES + OVERHEAD)


async def test_a_server_of_http2_gets_no_credit(api: Generation) -> None:
    """Its window is all that it may send; one that sends more breaks the protocol."""
    window = HTTP2_LIMITS.stream_window
    full = wire.headers(1, wire.OK, ends=False)
    full += wire.data(1, PIECE, ends=False) * (window // len(PIECE))
    full += wire.data(1, PIECE[: window % len(PIECE)], ends=False)
    shut = wire.PREFACE + wire.settings((0x4, 0))
    for more, is_broken in ((b"", False), (wire.data(1, b"x", ends=False), True)):
        data = full + more
        app = evil2(lambda _, data=data: data)  # type: ignore[misc]
        async with (
            settled_side(api, app, Protocol.HTTP2) as side,
            http2(side.entry, hello=shut) as client,
        ):
            client.say(wire.headers(1))
            await client.until(lambda client=client: client.status(1))  # type: ignore[misc]
            if is_broken:
                await client.until_stream(1)
                assert 1 in client.resets
                assert await side.errors() == {"http2-broken": 1}
            else:
                assert await stuck() == window


@pytest.mark.parametrize("version", ["HTTP/1", "HTTP/2"])
async def test_an_application_that_does_not_read(api: Generation, version: str) -> None:
    """Two reads of the client's, or what a stream's window lets in."""
    DONE.clear()
    protocol = Protocol.HTTP1 if version == "HTTP/1" else Protocol.HTTP2
    async with settled_side(api, deaf, protocol) as side:
        if version == "HTTP/1":
            _, writer = await asyncio.open_connection(side.entry.ip, side.entry.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")

            async def send() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        writer.write(b"4000\r\n" + PIECE + b"\r\n")
                        await writer.drain()

            sending = asyncio.get_running_loop().create_task(send())
            assert 0 < await stuck() <= 2 * READ_BYTES + OVERHEAD
            sending.cancel()
            writer.transport.abort()
        else:
            async with http2(side.entry) as client:
                client.say(wire.headers(1, (*wire.POST, *MARK), ends=False))
                credit = HTTP2_LIMITS.stream_window

                async def fill() -> None:
                    nonlocal credit
                    while True:
                        while credit >= len(PIECE):
                            client.say(wire.data(1, PIECE, ends=False))
                            credit -= len(PIECE)
                        seen = len(client.frames)
                        if not await client.read():
                            return
                        for each in client.frames[seen:]:
                            if isinstance(each, hf.WindowUpdateFrame) and each.stream_id == 1:
                                credit += each.window_increment

                filling = asyncio.get_running_loop().create_task(fill())
                assert 0 < await stuck() <= HTTP2_LIMITS.stream_window + OVERHEAD
                filling.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await filling
        DONE.set()
        runtime = side.running.sidecar.runtime
        await until(lambda: not runtime.connections)
