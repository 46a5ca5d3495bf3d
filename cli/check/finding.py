"""One check and what it found: what was wanted, what was seen, what helps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, final

from core.errors import ConfigError, MeshError
from core.record import dataclass

PAGE: Final = "docs/check.md"
MAX_SEEN: Final = 20
"""Lines of detail that one check shows; of more it says how many."""


class Result(Enum):
    """As ``linkerd check -o json`` names them."""

    GOOD = "success"
    WARNING = "warning"
    BAD = "error"


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    result: Result
    seen: tuple[str, ...] = ()
    remedy: str = ""


@final
@dataclass(frozen=True, slots=True)
class Check:
    """One thing that should be so."""

    name: str
    """Its section in docs/check.md."""
    wanted: str
    """The claim, as a sentence without its stop."""
    look: Callable[[], Finding]
    """Raises MeshError or OSError when it cannot be found out: that is bad too."""

    def run(self) -> Finding:
        """Return what is found; what cannot be found out is an error with its reason."""
        try:
            return self.look()
        except ConfigError as error:
            return bad(*error.problems, remedy=error.hint)
        except (MeshError, OSError) as error:
            return bad(str(error), remedy="see the page")


@final
@dataclass(frozen=True, slots=True)
class Group:
    """Checks that belong together."""

    name: str
    checks: tuple[Check, ...]


def good(*seen: str) -> Finding:
    """All is as it should be."""
    return Finding(Result.GOOD, _bounded(seen))


def warning(*seen: str, remedy: str) -> Finding:
    """It works, and somebody should look at it."""
    return Finding(Result.WARNING, _bounded(seen), remedy)


def bad(*seen: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(Result.BAD, _bounded(seen), remedy)


def _bounded(seen: Iterable[str]) -> tuple[str, ...]:
    lines = tuple(seen)
    if len(lines) <= MAX_SEEN:
        return lines
    return (*lines[:MAX_SEEN], f"and {len(lines) - MAX_SEEN} more")
