"""A relay whose bytes the kernel moves: whatever holds when they are copied holds here too."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from identity.generation import Generation
from proxy.net.poller import Poller
from proxy.net.splice import PATIENCE, SMALL_BYTES, SPLICE_AFTER_BYTES, Pipes
from proxy.net.stream import Stream
from proxy.wire.tls import TlsEngine
from proxy.wire.tls_library import TlsLibrary
from tests.support.relays import Joined, joined, pipe_ends
from tests.support.streams import Witness, connected, ending_of, read_exactly, reset, until

_BIG: Final = bytes(range(256)) * 4_096
_INTEGRITY_BYTES: Final = 1 << (30 if os.environ.get("PILLION_FULL_LENGTH") else 27)
BOTH: Final = ("client", "server")


class Unheard:
    """Who has a pipe, and uses it by itself."""

    def on_filled(self, size: int) -> None:
        """Never called."""

    def on_unfilled(self) -> None:
        """Never called."""

    def on_idle(self) -> None:
        """Never called."""


@pytest.fixture
async def pipes() -> AsyncIterator[Pipes]:
    """Return pipes for a test; none may be open after it."""
    before = pipe_ends()
    pipes = Pipes()
    yield pipes
    pipes.close()
    assert pipes.on_loan == 0
    assert pipe_ends() == before


def sides(both: Joined, sender: str) -> tuple[socket.socket, socket.socket]:
    """Return who sends and who receives."""
    return (both.client, both.server) if sender == "client" else (both.server, both.client)


async def move(source: socket.socket, target: socket.socket, data: bytes) -> None:
    """Send, and wait until it has arrived."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.get_running_loop().sock_sendall(source, data))
        arriving = tasks.create_task(read_exactly(target, len(data)))
    assert arriving.result() == data


async def prime(both: Joined, pipes: Pipes, sender: str = "client") -> None:
    """Start to relay, and move so much in one direction that it has a pipe."""
    before = pipes.on_loan
    await move(*sides(both, sender), _BIG[: 2 * SPLICE_AFTER_BYTES])
    assert pipes.on_loan == before + 1


async def fill(both: Joined, sender: str) -> int:
    """Send until nothing goes on, the receiver reading nothing; return how much went."""
    source, _ = sides(both, sender)
    stream = both.far if sender == "client" else both.near
    sent = quiet = 0
    while quiet < 20:
        try:
            sent += source.send(_BIG[sent % len(_BIG) :])
            quiet = 0
        except BlockingIOError:
            quiet += 1
        await asyncio.sleep(0.005)
    assert stream.congested
    assert stream.backlog_bytes == 0
    return sent


# When


@pytest.mark.parametrize("sender", BOTH)
async def test_a_direction_is_lent_a_pipe_once_it_has_moved_64_kib(
    poller: Poller, pipes: Pipes, sender: str
) -> None:
    """One byte less, and it is copied; the other direction has a count of its own."""
    for missing in (1, 0):
        with joined(poller, pipes) as both:
            both.relay.start()
            ends = sides(both, sender)
            await move(*ends, _BIG[: SPLICE_AFTER_BYTES - SMALL_BYTES - missing])
            await move(*ends, _BIG[:SMALL_BYTES])
            assert pipes.on_loan == 1 - missing
            await move(ends[1], ends[0], _BIG[: SPLICE_AFTER_BYTES - 1])
            assert pipes.on_loan == 1 - missing
            await move(*ends, _BIG)
            assert pipes.on_loan == 1


async def test_small_messages_are_copied_however_many(poller: Poller, pipes: Pipes) -> None:
    """A question and its answer, one after the other."""
    with joined(poller, pipes) as both:
        both.relay.start()
        message = _BIG[: SMALL_BYTES - 1]
        for _ in range(SPLICE_AFTER_BYTES // len(message) + 20):
            await move(both.client, both.server, message)
            await move(both.server, both.client, message)
        assert pipes.on_loan == 0


async def test_a_direction_that_turns_to_small_messages_is_copied(
    poller: Poller, pipes: Pipes
) -> None:
    """At the eighth in a row; a large one in between begins the count anew."""
    with joined(poller, pipes) as both:
        both.relay.start()
        await prime(both, pipes)
        for count, is_lent in ((PATIENCE - 1, 1), (PATIENCE - 1, 1), (PATIENCE, 0)):
            await move(both.client, both.server, _BIG[:SMALL_BYTES])
            for _ in range(count):
                await move(both.client, both.server, b"small")
            assert pipes.on_loan == is_lent
        await move(both.client, both.server, _BIG[:SMALL_BYTES])
        assert pipes.on_loan == 0
        await prime(both, pipes)


async def test_a_silent_direction_gives_its_pipe_back(poller: Poller, pipes: Pipes) -> None:
    """And goes on as if nothing had been."""
    with joined(poller, pipes) as both:
        both.relay.start()
        await prime(both, pipes)
        await prime(both, pipes, "server")
        pipes.on_tick(1.0)
        await move(both.client, both.server, _BIG)
        assert pipes.on_loan == 2
        pipes.on_tick(2.0)
        assert pipes.on_loan == 1
        pipes.on_tick(3.0)
        assert pipes.on_loan == 0
        await move(both.server, both.client, b"awake")
        await prime(both, pipes)


async def test_who_gets_no_pipe_is_copied(poller: Poller) -> None:
    """With one pipe for two directions."""
    pipes = Pipes(1)
    with joined(poller, pipes) as both:
        both.relay.start()
        await prime(both, pipes)
        await move(both.server, both.client, _BIG)
        assert pipes.on_loan == 1
        await move(both.client, both.server, _BIG)
    pipes.close()


async def test_bytes_in_the_backlog_go_first(poller: Poller, pipes: Pipes) -> None:
    """What was copied and waits when the pipe is lent."""
    with joined(poller, pipes) as both:
        both.relay.start(early_far=bytearray(_BIG * 12))
        assert both.near.backlog_bytes > 0
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.get_running_loop().sock_sendall(both.server, _BIG * 4))
            arriving = tasks.create_task(read_exactly(both.client, 16 * len(_BIG)))
        assert arriving.result() == _BIG * 16
        assert pipes.on_loan == 1


@pytest.mark.parametrize("ends", [True, False])
async def test_a_stream_sends_its_backlog_then_the_pipe_then_its_end(
    poller: Poller, pipes: Pipes, ends: bool
) -> None:
    """All of them waiting at once."""
    with connected() as (near, reader), connected() as (source, writer):
        witness = Witness()
        stream = Stream(poller, near, witness)
        stream.write(_BIG * 12)
        backlog = stream.backlog_bytes
        assert backlog > 0
        pipe = pipes.lend(Unheard())
        assert pipe is not None
        writer.sendall(b"from the pipe")
        assert pipe.fill(source.fileno()) == 13
        stream.write_from(pipe)
        assert (stream.backlog_bytes, pipe.held, stream.congested) == (backlog, 13, True)
        assert stream.bytes_out == 12 * len(_BIG) + 13
        if ends:
            stream.end()
            assert not stream.ended_out
        data = await read_exactly(reader, 12 * len(_BIG) + 13)
        assert data[-17:] == _BIG[-4:] + b"from the pipe"
        await until(lambda: witness.drains)
        assert (stream.congested, stream.ended_out, pipe.held) == (False, ends, 0)
        if ends:
            assert await ending_of(reader) == "end"
        pipes.give_back(pipe)
        stream.close()


@pytest.mark.parametrize("secure", ["near", "far"])
async def test_with_tls_on_either_side_bytes_are_copied(
    poller: Poller, pipes: Pipes, tls: TlsLibrary, web: Generation, api: Generation, secure: str
) -> None:
    """There they are decrypted; here is nothing that could be moved as it is."""
    with joined(poller, pipes) as both:
        stream, peer = (both.near, both.client) if secure == "near" else (both.far, both.server)
        other = both.server if secure == "near" else both.client
        far_end = Stream(poller, peer, Witness())
        witness = Witness()
        far_end.set_sink(witness)
        engine = tls.client(
            web, direct=True, server_name=api.server_name, session=None, keeper=None
        )
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.start_tls(tls.server(api, direct=True)))
            tasks.create_task(handshake(far_end, engine))
        both.relay.start()
        far_end.write(_BIG)
        assert await read_exactly(other, len(_BIG)) == _BIG
        assert pipes.on_loan == 0
        await asyncio.get_running_loop().sock_sendall(other, _BIG)
        await until(lambda: len(witness.data) == len(_BIG))
        assert witness.data == _BIG
        assert pipes.on_loan == 0
        far_end.close()


async def handshake(stream: Stream, engine: TlsEngine) -> None:
    """Complete it as a client, and say so."""
    await stream.start_tls(engine)
    stream.flush()


# What


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Fail when it takes longer."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


async def send_pattern(sock: socket.socket, size: int) -> int:
    """Send so many bytes, each piece another; return their sum."""
    loop = asyncio.get_running_loop()
    checksum = 0
    for number in range(size // len(_BIG)):
        piece = struct.pack("!Q", number) + _BIG[8:]
        checksum = zlib.crc32(piece, checksum)
        await loop.sock_sendall(sock, piece)
    sock.shutdown(socket.SHUT_WR)
    return checksum


async def sum_of(sock: socket.socket) -> tuple[int, int]:
    """Read to the end; return how much came, and its sum."""
    loop = asyncio.get_running_loop()
    room = memoryview(bytearray(1 << 20))
    size = checksum = 0
    while count := await loop.sock_recv_into(sock, room):
        size += count
        checksum = zlib.crc32(room[:count], checksum)
    return size, checksum


@pytest.mark.slow
async def test_much_arrives_whole_both_ways_at_once(poller: Poller, pipes: Pipes) -> None:
    """128 MiB each way, or 1 GiB at full length; ends and figures as when copied."""
    with joined(poller, pipes) as both, bounded(120):
        both.relay.start()
        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            sums = [
                tasks.create_task(send_pattern(sock, _INTEGRITY_BYTES))
                for sock in (both.client, both.server)
            ]
            arrived = [tasks.create_task(sum_of(sock)) for sock in (both.server, both.client)]
            await until(lambda: pipes.on_loan == 2)
        for sent, received in zip(sums, arrived, strict=True):
            assert received.result() == (_INTEGRITY_BYTES, sent.result())
        await until(lambda: both.outcomes)
        assert both.outcomes == [None]
        for stream in (both.near, both.far):
            assert (stream.bytes_in, stream.bytes_out) == (_INTEGRITY_BYTES, _INTEGRITY_BYTES)


@pytest.mark.parametrize("sender", BOTH)
async def test_a_slow_reader_holds_the_sender_back(
    poller: Poller, pipes: Pipes, sender: str
) -> None:
    """A pipe more than the kernels between them, and nothing in our memory; then all arrives."""
    with joined(poller, pipes) as both:
        both.relay.start()
        await prime(both, pipes, sender)
        sent = await fill(both, sender)
        pipes.on_tick(1.0)
        pipes.on_tick(2.0)
        assert pipes.on_loan == 1
        source, target = sides(both, sender)
        near, far = (both.near, both.far) if sender == "client" else (both.far, both.near)
        assert near.bytes_in == far.bytes_out <= 2 * SPLICE_AFTER_BYTES + sent
        await move(target, source, b"the other direction goes on")
        source.shutdown(socket.SHUT_WR)
        data = await read_exactly(target, sent + 1)
        assert len(data) == sent
        assert zlib.crc32(data) == zlib.crc32((_BIG * (sent // len(_BIG) + 1))[:sent])
        assert near.bytes_in == far.bytes_out == 2 * SPLICE_AFTER_BYTES + sent


@pytest.mark.parametrize("sender", BOTH)
async def test_an_end_comes_after_the_bytes_in_the_pipe(
    poller: Poller, pipes: Pipes, sender: str
) -> None:
    """And the other direction goes on until its own end."""
    with joined(poller, pipes) as both:
        both.relay.start()
        await prime(both, pipes, sender)
        sent = await fill(both, sender)
        source, target = sides(both, sender)
        source.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.02)
        assert len(await read_exactly(target, sent + 1)) == sent
        assert pipes.on_loan == 0
        assert both.outcomes == []
        await move(target, source, _BIG)
        target.shutdown(socket.SHUT_WR)
        assert await ending_of(source) == "end"
        await until(lambda: both.outcomes)
        assert both.outcomes == [None]


@pytest.mark.parametrize("sender", BOTH)
@pytest.mark.parametrize("who", ["sender", "receiver"])
async def test_a_reset_passes_with_bytes_in_the_pipe(
    poller: Poller, pipes: Pipes, sender: str, who: str
) -> None:
    """The other side is reset; what the pipe held is nobody's."""
    with joined(poller, pipes) as both:
        both.relay.start()
        await prime(both, pipes, sender)
        await fill(both, sender)
        source, target = sides(both, sender)
        rude, other = (source, target) if who == "sender" else (target, source)
        reset(rude)
        await until(lambda: both.outcomes)
        assert isinstance(both.outcomes[0], OSError)
        assert pipes.on_loan == 0
        with pytest.raises(ConnectionError):
            while await asyncio.get_running_loop().sock_recv(other, 1 << 20):
                pass


@pytest.mark.parametrize("who", BOTH)
async def test_a_reset_between_bytes_passes(poller: Poller, pipes: Pipes, who: str) -> None:
    """With an empty pipe in both directions."""
    with joined(poller, pipes) as both:
        both.relay.start()
        await prime(both, pipes)
        await prime(both, pipes, "server")
        rude, other = sides(both, who)
        reset(rude)
        assert await ending_of(other) == "reset"
        await until(lambda: both.outcomes)
        assert isinstance(both.outcomes[0], ConnectionResetError)


async def test_a_cut_resets_both_with_bytes_in_the_pipe(poller: Poller, pipes: Pipes) -> None:
    """As when policy no longer allows it."""
    reason = PermissionError("no longer")
    with joined(poller, pipes) as both:
        both.relay.start()
        await prime(both, pipes)
        await prime(both, pipes, "server")
        await fill(both, "client")
        both.relay.cut(reason)
        assert both.outcomes == [reason]
        assert pipes.on_loan == 0
        assert await ending_of(both.client) == "reset"
        with pytest.raises(ConnectionError):
            while await asyncio.get_running_loop().sock_recv(both.server, 1 << 20):
                pass


async def test_an_answer_before_a_reset_arrives(poller: Poller, pipes: Pipes) -> None:
    """A server that refuses an upload, says so and closes, is heard by who still uploads."""
    with joined(poller, pipes) as both:
        both.relay.start()
        await prime(both, pipes)
        loop = asyncio.get_running_loop()

        async def upload() -> None:
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(both.client, _BIG * 16)

        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            tasks.create_task(upload())
            await loop.sock_recv(both.server, 1_000)
            both.server.sendall(b"413 too large")
            both.server.close()
            answer = await read_exactly(both.client, 13)
        assert answer == b"413 too large"
        await until(lambda: both.outcomes)


async def test_urgent_data_costs_no_turns(poller: Poller, pipes: Pipes) -> None:
    """The kernel moves nothing past its mark, and says at each turn that there is more."""
    with joined(poller, pipes) as both:
        both.relay.start()
        await prime(both, pipes)
        both.client.send(b"X", socket.MSG_OOB)
        both.client.sendall(b"after it")
        assert await read_exactly(both.server, 8) == b"after it"
        assert pipes.on_loan == 0
        before = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - before < 0.15
        await move(both.client, both.server, _BIG)
