"""An event loop in a network namespace of its own: any address, any port, nobody else.

The namespace belongs to one thread and ends with it; needs root and ``ip``.
"""

from __future__ import annotations

import asyncio
import ctypes
import subprocess
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from proxy.net.loop import Loop

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


class Island:
    """Runs coroutines where every address given is our own."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._loop = Loop()
        self._ready = threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._live, daemon=True)

    def open(self) -> None:
        """Make the namespace."""
        self._thread.start()
        self._ready.wait(30)
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """Let it go."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def run(self, work: Coroutine[Any, Any, T], wait_s: float = 120) -> T:
        """Run ``work`` there to its end."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(wait_s)

    def _live(self) -> None:
        try:
            _leave_the_network()
            commands = ["link set lo up"]
            for each in self._addresses:
                commands.append(f"address add {each} dev lo {'nodad' if ':' in each else ''}")
            subprocess.run(
                ["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True, timeout=30
            )
        except Exception as error:  # noqa: BLE001  # told to the thread that waits
            self._failed = error
            return
        finally:
            self._ready.set()
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()


def _leave_the_network() -> None:
    """Put the calling thread into a namespace of its own."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")


@contextmanager
def island(addresses: Sequence[str]) -> Iterator[Island]:
    """Make an island of these addresses for a while."""
    made = Island(addresses)
    made.open()
    try:
        yield made
    finally:
        made.close()
