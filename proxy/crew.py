"""The workers of one sidecar: processes that serve the same ports, and answer as one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from core.record import dataclass
from proxy.net.listener import Bound, Loads

MAX_WORKERS: Final = 16
"""More are a mistake: each is another process of some 35 MiB beside one pod."""

CUT: Final = signal.SIGUSR1
"""Tells a worker to end at once. SIGTERM only begins its drain, however often it comes: what is
sent to all processes of a sidecar reaches a worker twice."""
DRAIN: Final = signal.SIGUSR1
"""Tells who starts workers to let them drain. It is no second signal, whatever came before."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """One worker's place among all."""

    number: int
    """From 1."""
    count: int
    starts: int
    """How often a worker with this number was started, this one included."""
    directory: Path
    """Where each worker answers the others, on a Unix socket; nobody else's to enter."""
    bound: Bound
    """The listening sockets, which all workers accept from."""
    loads: Loads
    stop: Callable[[], None]
    """Asks all workers to drain."""
    is_orphan: Callable[[], bool]
    """Whether nobody is there any more who starts workers."""

    def socket(self, number: int) -> Path:
        """Return where a worker answers the others."""
        return socket_of(self.directory, number)

    def others(self) -> list[int]:
        """Return the numbers of the other workers."""
        return [each for each in range(1, self.count + 1) if each != self.number]


def socket_of(directory: Path, number: int) -> Path:
    """Return where a worker answers the others, once it has come up."""
    return directory / str(number)
