"""Peers that are slow, rude or out to cost us something: bounded, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import ssl
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest

from core.watch import Watch
from discovery.model import Address
from identity.generation import Generation
from policy.model import Protocol
from proxy.net.capture import FixedCapture
from proxy.net.socket_call import READ_BYTES
from proxy.net.stream import MAX_BACKLOG_BYTES
from proxy.wire.transport_header import TransportHeader, encode_header
from tests.authority import Mesh
from tests.session.apps import echo, exchange, serve
from tests.session.libssl import LibsslClient
from tests.session.peers import mk_context, mk_files
from tests.sidecars import OPEN, Control, Running, free_address, run_pair, run_sidecar

pytestmark = pytest.mark.usefixtures("tls_engine")


async def drip(address: Address, data: bytes, pause_s: float) -> float:
    """Send a byte at a time until the connection is ended; return how long that took."""
    reader, writer = await asyncio.open_connection(address.ip, address.port)
    started = time.monotonic()

    async def send() -> None:
        with contextlib.suppress(OSError):
            for byte in data:
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(pause_s)

    sending = asyncio.get_running_loop().create_task(send())
    try:
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        return time.monotonic() - started
    finally:
        sending.cancel()
        writer.transport.abort()
        with contextlib.suppress(asyncio.CancelledError):
            await sending


def hello_for(sni: str) -> bytes:
    """Return a ClientHello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=sni)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "redirected"])
async def test_a_hello_that_drips_is_let_go_in_time(api: Generation, direct: bool) -> None:
    """The bound is on the whole hello, not on each byte; others are served meanwhile."""
    inbound = free_address("127.0.0.2")
    async with (
        serve(echo) as app,
        run_sidecar(
            api,
            FixedCapture(inbound if direct else app),
            ip="127.0.0.2",
            inbound=inbound,
            settings={"PILLION_INBOUND_DETECT_TIMEOUT": "200ms"},
        ) as running,
    ):
        async with asyncio.TaskGroup() as tasks:
            drips = [
                tasks.create_task(drip(inbound, hello_for(api.server_name), 0.02)) for _ in range(5)
            ]
            if not direct:
                assert await exchange(inbound, b"meanwhile") == b"meanwhile"
        assert all(0.15 < each.result() < 2 for each in drips)
        codes = [each["code"] for each in running.events("connection failed")]
        assert codes == ["detect-timeout"] * 5


async def test_a_header_that_drips_is_let_go_in_time(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """As the hello before it."""
    context = mk_context(mesh, mk_files(mesh, "shop/web", tmp_path))
    inbound = free_address("127.0.0.2")
    async with run_sidecar(
        api,
        FixedCapture(inbound),
        ip="127.0.0.2",
        inbound=inbound,
        settings={"PILLION_INBOUND_DETECT_TIMEOUT": "300ms"},
    ) as running:
        reader, writer = await asyncio.open_connection(
            inbound.ip, inbound.port, ssl=context, server_hostname=api.server_name
        )
        started = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in encode_header(TransportHeader(8080)):
                writer.write(bytes((byte,)))
                await asyncio.sleep(0.05)
        failed = await running.until_event("connection failed")
        assert failed["code"] == "detect-timeout"
        assert time.monotonic() - started < 3
        writer.transport.abort()
        del reader


async def test_what_a_peer_asks_of_tls_is_bounded(api: Generation) -> None:
    """Key updates that it requests and does not read end the connection, not our memory."""
    # Nothing is looked for behind TLS: the client says nothing.
    control = Control(Watch(api), policy=replace(OPEN, protocol=Protocol.TLS))
    async with (
        serve(echo) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2", control=control) as running,
    ):
        loop = asyncio.get_running_loop()
        inbound = running.config.inbound_listen
        client = LibsslClient(api.server_name)
        with contextlib.closing(client), socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(0)
            async with asyncio.timeout(20):
                await loop.sock_connect(sock, (inbound.ip, inbound.port))
                while not client.handshake():
                    await loop.sock_sendall(sock, client.take())
                    client.feed(await loop.sock_recv(sock, 65_536))
                await loop.sock_sendall(sock, client.take())
                await running.until_event("connection")
                (connection,) = running.relayed
                near = connection.relay.near
                near.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                most = 0
                with contextlib.suppress(ConnectionError):
                    while not near.closed:
                        for _ in range(500):
                            client.request_key_update()
                        await loop.sock_sendall(sock, client.take())
                        await asyncio.sleep(0.001)
                        most = max(most, near.backlog_bytes)
        assert 0 < most <= MAX_BACKLOG_BYTES + READ_BYTES
        assert (await running.until_event("connection closed"))["error"] == "overload"


# Whoever leaves at whatever moment


def reset_at_close(writer: asyncio.StreamWriter) -> None:
    """Let the connection end in a reset, if it is still there."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def rude_app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo for a while, then leave in one of many ways."""
    chance = random.random()
    left = random.choice((0, 1, 1_000, 100_000, 10_000_000))
    with contextlib.suppress(OSError):
        while left > 0 and (data := await reader.read(65_536)):
            left -= len(data)
            writer.write(data)
            await writer.drain()
        if chance < 0.3:
            writer.write_eof()
            await reader.read(10)
        elif chance < 0.6:
            reset_at_close(writer)
    writer.transport.abort()


async def rude_client(address: Address, choose: random.Random) -> None:
    """Connect, and leave at a random moment in a random way."""
    reader, writer = await asyncio.open_connection(address.ip, address.port)
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(choose.choice((0.0, 0.002, 0.02, 0.1, 0.3))):
            for _ in range(choose.randrange(4)):
                writer.write(choose.randbytes(choose.choice((1, 100, 20_000, 200_000))))
                if choose.random() < 0.7:
                    await writer.drain()
                    await reader.read(choose.choice((1, 70_000)))
            if choose.random() < 0.5:
                writer.write_eof()
                await reader.read()
    if choose.random() < 0.5:
        reset_at_close(writer)
    writer.transport.abort()


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def gauge(running: Running) -> float:
    """Return how many open connections the sidecar's metrics claim."""
    return sum(value for *_, value in running.sidecar.runtime.metrics.tcp_open_now.samples())


@pytest.mark.slow
@pytest.mark.parametrize("direct", [True, False], ids=["direct", "redirected"])
async def test_two_hundred_rude_connections_leave_nothing_behind(
    web: Generation, api: Generation, direct: bool
) -> None:
    """No descriptor, no task, no count; and the next connection is served."""
    choose = random.Random(f"seed {direct}")
    random.seed(f"app {direct}")
    async with serve(rude_app) as app, run_pair(web, api, app, direct=direct) as pair:
        before = descriptors()
        for _ in range(4):
            async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
                for _ in range(50):
                    seeded = random.Random(choose.random())
                    tasks.create_task(rude_client(pair.entry, seeded))
        async with asyncio.timeout(10):
            for side in (pair.client, pair.server):
                runtime = side.sidecar.runtime
                while runtime.running or runtime.connections:
                    await asyncio.sleep(0.01)
                assert (runtime.admission.open, runtime.drain.in_flight) == (0, 0)
                assert gauge(side) == 0
            while descriptors() > before:
                gc.collect()
                await asyncio.sleep(0.05)
        for side in (pair.client, pair.server):
            assert side.events("session broke") == []
    async with serve(echo) as app, run_pair(web, api, app, direct=direct) as pair:
        assert await exchange(pair.entry, b"next") == b"next"
