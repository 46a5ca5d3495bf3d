"""Which program listens on which TCP port of this network namespace, from /proc."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_LISTEN: Final = "0A"
"""TCP_LISTEN, as /proc/net/tcp writes it (proc(5))."""


_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  # compared, not bound


def listening_ports(proc: Path = Path("/proc"), *, at: str = "") -> dict[int, str]:
    """Return port → who listens there; who cannot be told is ``another user's program``.

    ``at``: only what a connection to this address would reach.
    """
    inodes = {
        inode: port for ip, port, inode in _listeners(proc) if not at or ip in {at, *_EVERYWHERE}
    }
    found = dict.fromkeys(inodes.values(), "another user's program")
    for pid, inode in _sockets(proc):
        if inode in inodes:
            found[inodes[inode]] = f"{_name(proc, pid)} (pid {pid})"
    return found


def _listeners(proc: Path) -> Iterator[tuple[str, int, str]]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN:
                ip, _, port = fields[1].rpartition(":")
                yield _address(ip), int(port, 16), fields[9]


def _address(text: str) -> str:
    """Return an address that /proc writes as words of four bytes, in the machine's order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    data = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)


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
