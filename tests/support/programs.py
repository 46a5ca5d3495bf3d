"""Programs that a test runs to their end, or for as long as it needs them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from subprocess import DEVNULL, PIPE, STDOUT

from discovery.model import Address


@dataclass(frozen=True)
class Said:
    """What a program said before it ended."""

    status: int
    out: bytes
    err: bytes


async def run_program(*command: str, data: bytes = b"", seconds: float = 20) -> Said:
    """Run a program with ``data`` as its input and wait for its end, at most ``seconds``."""
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate(data)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Said(process.returncode or 0, out, err)


@asynccontextmanager
async def serving(address: Address, *command: str, seconds: float = 10) -> AsyncIterator[None]:
    """Run a program while the block runs, from when it listens at ``address`` on."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    try:
        await _listening(process, address, seconds)
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _listening(process: asyncio.subprocess.Process, address: Address, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            with suppress(ConnectionError):
                _, writer = await asyncio.open_connection(address.ip, address.port)
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
                return
            if process.returncode is not None:
                out, _ = await process.communicate()
                raise AssertionError(f"the program ended with {process.returncode}: {out!r}")
            await asyncio.sleep(0.02)
