"""Which program listens on which TCP port of this network namespace, from /proc."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_LISTEN: Final = "0A"
"""TCP_LISTEN, as /proc/net/tcp writes it (proc(5))."""


def listening_ports(proc: Path = Path("/proc")) -> dict[int, str]:
    """Return port → who listens there; who cannot be told is ``another user's program``."""
    inodes = {inode: port for port, inode in _listeners(proc)}
    found = dict.fromkeys(inodes.values(), "another user's program")
    for pid, inode in _sockets(proc):
        if inode in inodes:
            found[inodes[inode]] = f"{_name(proc, pid)} (pid {pid})"
    return found


def _listeners(proc: Path) -> Iterator[tuple[int, str]]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN:
                yield int(fields[1].rpartition(":")[2], 16), fields[9]


def _sockets(proc: Path) -> Iterator[tuple[int, str]]:
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                for link in _links(entry / "fd"):
                    if link.startswith("socket:["):
                        yield int(entry.name), link[8:-1]


def _links(directory: Path) -> Iterator[str]:
    for each in directory.iterdir():
        # One that is gone by now hides no other.
        with suppress(OSError):
            yield str(each.readlink())


def _name(proc: Path, pid: int) -> str:
    try:
        return (proc / str(pid) / "comm").read_text().strip()
    except OSError:
        return "a program"
