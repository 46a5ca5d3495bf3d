"""Waits between attempts: doubled, jittered, bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.model import Backoff
from proxy.outbound.backoff import CONNECT, backoff_s


@pytest.mark.parametrize(
    ("failures", "chance", "seconds"),
    [
        (0, 0.0, 0.1),
        (1, 0.0, 0.1),
        (2, 0.0, 0.2),
        (3, 0.5, 0.42),
        (10, 0.0, 51.2),
        (11, 0.0, 60.0),
        (10**9, 0.999, 60.0),
    ],
)
def test_connects_wait_from_100_ms_to_a_minute(
    failures: int, chance: float, seconds: float
) -> None:
    """Linkerd's: doubled each time, a tenth of jitter, and never past the minute."""
    assert backoff_s(CONNECT, failures, chance) == pytest.approx(seconds)


@given(
    st.floats(0.001, 100.0),
    st.floats(0.0, 1000.0),
    st.floats(0.0, 100.0),
    st.integers(1, 10_000),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_a_wait_lies_between_its_base_and_the_longest(
    low: float, more: float, jitter: float, failures: int, chance: float
) -> None:
    """Jitter adds and never takes away."""
    backoff = Backoff(min_s=low, max_s=low + more, jitter=jitter)
    wait = backoff_s(backoff, failures, chance)
    assert backoff_s(backoff, failures, 0.0) <= wait <= backoff.max_s
    assert wait <= backoff_s(backoff, failures + 1, chance)
