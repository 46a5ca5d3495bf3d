"""Connections that carry many requests, and how they end."""

from __future__ import annotations

import asyncio
import random

import pytest

from identity.generation import Generation
from proxy.http.pool import IDLE_S
from tests.peers.http_ways import WAYS, run_http1, run_way
from tests.session.apps import serve
from tests.session.http_apps import hello
from tests.session.http_talk import Script, client
from tests.session.http_wire import run_side, until


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.asyncio(loop_factories=["ours"])
async def test_ten_thousand_requests_on_one_connection(
    web: Generation, api: Generation, way: str
) -> None:
    """Fifty ahead at a time; each answer belongs to its request, and the connection stays one."""
    app = Script(hello)
    async with (
        serve(app.serve) as address,
        run_way(way, web, api, address) as pair,
        client(pair.entry) as talk,
    ):
        for start in range(0, 10_000, 50):
            for number in range(start, start + 50):
                talk.get(f"/{number}")
            for number in range(start, start + 50):
                status, content = await talk.response()
                assert status == 200
                assert content.startswith(b"GET /%d HTTP/1.1\r\n" % number)
    assert app.connections == 1


async def test_idle_connections_to_the_application_end_each_time(api: Generation) -> None:
    """Those of a client's later requests as well, whose pool is another by then."""
    open_now = 0
    opened = 0

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, opened
        open_now, opened = open_now + 1, opened + 1
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        open_now -= 1
        writer.close()

    async with run_side(api, "inbound", app) as side, client(side.entry) as talk:
        for number in range(1, 4):
            talk.get("/")
            assert await talk.response() == (200, b"")
            assert (open_now, opened) == (1, number)
            side.pass_time(IDLE_S)
            await until(lambda: open_now == 0)


@pytest.mark.parametrize("way", WAYS)
async def test_an_end_behind_requests_waits_for_the_answers(
    web: Generation, api: Generation, way: str
) -> None:
    """A client may half-close behind what it asks, content included."""
    async with run_http1(way, web, api) as (pair, app), client(pair.entry) as talk:
        talk.get("/bytes/100000")
        talk.send(b"POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        talk.get("/chunks/3")
        talk.writer.write_eof()
        assert (await talk.response())[0] == 200
        assert (await talk.response())[0] == 200
        assert (await talk.rest()).endswith(b"\r\n\r\n")
    assert len(app.heads) == 3


@pytest.mark.parametrize("way", WAYS)
async def test_an_old_client_keeps_its_connection(
    web: Generation, api: Generation, way: str
) -> None:
    """HTTP/1.0 with keep-alive, until an answer has no length."""
    ask = b"GET %b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    async with run_http1(way, web, api) as (pair, _), client(pair.entry) as talk:
        for _ in range(3):
            talk.send(ask % b"/bytes/5")
            head = await talk.head()
            assert b"connection: keep-alive\r\n" in head.lower()
            assert len(await talk.reader.readexactly(5)) == 5
        talk.send(ask % b"/chunks/1")
        head, _, content = (await talk.rest()).partition(b"\r\n\r\n")
        assert b"connection: close" in head.lower()
        assert len(content) == 16_384


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_server_that_hangs_up_on_idle_connections(
    web: Generation, api: Generation, way: str, method: str
) -> None:
    """What may be repeated and meets the end of an idle connection is made anew on another one.

    What may not be is answered 502 then, and reaches no server twice.
    """
    idle_s = 0.004
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wait_s: float | None = None
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    head = await reader.readuntil(b"\r\n\r\n")
            except TimeoutError:
                return
            wait_s = idle_s
            seen.append(head.split(b" ")[1])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    app = Script(answer)
    chance = random.Random(7)
    statuses: list[int] = []
    async with serve(app.serve) as address, run_way(way, web, api, address) as pair:
        while len(statuses) < 200:
            async with client(pair.entry) as talk:
                while len(statuses) < 200 and statuses[-1:] != [502]:
                    path = f"/{len(statuses)}"
                    length = "\r\nContent-Length: 0" if method == "POST" else ""
                    talk.send(f"{method} {path} HTTP/1.1\r\nHost: a{length}\r\n\r\n".encode())
                    statuses.append((await talk.response())[0])
                    await asyncio.sleep(idle_s * chance.uniform(0.5, 1.2))
            # 502 closed the client's connection; the next one begins behind it.
            statuses = [status if status != 502 else 0 for status in statuses]
    print(f"{app.connections} connections, {len(seen)} requests, {statuses.count(0)} failed")
    assert app.connections > 10
    assert set(statuses) <= ({200} if method == "GET" else {200, 0})
    assert len(set(seen)) == len(seen) == statuses.count(200)
