"""Which of two equal sets of calls sockets get: those in C where they were built, or the plain.

The one place of this room that decides, as ``proxy.wire.native`` for codecs.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Final

from proxy.net import socket_call
from proxy.wire.buffer import Buffer


def _kernel() -> ModuleType | None:
    """Return the calls in C; None where they were not built."""
    try:
        return import_module("proxy.net.native_socket")
    except ImportError:
        return None


_SOCKET: Final = _kernel()

receive: Final[Callable[[int], Buffer | None]] = (
    socket_call.receive if _SOCKET is None else _SOCKET.receive
)
send: Final[Callable[[int, Buffer], int]] = socket_call.send if _SOCKET is None else _SOCKET.send
wait: Final[Callable[[select.epoll, float], list[int]]] = (
    socket_call.wait if _SOCKET is None else _SOCKET.wait
)
