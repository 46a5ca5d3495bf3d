"""Applications that break HTTP's rules: their client hears 502, and nobody another's answer."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from identity.generation import Generation
from policy.model import Protocol
from proxy.http.exchange import MAX_INTERIM
from tests.session.http_wire import (
    DIRECTIONS,
    Side,
    evil,
    evil2,
    http2,
    run_side,
    statuses_of,
    talk,
    until,
)
from tests.wire import http2_talk as wire
from tests.wire.http1_response_cases import RESPONSES

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine"
STOLEN = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"
HUGE = b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 32_000 + b"\r\nX: " + b"y" * 32_000
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

HEADS = {
    f"{each.section} {each.name}": (each.data, each.code)
    for each in RESPONSES
    if each.code[:11] not in {"", "http1-chunk", "http1-trunc"} and each.method == b"GET"
} | {
    "an endless head": (HUGE + b"\r\nX: " + b"y" * 32_000, "http1-head-too-large"),
    "an upgrade that nobody asked for": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "http1-switch",
    ),
    "endless interim answers": (INTERIM * (MAX_INTERIM + 1), "too-many-interim"),
}


async def settled(side: Side) -> None:
    """Wait until no connection is left but the application's."""
    await until(lambda: not side.running.sidecar.runtime.connections)


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_broken_answer_is_a_bad_gateway(api: Generation, direction: str) -> None:
    """And counted by what was wrong with it."""
    said = b""

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await evil(said)(reader, writer)

    wrong = []
    async with run_side(api, direction, app) as side:
        for name, (data, code) in HEADS.items():
            said = data
            before = await side.errors()
            answer = await talk(side.entry, POST)
            await settled(side)
            after = await side.errors()
            counted = {each: after[each] - before.get(each, 0) for each in after}
            final = [each for each in statuses_of(answer) if each >= 200]
            if final != [502] or counted.pop(code, 0) != 1 or any(counted.values()):
                wrong.append((name, code, final, counted))
    assert wrong == []


async def test_as_many_interim_answers_as_may_be(api: Generation) -> None:
    """Are passed on, and the final one behind them."""
    async with run_side(api, "inbound", evil(INTERIM * MAX_INTERIM + OK)) as side:
        assert statuses_of(await talk(side.entry, GET)) == [103] * MAX_INTERIM + [200]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    "body",
    [
        b"4\r\nmine\r\nxyz\r\n",
        b"4\r\nmineX\r\n",
        b"4\nmine\n",
        b"4\r\nmine\r\n0\r\nA: b\nC: d\r\n\r\n",
    ],
)
async def test_a_broken_body_ends_in_a_reset(api: Generation, direction: str, body: bytes) -> None:
    """The head is gone by then: only a connection that breaks off says that it is not whole."""
    async with run_side(api, direction, evil(CHUNKED + body)) as side:
        answer = await talk(side.entry, GET)
        assert not answer.endswith(b"0\r\n\r\n")
        assert sum((await side.errors()).values()) == 1
        await settled(side)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("pause_s", [0.0, 0.05], ids=["at once", "later"])
@pytest.mark.parametrize("extra", [STOLEN, b"HTTP", b"\r\n", b"x" * 70_000], ids=len)
async def test_what_nobody_asked_for_is_nobodys_answer(
    api: Generation, direction: str, pause_s: float, extra: bytes
) -> None:
    """Bytes behind an answer, or on an idle connection, end it; the next request has another."""
    connections = 0

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(OK)
                await asyncio.sleep(pause_s)
                writer.write(extra)
        writer.close()

    async with run_side(api, direction, app) as side:
        for _ in range(3):
            reader, writer = await asyncio.open_connection(side.entry.ip, side.entry.port)
            for _ in range(2):
                writer.write(POST)
                async with asyncio.timeout(10):
                    answer = await reader.readexactly(len(OK))
                assert answer.endswith(b"\r\n\r\nmine")
                await asyncio.sleep(2 * pause_s)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
        assert connections == 6


HTTP2 = {
    "no status": (wire.headers(1, [(b"x", b"y")]), "http2-broken"),
    "a connection field": (
        wire.headers(1, (*wire.OK, (b"transfer-encoding", b"chunked"))),
        "http2-broken",
    ),
    "content before its head": (wire.data(1), "http2-broken"),
    "content of another length": (
        wire.headers(1, (*wire.OK, (b"content-length", b"5")), ends=False) + wire.data(1, b"x"),
        "http2-broken",
    ),
    "a push": (wire.raw(0x5, 0x4, 1, b"\0\0\0\2" + wire.block(wire.GET)), "http2-broken"),
    "a stream of its own": (wire.headers(2, wire.OK), "http2-broken"),
    "endless interim answers": (
        wire.headers(1, [(b":status", b"103")], ends=False) * (MAX_INTERIM + 1),
        "too-many-interim",
    ),
    "a head without end": (
        wire.headers(1, wire.OK, whole=False) + wire.continuation(1, b"", whole=False) * 65,
        "http2-broken",
    ),
    "pings without end": (wire.ping() * 1_200, "http2-broken"),
    "settings without end": (wire.settings() * 1_200, "http2-broken"),
    "no frames": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "http2-broken"),
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("row", HTTP2)
async def test_a_broken_answer_by_http2(api: Generation, direction: str, row: str) -> None:
    """As in HTTP/1; the client's connection lives on."""
    data, code = HTTP2[row]
    app = evil2(lambda stream: data if stream == 1 else b"")
    async with run_side(api, direction, app, Protocol.HTTP2) as side, http2(side.entry) as client:
        client.say(wire.headers(1, wire.POST))
        await client.until_stream(1)
        assert client.status(1) == 502 or 1 in client.resets
        assert client.goaway is None
        found = await side.errors()
        assert found == {code: 1}


async def test_an_answer_to_a_request_in_http2(api: Generation) -> None:
    """Of an application that speaks HTTP/1 and breaks its rules."""
    mark = ((b"host", b"a"), (b"l5d-orig-proto", b"HTTP/1.1"))
    app = evil(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    async with run_side(api, "inbound", app, Protocol.HTTP2) as side, http2(side.entry) as client:
        client.say(wire.headers(1, (*wire.POST, *mark)))
        await client.until_stream(1)
        assert client.status(1) == 502
        assert await side.errors() == {"http1-bare-lf": 1}
