"""What the workers of one sidecar ask each other: one question, one answer, then the end.

    question  u32 length, JSON: method, path, query, body, ip
    answer    u32 length, JSON: status, type; u32 length, the body

Lengths are big-endian and count what follows them. Both ends belong to one user, which each
makes sure of (SO_PEERCRED, unix(7)).
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple, final

from core.errors import ConnectRefusedError, ConnectTimeoutError, MeshError, UnreachableError
from proxy.telemetry.log import Logger

MAX_QUESTION_BYTES: Final = 256 * 1024
"""Several times what the admin port takes of head and body, written as JSON."""
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
MAX_CALLERS: Final = 32
"""Questions that are answered at once; others wait in the kernel's queue."""
ANSWER_S: Final = 5.0
"""How long a caller may take, from connecting to having read the answer."""
_PAUSE_S: Final = 0.5
_FULL_S: Final = 0.005
_LENGTH: Final = struct.Struct(">I")
_CREDENTIALS: Final = struct.Struct("iII")
_MAX_HEAD_BYTES: Final = 1024
_FAULT: Final = 500
_GONE: Final = frozenset((errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET, errno.EPIPE))


class Question(NamedTuple):
    """A request to the admin port."""

    method: str
    path: str
    query: str
    body: bytes
    ip: str
    """Who asks."""


class Told(NamedTuple):
    """The answer."""

    status: int
    content_type: str
    body: bytes


@final
class Siblings:
    """Answers the other workers."""

    def __init__(
        self, path: Path, answer: Callable[[Question], Awaitable[Told]], log: Logger
    ) -> None:
        """Open the socket. Raises OSError."""
        self._path = path
        self._answer = answer
        self._log = log
        self._free = asyncio.Semaphore(MAX_CALLERS)
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.settimeout(0)
        self._listener.bind(str(path))
        self._listener.listen(MAX_CALLERS)

    def close(self) -> None:
        """Answer no more."""
        self._listener.close()
        self._path.unlink(missing_ok=True)

    async def run(self) -> None:
        """Answer until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as callers:
            while True:
                await self._free.acquire()
                try:
                    sock, _ = await loop.sock_accept(self._listener)
                except OSError:
                    # Out of descriptors, most likely: connections that end give some back.
                    self._free.release()
                    await asyncio.sleep(_PAUSE_S)
                    continue
                callers.create_task(self._serve(sock))

    async def _serve(self, sock: socket.socket) -> None:
        try:
            with sock:
                _must_be_ours(sock)
                async with asyncio.timeout(ANSWER_S):
                    asked = _question(await _read_frame(sock, MAX_QUESTION_BYTES))
                    told = await self._told(asked)
                    head = json.dumps({"status": told.status, "type": told.content_type})
                    data = _frame(head.encode()) + _frame(told.body)
                    await asyncio.get_running_loop().sock_sendall(sock, data)
        except (OSError, MeshError) as error:
            # A caller that breaks off, or is none of ours, hurts nobody but itself.
            self._log.debug("worker's question failed", reason=str(error))
        finally:
            self._free.release()

    async def _told(self, asked: Question) -> Told:
        """Return the answer; of a fault of our own the log tells, and others are answered."""
        try:
            return await self._answer(asked)
        except Exception:  # noqa: BLE001  one page's fault must not end all answers
            self._log.exception("admin broke", code="internal")
            return Told(_FAULT, "", b"")


def _question(data: bytes) -> Question:
    """Read a question. Raises UnreachableError for what is none, however deep it is nested."""
    try:
        asked = json.loads(data)
        return Question(
            str(asked["method"]),
            str(asked["path"]),
            str(asked["query"]),
            str(asked["body"]).encode("latin-1"),
            str(asked["ip"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreachableError(f"its question makes no sense: {error}") from error


async def ask_sibling(path: Path, question: Question, timeout_s: float) -> Told:
    """Return what the worker at ``path`` answers.

    Raises ConnectRefusedError where no worker is there, ConnectTimeoutError where one does not
    answer, UnreachableError where a fault kept it from answering, or the answer is none.
    """
    asked = question._replace(body=b"")._asdict() | {"body": question.body.decode("latin-1")}
    try:
        async with asyncio.timeout(timeout_s):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(0)
                loop = asyncio.get_running_loop()
                await _connect(sock, path)
                _must_be_ours(sock)
                await loop.sock_sendall(sock, _frame(json.dumps(asked).encode()))
                head = json.loads(await _read_frame(sock, _MAX_HEAD_BYTES))
                body = await _read_frame(sock, MAX_ANSWER_BYTES)
                told = Told(int(head["status"]), str(head["type"]), body)
    except TimeoutError as error:
        reason = f"it has not answered within {timeout_s:g} s"
        raise ConnectTimeoutError(reason) from error
    except OSError as error:
        if error.errno in _GONE:
            raise ConnectRefusedError("it is not running") from error
        raise UnreachableError(error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreachableError(f"its answer makes no sense: {error}") from error
    if told.status == _FAULT:
        raise UnreachableError("a fault of its own kept it from answering, which its log tells")
    return told


async def _connect(sock: socket.socket, path: Path) -> None:
    """Connect, however long the queue there is full.

    The event loop would take that (EAGAIN, connect(2)) for a connection that is being made.
    """
    while True:
        try:
            sock.connect(str(path))
        except BlockingIOError:
            await asyncio.sleep(_FULL_S)
        else:
            return


def _must_be_ours(sock: socket.socket) -> None:
    """Raise UnreachableError for a peer of another user."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid = _CREDENTIALS.unpack(raw)[1]
    if uid != os.geteuid():
        raise UnreachableError(f"the other end belongs to user {uid}, and we to {os.geteuid()}")


def _frame(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


async def _read_frame(sock: socket.socket, limit: int) -> bytes:
    (length,) = _LENGTH.unpack(await _read_exactly(sock, _LENGTH.size))
    if length > limit:
        raise UnreachableError(f"a frame of {length} bytes; {limit} are taken")
    return await _read_exactly(sock, length)


async def _read_exactly(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < size:
        piece = await loop.sock_recv(sock, min(size - len(data), 1 << 20))
        if not piece:
            # It ended a moment ago, or could not answer: either way it says no more.
            raise ConnectRefusedError("it is not running")
        data += piece
    return bytes(data)
