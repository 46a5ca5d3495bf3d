"""Who holds a port that we wanted, as far as this process may see it (proc(5))."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from discovery.model import Address

_LISTEN: Final = "0A"
_MAX_LINES: Final = 10_000


def holder_of(address: Address) -> str:
    """Return who listens at ``address``: ``pid 7 (nginx)``; empty when that cannot be seen."""
    inodes = set(_listening(address))
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                for file in (process / "fd").iterdir():
                    with suppress(OSError):
                        if str(file.readlink()) in wanted:
                            name = (process / "comm").read_text("utf-8", "replace").strip()
                            return f"pid {process.name} ({name})"
    return "a program of another user"


def _listening(address: Address) -> Iterator[str]:
    """Yield the inodes of listening sockets that keep others from the address."""
    ip = ip_address(address.ip)
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        with suppress(OSError), Path("/proc/net", name).open(encoding="ascii") as file:
            next(file, "")
            for _, line in zip(range(_MAX_LINES), file, strict=False):
                fields = line.split()
                host, port = fields[1].split(":")
                if fields[3] != _LISTEN or int(port, 16) != address.port:
                    continue
                held = ip_address(socket.inet_ntop(family, _bytes(host)))
                if held == ip or held.is_unspecified or ip.is_unspecified:
                    yield fields[9]


def _bytes(text: str) -> bytes:
    """Return an address of the kernel's tables: words of 32 bits in the machine's order."""
    words = (text[at : at + 8] for at in range(0, len(text), 8))
    return b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
