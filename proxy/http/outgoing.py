"""What a connection of HTTP/1 gathers until all that was ready has been told, then sends as one."""

from __future__ import annotations

from typing import final


@final
class Outgoing:
    """Pieces in their order; most often a head, or a head and its content."""

    __slots__ = ("_first", "_more", "_second", "size")

    def __init__(self) -> None:
        self.size = 0
        """Octets gathered."""
        self._first = b""
        self._second: bytes | None = None
        self._more: list[bytes] | None = None

    def add(self, data: bytes) -> None:
        """Put a piece behind the others."""
        if not self.size:
            self._first = data
        elif self._second is None:
            self._second = data
        elif self._more is None:
            self._more = [data]
        else:
            self._more.append(data)
        self.size += len(data)

    def take(self) -> bytes:
        """Return all of it, and gather anew."""
        if self._second is None:
            data = self._first
        elif self._more is None:
            data = self._first + self._second
        else:
            data = b"".join((self._first, self._second, *self._more))
        self.clear()
        return data

    def clear(self) -> None:
        """Drop it all."""
        self.size = 0
        self._first = b""
        self._second = None
        self._more = None
