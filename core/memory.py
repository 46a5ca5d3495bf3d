"""How much memory a process may have, and what it holds of it that it needs no more."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Final

_MAPS: Final = Path("/proc/self/maps")
_CODE: Final = "r-xp"
_DONTNEED: Final = 4
"""MADV_DONTNEED (linux/mman.h)."""


def release_code() -> int:
    """Let go of the pages of code that are mapped from files; returns how many mappings.

    The start runs much code that is never run again: libraries that set themselves up, parsers of
    settings. Nobody writes to code, so what is needed after all comes back from the file, page by
    page; what is not counts no longer as ours and may be reclaimed. Does nothing where the system
    does not let it.
    """
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError:
        return 0
    released = 0
    for line in lines:
        span, access, _, _, inode, *_ = line.split()
        if access != _CODE or inode == "0":
            continue
        start, _, end = span.partition("-")
        first = int(start, 16)
        released += advise(first, int(end, 16) - first, _DONTNEED) == 0
    return released


def memory_limit() -> int:
    """Return the container's memory limit in bytes, or the machine's memory."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal() and int(text) < 1 << 60:
            return int(text)
    return _machine_memory()


def _machine_memory() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 1 << 30
