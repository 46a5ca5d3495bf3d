"""Peers that die in the middle: at every moment, in order or by a reset, in both versions.

Whatever dies, the other side learns it (an answer of ours, or a connection that breaks off), the
next request is carried, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from identity.generation import Generation
from tests.session.apps import App, serve
from tests.session.http_apps import hello
from tests.session.http_wire import http2, statuses_of, until
from tests.sidecars import Pair, run_pair
from tests.wire import http2_talk as wire

HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
TRAILERS = b"0\r\nA: b\r\n"
WHOLE = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
SAID = {
    "mid head": b"POST /x HTTP/1.1\r\nHos",
    "after the head": HEAD,
    "mid content": HEAD + b"5\r\nab",
    "between chunks": HEAD + b"2\r\nab\r\n",
    "mid trailers": HEAD + b"2\r\nab\r\n" + TRAILERS,
    "before the response": HEAD + b"0\r\n\r\n",
}
SAID_HTTP2 = {
    "after the preface": b"",
    "mid head": wire.headers(1, wire.POST)[:-4],
    "after the head": wire.headers(1, wire.POST, ends=False),
    "mid content": wire.headers(1, wire.POST, ends=False)
    + wire.data(1, b"abcdef", ends=False)[:-3],
    "before the response": wire.headers(1, wire.POST),
}
ANSWER = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERED = {
    "at once": (b"", 502),
    "mid head": (b"HTTP/1.1 200 OK\r\nTrans", 502),
    "after the head": (ANSWER, 200),
    "mid content": (ANSWER + b"5\r\nab", 200),
    "between chunks": (ANSWER + b"2\r\nab\r\n", 200),
    "mid trailers": (ANSWER + b"2\r\nab\r\n" + TRAILERS, 200),
    "short": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", 200),
}
OK = wire.headers(1, wire.OK, ends=False)
ANSWERED_HTTP2 = {
    "at once": (b"", 502),
    "mid head": (OK[:-2], 502),
    "after the head": (OK, 200),
    "mid content": (OK + wire.data(1, b"abcdef", ends=False)[:-3], 200),
    "between frames": (OK + wire.data(1, b"ab", ends=False), 200),
}
HOW = ("in order", "reset")
BOTH = pytest.mark.parametrize("how", HOW)


def leave(writer: asyncio.StreamWriter, how: str) -> None:
    """Die."""
    if how == "reset":
        writer.transport.get_extra_info("socket").setsockopt(1, 13, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
        writer.transport.abort()
    else:
        writer.close()


def answering(data: bytes, how: str) -> App:
    """Return an application that says part of an answer to POST and dies; else answers."""

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
                await reader.read()
            else:
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0.05)
        leave(writer, how)

    return app


def answering_http2(data: bytes, how: str) -> App:
    """Do the same in HTTP/2."""

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(len(wire.PREFACE))
            writer.write(wire.settings())
            kind = 0
            while kind != 1:
                head = await reader.readexactly(9)
                kind = head[3]
                await reader.readexactly(int.from_bytes(head[:3], "big"))
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.05)
        leave(writer, how)

    return app


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read a request and never answer it."""
    with contextlib.suppress(OSError):
        while await reader.read(65_536):
            pass
    writer.close()


async def call(pair: Pair, data: bytes) -> bytes:
    """Send ``data`` and return what comes back, until the end or a reset."""
    reader, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
    got = bytearray()
    writer.write(data)
    with contextlib.suppress(OSError):
        async with asyncio.timeout(10):
            while part := await reader.read(65_536):
                got += part
    writer.close()
    return bytes(got)


async def quiet(pair: Pair) -> None:
    """Wait until no client is left, and between the sidecars no more than the shared connection."""
    near, far = pair.client.sidecar.runtime, pair.server.sidecar.runtime
    await until(lambda: not near.connections and len(far.connections) <= 1)


@BOTH
@pytest.mark.parametrize("moment", SAID)
async def test_a_client_dies(web: Generation, api: Generation, moment: str, how: str) -> None:
    """The application's connection ends with it."""
    ended = asyncio.Event()

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(65_536):
                pass
        writer.close()
        ended.set()

    async with serve(app) as at, run_pair(web, api, at) as pair:
        _, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
        writer.write(SAID[moment])
        await asyncio.sleep(0.05)
        if moment != "mid head":
            await until(lambda: len(pair.server.sidecar.runtime.connections) == 1)
        leave(writer, how)
        if how == "in order" and moment == "before the response":
            # A whole request, and a client that may only have ended its half: it is answered.
            return
        await quiet(pair)
        if moment != "mid head":
            async with asyncio.timeout(10):
                await ended.wait()


@BOTH
@pytest.mark.parametrize("moment", SAID_HTTP2)
async def test_a_client_of_http2_dies(
    web: Generation, api: Generation, moment: str, how: str
) -> None:
    """So do its streams."""
    async with serve(silent) as at, run_pair(web, api, at) as pair:
        async with http2(pair.entry) as client:
            client.say(SAID_HTTP2[moment])
            await asyncio.sleep(0.05)
            leave(client.writer, how)
        await quiet(pair)


@BOTH
@pytest.mark.parametrize("moment", ANSWERED)
async def test_a_server_dies(web: Generation, api: Generation, moment: str, how: str) -> None:
    """502 before its head, a connection that breaks off behind it; the next request is answered."""
    data, status = ANSWERED[moment]
    async with serve(answering(data, how)) as at, run_pair(web, api, at) as pair:
        got = await call(pair, HEAD + b"0\r\n\r\n")
        # What a reset overtakes is lost to a client that was not quick.
        assert statuses_of(got)[:1] in ([status], [] if status == 200 else [502])
        if status == 200:
            assert not got.endswith(b"0\r\n\r\n")
            assert b"\r\n0\r\n" not in got
        assert (await call(pair, WHOLE)).startswith(b"HTTP/1.1 200 ")
        await quiet(pair)


@BOTH
@pytest.mark.parametrize("moment", ANSWERED_HTTP2)
async def test_a_server_of_http2_dies(
    web: Generation, api: Generation, moment: str, how: str
) -> None:
    """The stream is answered 502 or reset, and the client's connection lives."""
    data, status = ANSWERED_HTTP2[moment]
    async with serve(answering_http2(data, how)) as at, run_pair(web, api, at) as pair:
        async with http2(pair.entry) as client:
            client.say(wire.headers(1, wire.POST))
            await client.until_stream(1)
            assert client.status(1) == status or (status == 200 and not client.heads)
            assert (1 in client.resets) is (status == 200)
            assert client.goaway is None
            client.say(wire.headers(3, wire.POST))
            await client.until_stream(3)
        await quiet(pair)


@BOTH
async def test_the_far_sidecar_dies(web: Generation, api: Generation, how: str) -> None:
    """All requests on the shared connection are answered 502, and the next one finds another."""
    async with serve(hello) as at, run_pair(web, api, at) as pair:
        assert (await call(pair, WHOLE)).startswith(b"HTTP/1.1 200 ")
        (shared,) = pair.server.sidecar.runtime.connections
        if how == "reset":
            shared.cut(ConnectionError("gone"))
        else:
            shared.drain()
        assert (await call(pair, WHOLE)).startswith(b"HTTP/1.1 200 ")
        await quiet(pair)
