"""Small applications that stand behind sidecars in tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from discovery.model import Address

App = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serve(app: App, ip: str = "127.0.0.2") -> AsyncIterator[Address]:
    """Run an application."""
    server = await asyncio.start_server(app, ip, 0, backlog=1024)
    try:
        yield Address(ip, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, until the end."""
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def exchange(address: Address, data: bytes, *, end: bool = True) -> bytes:
    """Send ``data``, end, and return all that comes back; empty after a reset."""
    try:
        reader, writer = await asyncio.open_connection(address.ip, address.port)
    except ConnectionResetError:
        return b""  # before we knew that we were connected
    try:
        writer.write(data)
        if end:
            writer.write_eof()
        async with asyncio.timeout(10):
            return await reader.read()
    except TimeoutError:
        raise
    except OSError:
        # The connection was reset.
        return b""
    finally:
        writer.close()
