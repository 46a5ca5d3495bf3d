from __future__ import annotations

import asyncio
import socket

import pytest

from core.errors import ClosedEarlyError
from proxy.net.inbox import INBOX_BYTES, Inbox
from proxy.net.poller import Poller
from proxy.net.socket_call import READ_BYTES
from proxy.net.stream import Stream
from tests.support.streams import connected, read_exactly, reset, until


def give(inbox: Inbox, data: bytes) -> None:
    """Hand bytes to the inbox, as a stream does."""
    inbox.on_data(memoryview(data))


async def test_what_came_is_there_and_is_taken_once() -> None:
    """In order; the view it came in may change afterwards."""
    inbox = Inbox(asyncio.get_running_loop())
    buffer = bytearray(b"abc")
    inbox.on_data(memoryview(buffer))
    buffer[:] = b"xyz"
    give(inbox, b"def")
    assert inbox.take() == b"abcdef"
    assert inbox.take() == b""


async def test_waiting_ends_with_more_bytes() -> None:
    """More than were seen before, not merely some."""
    loop = asyncio.get_running_loop()
    inbox = Inbox(loop)
    give(inbox, b"ab")
    assert await inbox.more(0)
    loop.call_soon(give, inbox, b"c")
    async with asyncio.timeout(5):
        assert await inbox.more(2)
    assert inbox.data == b"abc"


async def test_waiting_ends_with_the_peer() -> None:
    """False at an end, an error when it is gone; what came before is still there."""
    loop = asyncio.get_running_loop()
    inbox = Inbox(loop)
    give(inbox, b"ab")
    loop.call_soon(inbox.on_end)
    async with asyncio.timeout(5):
        assert not await inbox.more(2)
    inbox.on_closed(ConnectionResetError("gone"))
    assert await inbox.more(1)
    with pytest.raises(ClosedEarlyError, match="gone"):
        await inbox.more(2)


async def test_at_the_bound_no_more_is_waited_for() -> None:
    """One byte below it is waited on; at it the answer is that no more will come."""
    loop = asyncio.get_running_loop()
    inbox = Inbox(loop, limit=10)
    give(inbox, bytes(9))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await inbox.more(9)
    give(inbox, bytes(1))
    assert not await inbox.more(10)
    give(inbox, bytes(1))
    assert await inbox.more(10)
    assert not await inbox.more(11)


async def test_at_the_bound_the_peer_is_held_back(poller: Poller) -> None:
    """One read more may be on its way; the rest waits in the kernel until reading goes on."""
    loop = asyncio.get_running_loop()
    sent = 4 * INBOX_BYTES
    with connected() as (near, peer):
        inbox = Inbox(loop)
        inbox.stream = stream = Stream(poller, near, inbox)
        stream.resume()
        async with asyncio.timeout(10):
            await loop.sock_sendall(peer, bytes(INBOX_BYTES - 1))
        await until(lambda: len(inbox.data) == INBOX_BYTES - 1)
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            tasks.create_task(loop.sock_sendall(peer, bytes(sent)))
            await until(lambda: len(inbox.data) >= INBOX_BYTES)
            await asyncio.sleep(0.05)
            assert len(inbox.data) <= INBOX_BYTES - 1 + READ_BYTES
            got = 0
            while got < INBOX_BYTES - 1 + sent:
                got += len(inbox.take())
                stream.resume()
                await asyncio.sleep(0)
        stream.close()


async def test_room_is_there_when_the_backlog_is_sent(poller: Poller) -> None:
    """And never again once the stream is gone."""
    loop = asyncio.get_running_loop()
    size = 8 << 20
    with connected() as (near, peer):
        # Buffers that stay as small as this: the kernel must not take everything at once.
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        inbox = Inbox(loop)
        inbox.stream = stream = Stream(poller, near, inbox)
        assert await inbox.room()
        stream.write(bytes(size))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await inbox.room()
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(inbox.room())
            tasks.create_task(read_exactly(peer, size))
        assert waiting.result()
        stream.write(bytes(size))
        loop.call_later(0.01, reset, peer)
        async with asyncio.timeout(10):
            assert not await inbox.room()
