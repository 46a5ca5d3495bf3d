"""How responses are counted by a running sidecar: class, status, latency, gRPC's statuses."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from identity.generation import Generation
from policy.model import Protocol
from tests.session.http_wire import DIRECTIONS, evil2, http2, run_side, talk
from tests.session.test_metrics import scrape, total
from tests.wire import http2_talk as wire

GRPC = (*wire.POST, (b"content-type", b"application/grpc"), (b"te", b"trailers"))
GRPC_OK = (*wire.OK, (b"content-type", b"application/grpc"))
CALLS = {0: "success", 5: "success", 8: "success", 2: "failure", 13: "failure", 14: "failure"}


async def by_path(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the status that the path names."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            status = head.split(b" ")[1][1:]
            if status == b"0":
                await reader.read()
                break
            writer.write(b"HTTP/1.1 %b x\r\nContent-Length: 2\r\n\r\nok" % status)
    writer.close()


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_statuses_of_http(api: Generation, direction: str) -> None:
    """From 500 on a response is a failure; each has its latency."""
    async with run_side(api, direction, by_path) as side:
        for status in (200, 404, 404, 500, 503):
            request = b"POST /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % status
            await talk(side.entry, request)
        found = await scrape(side.running)
    way = {"direction": direction}
    assert total(found, "request_total", **way) == 5
    for status, number, kind in (
        (200, 1, "success"),
        (404, 2, "success"),
        (500, 1, "failure"),
        (503, 1, "failure"),
    ):
        labels = {"status_code": str(status), **way}
        assert total(found, "response_total", **labels, classification=kind) == number
        assert total(found, "response_total", **labels) == number
        assert total(found, "response_latency_ms_count", **labels) == number
    if direction == "inbound":
        assert total(found, "inbound_http_statuses_total", status="404") == 2
        assert total(found, "inbound_http_request_duration_seconds_count") == 5
    else:
        name = "outbound_http_route_request_statuses_total"
        assert total(found, name, http_status="404", error="") == 2
        assert total(found, "outbound_http_route_request_duration_seconds_count") == 5


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("where", ["trailers", "head"])
async def test_statuses_of_grpc(api: Generation, direction: str, where: str) -> None:
    """The caller's faults are no failures of the server's."""
    statuses = list(CALLS)

    def answer(stream: int) -> bytes:
        status = (b"grpc-status", b"%d" % statuses[(stream - 1) // 2])
        if where == "head":
            return wire.headers(stream, (*GRPC_OK, status))
        return wire.headers(stream, GRPC_OK, ends=False) + wire.headers(stream, [status])

    async with run_side(api, direction, evil2(answer), Protocol.HTTP2) as side:
        async with http2(side.entry) as client:
            for number in range(len(statuses)):
                client.say(wire.headers(2 * number + 1, GRPC))
                await client.until_stream(2 * number + 1)
        found = await scrape(side.running)
    for status, kind in CALLS.items():
        labels = {"direction": direction, "grpc_status": str(status), "status_code": "200"}
        assert total(found, "response_total", **labels, classification=kind) == 1
    if direction == "inbound":
        assert total(found, "inbound_grpc_statuses_total", status="14") == 1
        assert total(found, "inbound_grpc_requests_total") == len(CALLS)
    else:
        name = "outbound_grpc_route_request_statuses_total"
        assert total(found, name, grpc_status="UNAVAILABLE", error="") == 1


async def test_http1_is_no_grpc_whatever_it_says(api: Generation) -> None:
    """What comes as HTTP/1 by HTTP/2 is answered, and counted, as HTTP/1."""
    post = [field for field in GRPC if field[0] != b":path"]
    riding = (*post[:3], (b":path", b"/503"), *post[3:], (b"l5d-orig-proto", b"HTTP/1.1"))
    async with run_side(api, "inbound", by_path, Protocol.HTTP2) as side:
        async with http2(side.entry) as client:
            client.say(wire.headers(1, riding))
            await client.until_stream(1)
            assert client.heads[1][0][b":status"] == b"503"
        found = await scrape(side.running)
    assert total(found, "inbound_http_requests_total") == 1
    assert total(found, "response_total", grpc_status="", classification="failure") == 1


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_client_that_leaves(api: Generation, direction: str) -> None:
    """Is told apart from a server that failed: nobody got a status, the error says why."""
    async with run_side(api, direction, by_path) as side:
        _, writer = await asyncio.open_connection(side.entry.ip, side.entry.port)
        writer.write(b"POST /0 HTTP/1.1\r\nHost: a\r\n\r\n")
        await side.until_requests(1)
        writer.transport.get_extra_info("socket").setsockopt(1, 13, bytes((1, 0, 0, 0) + (0,) * 4))
        writer.transport.abort()
        async with asyncio.timeout(10):
            while not await side.count("response_total", direction=direction):
                await asyncio.sleep(0.01)
        assert await side.errors() == {"client-closed": 1}
        assert not await side.count("response_total", classification="failure")
        if direction == "outbound":
            name = "outbound_http_route_request_statuses_total"
            assert await side.count(name, error="CANCEL", http_status="") == 1
