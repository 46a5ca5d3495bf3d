"""The access log: lines gathered in memory, written by a thread of its own.

A pipe that nobody empties, a full disk or a terminal that was stopped holds up that thread and
nobody else: past the bound lines are dropped and counted. The thread wakes for the first line,
waits a moment for others, and writes them together.
"""

from __future__ import annotations

import os
import select
import stat
from collections import deque
from fcntl import F_GETPIPE_SZ, fcntl, ioctl
from sys import byteorder
from termios import FIONREAD
from threading import Event, Thread
from typing import Final, final

from proxy.telemetry.access_line import MAX_LINE, Entry, Lines
from proxy.telemetry.slot import Family

MAX_HELD: Final = 1 << 20
"""Octets of lines that wait to be written."""
MAX_WRITE: Final = 32 << 10
"""Octets of one write to anything but a pipe; a Unix socket takes so many in one piece."""
GATHER_S: Final = 0.02
"""How long lines are gathered, in seconds."""
CLOSE_S: Final = 1.0
"""How long the end of a sidecar waits for its last lines to be written, in seconds."""


@final
class AccessLog:
    """Takes entries from the event loop, never waiting; ``close`` writes what is left."""

    __slots__ = (
        *("_closed", "_closing", "_fd", "_full", "_held", "_is_shared", "_limit", "_lines"),
        *("_pipe_size", "_queued", "_taken", "_thread", "_wanted"),
    )

    def __init__(
        self,
        form: str,
        fd: int,
        drops: Family,
        *,
        limit: int = MAX_HELD,
        is_shared: bool = False,
    ) -> None:
        """Write in ``form`` (one of FORMS) to a duplicate of ``fd``; raises OSError.

        ``is_shared``: other access logs are written to the same.
        """
        self._lines = Lines(form)
        self._fd = os.dup(fd)
        is_pipe = stat.S_ISFIFO(os.fstat(self._fd).st_mode)
        self._pipe_size = fcntl(self._fd, F_GETPIPE_SZ) if is_pipe else 0
        self._limit = limit
        self._is_shared = is_shared
        # Each has one writer, so that neither needs a lock: the loop the first, the thread the
        # second.
        self._full = drops.child((("reason", "full"),))
        self._closed = drops.child((("reason", "closed"),))
        self._queued = 0
        self._taken = 0
        self._held: deque[bytes] = deque()
        self._wanted = Event()
        self._closing = Event()
        self._thread = Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def add(self, entry: Entry) -> None:
        """Log one request that is over."""
        line = self._lines.line(entry)
        if self._queued - self._taken + len(line) > self._limit:
            self._full.value += 1
            return
        self._queued += len(line)
        self._held.append(line)
        if not self._wanted.is_set():
            self._wanted.set()

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """Write what is left; False when that takes longer than ``timeout_s``, and is given up."""
        self._closing.set()
        self._wanted.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wanted.wait()
            self._closing.wait(GATHER_S)
            # Cleared before the lines are taken: a line added in between wakes us once more.
            self._wanted.clear()
            self._write_all()
        self._write_all()
        os.close(self._fd)

    def _write_all(self) -> None:
        held = self._held
        while held:
            batch = [held.popleft()]
            size = len(batch[0])
            room = self._room()
            while held and size + len(held[0]) <= room:
                batch.append(held.popleft())
                size += len(batch[-1])
            if not self._write(b"".join(batch)):
                self._closed.value += len(batch)
            self._taken += size

    def _room(self) -> int:
        """Return how much can be written at once without another writer's line getting between.

        A pipe takes MAX_LINE whole in any case (pipe(7), PIPE_BUF). How much more it has room for
        shows only when it is empty: each of its pages may be held by a few octets. Half of it is
        then left to the event log. Other access logs could take that half, too, before we write.
        """
        if not self._pipe_size:
            return MAX_WRITE
        if self._is_shared:
            return MAX_LINE
        waiting = int.from_bytes(ioctl(self._fd, FIONREAD, bytes(4)), byteorder)
        return MAX_LINE if waiting else max(MAX_LINE, self._pipe_size // 2)

    def _write(self, text: bytes) -> bool:
        left = memoryview(text)
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                # Whoever shares the descriptor made it so.
                poller = select.poll()
                poller.register(self._fd, select.POLLOUT)
                poller.poll()
            except OSError:
                return False
        return True
