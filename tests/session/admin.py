"""A client of the admin port."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from tests.sidecars import Running


@dataclass
class Reply:
    """A parsed HTTP answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


async def read_reply(reader: asyncio.StreamReader, *, head: bool = False) -> Reply:
    """Read one answer off a connection; ``head``: it has no body."""
    async with asyncio.timeout(10):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:-2])
        }
        reply = Reply(int(lines[0].split()[1]), headers)
        if not head:
            reply.body = await reader.readexactly(int(headers["content-length"]))
    return reply


@asynccontextmanager
async def connected(
    running: Running, context: ssl.SSLContext | None = None, sni: str | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to the admin port."""
    address = running.config.admin_listen
    reader, writer = await asyncio.open_connection(
        address.ip, address.port, ssl=context, server_hostname=sni
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(running: Running, path: str, method: str = "GET") -> Reply:
    """Make one request on a connection of its own."""
    async with connected(running) as (reader, writer):
        writer.write(f"{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        return await read_reply(reader, head=method == "HEAD")


def samples(text: bytes) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Parse an exposition: name → labels → value."""
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found
