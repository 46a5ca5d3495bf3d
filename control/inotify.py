"""The kernel's file change notices, as a readable file descriptor (inotify(7)).

A thin binding through ctypes: the packages that offer this weigh two megabytes and a thread.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from typing import Final, final

_IN_MODIFY: Final = 0x2
_IN_ATTRIB: Final = 0x4
_IN_CLOSE_WRITE: Final = 0x8
_IN_MOVED: Final = 0xC0
_IN_CREATE: Final = 0x100
_IN_DELETE: Final = 0x200
_IN_SELF: Final = 0xC00
_IN_IGNORED: Final = 0x8000
_IN_ONLYDIR: Final = 0x1000000
_MASK: Final = (
    _IN_MODIFY
    | _IN_ATTRIB
    | _IN_CLOSE_WRITE
    | _IN_MOVED
    | _IN_CREATE
    | _IN_DELETE
    | _IN_SELF
    | _IN_ONLYDIR
)
_HEAD: Final = struct.Struct("iIII")
_BUFFER_BYTES: Final = 64 * 1024


@final
class Inotify:
    """Notices about directories; ``fileno`` is readable when there are some."""

    def __init__(self) -> None:
        """Raises OSError: no inotify here, or the user's instances are used up."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _last_error("inotify_init1")

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._fd

    def add(self, folder: str) -> int:
        """Watch a directory; the same one gives the same number. Raises OSError."""
        number: int = self._libc.inotify_add_watch(self._fd, os.fsencode(folder), _MASK)
        if number < 0:
            raise _last_error(folder)
        return number

    def remove(self, number: int) -> None:
        """Stop watching; a directory that is gone has stopped by itself."""
        self._libc.inotify_rm_watch(self._fd, number)

    def read(self) -> Iterator[tuple[int, str]]:
        """Take the notices that are there: watch number (-1: some were lost) and entry name."""
        try:
            data = os.read(self._fd, _BUFFER_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            number, mask, _, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            name = data[at : at + length].rstrip(b"\0")
            at += length
            if not mask & _IN_IGNORED:
                yield number, os.fsdecode(name)

    def close(self) -> None:
        """Give the descriptor back; again is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _last_error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)
