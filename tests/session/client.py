"""A client's sidecar with nothing behind it but what a test tells it to dial."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from discovery.model import Address
from identity.generation import Generation
from proxy.net.capture import FixedCapture
from tests.session.apps import exchange
from tests.sidecars import Control, Running, run_sidecar

CLUSTER_IP: Final = Address("10.96.0.10", 80)


@asynccontextmanager
async def run_client(
    generation: Generation,
    control: Control | None = None,
    destination: Address = CLUSTER_IP,
    **settings: str,
) -> AsyncIterator[Running]:
    """Run the client's sidecar; connections to it were going to ``destination``."""
    prefixed = {f"PILLION_{name}": value for name, value in settings.items()}
    async with run_sidecar(
        generation, FixedCapture(destination), control=control, settings=prefixed
    ) as running:
        yield running


async def call(running: Running, data: bytes = b"ping") -> bytes:
    """Send ``data`` through the client's sidecar and return the answer; empty after a reset."""
    return await exchange(running.config.outbound_listen, data)


async def is_reset(running: Running) -> bool:
    """Whether a connection through the sidecar ends in a reset, not in an orderly end."""
    address = running.config.outbound_listen
    try:
        reader, writer = await asyncio.open_connection(address.ip, address.port)
    except ConnectionResetError:
        return True  # before we knew that we were connected
    try:
        async with asyncio.timeout(10):
            assert await reader.read() == b""
    except ConnectionResetError:
        return True
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return False
