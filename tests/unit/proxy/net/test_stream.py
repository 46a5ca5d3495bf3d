from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.net.poller import Poller
from proxy.net.socket_call import READ_BYTES
from proxy.net.stream import Stream
from proxy.wire.buffer import Buffer
from tests.support.streams import (
    Witness,
    connected,
    ending_of,
    read_exactly,
    reset,
    until,
)

_BIG = bytes(range(256)) * 32_768  # 8 MiB: more than any socket buffer takes
_SOME = _BIG[: 1 << 20]


async def test_bytes_come_as_they_are_sent(poller: Poller) -> None:
    """In order and counted, nothing before reading is asked for."""
    witness = Witness()
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        peer.sendall(b"one")
        await asyncio.sleep(0.01)
        assert witness.data == b""
        stream.resume()
        await until(lambda: witness.data == b"one")
        peer.sendall(b"two")
        await until(lambda: witness.data == b"onetwo")
        assert stream.bytes_in == 6
        stream.close()


async def test_held_back_nothing_comes(poller: Poller) -> None:
    """And all of it once reading goes on."""
    witness = Witness()
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        stream.resume()
        stream.pause()
        peer.sendall(b"later")
        await asyncio.sleep(0.02)
        assert witness.data == b""
        stream.resume()
        await until(lambda: witness.data == b"later")
        stream.close()


async def test_what_the_kernel_does_not_take_waits_in_order(poller: Poller) -> None:
    """Many partial writes bring everything; the sink is told once when all is sent."""
    witness = Witness()
    with connected() as (near, peer):
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
        stream = Stream(poller, near, witness)
        stream.write(_SOME)
        assert stream.congested
        stream.write(b"tail")
        assert stream.backlog_bytes > len(_SOME) // 2
        assert await read_exactly(peer, len(_SOME) + 4) == _SOME + b"tail"
        await until(lambda: witness.drains)
        assert witness.drains == 1
        assert stream.backlog_bytes == 0
        assert stream.bytes_out == len(_SOME) + 4
        stream.write(b"again")
        assert stream.backlog_bytes == 0
        assert await read_exactly(peer, 5) == b"again"
        stream.close()


async def test_the_end_comes_after_all_that_was_written(poller: Poller) -> None:
    """However long that takes; what is written after it goes nowhere."""
    witness = Witness()
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        stream.write(_BIG)
        stream.end()
        stream.end()
        stream.write(b"too late")
        assert await read_exactly(peer, len(_BIG) + 1) == _BIG
        assert await ending_of(peer) == "end"
        assert stream.ended_out
        assert witness.closings == []
        stream.close()
        assert witness.closings == [None]


async def test_the_peer_s_end_is_told_once_and_we_may_go_on_writing(poller: Poller) -> None:
    """Half-closed; nothing spins meanwhile."""
    witness = Witness()
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        stream.resume()
        peer.sendall(b"last")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: witness.ends)
        assert witness.data == b"last"
        assert stream.ended_in
        stream.resume()
        await asyncio.sleep(0.02)
        assert witness.ends == 1
        stream.write(b"still here")
        assert await read_exactly(peer, 10) == b"still here"
        stream.close()


async def test_close_is_an_end_and_abort_a_reset(poller: Poller) -> None:
    """Only who closes in order lets the peer believe that it has got everything."""
    for method, expected in (("close", "end"), ("abort", "reset")):
        witness = Witness()
        with connected() as (near, peer):
            stream = Stream(poller, near, witness)
            stream.resume()
            getattr(stream, method)()
            assert await ending_of(peer) == expected
            assert witness.closings == [None]
            assert near.fileno() < 0


async def test_nothing_happens_to_a_closed_stream(poller: Poller) -> None:
    """Every verb is harmless, and the sink is told once."""
    witness = Witness()
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        stream.resume()
        stream.close()
        for _ in range(2):
            stream.write(b"x")
            stream.flush()
            stream.pause()
            stream.resume()
            stream.end()
            stream.close()
            stream.abort(ValueError())
        assert await ending_of(peer) == "end"
        assert witness.closings == [None]


async def test_a_reset_after_the_end_is_heard(poller: Poller) -> None:
    """A peer that ended, and is then gone altogether, while we have still to answer."""
    witness = Witness()
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        stream.resume()
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: witness.ends)
        reset(peer)
        await until(lambda: witness.closings)
        (error,) = witness.closings
        assert isinstance(error, OSError)
        assert error.errno in {errno.ECONNRESET, errno.EPIPE}


async def test_a_reset_is_heard_while_bytes_wait_to_be_sent(poller: Poller) -> None:
    """The backlog goes with the stream."""
    witness = Witness()
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        stream.write(_BIG)
        reset(peer)
        await until(lambda: witness.closings)
        assert isinstance(witness.closings[0], OSError)
        assert witness.drains == 0
        assert not stream.congested


class Held(Witness):
    """Holds back what comes after the first bytes."""

    stream: Stream

    def on_data(self, data: Buffer) -> None:
        """Keep it, and stop."""
        super().on_data(data)
        if len(self.data) <= READ_BYTES:
            self.stream.pause()


async def test_an_answer_before_a_reset_is_whole_however_slowly_it_is_taken(
    poller: Poller,
) -> None:
    """Held back after a write that failed: nothing spins meanwhile, and nothing is lost."""
    witness = Held()
    answer = _SOME[: 2 * READ_BYTES]
    with connected() as (near, peer):
        stream = witness.stream = Stream(poller, near, witness)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * len(answer))
        near.send(b"x")
        await asyncio.get_running_loop().sock_sendall(peer, answer)
        await until(lambda: len(near.recv(2 * len(answer), socket.MSG_PEEK)) == len(answer))
        stream.resume()
        # Its reset, for the byte that it has not read, is noticed by our write.
        peer.close()
        stream.write(b"more")
        await until(lambda: len(witness.data) == READ_BYTES)
        before = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - before < 0.15
        assert witness.closings == []
        stream.resume()
        await until(lambda: witness.closings)
        assert witness.data == answer
        assert isinstance(witness.closings[0], OSError)


class Clumsy(Witness):
    """A sink that breaks when it is told one thing."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.calls = 0

    def _break(self, where: str) -> None:
        if where == self.where:
            self.calls += 1
            raise LookupError(where)

    def on_data(self, data: Buffer) -> None:
        super().on_data(data)
        self._break("data")

    def on_end(self) -> None:
        super().on_end()
        self._break("end")

    def on_drained(self) -> None:
        super().on_drained()
        self._break("drained")

    def on_closed(self, error: Exception | None) -> None:
        super().on_closed(error)
        self._break("closed")


@pytest.mark.parametrize("where", ["data", "end", "drained"])
async def test_a_sink_that_breaks_ends_its_stream_and_no_other(poller: Poller, where: str) -> None:
    """It is told why, once; nothing is called again and again, and the next stream lives."""
    sink, witness = Clumsy(where), Witness()
    with connected() as (near, peer), connected() as (other, its_peer):
        stream = Stream(poller, near, sink)
        healthy = Stream(poller, other, witness)
        healthy.resume()
        stream.resume()
        if where == "drained":
            stream.write(_BIG)
            with contextlib.suppress(ConnectionError):
                await read_exactly(peer, len(_BIG))
        else:
            peer.sendall(b"x")
            if where == "end":
                peer.shutdown(socket.SHUT_WR)
        await until(lambda: sink.closings)
        await asyncio.sleep(0.02)
        assert sink.calls == 1
        assert isinstance(sink.closings[0], LookupError)
        assert near.fileno() < 0
        its_peer.sendall(b"alive")
        await until(lambda: witness.data == b"alive")
        healthy.close()


async def test_a_sink_that_breaks_at_the_end_is_reported(poller: Poller) -> None:
    """To the loop's handler, once; the descriptor is closed before."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    sink = Clumsy("closed")
    with connected() as (near, peer):
        stream = Stream(poller, near, sink)
        stream.resume()
        reset(peer)
        await until(lambda: told)
        await asyncio.sleep(0.02)
    assert sink.calls == len(told) == 1
    assert near.fileno() < 0


@pytest.mark.parametrize("verb", ["close", "abort", "pause", "end", "write"])
async def test_a_sink_may_use_its_stream_while_it_is_told(poller: Poller, verb: str) -> None:
    """Whatever it does then, nothing breaks."""
    with connected() as (near, peer):

        class Busy(Witness):
            def on_data(self, data: Buffer) -> None:
                super().on_data(data)
                if verb == "write":
                    stream.write(data)
                else:
                    getattr(stream, verb)()

        sink = Busy()
        stream = Stream(poller, near, sink)
        stream.resume()
        peer.sendall(b"x" * 10)
        if verb == "write":
            assert await read_exactly(peer, 10) == b"x" * 10
        elif verb == "pause":
            await until(lambda: sink.data)
            peer.sendall(b"y")
            await asyncio.sleep(0.02)
        else:
            assert await ending_of(peer) == ("reset" if verb == "abort" else "end")
        assert sink.data == b"x" * 10
        stream.close()
        assert sink.closings == [None]


@pytest.mark.parametrize("size", [1, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 3 * READ_BYTES])
@pytest.mark.parametrize("ends", [True, False])
async def test_what_one_read_leaves_the_next_one_takes(
    poller: Poller, size: int, *, ends: bool
) -> None:
    """Though nothing new comes that would be told: more octets than one read, and the end."""
    witness = Witness()
    with connected() as (near, peer):
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        peer.settimeout(10)
        peer.sendall(_SOME[:size])
        if ends:
            peer.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.02)
        stream = Stream(poller, near, witness)
        stream.resume()
        await until(lambda: len(witness.data) == size and witness.ends == ends)
        assert witness.data == _SOME[:size]
        peer.settimeout(0)
        if not ends:
            peer.sendall(b"more")
            await until(lambda: len(witness.data) == size + 4)
        stream.close()


async def test_what_follows_urgent_data_is_read(poller: Poller) -> None:
    """One read ends where it stood (RFC 9293, 3.8.5), and the next begins behind it."""
    witness = Witness()
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        stream.resume()
        for _ in range(3):
            witness.data.clear()
            peer.sendall(b"before")
            peer.send(b"!", socket.MSG_OOB)
            peer.sendall(b"behind")
            await until(lambda: witness.data == b"beforebehind")
        stream.close()


async def test_a_reset_behind_the_last_octets_is_heard(poller: Poller) -> None:
    """All that came before it is read as well."""
    witness = Witness()
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        peer.sendall(b"last words")
        reset(peer)
        await asyncio.sleep(0.02)
        stream.resume()
        await until(lambda: witness.closings)
        assert isinstance(witness.closings[0], ConnectionResetError)


async def test_held_back_in_between_all_is_read_in_the_end(poller: Poller) -> None:
    """By a sink that stops at each read and goes on at once, or later."""

    class Hesitant(Witness):
        def on_data(self, data: Buffer) -> None:
            super().on_data(data)
            stream.pause()
            if len(self.data) % 2:
                stream.resume()
            else:
                asyncio.get_running_loop().call_soon(stream.resume)

    hesitant = Hesitant()
    with connected() as (near, peer):
        stream = Stream(poller, near, hesitant)
        stream.resume()
        for size in (1, 2, READ_BYTES, 3):
            before = len(hesitant.data)
            peer.settimeout(10)
            peer.sendall(_SOME[:size])
            peer.settimeout(0)
            await until(lambda: len(hesitant.data) == before + size)  # noqa: B023
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: hesitant.ends)
        stream.close()


async def test_one_read_takes_no_more_than_its_bound(poller: Poller) -> None:
    """So that a relay's backlog is bounded by it."""
    sizes: list[int] = []

    class Sizes(Witness):
        def on_data(self, data: Buffer) -> None:
            sizes.append(len(data))

    with connected() as (near, peer):
        stream = Stream(poller, near, Sizes())
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += peer.send(_BIG)
        stream.resume()
        await until(lambda: sum(sizes) == sent)
        assert max(sizes) == READ_BYTES
        stream.close()


async def test_two_thousand_connections_leave_no_descriptor(poller: Poller) -> None:
    """Reading, held back, with a backlog, ended or untouched: each is closed for good."""
    states = ("reading", "held back", "congested", "ended", "untouched", "reset by peer")

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def one(state: str) -> None:
        with connected() as (near, peer):
            stream = Stream(poller, near, Witness())
            if state != "untouched":
                stream.resume()
            if state == "held back":
                stream.pause()
            elif state == "congested":
                near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
                stream.write(_SOME)
            elif state == "ended":
                stream.end()
                peer.shutdown(socket.SHUT_WR)
            elif state == "reset by peer":
                reset(peer)
            await asyncio.sleep(0)
            stream.close()

    await one("reading")
    before, watched = descriptors(), dict(poller._watched)
    for index in range(2_000):
        await one(states[index % len(states)])
    assert descriptors() == before
    assert poller._watched == watched
