"""What still runs on this machine, told by a mark in its environment."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def processes_marked(mark: str) -> list[int]:
    """Return the living processes whose environment holds ``mark``; zombies do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def wait_until(claim: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait until ``claim`` holds; AssertionError says ``what`` was waited for in vain."""
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)
