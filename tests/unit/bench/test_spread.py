"""bench.spread: medians, their spread, and ratios paired by round."""

from __future__ import annotations

import pytest

from bench.spread import Rounds, Spread, paired_ratios, spread


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((3.0,), Spread(3.0, 3.0, 3.0)),
        ((3.0, 1.0, 2.0), Spread(2.0, 1.0, 3.0)),
        ((4.0, 1.0, 2.0, 3.0), Spread(2.5, 1.0, 4.0)),
        ((5.0, None, 1.0), Spread(3.0, 1.0, 5.0)),
        ((None, None), None),
        ((), None),
    ],
)
def test_a_spread_is_median_smallest_and_largest_of_what_did_not_fail(
    values: Rounds, expected: Spread | None
) -> None:
    """Failed rounds are left out; without any there is no spread."""
    assert spread(values) == expected


@pytest.mark.parametrize(
    ("values", "baseline", "expected"),
    [
        ((2.0, 9.0), (1.0, 3.0), (2.0, 3.0)),
        ((None, 9.0), (1.0, 3.0), (None, 3.0)),
        ((2.0, 9.0), (1.0, None), (2.0, None)),
        ((2.0,), (0.0,), (None,)),
    ],
)
def test_ratios_are_taken_within_a_round(
    values: Rounds, baseline: Rounds, expected: Rounds
) -> None:
    """A round in which either side failed, or the baseline did nothing, has no ratio."""
    assert paired_ratios(values, baseline) == expected


def test_rounds_that_do_not_pair_are_refused() -> None:
    """Pairing by position is only right when both sides have every round."""
    with pytest.raises(ValueError, match="shorter"):
        paired_ratios((1.0, 2.0), (1.0,))
