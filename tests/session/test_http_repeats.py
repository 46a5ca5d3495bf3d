"""What is never sent twice, and what a server says about being asked again."""

from __future__ import annotations

import asyncio
import contextlib
import time

import hpack
import hyperframe.frame as hf
import pytest

from discovery.model import Endpoint, EndpointSet
from identity.generation import Generation
from policy.model import (
    Backoff,
    ConsecutiveFailures,
    OutboundRule,
    Retry,
    StatusRange,
)
from tests.session.apps import exchange, serve
from tests.session.http_wire import run_side
from tests.session.test_http_reliability import (
    GET,
    POST,
    SAYS_503,
    TARGET,
    App,
    client_of,
    status_of,
)
from tests.session.test_metrics import scrape, total
from tests.wire.http2_talk import ACK, END_HEADERS, END_STREAM, OK, PREFACE, raw, settings
from tests.wire.http2_talk import GET as GET2

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
ANSWER = HEAD + b"hello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
ANY_5XX = Retry(max_retries=3, statuses=(StatusRange(500, 599),))


@pytest.mark.parametrize("rule", [OutboundRule(), OutboundRule(retry=ANY_5XX)], ids=["safe", "5xx"])
async def test_a_response_that_began_is_never_asked_for_again(
    web: Generation, rule: OutboundRule
) -> None:
    """Wherever it breaks off, from its first byte on; though a policy would retry a 502."""
    cut = App()
    async with serve(cut) as app, client_of(web, app, app, rule=rule) as client:
        for answer in (ANSWER, CHUNKED, b"HTTP/1.1 103 Early Hints\r\n\r\n" + ANSWER):
            for end in range(1, len(answer)):
                cut.answer, cut.closes = answer[:end], True
                before = len(cut.requests)
                got = await exchange(client.config.outbound_listen, GET, end=False)
                assert len(cut.requests) == before + 1, answer[:end]
                assert not got.endswith(b"hello\r\n0\r\n\r\n")


async def test_what_a_far_side_says_is_believed_of_sidecars_alone(web: Generation) -> None:
    """An application that says it cannot be reached is neither held back nor asked again."""
    says = b"HTTP/1.1 502 No\r\nl5d-proxy-error: connection refused\r\ncontent-length: 0\r\n\r\n"
    bad, good = App(answer=says), App()
    async with serve(bad) as one, serve(good) as other, client_of(web, one, other) as client:
        answers = [await status_of(client, GET) for _ in range(20)]
    assert answers.count(502) == len(bad.requests) > 0
    assert len(bad.requests) + len(good.requests) == 20


@pytest.mark.parametrize(
    ("hint", "least_s", "status"),
    [(b"0", 0.0, 200), (b"1", 1.0, 200), (b"2", 0.0, 503)],
    ids=["none", "a second", "too long"],
)
async def test_retry_after_is_kept_to(
    web: Generation, hint: bytes, least_s: float, status: int
) -> None:
    """Up to a second; what asks for longer is the client's to know."""
    bad = App(answer=SAYS_503.replace(b"\r\n\r\n", b"\r\nretry-after: " + hint + b"\r\n\r\n"))
    good = App()
    rule = OutboundRule(retry=Retry(max_retries=1, statuses=(StatusRange(503, 503),)))
    async with serve(bad) as one, client_of(web, one, rule=rule) as client:
        client.control.sets[TARGET].publish(EndpointSet(endpoints=(Endpoint(address=one),)))

        async def recover() -> None:
            while not bad.requests:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            bad.answer = good.answer

        task = asyncio.create_task(recover())
        began = time.monotonic()
        assert await status_of(client, GET) == status
        assert time.monotonic() - began >= least_s
        await task


async def test_a_breaker_honours_retry_after(web: Generation) -> None:
    """Nobody asks the endpoint again before the time it named, where the Service wants that."""
    bad = App(answer=SAYS_503.replace(b"\r\n\r\n", b"\r\nretry-after: 60\r\n\r\n"))
    good = App()
    backoff = Backoff(min_s=0.01, max_s=120.0, jitter=0.0, respect_retry_after=True)
    accrual = ConsecutiveFailures(max_failures=1, backoff=backoff)
    async with (
        serve(bad) as one,
        serve(good) as other,
        client_of(web, one, other, failure_accrual=accrual) as client,
    ):
        while not bad.requests:
            await status_of(client, GET)
        await asyncio.sleep(0.1)
        assert [await status_of(client, GET) for _ in range(20)] == [200] * 20
        samples = await scrape(client)
        assert total(samples, "pillion_outbound_http_balancer_breaker_opens_total") == 1
        assert total(samples, "outbound_http_balancer_endpoints", endpoint_state="ready") == 1
    assert len(bad.requests) == 1


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_request_s_own_wishes_count_where_the_route_allows(
    web: Generation, *, allowed: bool
) -> None:
    """They never reach the application that they are allowed for; elsewhere they are its own."""
    wish = POST.replace(b"host: api", b"host: api\r\nl5d-retry-http: 503\r\nl5d-retry-limit: 2")
    bad = App(answer=SAYS_503)
    rule = OutboundRule(allow_l5d_request_headers=allowed)
    async with serve(bad) as one, client_of(web, one, rule=rule) as client:
        assert await status_of(client, wish) == 503
        samples = await scrape(client)
        assert total(samples, "outbound_http_route_retry_requests_total") == (2 if allowed else 0)
        assert total(samples, "outbound_http_route_retry_limit_exceeded_total") == allowed
        told = client.events("attempt failed")
    assert len(bad.requests) == (3 if allowed else 1)
    assert all((b"l5d-retry" in each) is not allowed for each in bad.requests)
    assert [each["verdict"] for each in told] == ["policy", "policy", "limit"] * allowed


async def status2(
    client_entry: tuple[str, int],
    fields: tuple[tuple[bytes, bytes], ...] = (),
    until: asyncio.Event | None = None,
) -> int:
    """Send one request in HTTP/2; return its answer's status, once ``until`` is set."""
    reader, writer = await asyncio.open_connection(*client_entry)
    head = raw(1, END_STREAM | END_HEADERS, 1, hpack.Encoder().encode((*GET2, *fields)))
    writer.write(PREFACE + settings() + head)
    try:
        async with asyncio.timeout(10):
            while True:
                start = await reader.readexactly(9)
                frame, length = hf.Frame.parse_frame_header(memoryview(start))
                body = await reader.readexactly(length)
                if isinstance(frame, hf.HeadersFrame):
                    if until is not None:
                        await until.wait()
                    return int(dict(hpack.Decoder().decode(body, raw=True))[b":status"])
    finally:
        writer.close()


async def test_streams_past_the_last_one_of_a_goaway_go_elsewhere(web: Generation) -> None:
    """They were never looked at; a new connection takes them up, whoever leaves the old one."""
    heads: list[int] = []

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PREFACE))
        writer.write(settings())
        is_first = not heads
        try:
            while True:
                start = await reader.readexactly(9)
                frame, length = hf.Frame.parse_frame_header(memoryview(start))
                await reader.readexactly(length)
                if isinstance(frame, hf.SettingsFrame) and "ACK" not in frame.flags:
                    writer.write(settings(flags=ACK))
                elif isinstance(frame, hf.HeadersFrame):
                    heads.append(frame.stream_id)
                    if is_first:
                        writer.write(raw(7, 0, 0, bytes(8)))
                    else:
                        block = hpack.Encoder().encode(OK)
                        writer.write(raw(1, END_STREAM | END_HEADERS, frame.stream_id, block))
        except asyncio.IncompleteReadError:
            writer.close()

    async with serve(app) as one, client_of(web, one) as client:
        entry = client.config.outbound_listen
        assert await status2((entry.ip, entry.port)) == 200
        assert await status2((entry.ip, entry.port)) == 200
    assert heads == [1, 1, 3]


async def test_a_client_that_is_slow_to_begin_is_waited_for(web: Generation) -> None:
    """Where no route is for bytes nobody can greet: nothing is dialled, and nothing cut."""
    app = App()
    async with serve(app) as one, client_of(web, one) as client:
        entry = client.config.outbound_listen
        reader, writer = await asyncio.open_connection(entry.ip, entry.port)
        await asyncio.sleep(0.2)
        writer.write(GET)
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize(("request_bytes", "status"), [(GET, 200), (POST, 502)])
async def test_an_idle_connection_that_dies_as_it_is_used(
    web: Generation, request_bytes: bytes, status: int
) -> None:
    """The server hung up on it at the same moment: a GET goes again, on another connection."""
    seen = 0

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            seen += 1
            writer.write(ANSWER)
            await reader.readuntil(b"\r\n\r\n")
            seen += 1
        writer.transport.abort()

    async with serve(app) as one, client_of(web, one) as client:
        assert await status_of(client, GET) == 200
        assert await status_of(client, request_bytes) == status
    assert seen == (3 if status == 200 else 2)


async def test_each_request_of_a_connection_is_made_again_by_itself(api: Generation) -> None:
    """The application hangs up on every connection that is used twice: each GET goes once more."""
    seen = 0

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
            await reader.readuntil(b"\r\n\r\n")
            seen += 1
        writer.transport.abort()

    async with run_side(api, "inbound", app) as side:
        reader, writer = await asyncio.open_connection(side.entry.ip, side.entry.port)
        async with asyncio.timeout(10):
            for _ in range(3):
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                await reader.readexactly(len(ANSWER.partition(b"\r\n\r\n")[2]))
        writer.close()
    assert seen == 2


async def test_a_long_grpc_stream_does_not_keep_its_endpoint_to_itself(web: Generation) -> None:
    """It is what an open breaker let through; a second after its response began others may go."""
    seen = 0

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readexactly(len(PREFACE))
            writer.write(settings())
            while True:
                start = await reader.readexactly(9)
                frame, length = hf.Frame.parse_frame_header(memoryview(start))
                await reader.readexactly(length)
                if isinstance(frame, hf.SettingsFrame) and "ACK" not in frame.flags:
                    writer.write(settings(flags=ACK))
                elif isinstance(frame, hf.HeadersFrame):
                    seen += 1
                    status = b"503" if seen == 1 else b"200"
                    block = hpack.Encoder().encode(((b":status", status),))
                    flags = END_HEADERS if seen == 2 else END_STREAM | END_HEADERS
                    writer.write(raw(1, flags, frame.stream_id, block))
        writer.close()

    accrual = ConsecutiveFailures(
        max_failures=1, backoff=Backoff(min_s=0.05, max_s=0.05, jitter=0.0)
    )
    async with serve(app) as one, client_of(web, one, failure_accrual=accrual) as client:
        entry = client.config.outbound_listen.ip, client.config.outbound_listen.port
        assert await status2(entry) == 503
        await asyncio.sleep(0.1)
        until = asyncio.Event()
        grpc = ((b"content-type", b"application/grpc"),)
        stream = asyncio.create_task(status2(entry, grpc, until))
        while seen < 2:
            await asyncio.sleep(0.01)
        assert await status2(entry) == 200
        assert not stream.done()
        until.set()
        assert await stream == 200
