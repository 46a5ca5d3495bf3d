"""What workers ask each other, and a listening socket that they share."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from core.errors import ConnectRefusedError, ConnectTimeoutError, UnreachableError
from proxy.net.listener import Admission, Listener
from proxy.net.loads import SLACK, SharedLoads, make_loads, write_absent
from proxy.net.loop import poller_of
from proxy.net.sibling import (
    MAX_CALLERS,
    MAX_QUESTION_BYTES,
    Question,
    Siblings,
    Told,
    ask_sibling,
)
from proxy.net.sockopt import TcpOptions
from proxy.telemetry.log import make_logger

ASKED = Question("PUT", "/proxy-log-level", "a=b", b"\x00\xff", "10.0.0.1")


@contextlib.asynccontextmanager
async def answering(path: Path, answer: Callable[[Question], Told]) -> AsyncIterator[io.StringIO]:
    """Answer questions at ``path``; what is logged can be read."""
    out = io.StringIO()

    async def told(question: Question) -> Told:
        return answer(question)

    siblings = Siblings(path, told, make_logger("debug", "json", out))
    task = asyncio.create_task(siblings.run())
    try:
        yield out
    finally:
        assert not task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        siblings.close()


async def test_a_question_comes_as_it_was_asked(tmp_path: Path) -> None:
    """And so does its answer, however large."""
    asked: list[Question] = []

    def answer(question: Question) -> Told:
        asked.append(question)
        return Told(299, "text/x", bytes(3_000_000))

    async with answering(tmp_path / "1", answer):
        assert await ask_sibling(tmp_path / "1", ASKED, 10) == (299, "text/x", bytes(3_000_000))
    assert asked == [ASKED]
    assert not (tmp_path / "1").exists()


async def test_who_is_gone_is_told_from_who_hangs(tmp_path: Path) -> None:
    """A killed worker's socket is still there; one that hangs accepts nothing."""
    with pytest.raises(ConnectRefusedError, match="it is not running"):
        await ask_sibling(tmp_path / "1", ASKED, 10)
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(tmp_path / "2"))
        hanging.listen()
        with pytest.raises(ConnectTimeoutError, match=r"not answered within 0\.1 s"):
            await ask_sibling(tmp_path / "2", ASKED, 0.1)
    with pytest.raises(ConnectRefusedError):
        await ask_sibling(tmp_path / "2", ASKED, 10)


async def test_a_full_queue_is_waited_at(tmp_path: Path) -> None:
    """Many may ask at once, and who hangs keeps the questions that were given up."""
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(tmp_path / "1"))
        busy.listen(0)
        for _ in range(3):
            with pytest.raises(ConnectTimeoutError, match=r"not answered within 0\.05 s"):
                await ask_sibling(tmp_path / "1", ASKED, 0.05)
        waiting = asyncio.create_task(ask_sibling(tmp_path / "1", ASKED, 10))
        await asyncio.sleep(0.05)
        # Room for one: it is connected, and then told that nobody is there.
        busy.accept()[0].close()
        await asyncio.sleep(0.05)
        assert not waiting.done()
        busy.accept()[0].close()
        with pytest.raises(ConnectRefusedError):
            await waiting


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\0\0\0\1",
        struct.pack(">I", MAX_QUESTION_BYTES + 1) + bytes(64),
        b"\0\0\0\2{]",
        b"\0\0\0\2[]",
        b'\0\0\0\x0d{"method": 1}',
        struct.pack(">I", MAX_QUESTION_BYTES) + b"[" * MAX_QUESTION_BYTES,
    ],
)
async def test_nonsense_hurts_nobody_else(tmp_path: Path, sent: bytes) -> None:
    """It gets no answer, and others are answered all the same."""
    async with answering(tmp_path / "1", lambda _: Told(200, "", b"ok")) as log:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "1"))
        writer.write(sent)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        assert (await ask_sibling(tmp_path / "1", ASKED, 10)).body == b"ok"
    (line,) = log.getvalue().splitlines()
    assert json.loads(line)["event"] == "worker's question failed"


@pytest.mark.parametrize("fault", [RecursionError, ValueError, AssertionError, MemoryError])
async def test_a_fault_of_ours_costs_its_question_alone(
    tmp_path: Path, fault: type[Exception]
) -> None:
    """Who asked is told that there was one, others are answered, and the log says which."""

    def answer(question: Question) -> Told:
        if question.path == "/policy":
            raise fault("too deep")
        return Told(200, "", bytes(10_000_000))

    async with answering(tmp_path / "1", answer) as log:
        # A slow reader in the midst of its answer is not cut, either.
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "1"))
        asked = json.dumps({**ASKED._asdict(), "body": ""}).encode()
        writer.write(struct.pack(">I", len(asked)) + asked)
        await reader.readexactly(1)
        for _ in range(MAX_CALLERS):
            with pytest.raises(UnreachableError, match="a fault of its own") as caught:
                await ask_sibling(tmp_path / "1", ASKED._replace(path="/policy"), 10)
            assert not isinstance(caught.value, ConnectRefusedError)
        assert len(await asyncio.wait_for(reader.read(), 10)) > 10_000_000
        writer.close()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["admin broke"] * MAX_CALLERS
    assert fault.__name__ in lines[0]["exception"]


async def test_so_many_are_answered_at_once_and_one_more_waits(tmp_path: Path) -> None:
    """Until one of them has its answer, or is gone."""
    async with answering(tmp_path / "1", lambda _: Told(200, "", b"ok")), AsyncExitStack() as stack:
        writers = []
        for _ in range(MAX_CALLERS - 1):
            _, writer = await asyncio.open_unix_connection(str(tmp_path / "1"))
            stack.callback(writer.close)
            # Half a question.
            writer.write(b"\0\0\0\2{")
            writers.append(writer)
        assert (await ask_sibling(tmp_path / "1", ASKED, 10)).body == b"ok"
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "1"))
        stack.callback(writer.close)
        with pytest.raises(ConnectTimeoutError):
            await ask_sibling(tmp_path / "1", ASKED, 0.2)
        waiting = asyncio.create_task(ask_sibling(tmp_path / "1", ASKED, 10))
        writers[0].close()
        assert (await waiting).body == b"ok"


async def test_a_question_at_its_bound_is_answered(tmp_path: Path) -> None:
    """One octet more is not (above)."""
    body = b'{"method": "", "path": "", "query": "", "ip": "", "body": "%s"}'
    padded = body.replace(b"%s", b"x" * (MAX_QUESTION_BYTES - len(body) + 2))
    assert len(padded) == MAX_QUESTION_BYTES
    async with answering(tmp_path / "1", lambda _: Told(200, "", b"ok")):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "1"))
        writer.write(struct.pack(">I", len(padded)) + padded)
        assert (await asyncio.wait_for(reader.read(), 10)).endswith(b"ok")
        writer.close()


async def test_another_user_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither as the one who asks nor as the one who answers."""
    async with answering(tmp_path / "1", lambda _: Told(200, "", b"secret")):
        uid = os.geteuid()
        monkeypatch.setattr("os.geteuid", lambda: uid + 1)
        with pytest.raises(UnreachableError, match=f"belongs to user {uid}"):
            await ask_sibling(tmp_path / "1", ASKED, 10)
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "1"))
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


@pytest.fixture(name="table")
def _table() -> Iterator[int]:
    """Return a table of three workers."""
    table = make_loads(3)
    yield table
    os.close(table)


def test_a_worker_takes_no_more_than_its_share(table: int) -> None:
    """Up to the slack; whoever is not there is not waited for."""
    one, two = SharedLoads(table, 1), SharedLoads(table, 2)
    one.tell(7)
    assert one.is_least()
    two.tell(7 - SLACK)
    assert one.is_least()
    two.tell(7 - SLACK - 1)
    assert not one.is_least()
    assert two.is_least()
    write_absent(table, 2)
    assert one.is_least()


def test_nobody_waits_for_a_worker_that_drains(table: int) -> None:
    """However few connections it has left, and with each that ends."""
    mine = SharedLoads(table, 2)
    others = SharedLoads(table, 1)
    admission = Admission(10, mine)
    for _ in range(2):
        admission.enter()
    others.tell(2 + SLACK + 1)
    assert not others.is_least()
    admission.retire()
    assert others.is_least()
    admission.leave()
    assert others.is_least()


@pytest.mark.parametrize("size", [0, 23, 25])
def test_nobody_cuts_off_what_workers_share(table: int, size: int) -> None:
    """Touching that would be the end of all of them (SIGBUS, mmap(2))."""
    one = SharedLoads(table, 1)
    with pytest.raises(PermissionError):
        os.ftruncate(table, size)
    one.tell(1)
    assert one.is_least()


class Taken:
    """Takes connections."""

    def __init__(self) -> None:
        self.socks: list[socket.socket] = []

    def accepted(self, sock: socket.socket, ip: str) -> None:
        """Keep it."""
        self.socks.append(sock)


async def test_nobody_is_lost_by_leaving_connections_to_others(table: int) -> None:
    """A worker with more takes them all the same when nobody else does, and to the last at its end.

    The other worker hangs: it is there, and has nothing.
    """
    mine, other = SharedLoads(table, 1), SharedLoads(table, 2)
    mine.tell(100)
    other.tell(0)
    taken = Taken()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as sock:
        address = sock.getsockname()
        shared = sock.dup()
        shared.settimeout(0)
        listener = Listener(
            poller_of(asyncio.get_running_loop()),
            shared,
            taken,
            Admission(1000, mine),
            TcpOptions(keepalive_s=0, user_timeout_ms=0),
            is_shared=True,
        )
        listener.start()
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(socket.create_connection(address, 10))
            async with asyncio.timeout(10):
                while len(taken.socks) < 20:
                    await asyncio.sleep(0.01)
            for _ in range(20):
                stack.enter_context(socket.create_connection(address, 10))
            await asyncio.sleep(0)
            await listener.finish()
            assert len(taken.socks) == 40
            # The door is still open for the others.
            stack.enter_context(socket.create_connection(address, 10))
            for each in taken.socks:
                each.close()
