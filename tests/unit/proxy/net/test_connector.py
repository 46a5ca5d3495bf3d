from __future__ import annotations

import asyncio
import gc
import socket
import time
from pathlib import Path

import pytest

from core.errors import ConnectRefusedError, ConnectTimeoutError, OverloadError, UnreachableError
from discovery.model import Address
from proxy.net.connector import Connector
from proxy.net.poller import Poller
from proxy.net.sockopt import TcpOptions
from tests.session.peers import black_hole
from tests.unit.proxy.net.test_listener import no_descriptors_left


def mk_connector(poller: Poller, *sources: str) -> Connector:
    """Return a connector with the usual options."""
    return Connector(poller, TcpOptions(), sources)


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_connection_has_its_options_and_its_source(poller: Poller) -> None:
    """As accepted ones have; dialled from the address that was given."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
        sock = await mk_connector(poller, "127.0.0.7").connect(address, 5)
        with sock, listener.accept()[0] as peer:
            assert sock.gettimeout() == 0
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert peer.getpeername()[0] == "127.0.0.7"


async def test_nobody_there_is_refused_at_once(poller: Poller) -> None:
    """The error names the address; no descriptor stays."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
    before = descriptors()
    for _ in range(20):
        with pytest.raises(ConnectRefusedError, match=str(address)):
            await mk_connector(poller).connect(address, 5)
    assert descriptors() == before


async def test_a_black_hole_costs_the_timeout_and_no_more(poller: Poller) -> None:
    """No descriptor stays either, also when the caller gives up first."""
    # Descriptors of earlier tests that wait for the collector are not to go in the middle of it.
    gc.collect()
    with black_hole() as hole:
        before = descriptors()
        started = time.monotonic()
        with pytest.raises(ConnectTimeoutError, match=str(hole)):
            await mk_connector(poller).connect(hole, 0.5)
        assert 0.5 <= time.monotonic() - started < 5
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await mk_connector(poller).connect(hole, 60)
        assert descriptors() == before


async def test_no_way_there_is_unreachable(poller: Poller) -> None:
    """What the kernel says is passed on."""
    with pytest.raises(UnreachableError, match="cannot be reached"):
        await mk_connector(poller, "127.0.0.1").connect(Address("192.0.2.1", 9), 1)


async def test_out_of_descriptors_is_our_own_fault(poller: Poller) -> None:
    """Not the server's, who is not to be blamed for it."""
    with no_descriptors_left(), pytest.raises(OverloadError):
        await mk_connector(poller).connect(Address("127.0.0.1", 9), 1)
