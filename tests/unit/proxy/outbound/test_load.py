"""Load: peaks count at once, the past fades, failures flatter nobody."""

from __future__ import annotations

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.outbound.load import Load

LATENCIES = st.floats(min_value=0.0, max_value=100.0)


def test_a_new_endpoint_is_credited_with_the_seed_and_forgets_it() -> None:
    """30 ms, a third of it after 10 s, as good as nothing after a minute."""
    load = Load(0.0)
    assert load.latency_s(0.0) == 0.03
    assert load.latency_s(10.0) == pytest.approx(0.03 / exp(1))
    assert load.latency_s(60.0) < 0.0001


@pytest.mark.parametrize(("seed", "credited"), [(0.0, 0.001), (0.001, 0.001), (0.002, 0.002)])
def test_no_seed_is_below_a_millisecond(seed: float, credited: float) -> None:
    """Nobody is credited with answering in no time."""
    assert Load(0.0, seed_s=seed).latency_s(0.0) == credited


def test_a_peak_counts_at_once_and_a_low_by_its_age() -> None:
    """Linkerd's rule: up in full, down by exp(-elapsed / decay)."""
    load = Load(0.0)
    load.answered(1.0, 0.5)
    assert load.latency_s(1.0) == 0.5
    load.answered(1.0, 0.1)
    assert load.latency_s(1.0) == 0.5
    load.answered(11.0, 0.1)
    assert load.latency_s(11.0) == pytest.approx(0.5 / exp(1) + 0.1 * (1 - 1 / exp(1)))


def test_cost_grows_with_what_is_pending() -> None:
    """Latency times pending and one."""
    load = Load(0.0, is_awaited=False)
    load.answered(0.0, 0.2)
    costs = []
    for _ in range(3):
        costs.append(load.cost(0.0))
        load.begin(0.0)
    assert costs == pytest.approx([0.2, 0.4, 0.6])
    for _ in range(5):
        load.end()
    assert load.pending == 0


def test_an_endpoint_that_has_fallen_silent_is_as_slow_as_its_silence() -> None:
    """Until it answers: nobody waits for its requests to time out. Connections owe no answer."""
    waiting, open_connection = Load(0.0), Load(0.0, is_awaited=False)
    for load in (waiting, open_connection):
        load.answered(0.0, 0.001)
        load.begin(100.0)
        load.begin(101.0)
    assert waiting.latency_s(105.0) == 5.0
    assert open_connection.latency_s(105.0) < 0.03
    waiting.answered(105.0, 0.001)
    assert waiting.latency_s(105.0) < 0.03
    waiting.end()
    waiting.end()
    waiting.begin(200.0)
    assert waiting.latency_s(200.0) < 0.03


def test_silence_counts_for_ten_seconds_and_then_anew_from_the_next_request() -> None:
    """It may be a stream with nothing to say: the endpoint must not be left alone for ever."""
    load = Load(0.0)
    load.begin(100.0)
    assert load.latency_s(110.0) == 10.0
    assert load.latency_s(110.001) < 0.03
    load.begin(111.0)
    assert load.latency_s(111.5) == 0.5


def test_a_failure_counts_when_it_is_slow_and_never_flatters() -> None:
    """An endpoint that fails at once would else attract everything."""
    load = Load(0.0)
    load.answered(0.0, 0.05)
    for second in range(1, 60):
        load.failed(float(second), 0.0001)
    assert load.latency_s(59.0) == 0.05
    load.failed(60.0, 2.0)
    assert load.latency_s(60.0) == 2.0


def test_a_penalty_stands_beside_what_was_measured_and_fades_by_itself() -> None:
    """The larger of two counts; latencies measured go on below it."""
    load = Load(0.0, penalty_decay_s=1.0)
    load.penalize(0.0, 5.0)
    load.penalize(0.0, 2.0)
    load.answered(0.0, 0.01)
    assert load.latency_s(0.0) == 5.0
    assert load.latency_s(1.0) == pytest.approx(5.0 / exp(1))
    assert load.latency_s(60.0) < 0.03


def test_latencies_below_the_floor_are_alike() -> None:
    """Then what is open decides alone."""
    load = Load(0.0, floor_s=0.01)
    load.answered(1.0, 0.002)
    assert load.latency_s(50.0) == 0.01


@given(st.lists(st.tuples(st.floats(0.0, 10.0), LATENCIES, st.booleans()), max_size=30))
def test_the_estimate_lies_between_nothing_and_the_worst_ever_seen(
    samples: list[tuple[float, float, bool]],
) -> None:
    """Whatever comes in, in any order, and at any pace."""
    load, now, worst = Load(0.0), 0.0, 0.03
    for pause, latency, is_failure in samples:
        now += pause
        worst = max(worst, latency)
        (load.failed if is_failure else load.answered)(now, latency)
        assert latency <= load.latency_s(now) + 1e-9
        assert 0.0 <= load.latency_s(now) <= worst + 1e-9
