"""Targets: what pillion must reach, and what would put it ahead of the best of its peers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, final

from bench.spread import Spread

BASELINE: Final = "haproxy"
"""Ratios are to this candidate, in the same round, where nothing else is said."""
SUBJECT: Final = "pillion"
"""Targets are this candidate's, where nothing else is said."""
OWN: Final = frozenset({SUBJECT, "pillion-h1"})
"""Candidates that are nobody's peers."""
KEPT_HTTP1: Final = ("haproxy", "nginx")
"""Peers between whose hops HTTP/1 stays HTTP/1."""


class Basis(Enum):
    """What a target speaks of."""

    RATIO = "ratio"
    """The median of the paired ratios of the row's own figure."""
    VALUE = "value"
    """The median itself."""
    WORK_PER_CPU = "work per CPU"
    """The median of the paired ratios of operations per second of CPU time."""


class Verdict(Enum):
    """How a target came out."""

    MISSES = "misses"
    HOLDS = "holds"
    STRETCH = "stretch"
    """It holds, and the further one as well."""


@final
@dataclass(frozen=True, slots=True)
class Target:
    """What must be reached: at least the limit where more is better, at most elsewhere."""

    basis: Basis
    must: float
    """Beside ``to``."""
    stretch: float | None = None
    """Beside the best of ``peers``; for a value, of the value itself. None: nothing further."""
    to: str = BASELINE
    peers: tuple[str, ...] = ()
    """Who is looked at for the best; empty: every candidate that is not ours."""
    subject: str = SUBJECT


@final
@dataclass(frozen=True, slots=True)
class Judgement:
    """A target beside what was measured."""

    target: Target
    is_higher_better: bool
    measured: Spread
    """In the target's terms: ratios to ``target.to``, or values."""
    best: str
    """The best peer of the row; empty where none is looked for or there."""
    beside_best: Spread | None
    """Ratios to the best peer; values, where the target is one; None without either."""

    @property
    def verdict(self) -> Verdict:
        """Judge the medians, limits included."""
        if not self._reaches(self.measured, self.target.must):
            return Verdict.MISSES
        if self.target.stretch is None or self.beside_best is None:
            return Verdict.HOLDS
        is_ahead = self._reaches(self.beside_best, self.target.stretch)
        return Verdict.STRETCH if is_ahead else Verdict.HOLDS

    def _reaches(self, seen: Spread, limit: float) -> bool:
        return seen.median >= limit if self.is_higher_better else seen.median <= limit


def ratio(
    must: float, stretch: float, *, to: str = BASELINE, peers: tuple[str, ...] = ()
) -> Target:
    """Return the target for the ratio of a row's figure."""
    return Target(Basis.RATIO, must, stretch, to, peers)


def per_cpu(
    must: float,
    stretch: float,
    *,
    to: str = BASELINE,
    peers: tuple[str, ...] = (),
    subject: str = SUBJECT,
) -> Target:
    """Return the target for the ratio of operations per second of CPU time."""
    return Target(Basis.WORK_PER_CPU, must, stretch, to, peers, subject)


def value(must: float, stretch: float | None = None) -> Target:
    """Return the target for a figure by itself, in the row's unit."""
    return Target(Basis.VALUE, must, stretch)
