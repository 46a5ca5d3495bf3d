"""The breaker: what opens it, how long, what one probe decides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.model import Backoff, ConsecutiveFailures, UnifiedFailures
from proxy.outbound.breaker import CONNECTING, Breaker


def test_failures_in_a_row_open_it_and_a_success_between_does_not_let_them() -> None:
    """Six are borne; a success begins the count anew; the seventh in a row is not borne."""
    breaker = Breaker(ConsecutiveFailures())
    for _ in range(6):
        assert not breaker.failed(0.0, 0.0)
    breaker.passed(0.0)
    for _ in range(6):
        assert not breaker.failed(0.0, 0.0)
    assert breaker.failed(1.0, 0.0)
    assert (breaker.is_open, breaker.opened_at, breaker.until) == (True, 1.0, 2.0)


def test_each_failed_probe_doubles_the_wait_and_a_good_one_closes() -> None:
    """One second to a minute; after a success it begins at one again."""
    breaker, waits, now = Breaker(ConsecutiveFailures(max_failures=1)), [], 0.0
    for _ in range(8):
        assert breaker.failed(now, 0.0)
        waits.append(breaker.until - now)
        now = breaker.until
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    breaker.passed(now)
    assert not breaker.is_open
    assert breaker.failed(now, 0.0)
    assert breaker.until - now == 1.0


def test_jitter_spreads_the_probes_of_many_proxies() -> None:
    """Up to half more of the wait, and no wait past the longest."""
    breaker = Breaker(ConsecutiveFailures(max_failures=1))
    breaker.failed(0.0, 0.5)
    assert breaker.until == 1.25
    for _ in range(10):
        breaker.failed(0.0, 0.99)
    assert breaker.until == 60.0


@pytest.mark.parametrize(("respects", "until"), [(True, 20.0), (False, 1.0)])
def test_what_the_endpoint_asks_for_is_waited_where_that_is_respected(
    respects: bool, until: float
) -> None:
    """Retry-After and pushback lengthen the wait, and never past the longest."""
    backoff = Backoff(min_s=1.0, max_s=60.0, jitter=0.0, respect_retry_after=respects)
    breaker = Breaker(ConsecutiveFailures(max_failures=1, backoff=backoff))
    breaker.failed(0.0, 0.0, hint_s=20.0)
    assert breaker.until == until
    breaker.failed(0.0, 0.0, hint_s=3600.0)
    assert breaker.until == (60.0 if respects else 2.0)


def test_zero_failures_in_a_row_is_no_bound() -> None:
    """As Linkerd has it: only a rate is left, if there is one."""
    breaker = Breaker(ConsecutiveFailures(max_failures=0))
    assert not any(breaker.failed(0.0, 0.0) for _ in range(100))


def test_one_failed_connect_is_enough() -> None:
    """100 ms to a minute, with a tenth of jitter."""
    breaker = Breaker(CONNECTING)
    assert breaker.failed(5.0, 0.0)
    assert breaker.until == pytest.approx(5.1)


def test_being_turned_away_is_no_failure_where_no_rate_is_kept() -> None:
    """429 has its own answer, the load's penalty; in a row it counts for nothing."""
    breaker = Breaker(ConsecutiveFailures(max_failures=2))
    assert not breaker.failed(0.0, 0.0)
    assert not breaker.limited(0.0, 0.0)
    assert not breaker.failed(0.0, 0.0)


def test_a_low_rate_opens_it_once_enough_was_asked() -> None:
    """Not before ``min_requests``, and not by failures in a row, of which there are too few."""
    breaker = Breaker(UnifiedFailures(min_requests=5, max_consecutive_failures=0, decay_s=1.0))
    now, opened = 0.0, []
    for _ in range(5):
        now += 0.5
        opened.append(breaker.limited(now, 0.0))
    assert opened == [False] * 4 + [True]


def test_a_rate_that_is_high_enough_never_opens_it() -> None:
    """Nine of ten are good where eight have to be."""
    breaker = Breaker(UnifiedFailures(max_consecutive_failures=0))
    for index in range(1000):
        if index % 10 == 9:
            assert not breaker.failed(index * 0.1, 0.0)
        else:
            breaker.passed(index * 0.1)


def test_after_a_long_pause_the_rate_is_learned_anew() -> None:
    """One failure after it would else weigh as much as all before."""
    breaker = Breaker(UnifiedFailures(min_requests=5, max_consecutive_failures=0, decay_s=1.0))
    for index in range(20):
        breaker.passed(index * 0.1)
    assert not breaker.failed(100.0, 0.0)


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 10))
def test_it_is_open_exactly_after_so_many_failures_in_a_row(
    outcomes: list[bool], limit: int
) -> None:
    """The model: a run as long as the limit, since the last success."""
    breaker, run = Breaker(ConsecutiveFailures(max_failures=limit)), 0
    for now, is_good in enumerate(outcomes):
        if is_good:
            breaker.passed(float(now))
            run = 0
        else:
            breaker.failed(float(now), 0.5)
            run += 1
        assert breaker.is_open is (run >= limit)
