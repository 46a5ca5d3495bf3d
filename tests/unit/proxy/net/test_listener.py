from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from core.errors import ConfigError
from discovery.model import Address
from proxy.net.listener import Admission, Listener, bind_all
from proxy.net.poller import Poller
from proxy.net.sockopt import TcpOptions
from tests.support.streams import ending_of, until

ANY_PORT = Address("127.0.0.1", 0)


class Host:
    """Takes accepted connections and keeps them."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.guests: list[socket.socket] = []
        self.ips: list[str] = []

    def accepted(self, sock: socket.socket, ip: str) -> None:
        """Keep a connection."""
        self.admission.enter()
        self.guests.append(sock)
        self.ips.append(ip)

    def see_off(self, count: int) -> None:
        """Close so many of the oldest."""
        for _ in range(count):
            self.guests.pop(0).close()
            self.admission.leave()


@asynccontextmanager
async def listening(poller: Poller, limit: int) -> AsyncIterator[tuple[Listener, Host]]:
    """Run a listener that admits so many."""
    admission = Admission(limit)
    host = Host(admission)
    ((_, sock),) = bind_all([("test", ANY_PORT)]).socks
    listener = Listener(poller, sock, host, admission, TcpOptions())
    try:
        listener.start()
        yield listener, host
    finally:
        listener.close()
        host.see_off(len(host.guests))


def connect(listener: Listener) -> socket.socket:
    """Connect; the kernel accepts even while the listener does not."""
    sock = socket.create_connection((listener.address.ip, listener.address.port), 5)
    sock.settimeout(0)
    return sock


async def test_accepted_connections_have_their_options(poller: Poller) -> None:
    """Not blocking, without delay, with keepalive and a bound on unacknowledged bytes."""
    async with listening(poller, 10) as (listener, host):
        with connect(listener):
            await until(lambda: host.guests)
            (guest,) = host.guests
            assert guest.gettimeout() == 0
            assert guest.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert guest.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert guest.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
            assert guest.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert host.ips == ["127.0.0.1"]


async def test_at_the_bound_the_next_one_waits(poller: Poller) -> None:
    """As many as the bound come in at once, one more when one has left; the pause is counted."""
    async with listening(poller, 3) as (listener, host):
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(connect(listener))
            await until(lambda: len(host.guests) == 3)
            assert host.admission.pauses <= 1
            for _ in range(2):
                stack.enter_context(connect(listener))
            await until(lambda: host.admission.pauses)
            await asyncio.sleep(0.02)
            assert len(host.guests) == 3
            host.see_off(1)
            await until(lambda: len(host.guests) == 3)
            host.see_off(3)
            await until(lambda: len(host.guests) == 1)


async def test_two_listeners_share_the_bound(poller: Poller) -> None:
    """Who waited at either goes on when there is room."""
    admission = Admission(1)
    host = Host(admission)
    socks = bind_all([("one", ANY_PORT), ("two", ANY_PORT)]).socks
    listeners = [Listener(poller, sock, host, admission, TcpOptions()) for _, sock in socks]
    with contextlib.ExitStack() as stack:
        for listener in listeners:
            stack.callback(listener.close)
            listener.start()
            for _ in range(2):
                stack.enter_context(connect(listener))
        for _ in range(4):
            await until(lambda: len(host.guests) == 1)
            assert admission.open == 1
            host.see_off(1)
        await asyncio.sleep(0.02)
        assert host.guests == []


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Let this process open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as probe:
        highest = probe.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_out_of_descriptors_it_pauses_and_goes_on(poller: Poller) -> None:
    """With a growing pause instead of a busy loop; nobody who waits is lost."""
    async with listening(poller, 10) as (listener, host):
        with connect(listener):
            with no_descriptors_left():
                await until(lambda: host.admission.pauses >= 2)
                assert host.admission.pauses < 10
                assert host.guests == []
            await until(lambda: host.guests)


async def test_closing_ends_who_waits_and_frees_the_port(poller: Poller) -> None:
    """Also while accepting is paused, by the bound or for want of descriptors."""
    async with listening(poller, 1) as (listener, host):
        with connect(listener), connect(listener) as waiting:
            await until(lambda: host.admission.pauses)
            listener.close()
            listener.close()
            listener.resume()
            assert await ending_of(waiting) == "reset"
            ((_, again),) = bind_all([("again", listener.address)]).socks
            again.close()
            host.see_off(1)
    async with listening(poller, 1) as (listener, host):
        with connect(listener):
            with no_descriptors_left():
                await until(lambda: host.admission.pauses)
                listener.close()
            await asyncio.sleep(0.1)
            assert host.guests == []


def test_ports_are_had_together_or_not_at_all() -> None:
    """Every one that is taken is named; none of the others stays bound."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        ((_, free),) = bind_all([("free", ANY_PORT)]).socks
        address = Address("127.0.0.1", free.getsockname()[1])
        free.close()
        taken = [Address(*sock.getsockname()) for sock in (one, two)]
        with pytest.raises(ConfigError) as caught:
            bind_all([("inbound", taken[0]), ("admin", address), ("outbound", taken[1])])
        assert len(caught.value.problems) == 2
        for name, wanted in zip(("inbound", "outbound"), taken, strict=True):
            assert any(name in each and str(wanted) in each for each in caught.value.problems)
        ((_, again),) = bind_all([("again", address)]).socks
        again.close()
