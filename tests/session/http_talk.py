"""Conversations of HTTP/1 by hand, for tests of what arrives when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from discovery.model import Address

PATIENCE_S: Final = 10.0
"""How long anything may take that should come at once."""


@dataclass
class Client:
    """A client's connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        """Send octets as they stand."""
        self.writer.write(data)

    def get(self, path: str = "/", *fields: str) -> None:
        """Send a request without content."""
        lines = (f"GET {path} HTTP/1.1", "Host: api.shop", *fields, "", "")
        self.send("\r\n".join(lines).encode())

    async def head(self) -> bytes:
        """Read a response's head."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def response(self) -> tuple[int, bytes]:
        """Read a response of known length; return its status and content."""
        head = await self.head()
        lines = head.lower().split(b"\r\n")
        sizes = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")]
        assert len(sizes) == 1, head
        return int(head.split(b" ")[1]), await self.reader.readexactly(sizes[0])

    async def chunk(self) -> bytes:
        """Read one chunk; empty is the last."""
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readline() == b"\r\n"
        return data

    async def rest(self) -> bytes:
        """Read to the connection's end."""
        return await self.reader.read()


@asynccontextmanager
async def client(address: Address) -> AsyncIterator[Client]:
    """Connect; all that happens meanwhile is bounded in time."""
    async with asyncio.timeout(3 * PATIENCE_S):
        reader, writer = await asyncio.open_connection(address.ip, address.port)
        try:
            yield Client(reader, writer)
        finally:
            # An orderly close would wait for what nobody reads.
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


@dataclass
class Script:
    """An application that does one thing with each connection."""

    act: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    connections: int = 0
    failures: list[Exception] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        self.connections += 1
        try:
            await self.act(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception as error:  # noqa: BLE001  # the test looks at it
            self.failures.append(error)
        finally:
            writer.close()
