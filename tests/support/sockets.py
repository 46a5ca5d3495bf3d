"""Sockets inside other network namespaces, and the pillion command as a process."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import threading
from pathlib import Path

import cli
from cli.demo.host import Host

PILLION = [sys.executable, "-c", "from cli.start import main; main()"]
"""The command as the tests run it; needs ``ENVIRONMENT``."""
ENVIRONMENT = {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
"""Makes other processes run the very packages that are under test here."""
_CLONE_NEWNET = 0x40000000


def socket_in(
    host: Host, *, wait_s: float = 10.0, family: socket.AddressFamily = socket.AF_INET
) -> socket.socket:
    """Return a TCP socket that lives in ``host``; the calling thread stays where it is."""
    made: list[socket.socket | OSError] = []

    def make() -> None:
        library = ctypes.CDLL(None, use_errno=True)
        file = os.open(host.path, os.O_RDONLY)
        try:
            if library.setns(file, _CLONE_NEWNET):
                made.append(OSError(ctypes.get_errno(), "setns"))
                return
            made.append(socket.socket(family, socket.SOCK_STREAM))
        finally:
            os.close(file)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    (result,) = made
    if isinstance(result, OSError):
        raise result
    result.settimeout(wait_s)
    return result


def listener_in(host: Host, address: str, port: int) -> socket.socket:
    """Return a socket that listens in ``host``."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket_in(host, family=family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(16)
    return listener


def connect_in(host: Host, address: str, port: int, *, wait_s: float = 10.0) -> socket.socket:
    """Return a socket of ``host`` that is connected to ``address``, of either family."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    near = socket_in(host, wait_s=wait_s, family=family)
    try:
        near.connect((address, port))
    except OSError:
        near.close()
        raise
    return near
