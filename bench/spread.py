"""The statistics: medians with their spread, and ratios paired by round.

Pure. A round that failed is None and takes its pair with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import final

Rounds = tuple[float | None, ...]
"""One value a round, in the order of the rounds; None: that round failed."""


@final
@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the smallest and the largest value it was taken from."""

    median: float
    minimum: float
    maximum: float


def spread(values: Sequence[float | None]) -> Spread | None:
    """Return the spread of the rounds that did not fail; None when all did."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    return Spread(median(there), min(there), max(there))


def paired_ratios(values: Rounds, baseline: Rounds) -> Rounds:
    """Divide round by round; None where either side failed or the baseline is zero."""
    return tuple(
        value / base if value is not None and base else None
        for value, base in zip(values, baseline, strict=True)
    )
