"""A stream over a real socket: a reset is heard whatever came before it, and while held back."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.net.poller import Poller
from proxy.net.stream import Stream
from proxy.wire.buffer import Buffer


class Witness:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = False
        self.error: Exception | None = None
        self.closed = asyncio.Event()

    def on_data(self, data: Buffer) -> None:
        """Keep it."""
        self.data += data

    def on_end(self) -> None:
        """Keep it."""
        self.ended = True

    def on_drained(self) -> None:
        """Nothing to keep."""

    def on_closed(self, error: Exception | None) -> None:
        """Keep it."""
        self.error = error
        self.closed.set()


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a TCP connection, the first one non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    near.settimeout(0)
    with near, peer:
        yield near, peer


def reset(peer: socket.socket) -> None:
    """Close with a reset."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


@pytest.mark.parametrize("data", [b"", b"last words"])
async def test_a_reset_is_heard_whatever_came_before_it(data: bytes) -> None:
    """Both lie in the socket when it is looked at for the first time."""
    poller = Poller(asyncio.get_running_loop())
    witness = Witness()
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        peer.sendall(data)
        reset(peer)
        stream.resume()
        async with asyncio.timeout(5):
            await witness.closed.wait()
    assert isinstance(witness.error, OSError)
    assert witness.error.errno == errno.ECONNRESET
    poller.close()


async def test_a_reset_is_heard_while_reading_is_held_back() -> None:
    """Nobody reads; the peer's reset ends the stream all the same."""
    poller = Poller(asyncio.get_running_loop())
    witness = Witness()
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        stream.resume()
        stream.pause()
        peer.sendall(b"unread")
        reset(peer)
        async with asyncio.timeout(5):
            await witness.closed.wait()
    assert witness.data == b""
    assert isinstance(witness.error, OSError)
    poller.close()


async def test_both_ends_with_unread_bytes_cost_nothing_until_they_are_read() -> None:
    """The kernel reports such a socket for ever; it is let be, and read when asked for."""
    loop = asyncio.get_running_loop()
    poller = Poller(loop)
    witness = Witness()
    turns = 0
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        stream.resume()
        stream.pause()
        peer.sendall(b"kept")
        peer.shutdown(socket.SHUT_WR)
        stream.end()
        deadline = loop.time() + 0.2
        original = stream.on_ready

        def counted(events: int) -> None:
            nonlocal turns
            turns += 1
            original(events)

        poller._watched[near.fileno()] = type("Counted", (), {"on_ready": staticmethod(counted)})()
        while loop.time() < deadline:
            await asyncio.sleep(0.01)
        assert turns <= 2
        assert witness.data == b""
        stream.resume()
        async with asyncio.timeout(5):
            while not witness.ended:
                await asyncio.sleep(0.01)
        assert witness.data == b"kept"
        stream.close()
    poller.close()
