"""The retry budget: what is left, and that no storm comes through it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model import RetryBudget
from proxy.outbound.budget import Budget


def test_the_reserve_is_there_from_the_start_and_no_more() -> None:
    """Ten a second for ten seconds: the hundredth is granted, the next is not."""
    budget = Budget(RetryBudget())
    assert [budget.withdraw(5.0) for _ in range(101)] == [True] * 100 + [False]
    assert budget.left(5.0) == 0.0


def test_five_requests_pay_for_one_retry() -> None:
    """At a ratio of 0.2: four do not."""
    budget = Budget(RetryBudget(min_retries_per_second=0))
    for count in range(1, 11):
        budget.deposit(1.0)
        assert budget.withdraw(1.0) is (count % 5 == 0)


def test_what_was_not_spent_is_forgotten_after_the_ttl() -> None:
    """In the last slot it still counts; in the next it does not, nor do retries made then."""
    budget = Budget(RetryBudget(min_retries_per_second=0, ttl_s=10.0))
    for _ in range(50):
        budget.deposit(0.5)
    assert budget.left(9.9) == pytest.approx(10.0)
    assert budget.left(10.1) == 0.0
    assert budget.left(10_000.0) == 0.0


@pytest.mark.parametrize(("ttl", "granted"), [(0.0, 10), (1.0, 10), (60.0, 600), (61.0, 600)])
def test_the_ttl_is_held_to_linkerd_s_bounds(ttl: float, granted: int) -> None:
    """One second to sixty."""
    budget = Budget(RetryBudget(ttl_s=ttl))
    assert sum(budget.withdraw(1.0) for _ in range(1000)) == granted


@pytest.mark.parametrize("rate", [500, 2000])
def test_when_everything_fails_a_destination_sees_a_quarter_more_at_most(rate: int) -> None:
    """Linkerd's default budget, open loop, every retry failing and tried again: 1.25 at most.

    Below 200 requests a second the ten that are always granted weigh more than that.
    """
    budget, seconds = Budget(RetryBudget()), 40
    requests = retries = 0
    for index in range(rate * seconds):
        now = 1000.0 + index / rate
        requests += 1
        budget.deposit(now)
        while budget.withdraw(now):
            retries += 1
    assert (requests + retries) / requests <= 1.25


@given(
    st.floats(0.0, 1.0),
    st.integers(0, 50),
    st.floats(1.0, 60.0),
    st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=300),
)
def test_in_no_window_are_there_more_retries_than_it_pays_for(
    ratio: float, minimum: int, ttl: float, steps: list[tuple[float, bool]]
) -> None:
    """Retries of the last ttl are at most the share of its requests and the reserve.

    Windows end at a retry and are as long as the nine whole slots before it, which are certain.
    """
    budget = Budget(RetryBudget(retry_ratio=ratio, min_retries_per_second=minimum, ttl_s=ttl))
    now, requests, retries = 100.0, list[float](), list[float]()
    for pause, is_request in steps:
        now += pause
        if is_request:
            requests.append(now)
            budget.deposit(now)
        elif budget.withdraw(now):
            retries.append(now)
            made = sum(at > now - ttl * 0.9 for at in retries)
            asked = sum(at > now - ttl for at in requests)
            assert made <= ratio * asked + minimum * ttl + 1e-6


def test_a_destination_that_recovers_is_retried_again() -> None:
    """A spent budget fills with requests, at their share."""
    budget, chance = Budget(RetryBudget(min_retries_per_second=0)), random.Random(1)
    now = 0.0
    for _ in range(1000):
        now += chance.random() * 0.01
        budget.deposit(now)
        budget.withdraw(now)
    assert budget.left(now) < 1.0
    for _ in range(100):
        budget.deposit(now)
    assert budget.left(now) == pytest.approx(20.0, abs=1.0)
