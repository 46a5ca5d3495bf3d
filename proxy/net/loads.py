"""How many connections each worker has, in memory that all workers share.

Whoever accepts from a shared socket looks here first: the kernel wakes all, and the first to come
would take most. Each worker writes its own number and reads the others'; what is read may be a
moment old, which costs evenness and nothing else.
"""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path
from typing import Final, final

SLACK: Final = 2
"""How many connections more than the least a worker may have and still take another."""
ABSENT: Final = 1 << 40
"""The number of a worker that is not there: nobody waits for it."""
_BYTES: Final = 8


@final
class SharedLoads:
    """One worker's view of the table; numbers begin with 1."""

    __slots__ = ("_mine", "_table")

    def __init__(self, path: Path, number: int, count: int) -> None:
        """Map the table, which ``write_loads`` has made. Raises OSError or ValueError."""
        with path.open("r+b") as file:
            self._table = memoryview(mmap.mmap(file.fileno(), count * _BYTES)).cast("q")
        self._mine = number - 1

    def tell(self, connections: int) -> None:
        """Say how many connections we have."""
        self._table[self._mine] = connections

    def is_least(self) -> bool:
        """Whether another connection is ours to take, and not somebody's who has less."""
        return self._table[self._mine] <= min(self._table) + SLACK


def write_loads(path: Path, count: int) -> None:
    """Make the table for ``count`` workers, none of which is there yet."""
    path.write_bytes(ABSENT.to_bytes(_BYTES, sys.byteorder) * count)


def write_absent(path: Path, number: int) -> None:
    """Say that a worker is not there any more."""
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), ABSENT.to_bytes(_BYTES, sys.byteorder), (number - 1) * _BYTES)
