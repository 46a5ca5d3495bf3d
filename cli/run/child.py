"""A process that this command started, and the signals that it is told of.

Signals are held and taken one by one: what the terminal sent has reached the application already,
which is in the same process group; what a process sent has not, and is passed on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final, final

PASSED_ON: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_HELD: Final = (*PASSED_ON, signal.SIGCHLD)


@final
class Child:
    """One process."""

    def __init__(self, name: str, pid: int) -> None:
        self.name: Final = name
        self.pid: Final = pid
        self._status: int | None = None

    @property
    def status(self) -> int | None:
        """Its exit status, 128 and the signal's number where one ended it; None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._status = code if code >= 0 else 128 - code
        return self._status

    def send(self, number: int) -> None:
        """Send it a signal, unless it is over."""
        if self.status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def spawn(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    log: int | None = None,
) -> Child:
    """Start a process: at the terminal as we are, or apart from it with ``log`` for its output.

    Raises OSError when it cannot be started.
    """
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
    if log is not None:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ]
    pid = os.posix_spawnp(
        command[0],
        list(command),
        environment,
        file_actions=actions,
        # Ctrl-C is for the application: the sidecar is ended after it.
        setsid=log is not None,
        setsigmask=(),
        setsigdef=_HELD,
    )
    return Child(name, pid)


@contextmanager
def held_signals() -> Iterator[None]:
    """Hold signals until ``next_signal`` takes them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        # Whoever asks now has been heard already.
        while signal.sigtimedwait(_HELD, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def next_signal(seconds: float) -> tuple[int, bool] | None:
    """Wait for a signal to pass on, or a child's end, or for the time to pass.

    Returns the signal and whether the terminal sent it to all of the process group.
    """
    found = signal.sigtimedwait(_HELD, seconds)
    if found is None or found.si_signo == signal.SIGCHLD:
        return None
    # What the kernel sent has a code above 0, what a process sent has not (sigaction(2)).
    return found.si_signo, found.si_code > 0
