"""Pipes through which the kernel moves plaintext from one socket to another, uncopied (splice(2)).

A pipe belongs to one direction of one connection at a time, and is filled only when it is empty:
it bounds what waits, and "would block" speaks of the socket alone. All pipes of a process count
towards one bound; who gets none copies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
from typing import Final, Protocol, final

PIPE_BYTES: Final = 1 << 20
"""What a pipe is asked to hold: an unprivileged process's most (proc_sys_fs(5), pipe-max-size)."""
LEAST_BYTES: Final = 65_536
"""A smaller pipe is not worth its system calls. Past a user's share of pages (pipe(7),
pipe-user-pages-soft) the kernel gives two pages."""
MOST_PIPES: Final = 32
"""Of one process: half of the pages that the kernel lets one user have."""
DESCRIPTORS_A_PIPE: Final = 64
"""A process that may open so many times fewer descriptors has fewer pipes."""
SPLICE_AFTER_BYTES: Final = 65_536
"""How much a flow moves before it is worth a pipe."""
SMALL_BYTES: Final = 8_192
"""A read of fewer is cheaper copied."""
PATIENCE: Final = 8
"""So many small reads in a row, and the flow is copied again."""

_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_UNABLE: Final = frozenset((errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENOMEM))
"""This socket or system does not splice, or not now; nothing was moved."""
_KEPT: Final = 4
"""Empty pipes kept for the next flows, until the next tick."""


class PipeUser(Protocol):
    """Who has a pipe on loan."""

    def on_filled(self, size: int) -> None:
        """Take notice that so many bytes, more than 0, lie in the pipe."""
        ...

    def on_unfilled(self) -> None:
        """Take notice that nothing could be moved, though there may be something to read."""
        ...

    def on_idle(self) -> None:
        """Take notice that the pipe is empty and was not used for a second or more."""
        ...


@final
class Pipe:
    """A pipe between two sockets."""

    __slots__ = ("_read_end", "_write_end", "held", "size", "used", "user")

    def __init__(self, read_end: int, write_end: int, size: int) -> None:
        self._read_end = read_end
        self._write_end = write_end
        self.size = size
        """Bytes it holds at most."""
        self.held = 0
        """Bytes it holds now."""
        self.used = False
        """Whether it was lent or filled since the last tick."""
        self.user: PipeUser | None = None

    def fill(self, descriptor: int) -> int:
        """Move what a socket has into the pipe, which is empty; return how much.

        0 at the socket's end, -1 when nothing can be moved: that the socket has nothing to read
        is only the likeliest reason, urgent data (RFC 9293, 3.8.5) is another. Raises OSError
        when the connection is lost.
        """
        self.used = True
        try:
            self.held = os.splice(descriptor, self._write_end, self.size, flags=_FLAGS)
        except (BlockingIOError, InterruptedError):
            return -1
        except OSError as error:
            if error.errno in _UNABLE:
                return -1
            raise
        return self.held

    def drain(self, descriptor: int) -> None:
        """Move to a socket what it takes; ``held`` is left. Raises OSError when it is lost."""
        with contextlib.suppress(BlockingIOError, InterruptedError):
            self.held -= os.splice(self._read_end, descriptor, self.held, flags=_FLAGS)

    def close(self) -> None:
        """Give both descriptors back; what is held is lost."""
        os.close(self._read_end)
        os.close(self._write_end)


def open_pipe() -> Pipe | None:
    """Return a new pipe of PIPE_BYTES, or of what the system gives; None when that is too little.

    None as well when descriptors have run out.
    """
    try:
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    # Not allowed as much: then it stays as it is.
    with contextlib.suppress(OSError):
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    pipe = Pipe(read_end, write_end, fcntl.fcntl(write_end, fcntl.F_GETPIPE_SZ))
    if pipe.size < LEAST_BYTES:
        pipe.close()
        return None
    return pipe


def affordable_pipes(descriptors: int | None = None) -> int:
    """Return how many pipes a process with so many descriptors may have open."""
    if descriptors is None:
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if descriptors == resource.RLIM_INFINITY:
        return MOST_PIPES
    return min(MOST_PIPES, descriptors // DESCRIPTORS_A_PIPE)


@final
class Pipes:
    """The pipes of one process."""

    __slots__ = ("_free", "_has_failed", "_limit", "_on_loan")

    def __init__(self, limit: int = MOST_PIPES) -> None:
        """``limit``: how many may be open at once; 0: none ever."""
        self._limit = limit
        self._free: list[Pipe] = []
        self._on_loan: dict[Pipe, None] = {}
        self._has_failed = False
        """Whether the system gave none since the last tick."""

    @property
    def on_loan(self) -> int:
        """How many are in use."""
        return len(self._on_loan)

    def lend(self, user: PipeUser) -> Pipe | None:
        """Return an empty pipe, to be given back; None at the bound or when there is none."""
        if self._has_failed or len(self._on_loan) >= self._limit:
            return None
        pipe = self._free.pop() if self._free else open_pipe()
        if pipe is None:
            self._has_failed = True
            return None
        pipe.user = user
        pipe.used = True
        self._on_loan[pipe] = None
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """Take a pipe back; what it still holds is lost."""
        del self._on_loan[pipe]
        pipe.user = None
        # A pipe with somebody's bytes in it is nobody else's any more.
        if pipe.held or len(self._free) >= min(_KEPT, self._limit - len(self._on_loan)):
            pipe.close()
        else:
            self._free.append(pipe)

    def on_tick(self, now: float) -> None:
        """Ask for idle pipes back, and close those that nobody needed."""
        del now
        self._has_failed = False
        while self._free:
            self._free.pop().close()
        for pipe in list(self._on_loan):
            user = pipe.user
            if user is not None and not pipe.used and not pipe.held:
                user.on_idle()
            pipe.used = False

    def close(self) -> None:
        """Lend none any more, and keep none."""
        self._limit = 0
        while self._free:
            self._free.pop().close()
