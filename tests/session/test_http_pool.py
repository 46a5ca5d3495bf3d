"""The bounds of a pool: who may wait for a connection, and how many are kept idle."""

from __future__ import annotations

import asyncio
import resource
import socket

from core.errors import UnreachableError
from proxy.http.exchange import Exchange, Near
from proxy.http.pool import IDLE_S, MAX_IDLE, MAX_WAITING, Http1Pool, Http2Pool, Pool
from proxy.net.inbox import Inbox
from proxy.net.poller import Poller
from proxy.net.stream import Stream
from proxy.wire.http1_reader import RequestReader
from proxy.wire.http_field import Fields
from proxy.wire.http_message import RequestHead, ResponseHead


class Client(Near):
    """A client that notes what it is told."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def send_head(self, head: ResponseHead, *, ended: bool) -> None:
        """Note the status."""
        self.statuses.append(head.status)

    def send_body(self, data: bytes) -> bool:
        """Take it."""
        return True

    def send_end(self, trailers: Fields) -> None:
        """Take it."""


class Owner:
    """Whose dials take for ever."""

    def __init__(self) -> None:
        self.dials = 0
        self.closed = 0

    def dial(self, pool: Pool) -> None:
        """Note that a connection is wanted."""
        self.dials += 1

    def far_opened(self, pool: Pool, stream: Stream) -> None:
        """Take no notice."""

    def far_closed(self, pool: Pool, stream: Stream, error: Exception | None) -> None:
        """Note an end."""
        self.closed += 1


def head() -> RequestHead:
    """Return a request's head."""
    reader = RequestReader()
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    found = reader.read_head()
    assert found is not None
    return found


async def test_so_many_requests_may_wait_for_a_connection() -> None:
    """The next one is answered 503 at once; those that wait are answered when the dial fails."""
    poller = Poller(asyncio.get_running_loop())
    for kind in (Http1Pool, Http2Pool):
        pool = kind(poller, Owner())
        clients = [Client() for _ in range(MAX_WAITING + 1)]
        for client in clients:
            pool.carry(Exchange(head(), client, poller, ended=True))
        assert [each.statuses for each in clients[:-1]] == [[]] * MAX_WAITING
        assert clients[-1].statuses == [503]
        while not pool.is_idle:
            pool.dial_failed(UnreachableError("no"))
        assert [each.statuses for each in clients[:-1]] == [[502]] * MAX_WAITING
    poller.close()


async def test_so_many_idle_connections_are_kept() -> None:
    """The next one is closed; all of them after three seconds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * MAX_IDLE)), hard))
    poller = Poller(asyncio.get_running_loop())
    owner = Owner()
    pool = Http1Pool(poller, owner)
    ours: list[socket.socket] = []
    try:
        for _ in range(MAX_IDLE + 1):
            near, far = socket.socketpair()
            far.setblocking(False)
            ours.append(near)
            pool.dialled(Stream(poller, far, Inbox(poller.loop)))
        assert owner.closed == 1
        pool.on_tick(poller.loop.time() + IDLE_S)
        assert owner.closed == MAX_IDLE + 1
        assert pool.is_idle
    finally:
        for each in ours:
            each.close()
        poller.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
