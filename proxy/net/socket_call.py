"""The calls that every message costs: wait for sockets, receive from one and send to it.

The latter two, by descriptor, do not wait, since the socket's own mode is not to. What was
received is the caller's own octets where there are few; many are lent, in room that the next call
uses again.
"""

from __future__ import annotations

import os
import select
from typing import Final

from proxy.wire.buffer import Buffer

READ_BYTES: Final = 65_536
"""What one read takes at most. OpenSSL's memory BIOs keep the room that they once needed, so
this also bounds what a connection holds after bulk traffic."""
OWNED_BYTES: Final = 4_096
"""So many are copied: less work than lending them, and most who get them keep them."""

WAIT_MOST: Final = 256
"""Descriptors told of by one wait."""

_ROOM: Final = memoryview(bytearray(READ_BYTES))
_ROOMS: Final = (_ROOM,)


def receive(fd: int) -> Buffer | None:
    """Return what has come; nothing at the peer's end, None when there is nothing yet.

    More than OWNED_BYTES are a view that holds until the next call. Raises OSError.
    """
    try:
        size = os.readv(fd, _ROOMS)
    except (BlockingIOError, InterruptedError):
        return None
    return _ROOM[:size] if size > OWNED_BYTES else bytes(_ROOM[:size])


def send(fd: int, data: Buffer) -> int:
    """Return how many octets of ``data`` the socket has taken, none while it is full.

    Raises OSError.
    """
    try:
        return os.write(fd, data)
    except (BlockingIOError, InterruptedError):
        return 0


def wait(epoll: select.epoll, timeout_s: float) -> list[int]:
    """Return each descriptor that is ready, and behind it the kernel's flags of what for.

    Nothing after so many seconds, rounded up to milliseconds; less than 0: for ever. It may come
    back earlier, with nothing. Raises OSError, ValueError when the epoll is closed, and what a
    signal's handler raises.
    """
    return [each for ready in epoll.poll(timeout_s, WAIT_MOST) for each in ready]
