"""From bound sockets to drained exit: who is served, who is cut, what is left (nothing)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from core.errors import ConfigError
from core.watch import Watch
from discovery.model import Address, Endpoint
from identity.generation import Generation
from proxy.net.capture import FixedCapture
from tests.session.apps import echo, exchange, serve
from tests.session.client import run_client
from tests.session.peers import black_hole
from tests.sidecars import Control, Running, free_address, run_sidecar


@asynccontextmanager
async def run_server(
    generation: Generation, app: Address, **settings: str
) -> AsyncIterator[Running]:
    """Run a sidecar before ``app``, to which its inbound connections go."""
    prefixed = {f"PILLION_{name}": value for name, value in settings.items()}
    async with run_sidecar(generation, FixedCapture(app), ip=app.ip, settings=prefixed) as running:
        yield running


async def ended(running: Running) -> int:
    """Return the sidecar's exit status, within 10 seconds."""
    async with asyncio.timeout(10):
        return await asyncio.shield(running.task)


def connect(address: Address) -> socket.socket:
    """Connect without giving the loop a turn: the kernel accepts, nobody else yet."""
    sock = socket.create_connection((address.ip, address.port), 5)
    sock.settimeout(0)
    return sock


async def read_all(sock: socket.socket) -> bytes:
    """Read to the end; empty after a reset."""
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(10):
        try:
            while piece := await loop.sock_recv(sock, 65_536):
                data += piece
        except ConnectionError:
            return b""
    return data


async def test_open_connections_end_in_order_before_the_exit(api: Generation) -> None:
    """New ones are refused, the open one lives on, and then the exit status is 0."""
    async with serve(echo) as app, run_server(api, app) as running:
        inbound = running.config.inbound_listen
        reader, writer = await asyncio.open_connection(inbound.ip, inbound.port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        running.sidecar.stop()
        await running.until_event("draining")
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(inbound.ip, inbound.port)
        writer.write(b"two")
        assert await reader.readexactly(3) == b"two"
        assert not running.task.done()
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        assert await ended(running) == 0


async def test_at_the_deadline_what_is_left_is_cut(api: Generation) -> None:
    """With a reset, so that nobody takes it for an end; the exit status is 3."""
    async with (
        serve(echo) as app,
        run_server(api, app, SHUTDOWN_GRACE_PERIOD="100ms") as running,
    ):
        inbound = running.config.inbound_listen
        reader, writer = await asyncio.open_connection(inbound.ip, inbound.port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        started = time.monotonic()
        running.sidecar.stop()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert await ended(running) == 3
        assert 0.1 <= time.monotonic() - started < 1.0
        writer.close()
        assert running.events("drain deadline hit")[0]["cut"] == 1


async def test_a_second_order_ends_at_once(api: Generation) -> None:
    """Whatever is open is cut, as at the deadline, and the exit status says so."""
    async with serve(echo) as app, run_server(api, app, SHUTDOWN_GRACE_PERIOD="1h") as running:
        inbound = running.config.inbound_listen
        reader, writer = await asyncio.open_connection(inbound.ip, inbound.port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        running.sidecar.stop()
        await running.until_event("draining")
        running.sidecar.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert await ended(running) == 3
        writer.close()
        assert running.events("drain given up")[0]["cut"] == 1


async def test_an_order_to_end_at_once_needs_no_first(api: Generation) -> None:
    """Nothing open: nothing is lost, and the status is that of a drained exit."""
    async with serve(echo) as app, run_server(api, app) as running:
        running.sidecar.cut()
        assert await ended(running) == 0


async def test_a_handshake_that_has_begun_is_finished_and_no_other_begins(
    api: Generation,
) -> None:
    """Who connects meanwhile gets no answer yet, and is then refused; nobody is reset."""
    async with serve(echo) as app, run_server(api, app) as running:
        inbound = running.config.inbound_listen
        early = connect(inbound)
        running.sidecar.stop()
        await running.until_event("draining")
        late = socket.socket()
        late.setblocking(False)
        with pytest.raises(BlockingIOError):
            late.connect((inbound.ip, inbound.port))
        early.sendall(b"ping")
        early.shutdown(socket.SHUT_WR)
        assert await read_all(early) == b"ping"
        with pytest.raises(ConnectionRefusedError):
            async with asyncio.timeout(10):
                await asyncio.get_running_loop().sock_connect(late, (inbound.ip, inbound.port))
                await asyncio.get_running_loop().sock_recv(late, 1)
        for sock in (early, late):
            sock.close()
        assert await ended(running) == 0


async def test_a_dial_does_not_outlive_the_deadline(web: Generation) -> None:
    """What is not yet a connection is given up on with the rest."""
    with black_hole() as hole:
        async with run_client(
            web,
            destination=hole,
            SHUTDOWN_GRACE_PERIOD="100ms",
            OUTBOUND_CONNECT_TIMEOUT="60s",
        ) as client:
            call = asyncio.get_running_loop().create_task(
                exchange(client.config.outbound_listen, b"x")
            )
            async with asyncio.timeout(5):
                while not client.sidecar.runtime.drain.in_flight:
                    await asyncio.sleep(0.001)
            client.sidecar.stop()
            assert await ended(client) == 3
            assert await call == b""


async def test_who_waits_in_the_kernel_s_queue_is_still_served(api: Generation) -> None:
    """Also when more wait than one turn of the loop accepts."""
    async with serve(echo) as app, run_server(api, app) as running:
        socks = [connect(running.config.inbound_listen) for _ in range(150)]
        running.sidecar.stop()
        for sock in socks:
            sock.sendall(b"ping")
            sock.shutdown(socket.SHUT_WR)
        answers = [await read_all(sock) for sock in socks]
        for sock in socks:
            sock.close()
        assert answers == [b"ping"] * 150
        assert await ended(running) == 0


async def test_the_application_may_call_out_while_draining(
    web: Generation, api: Generation
) -> None:
    """Outbound connections are taken until the last inbound one has ended."""
    async with serve(echo) as app, serve(echo, "127.0.0.3") as other:
        control = Control(Watch(api))
        control.route(app, Endpoint(address=other))
        async with run_sidecar(api, FixedCapture(app), ip=app.ip, control=control) as running:
            inbound = running.config.inbound_listen
            reader, writer = await asyncio.open_connection(inbound.ip, inbound.port)
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
            running.sidecar.stop()
            await running.until_event("draining")
            assert await exchange(running.config.outbound_listen, b"out") == b"out"
            writer.close()
            assert await ended(running) == 0


async def test_who_comes_at_the_very_end_is_reset(web: Generation) -> None:
    """Connections that nobody has taken yet end with the sidecar, and leave nothing behind."""
    async with run_client(web, destination=free_address("127.0.0.3")) as client:
        socks = [
            connect(address)
            for address in (client.config.outbound_listen, client.config.admin_listen)
            for _ in range(3)
        ]
        client.sidecar.stop()
        assert await ended(client) == 0
        for sock in socks:
            assert await read_all(sock) == b""
            sock.close()


async def test_a_sidecar_without_a_certificate_stops_at_once() -> None:
    """There is nothing to drain; who waited for it is reset."""
    control = Control(Watch[Generation | None](None))
    async with run_sidecar(
        None, FixedCapture(free_address()), ip="127.0.0.2", control=control
    ) as running:
        await asyncio.sleep(0)
        sock = connect(running.config.inbound_listen)
        running.sidecar.stop()
        assert await ended(running) == 0
        assert await read_all(sock) == b""
        sock.close()


@pytest.mark.parametrize("which", ["INBOUND", "OUTBOUND", "ADMIN"])
async def test_a_port_that_is_taken_is_named(api: Generation, which: str) -> None:
    """The error says which listener wanted which address; no other port stays taken."""
    addresses = {name: free_address("127.0.0.2") for name in ("INBOUND", "OUTBOUND", "ADMIN")}
    settings = {f"PILLION_{name}_LISTEN_ADDR": str(each) for name, each in addresses.items()}
    taken = addresses[which]
    with socket.create_server((taken.ip, taken.port)):
        with pytest.raises(ConfigError) as caught:
            async with run_sidecar(api, FixedCapture(taken), ip="127.0.0.2", settings=settings):
                pass
        assert str(taken) in str(caught.value)
        assert which.lower() in str(caught.value)
    for each in addresses.values():
        socket.create_server((each.ip, each.port)).close()
