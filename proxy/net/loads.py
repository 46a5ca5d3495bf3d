"""How many connections each worker has, in memory that all workers share.

Whoever accepts from a shared socket looks here first: the kernel wakes all, and the first to come
would take most. Each worker writes its own number and reads the others'; what is read may be a
moment old, which costs evenness. A worker that hangs costs the others a moment a connection.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from typing import Final, final

SLACK: Final = 2
"""How many connections more than the least a worker may have and still take another."""
ABSENT: Final = 1 << 40
"""The number of a worker that is not there: nobody waits for it."""
_BYTES: Final = 8
_ABSENT: Final = ABSENT.to_bytes(_BYTES, sys.byteorder)


@final
class SharedLoads:
    """One worker's view of the table; numbers begin with 1."""

    __slots__ = ("_mine", "_table")

    def __init__(self, table: int, number: int) -> None:
        """Map the table, which ``make_loads`` has made. Raises OSError or ValueError."""
        self._table = memoryview(mmap.mmap(table, 0)).cast("q")
        self._mine = number - 1

    def tell(self, connections: int) -> None:
        """Say how many connections we have."""
        self._table[self._mine] = connections

    def retire(self) -> None:
        """Count as one that is not there, from now on."""
        self._table[self._mine] = ABSENT

    def is_least(self) -> bool:
        """Whether another connection is ours to take, and not somebody's who has less."""
        return self._table[self._mine] <= min(self._table) + SLACK


def make_loads(count: int) -> int:
    """Return a descriptor of a table for ``count`` workers, none of which is there yet.

    It lies in memory, under no name, and stays as long as it is: touching what somebody has cut
    off would kill every worker (memfd_create(2)). Raises OSError.
    """
    table = os.memfd_create("loads", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(table, _ABSENT * count)
    fcntl.fcntl(table, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return table


def write_absent(table: int, number: int) -> None:
    """Say that a worker is not there any more."""
    os.pwrite(table, _ABSENT, (number - 1) * _BYTES)
