"""Connections that are opened at a steady pace, and others that stay open, through a sidecar."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import final

from discovery.model import Address

PATIENCE_S = 10.0
"""How long one exchange may take; longer counts as failed."""


@final
@dataclass
class Load:
    """What became of the connections."""

    address: Address
    opened: int = 0
    """Short ones, each with one exchange."""
    exchanges: int = 0
    """On those that stay open."""
    failures: Counter[str] = field(default_factory=Counter)
    """What went wrong → how often."""

    async def connect_once(self) -> None:
        """Open a connection, exchange bytes on it, and close it."""
        self.opened += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                reader, writer = await asyncio.open_connection(self.address.ip, self.address.port)
                try:
                    await self._exchange(reader, writer, b"\0short")
                    writer.write_eof()
                    if await reader.read():
                        self.failures["more than the answer"] += 1
                finally:
                    writer.close()
                    with suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError, EOFError) as error:
            self.failures[f"new connection: {error!r}"] += 1

    async def stay(self, pause_s: float, ready: asyncio.Event) -> None:
        """Open a connection and exchange bytes on it every so often, until cancelled."""
        reader, writer = await asyncio.open_connection(self.address.ip, self.address.port)
        try:
            number = 0
            while True:
                async with asyncio.timeout(PATIENCE_S):
                    await self._exchange(reader, writer, b"\0%09d" % number)
                self.exchanges += 1
                number += 1
                ready.set()
                await asyncio.sleep(pause_s)
        except (OSError, TimeoutError, EOFError) as error:
            self.failures[f"open connection: {error!r}"] += 1
            ready.set()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes
    ) -> None:
        writer.write(data)
        if await reader.readexactly(len(data)) != data:
            self.failures["other bytes than were sent"] += 1


@asynccontextmanager
async def run_load(
    address: Address, *, per_second: int, staying: int, pause_s: float = 0.5
) -> AsyncIterator[Load]:
    """Run the load for as long as the block does; every connection is then closed."""
    load = Load(address)
    async with asyncio.TaskGroup() as tasks:
        ready = [asyncio.Event() for _ in range(staying)]
        stayers = [tasks.create_task(load.stay(pause_s, each)) for each in ready]
        for each in ready:
            await each.wait()
        pacer = tasks.create_task(_pace(load, per_second, tasks))
        try:
            yield load
        finally:
            for task in (pacer, *stayers):
                task.cancel()


async def _pace(load: Load, per_second: int, tasks: asyncio.TaskGroup) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        tasks.create_task(load.connect_once())
        due += 1 / per_second
        # Behind the pace, as after a pause of the machine's, what is missing comes at once.
        await asyncio.sleep(max(0.0, due - loop.time()))
