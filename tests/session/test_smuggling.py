"""Requests within requests, on real sockets: each is refused, counted, and never carried on."""

from __future__ import annotations

import pytest

from core.errors import OUTCOMES
from identity.generation import Generation
from policy.model import Protocol
from proxy.wire.http2_reason import REASONS
from tests.session.http_wire import DIRECTIONS, Recorder, http2, last_of, run_side, talk
from tests.wire import http2_talk as wire
from tests.wire.http1_body_cases import BODIES
from tests.wire.http1_head_cases import HEADS
from tests.wire.test_smuggling import ATTACKS, HTTP2_ATTACKS

REFUSED = [
    (each.section + " " + each.name, each.data, each.code) for each in HEADS + BODIES if each.code
]


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_no_attack_passes_a_listener(api: Generation, direction: str) -> None:
    """Every row of HTTP/1 gets its status and ends its connection."""
    app = Recorder(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    wrong: list[tuple[str, str, int]] = []
    counted: dict[str, float] = {}
    async with run_side(api, direction, app) as side:
        for name, data, code in ATTACKS:
            status = last_of(await talk(side.entry, data))
            if status != OUTCOMES[code].http:
                wrong.append((name, code, status))
            counted[code] = counted.get(code, 0) + 1
        assert wrong == []
        assert await side.errors() == counted
    assert b"GET /admin" not in app.heard


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_no_broken_request_passes_a_listener(api: Generation, direction: str) -> None:
    """Every other refused row of the tables of RFC 9112's sections."""
    app = Recorder(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    wrong: list[tuple[str, str, int]] = []
    async with run_side(api, direction, app) as side:
        for name, data, code in REFUSED:
            before = (await side.errors()).get(code, 0)
            ends = code == "http1-truncated"
            status = last_of(await talk(side.entry, data, ends=ends))
            after = (await side.errors()).get(code, 0)
            if status != OUTCOMES[code].http or after != before + 1:
                wrong.append((name, code, status))
        assert wrong == []


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_no_attack_by_http2_passes_a_listener(api: Generation, direction: str) -> None:
    """Every row of HTTP/2 ends its stream; the connection carries the next request."""
    app = Recorder()
    wrong: list[tuple[str, str, object]] = []
    counted: dict[str, float] = {}
    async with run_side(api, direction, app, Protocol.HTTP2) as side, http2(side.entry) as client:
        for number, (name, fields, body, reason) in enumerate(HTTP2_ATTACKS):
            stream = 2 * number + 1
            client.say(wire.headers(stream, fields, ends=not body))
            if body:
                client.say(wire.data(stream, body))
            await client.until_stream(stream)
            if client.resets.get(stream) != REASONS[reason].error:
                wrong.append((name, reason, client.resets.get(stream)))
            counted[reason] = counted.get(reason, 0) + 1
        assert wrong == []
        assert client.goaway is None
        client.say(wire.ping())
        await client.until(
            lambda: any(type(each).__name__ == "PingFrame" for each in client.frames)
        )
        found = await side.errors()
        assert {code: found.get(code) for code in counted} == counted
    assert b"/admin" not in app.heard
