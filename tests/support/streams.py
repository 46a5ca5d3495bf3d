"""Real TCP connections for tests of streams, and sinks that remember what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from proxy.wire.buffer import Buffer


class Witness:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ends = 0
        self.drains = 0
        self.closings: list[Exception | None] = []

    def on_data(self, data: Buffer) -> None:
        """Keep a copy."""
        self.data += data

    def on_end(self) -> None:
        """Count it."""
        self.ends += 1

    def on_drained(self) -> None:
        """Count it."""
        self.drains += 1

    def on_closed(self, error: Exception | None) -> None:
        """Keep it."""
        self.closings.append(error)


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a TCP connection, non-blocking; closed at the end, if still open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    with near, peer:
        near.settimeout(0)
        peer.settimeout(0)
        yield near, peer


def reset(sock: socket.socket) -> None:
    """Close with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def until(claim: Callable[[], object]) -> None:
    """Wait until ``claim`` holds, 10 seconds at most."""
    async with asyncio.timeout(10):
        while not claim():
            await asyncio.sleep(0.001)


async def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Read so many bytes, or fewer up to the end."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    async with asyncio.timeout(20):
        while len(data) < size and (piece := await loop.sock_recv(sock, 65_536)):
            data += piece
    return bytes(data)


async def ending_of(sock: socket.socket) -> str:
    """Return how a connection ends when nothing more comes: ``end`` or ``reset``."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            assert await loop.sock_recv(sock, 1) == b""
            return "end"
    return "reset"
