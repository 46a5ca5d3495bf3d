"""What becomes of an idle connection that its server has closed."""

from __future__ import annotations

import asyncio
import socket
from typing import final

import pytest

from core.errors import MeshError
from proxy.http.exchange import Case, Exchange, Near
from proxy.http.pool import IDLE_S, Http1Pool, Pool
from proxy.net.poller import Poller
from proxy.net.stream import CLOSED, Stream
from proxy.wire.http1_reader import RequestReader
from proxy.wire.http_field import Fields
from proxy.wire.http_message import ResponseHead


@final
class Client(Near):
    """Notes the status of what it is answered."""

    def __init__(self) -> None:
        self.answered = asyncio.Event()

    def send_head(self, head: ResponseHead, *, ended: bool) -> None:
        self.answered.set()

    def send_end(self, trailers: Fields) -> None:
        pass

    def cut(self, error: MeshError) -> None:
        raise error


@final
class Again(Case):
    """Shows the client no response: another attempt is to come."""

    def __init__(self) -> None:
        self.judged = asyncio.Event()

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        self.judged.set()

    def on_failure(self, exchange: Exchange, error: MeshError, *, reused: bool) -> bool:
        return False

    def on_done(self, exchange: Exchange, error: MeshError | None) -> None:
        pass


@final
class Owner:
    def __init__(self) -> None:
        self.dials = 0

    def dial(self, pool: Pool) -> None:
        self.dials += 1

    def far_opened(self, pool: Pool, stream: Stream) -> None:
        pass

    def far_closed(self, pool: Pool, stream: Stream, error: Exception | None) -> None:
        pass


def _exchange(poller: Poller, method: bytes) -> tuple[Exchange, Client]:
    reader = RequestReader()
    reader.feed(method + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    head = reader.read_head()
    assert head is not None
    client = Client()
    return Exchange(head, client, poller, ended=True), client


@pytest.mark.parametrize(("method", "dials"), [(b"POST", 2), (b"GET", 1)])
async def test_what_must_not_be_repeated_meets_no_dead_connection(
    poller: Poller, method: bytes, dials: int
) -> None:
    """The server's end waits unread in the kernel; a GET may meet it and be made again."""
    owner = Owner()
    pool = Http1Pool(poller, owner)
    exchange, client = _exchange(poller, b"GET")
    pool.carry(exchange)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    pool.dialled(Stream(poller, ours, CLOSED))
    theirs.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with asyncio.timeout(10):
        await client.answered.wait()
    assert owner.dials == 1
    theirs.shutdown(socket.SHUT_WR)
    later, _ = _exchange(poller, method)
    pool.carry(later)
    assert owner.dials == dials
    pool.retire()
    theirs.close()
    ours.close()


async def test_whose_request_is_made_again_is_kept_like_any_other(poller: Poller) -> None:
    """It has been idle since its response, though the exchange is not over."""
    pool = Http1Pool(poller, Owner())
    exchange, _ = _exchange(poller, b"GET")
    exchange.case = case = Again()
    pool.carry(exchange)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    pool.dialled(Stream(poller, ours, CLOSED))
    theirs.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    async with asyncio.timeout(10):
        await case.judged.wait()
    now = poller.loop.time()
    kept = []
    for later in (0.0, IDLE_S):
        pool.on_tick(now + later)
        kept.append(not pool.is_idle)
    assert kept == [True, False]
    theirs.close()
    ours.close()
