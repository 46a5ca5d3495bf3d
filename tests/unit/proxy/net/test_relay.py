from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from proxy.net.inbox import Inbox
from proxy.net.poller import Poller
from proxy.net.socket_call import READ_BYTES
from tests.support.relays import joined
from tests.support.streams import ending_of, read_exactly, reset, until

_BIG = bytes(range(256)) * 32_768


async def test_bytes_go_both_ways(poller: Poller) -> None:
    """Unchanged, many of them, at once; the ends follow them, and the owner is told."""
    with joined(poller) as both:
        both.relay.start()
        loop = asyncio.get_running_loop()

        async def send(sock: socket.socket, data: bytes) -> None:
            await loop.sock_sendall(sock, data)
            sock.shutdown(socket.SHUT_WR)

        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            tasks.create_task(send(both.client, _BIG))
            tasks.create_task(send(both.server, _BIG[::-1]))
            there = tasks.create_task(read_exactly(both.server, len(_BIG) + 1))
            back = tasks.create_task(read_exactly(both.client, len(_BIG) + 1))
        assert there.result() == _BIG
        assert back.result() == _BIG[::-1]
        await until(lambda: both.outcomes)
        assert both.outcomes == [None]


async def test_what_was_read_before_goes_first(poller: Poller) -> None:
    """In both directions, and more than a kernel takes."""
    with joined(poller) as both:
        both.client.sendall(b" and later")
        both.relay.start(early_near=b"first", early_far=bytearray(_BIG))
        assert await read_exactly(both.server, 15) == b"first and later"
        assert await read_exactly(both.client, len(_BIG)) == _BIG


@pytest.mark.parametrize("slow", ["client", "server"])
async def test_a_slow_reader_holds_the_other_side_back(poller: Poller, slow: str) -> None:
    """The backlog is what one read brings; when the reader goes on, everything arrives."""
    with joined(poller) as both:
        reader, writer = both.server, both.client
        stream = both.far
        if slow == "client":
            reader, writer, stream = writer, reader, both.near
        both.relay.start()
        sent = 0
        quiet = 0
        while quiet < 20:
            try:
                sent += writer.send(_BIG)
                quiet = 0
            except BlockingIOError:
                quiet += 1
            await asyncio.sleep(0.005)
            assert stream.backlog_bytes <= READ_BYTES
        assert stream.congested
        writer.shutdown(socket.SHUT_WR)
        data = await read_exactly(reader, sent + 1)
        assert len(data) == sent
        assert data[:1_000] == _BIG[:1_000]


@pytest.mark.parametrize("first", ["client", "server"])
async def test_ends_pass_one_after_the_other(poller: Poller, first: str) -> None:
    """Whoever ends first still gets what the other one sends."""
    with joined(poller) as both:
        one, other = both.client, both.server
        if first == "server":
            one, other = other, one
        both.relay.start()
        one.sendall(b"question")
        one.shutdown(socket.SHUT_WR)
        assert await read_exactly(other, 9) == b"question"
        assert both.outcomes == []
        other.sendall(b"answer")
        other.shutdown(socket.SHUT_WR)
        assert await read_exactly(one, 7) == b"answer"
        await until(lambda: both.outcomes)
        assert both.outcomes == [None]


@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("before", ["nothing", "bytes", "an end", "the other's end", "a pause"])
async def test_a_reset_passes_whatever_came_before(poller: Poller, who: str, before: str) -> None:
    """The other side is reset, never ended; the owner is told once, with the error."""
    with joined(poller) as both:
        rude, other = both.client, both.server
        if who == "server":
            rude, other = other, rude
        both.relay.start()
        expected = 0
        if before == "bytes":
            rude.sendall(b"last words")
            expected = 10
        elif before == "an end":
            rude.shutdown(socket.SHUT_WR)
            assert await ending_of(other) == "end"
        elif before == "the other's end":
            other.shutdown(socket.SHUT_WR)
            assert await ending_of(rude) == "end"
        elif before == "a pause":
            # Until both kernels between them are full, and the rude side is no longer read.
            stream = both.far if who == "client" else both.near
            while not stream.congested:
                with contextlib.suppress(BlockingIOError):
                    rude.send(_BIG)
                await asyncio.sleep(0)
        if before == "bytes":
            assert await read_exactly(other, expected) == b"last words"
        reset(rude)
        await until(lambda: both.outcomes)
        assert isinstance(both.outcomes[0], OSError)
        if before == "a pause":
            with contextlib.suppress(ConnectionError):
                await read_exactly(other, 1 << 30)
        elif before == "an end":
            # An end is all that can be read after an end; writing tells.
            with pytest.raises(OSError, match=r"reset|Broken pipe"):
                for _ in range(100):
                    other.send(b"x")
                    await asyncio.sleep(0.001)
        else:
            assert await ending_of(other) == "reset"


async def test_a_cut_resets_both(poller: Poller) -> None:
    """And tells the owner why."""
    reason = PermissionError("no longer")
    with joined(poller) as both:
        both.relay.start()
        both.relay.cut(reason)
        both.relay.cut(ValueError("again"))
        assert both.outcomes == [reason]
        assert await ending_of(both.client) == "reset"
        assert await ending_of(both.server) == "reset"


@pytest.mark.parametrize("which", ["near", "far"])
@pytest.mark.parametrize("how", ["closed", "ended"])
async def test_what_happened_before_the_start_counts(poller: Poller, which: str, how: str) -> None:
    """A side that was lost while the other was dialled, or that had said all it had to say."""
    loop = asyncio.get_running_loop()
    with joined(poller) as both:
        stream = both.near if which == "near" else both.far
        peer, other = both.client, both.server
        if which == "far":
            peer, other = other, peer
        inbox = Inbox(loop)
        inbox.stream = stream
        stream.set_sink(inbox)
        stream.resume()
        peer.sendall(b"said")
        await until(lambda: inbox.data)
        if how == "closed":
            reset(peer)
            await until(lambda: inbox.closed)
        else:
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: inbox.ended)
        early = inbox.take()
        if which == "near":
            both.relay.start(early_near=early)
        else:
            both.relay.start(early_far=early)
        if how == "closed":
            assert await read_exactly(other, 4) == b"said"
            assert await ending_of(other) == "reset"
            assert len(both.outcomes) == 1
        else:
            assert await read_exactly(other, 5) == b"said"
            other.sendall(b"answer")
            other.shutdown(socket.SHUT_WR)
            assert await read_exactly(peer, 7) == b"answer"
            await until(lambda: both.outcomes)
            assert both.outcomes == [None]


async def test_an_answer_before_a_reset_arrives(poller: Poller) -> None:
    """A server that refuses an upload, says so and closes, is heard by who still uploads."""
    with joined(poller) as both:
        both.relay.start()
        loop = asyncio.get_running_loop()

        async def upload() -> None:
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(both.client, _BIG)

        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            tasks.create_task(upload())
            await loop.sock_recv(both.server, 1_000)
            both.server.sendall(b"413 too large")
            both.server.close()
            answer = await read_exactly(both.client, 13)
        assert answer == b"413 too large"
        await until(lambda: both.outcomes)
