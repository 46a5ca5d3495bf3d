"""Requests whose endpoints fail: where they go next, and what the client gets in the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from core.watch import Watch
from discovery.model import Address, Endpoint, EndpointSet, Target, default_metadata
from identity.generation import Generation
from policy.model import (
    Backend,
    Backoff,
    Balancer,
    ConsecutiveFailures,
    FirstAvailable,
    OutboundPolicy,
    OutboundRoute,
    OutboundRule,
    Retry,
    StatusRange,
    Timeouts,
)
from proxy.net.capture import FixedCapture
from proxy.net.poller import READ
from tests.session.apps import exchange, serve
from tests.sidecars import Control, Running, free_address, run_sidecar
from tests.support.streams import connected

CLUSTER_IP = Address("10.96.0.1", 80)
TARGET = Target("api.shop.svc.cluster.local", 80)
GET = b"GET /x HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nhost: api\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody"


@dataclass
class App:
    """Answers every request with one status, or in a worse way; remembers how many came."""

    answer: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    delay_s: float = 0.0
    closes: bool = False
    requests: list[bytes] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = b""
                if b"content-length: 4" in head:
                    body = await reader.readexactly(4)
                self.requests.append(head + body)
                await asyncio.sleep(self.delay_s)
                if not self.answer:
                    break
                writer.write(self.answer)
                if self.closes:
                    await writer.drain()
                    writer.close()
                    return
        writer.transport.abort()


class Slow:
    """Takes longer than an attempt may, once, and holds up what was ready with it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def on_ready(self, events: int) -> None:
        """Read what came, and do something for long."""
        del events
        self._sock.recv(1)
        time.sleep(2.1)


SAYS_503 = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


@contextlib.asynccontextmanager
async def client_of(
    web: Generation, *addresses: Address, rule: OutboundRule | None = None, **more: object
) -> AsyncIterator[Running]:
    """Run a client's sidecar whose Service has these endpoints, in plaintext."""
    backend = Backend(metadata=default_metadata("api"), dispatcher=Balancer(target=TARGET))
    route = OutboundRoute(
        metadata=default_metadata("http"),
        rules=(replace(rule or OutboundRule(), distribution=FirstAvailable((backend,))),),
    )
    policy = OutboundPolicy(metadata=default_metadata("api"), http1=(route,), http2=(route,))
    control = Control(Watch(web))
    control.outbound_policies[CLUSTER_IP] = Watch(replace(policy, **more))  # type: ignore[arg-type]
    control.sets[TARGET] = Watch(
        EndpointSet(endpoints=tuple(Endpoint(address=each) for each in addresses))
    )
    async with run_sidecar(web, FixedCapture(CLUSTER_IP), control=control) as client:
        yield client


async def status_of(client: Running, request: bytes) -> int:
    """Send one request; return the status of its answer."""
    got = await exchange(client.config.outbound_listen, request, end=False)
    return int(got.split(b" ")[1])


@pytest.mark.parametrize("request_bytes", [GET, POST], ids=["GET", "POST"])
async def test_who_cannot_be_reached_is_passed_over(web: Generation, request_bytes: bytes) -> None:
    """Nothing was sent, so whatever the method another endpoint gets the request, whole."""
    app = App()
    async with serve(app) as good:
        dead = [free_address("127.0.0.2") for _ in range(3)]
        async with client_of(web, *dead, good) as client:
            for _ in range(5):
                assert await status_of(client, request_bytes) == 200
    assert len(app.requests) == 5
    assert all(each.endswith(request_bytes[-4:]) for each in app.requests)


async def test_a_get_that_met_a_reset_goes_elsewhere_once(web: Generation) -> None:
    """Safe to ask again; a second reset is the client's to know."""
    bad, good = App(answer=b""), App()
    async with serve(bad) as one, serve(good) as other:
        async with client_of(web, one, other) as client:
            answers = [await status_of(client, GET) for _ in range(10)]
        assert answers == [200] * 10
        async with client_of(web, one) as client:
            before = len(bad.requests)
            assert await status_of(client, GET) == 502
            assert len(bad.requests) == before + 2


async def test_a_post_is_never_sent_twice(web: Generation) -> None:
    """What may have been acted on is not repeated unasked."""
    bad = App(answer=b"")
    async with serve(bad) as one, client_of(web, one) as client:
        assert await status_of(client, POST) == 502
    assert len(bad.requests) == 1


async def test_a_policy_s_statuses_are_tried_again(web: Generation) -> None:
    """With the body as it was, for the policy says so; no more often than it says."""
    bad, good = App(answer=SAYS_503), App()
    rule = OutboundRule(retry=Retry(max_retries=2, statuses=(StatusRange(503, 503),)))
    async with serve(bad) as one, serve(good) as other:
        async with client_of(web, one, other, rule=rule) as client:
            assert [await status_of(client, POST) for _ in range(8)] == [200] * 8
        assert all(each.endswith(b"body") for each in good.requests)
        async with client_of(web, one, rule=rule) as client:
            before = len(bad.requests)
            assert await status_of(client, POST) == 503
            assert len(bad.requests) == before + 3


async def test_a_request_that_takes_too_long_is_answered(web: Generation) -> None:
    """504 at the request's limit; with a limit for each attempt another endpoint is asked."""
    slow, good = App(delay_s=5.0), App()
    async with serve(slow) as one, serve(good) as other:
        rule = OutboundRule(timeouts=Timeouts(request_s=0.2))
        async with client_of(web, one, rule=rule) as client, asyncio.timeout(2):
            assert await status_of(client, GET) == 504
        rule = OutboundRule(retry=Retry(timeout_s=0.1))
        async with client_of(web, one, other, rule=rule) as client, asyncio.timeout(4):
            assert [await status_of(client, GET) for _ in range(4)] == [200] * 4


async def test_an_attempt_has_its_time_from_when_it_is_made(web: Generation) -> None:
    """However long what else was ready took before it: it has had no part in that."""
    app = App()
    rule = OutboundRule(retry=Retry(timeout_s=2.0))
    request = GET.replace(b"connection: close\r\n", b"")
    # Telling of a slow callback takes long itself.
    asyncio.get_running_loop().slow_callback_duration = 60.0
    async with serve(app) as one, client_of(web, one, rule=rule) as client:
        entry = client.config.outbound_listen
        poller = client.sidecar.runtime.poller
        reader, writer = await asyncio.open_connection(entry.ip, entry.port)
        with connected() as (near, peer):
            poller.watch(near.fileno(), Slow(near), READ)
            for is_slow in (False, True):
                if is_slow:
                    peer.sendall(b"x")
                writer.write(request)
                async with asyncio.timeout(10):
                    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
                    await reader.readuntil(b"ok")
            poller.forget(near.fileno())
        writer.close()
    assert len(app.requests) == 2


async def test_a_client_may_take_its_time(web: Generation) -> None:
    """Where no route is for other connections nobody is dialled before it has spoken."""
    async with serve(App()) as one, client_of(web, one) as client:
        entry = client.config.outbound_listen
        reader, writer = await asyncio.open_connection(entry.ip, entry.port)
        await asyncio.sleep(0.2)
        writer.write(GET)
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_a_breaker_keeps_a_failing_endpoint_out(web: Generation) -> None:
    """After three failures in a row nobody is sent there for a while, however idle it is."""
    bad, good = App(answer=SAYS_503), App(delay_s=0.1)
    accrual = ConsecutiveFailures(
        max_failures=3, backoff=Backoff(min_s=60.0, max_s=60.0, jitter=0.0)
    )
    async with (
        serve(bad) as one,
        serve(good) as other,
        client_of(web, one, other, failure_accrual=accrual) as client,
    ):
        answers = await asyncio.gather(*(status_of(client, GET) for _ in range(100)))
        answers += [await status_of(client, GET) for _ in range(5)]
    assert answers.count(503) == len(bad.requests)
    assert len(bad.requests) >= 3
    assert answers[-5:] == [200] * 5
