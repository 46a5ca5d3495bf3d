"""Plaintext that the kernel moves through a real sidecar: its figures, policy, drain."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from core.watch import Watch
from identity.generation import Generation
from proxy.net.capture import FixedCapture
from tests.session.apps import exchange, serve
from tests.session.test_inbound import AUTHENTICATED
from tests.session.test_metrics import scrape, total
from tests.sidecars import Control, Running, run_sidecar

PIECE = b"z" * 65_536


@dataclass
class Stalled:
    """A download that stands still, with bytes in a pipe."""

    running: Running
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sent: Callable[[], int]
    """How much the application has sent so far."""


@contextlib.asynccontextmanager
async def stalled(api: Generation) -> AsyncIterator[Stalled]:
    """Download through a sidecar in plaintext, and stop reading: nothing moves any more.

    The application goes on until its client is gone, or has said that it has enough.
    """
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readexactly(7)
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(PIECE)
                sent += len(PIECE)
                await writer.drain()
            writer.close()

    async with (
        serve(flood) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2", control=Control(Watch(api))) as running,
    ):
        address = running.config.inbound_listen
        reader, writer = await asyncio.open_connection(address.ip, address.port, limit=1)
        writer.write(b"\0opaque")
        before = -1
        async with asyncio.timeout(20):
            while before != sent or not sent:
                before = sent
                await asyncio.sleep(0.4)
        assert running.sidecar.runtime.pipes.on_loan == 1
        yield Stalled(running, reader, writer, lambda: sent)
        writer.transport.abort()


@pytest.mark.slow
async def test_bytes_are_told_while_they_move_and_afterwards(api: Generation) -> None:
    """In /connections and /metrics, as for bytes that are copied; then the pipe is given back."""
    async with stalled(api) as download:
        running, admin = download.running, download.running.config.admin_listen
        page = await exchange(
            admin, b"GET /connections HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        )
        (told,) = json.loads(page.partition(b"\r\n\r\n")[2])["connections"]
        assert told["bytes_from_client"] == 7
        assert 65_536 < told["bytes_to_client"] <= download.sent()
        samples = await scrape(running)
        written = total(samples, "tcp_write_bytes_total", direction="inbound", peer="src")
        read = total(samples, "tcp_read_bytes_total", direction="inbound", peer="dst")
        assert written == read == told["bytes_to_client"]
        download.writer.write_eof()
        got = 0
        async with asyncio.timeout(30):
            while data := await download.reader.read(1 << 20):
                got += len(data)
        assert got == download.sent()
        async with asyncio.timeout(10):
            while running.sidecar.runtime.connections:
                await asyncio.sleep(0.01)
        assert running.sidecar.runtime.pipes.on_loan == 0
        samples = await scrape(running)
        assert total(samples, "tcp_write_bytes_total", direction="inbound", peer="src") == got


async def test_a_policy_that_no_longer_allows_it_cuts_it(api: Generation) -> None:
    """With bytes in the pipe: the client is reset, and counted."""
    async with stalled(api) as download:
        running = download.running
        port = running.control.ports()[0]
        running.control.inbound(port).publish(AUTHENTICATED)
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionResetError):
                while await download.reader.read(1 << 20):
                    pass
        event = "connection terminated due to policy change"
        assert (await running.until_event(event))["code"] == "unauthorized"
        assert running.sidecar.runtime.pipes.on_loan == 0


@pytest.mark.slow
async def test_the_end_of_the_drain_cuts_it(api: Generation) -> None:
    """A client that does not read holds nobody up for longer than the deadline."""
    async with stalled(api) as download:
        download.running.sidecar.stop()
        async with asyncio.timeout(10):
            assert await download.running.task == 3
        assert download.running.sidecar.runtime.pipes.on_loan == 0
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionResetError):
                while await download.reader.read(1 << 20):
                    pass
