"""The access log of a running sidecar: one line a request, whatever became of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from discovery.model import default_metadata
from identity.generation import Generation
from policy.model import Protocol
from tests.session.apps import exchange, serve
from tests.session.http_apps import hello
from tests.session.http_wire import evil, http2, run_side, talk
from tests.sidecars import OPEN, run_pair
from tests.wire import http2_talk as wire

TRACE = "0af7651916cd43dd8448eb211c80319c"
LOGGED = {"PILLION_ACCESS_LOG": "json"}


def lines_of(text: str) -> list[dict[str, Any]]:
    """Return the entries among what was written to stderr."""
    return [json.loads(line) for line in text.splitlines() if line.startswith('{"timestamp"')]


async def test_a_request_through_two_sidecars_is_one_line(
    web: Generation, api: Generation, capfd: pytest.CaptureFixture[str]
) -> None:
    """Who asked, what, by which rule it was let in, how much, how long; as the client spoke."""
    request = (
        b"POST /a?b=c HTTP/1.1\r\nHost: api.shop\r\nUser-Agent: tests/1\r\nContent-Length: 3\r\n"
        b"traceparent: 00-" + TRACE.encode() + b"-b7ad6b7169203331-01\r\n\r\nabc"
    )
    async with serve(hello) as app, run_pair(web, api, app, server_settings=LOGGED) as pair:
        await exchange(pair.entry, request)
    (line,) = lines_of(capfd.readouterr().err)
    assert line["client.id"] == web.identity.name
    assert line["client.addr"].startswith("127.0.0.1:")
    assert (line["method"], line["uri"], line["version"]) == (
        "POST",
        "http://api.shop/a?b=c",
        "HTTP/1.1",
    )
    assert (line["host"], line["user_agent"]) == ("api.shop", "tests/1")
    assert (line["trace_id"], line["status"], line["error"]) == (TRACE, 200, "")
    assert line["request_bytes"] == "3"
    assert int(line["response_bytes"]) > 100
    assert 0 < int(line["processing_ns"]) <= int(line["total_ns"])
    assert line["server"] == str(default_metadata("all-unauthenticated"))
    assert (line["authorization"], line["attempts"]) == (line["server"], 1)


async def test_each_request_of_a_connection_has_its_line(
    api: Generation, capfd: pytest.CaptureFixture[str]
) -> None:
    """In HTTP/1 and in HTTP/2, the refused and the failed ones too, by their codes."""
    get = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    async with run_side(api, "inbound", hello, settings=LOGGED) as side:
        await exchange(side.entry, b"".join(get % number for number in range(3)))
        port = side.app.port
        policies = side.running.control.policies
        policies[port].publish(replace(OPEN, protocol=Protocol.HTTP1, authorizations=()))
        await exchange(side.entry, get % 3)
    async with (
        run_side(api, "inbound", evil(b"nonsense\r\n\r\n"), Protocol.HTTP2, LOGGED) as side,
        http2(side.entry) as client,
    ):
        mark = ((b"host", b"a"), (b"l5d-orig-proto", b"HTTP/1.0"))
        client.say(wire.headers(1, (*wire.GET, *mark)))
        await client.until_stream(1)
    lines = lines_of(capfd.readouterr().err)
    told = [(each["uri"], each["version"], each["status"], each["error"]) for each in lines]
    assert told == [
        ("http://a/0", "HTTP/1.1", 200, ""),
        ("http://a/1", "HTTP/1.1", 200, ""),
        ("http://a/2", "HTTP/1.1", 200, ""),
        ("http://a/3", "HTTP/1.1", 403, "unauthorized"),
        ("http://a/", "HTTP/1.0", 502, "http1-start-line"),
    ]


async def test_a_client_that_leaves_is_a_line_without_a_status(
    api: Generation, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the code that says so."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with run_side(api, "inbound", silent, settings=LOGGED) as side:
        _, writer = await asyncio.open_connection(side.entry.ip, side.entry.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await side.until_requests(1)
        writer.transport.abort()
    (line,) = lines_of(capfd.readouterr().err)
    assert (line["status"], line["error"]) == (0, "client-closed")


async def test_the_apache_form(api: Generation, capfd: pytest.CaptureFixture[str]) -> None:
    """As Linkerd lays it out; what breaks HTTP's rules is no request, and no line."""
    async with run_side(api, "inbound", hello, settings={"PILLION_ACCESS_LOG": "apache"}) as side:
        await talk(side.entry, b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await talk(side.entry, b"GET /x HTTP/1.1\r\nHost : a\r\n\r\n")
    (line,) = [each for each in capfd.readouterr().err.splitlines() if " - - [" in each]
    assert line.startswith("127.0.0.1:")
    assert '] "GET http://a/x HTTP/1.1" 200 ' in line


async def test_nothing_is_logged_unasked(
    api: Generation, capfd: pytest.CaptureFixture[str]
) -> None:
    """The log is off by default."""
    async with run_side(api, "inbound", hello) as side:
        await talk(side.entry, b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert capfd.readouterr().err == ""
