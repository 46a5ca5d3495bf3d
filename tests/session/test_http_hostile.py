"""Clients that are out to cost a sidecar something: floods, bombs, stalls, endless heads."""

from __future__ import annotations

import asyncio

import pytest

from identity.generation import Generation
from policy.model import Protocol
from proxy.http.http1_near import HEAD_S
from tests.session.http_apps import hello
from tests.session.http_wire import (
    DIRECTIONS,
    Recorder,
    evil2,
    http2,
    last_of,
    run_side,
    talk,
    until,
)
from tests.wire import http2_talk as wire

ENHANCE_YOUR_CALM = 0xB
INITIAL_WINDOW_SIZE = 0x4
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
WHOLE = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST_HEAD = wire.headers(1, wire.POST, ends=False)
BOMB = wire.literal(b"x", b"a" * 4_000, 0x40) + b"\xbe" * 16

FLOODS = {
    "continuation": (
        wire.headers(1, whole=False) + wire.continuation(1, b"", whole=False) * 65,
        "http2-header-bomb",
    ),
    "rapid reset": (
        b"".join(wire.headers(each) + wire.reset(each) for each in range(1, 2_402, 2)),
        "http2-resets",
    ),
    "settings": (wire.settings() * 1_200, "http2-noise"),
    "pings": (wire.ping() * 1_200, "http2-noise"),
    "priorities": (wire.priority(1) * 1_200, "http2-noise"),
    "empty content": (POST_HEAD + wire.data(1, b"", ends=False) * 1_200, "http2-noise"),
    "window updates": (wire.window(0, 1) * 1_200, "http2-noise"),
    "hpack bomb": (wire.raw(0x1, 0x5, 1, wire.block(wire.GET) + BOMB), "http2-header-bomb"),
    "an endless frame": (wire.raw(0x0, 0, 1, b"", 16_385), "http2-frame-size"),
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_ends_its_connection(api: Generation, direction: str, flood: str) -> None:
    """The client reads GOAWAY with the reason, also when it does not stop; nothing is left."""
    data, reason = FLOODS[flood]
    async with run_side(api, direction, Recorder(), Protocol.HTTP2) as side:
        async with http2(side.entry) as client:
            client.say(data)
            await client.until(lambda: client.goaway)
            assert client.goaway is not None
            assert client.goaway.additional_data == reason.encode()
            # It goes on as if nothing was.
            client.say(data)
            await client.until(lambda: False)
            assert client.is_over
        runtime = side.running.sidecar.runtime
        await until(lambda: not runtime.connections)
        assert (await side.errors())[reason] == 1


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_window_that_stays_shut_ends_its_stream(api: Generation, direction: str) -> None:
    """After five minutes; the application's stream is given up, too."""
    app = evil2(lambda stream: wire.headers(stream, wire.OK, ends=False) + wire.data(stream))
    shut = wire.PREFACE + wire.settings((INITIAL_WINDOW_SIZE, 0))
    async with (
        run_side(api, direction, app, Protocol.HTTP2) as side,
        http2(side.entry, hello=shut) as client,
    ):
        client.say(wire.headers(1))
        await client.until(lambda: client.status(1) == 200)
        await asyncio.sleep(0.05)
        side.pass_time(0)
        side.pass_time(299)
        assert 1 not in client.resets
        side.pass_time(301)
        await client.until_stream(1)
        assert client.resets == {1: ENHANCE_YOUR_CALM}
        assert await side.errors() == {"http2-stalled": 1}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("begin", "more"), [(b"GET / HT", b"T"), (WHOLE + b"X: ", b"x"), (b"\r", b"")]
)
async def test_a_head_that_does_not_come_whole(
    api: Generation, direction: str, begin: bytes, more: bytes
) -> None:
    """Ten seconds from its first octet, however it trickles; an idle connection may stay."""
    async with run_side(api, direction, hello) as side:
        reader, writer = await asyncio.open_connection(side.entry.ip, side.entry.port)
        writer.write(WHOLE + b"\r\n")
        assert last_of(await reader.readuntil(b"\r\n\r\n")) == 200
        await reader.readuntil(b"\r\n\r\n")
        side.pass_time(0)
        side.pass_time(10 * HEAD_S)
        writer.write(begin)
        await asyncio.sleep(0.05)
        side.pass_time(0)
        writer.write(more)
        await asyncio.sleep(0.05)
        side.pass_time(HEAD_S - 1)
        await asyncio.sleep(0.05)
        assert await side.errors() == {}
        side.pass_time(HEAD_S)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        assert last_of(answer) == 408
        assert await side.errors() == {"detect-timeout": 1}


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_an_empty_line_between_requests_starts_no_clock(
    api: Generation, direction: str
) -> None:
    """It comes in two pieces; the next head has its ten seconds all the same (RFC 9112 §2.2)."""
    async with run_side(api, direction, hello) as side:
        reader, writer = await asyncio.open_connection(side.entry.ip, side.entry.port)
        writer.write(WHOLE + b"\r\n")
        assert last_of(await reader.readuntil(b"\r\n\r\n")) == 200
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\r")
        await asyncio.sleep(0.05)
        side.pass_time(0)
        writer.write(b"\n")
        await asyncio.sleep(0.05)
        side.pass_time(1)
        writer.write(WHOLE[:5])
        await asyncio.sleep(0.05)
        side.pass_time(HEAD_S + 1)
        writer.write(WHOLE[5:] + b"\r\n")
        assert last_of(await reader.readuntil(b"\r\n\r\n")) == 200
        assert await side.errors() == {}
        writer.close()


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_requests_of_single_octets(api: Generation, direction: str) -> None:
    """Are requests like others."""
    async with run_side(api, direction, hello) as side:
        reader, writer = await asyncio.open_connection(side.entry.ip, side.entry.port)
        writer.transport.get_extra_info("socket").setsockopt(6, 1, 1)
        data = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
        for octet in data:
            writer.write(bytes((octet,)))
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
    assert last_of(answer) == 200
    assert answer.endswith(b"abc")


def sized(lines: int, octets: int) -> bytes:
    """Return a request of so many field lines whose head has so many octets."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + b"X: y\r\n" * (lines - 4)
    left = octets - len(head) - len(b"Y: \r\n" * 2 + b"\r\n")
    first = left // 2
    return head + b"Y: " + b"z" * first + b"\r\nY: " + b"z" * (left - first) + b"\r\n\r\n"


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (sized(20, 65_536), 200),
        (sized(20, 65_537), 431),
        (sized(100, 5_000), 200),
        (sized(101, 5_000), 431),
        (b"GET /%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % (b"a" * 16_370), 200),
        (b"GET /%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % (b"a" * 16_371), 414),
    ],
    ids=["head", "head+1", "fields", "fields+1", "line", "line+1"],
)
async def test_a_head_has_bounds(api: Generation, direction: str, data: bytes, status: int) -> None:
    """One at each bound is carried, one past it is not."""
    app = Recorder(OK)
    async with run_side(api, direction, app) as side:
        assert last_of(await talk(side.entry, data)) == status
    assert bool(app.heard) is (status == 200)
