"""Port lists as annotations write them: numbers, ranges ``a-b`` and port names, by commas."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, final

from core.record import dataclass

MAX_ENTRIES: Final = 1000
"""Entries that are read of one list."""

_RANGE: Final = re.compile(r"([0-9]{1,5})(?:\s*-\s*([0-9]{1,5}))?", re.ASCII)
_NAME: Final = re.compile(r"(?=.*[a-z])[a-z0-9](?:[a-z0-9-]{0,13}[a-z0-9])?", re.ASCII)


@final
@dataclass(frozen=True, slots=True)
class PortSet:
    """Ports as ranges, both ends included."""

    ranges: tuple[tuple[int, int], ...] = ()
    wrong: tuple[str, ...] = ()
    """Entries that say nothing, for messages; they count for none."""

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and any(low <= port <= high for low, high in self.ranges)


def parse_ports(text: str, numbers_of: Callable[[str], tuple[int, ...]]) -> PortSet:
    """Read a list; ``numbers_of`` resolves port names (a name nobody has is no mistake)."""
    numeric, names = _split(text)
    if not names:
        return numeric
    named = tuple((number, number) for name in names for number in numbers_of(name))
    return PortSet((*numeric.ranges, *named), numeric.wrong)


@lru_cache(maxsize=64)
def _split(text: str) -> tuple[PortSet, tuple[str, ...]]:
    """Return the numbers and the names of a list; the same few are read for every pod."""
    ranges: list[tuple[int, int]] = []
    names: list[str] = []
    wrong: list[str] = []
    for entry in text.split(",", MAX_ENTRIES)[:MAX_ENTRIES]:
        given = entry.strip()
        found = _RANGE.fullmatch(given)
        low, high = (int(found[1]), int(found[2] or found[1])) if found is not None else (0, 0)
        if 1 <= low <= high <= 65_535:
            ranges.append((low, high))
        elif _NAME.fullmatch(given):
            names.append(given)
        elif given:
            wrong.append(given[:80])
    return PortSet(tuple(ranges), tuple(wrong)), tuple(names)
