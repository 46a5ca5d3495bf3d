"""Annotations about retries, timeouts, breaking and balancing."""

from __future__ import annotations

import pytest

from policy.model import (
    Backoff,
    ConsecutiveFailures,
    PeakEwma,
    PenaltyPeakEwma,
    Retry,
    StatusRange,
    Timeouts,
    UnifiedFailures,
)
from policy.traffic import Traffic, traffic_of

ACCRUAL = "balancer.linkerd.io/failure-accrual"
ALPHA = "balancer.alpha.linkerd.io/"
RATE = f"{ALPHA}failure-accrual-success-rate"


def test_without_annotations_there_are_the_defaults() -> None:
    """No policy retries, no timeouts, no breaker; safe retries on, headers off."""
    assert traffic_of({"other.io/thing": "1"}) == Traffic()
    assert Traffic().safe_retries
    assert not Traffic().allows_headers


@pytest.mark.parametrize(
    ("annotations", "retry"),
    [
        ({"http": "5xx"}, Retry(statuses=(StatusRange(500, 599),))),
        ({"grpc": "internal"}, Retry(grpc_codes=frozenset({13}))),
        ({"limit": "3"}, Retry(max_retries=3)),
        ({"limit": "65535", "timeout": "300ms"}, Retry(max_retries=65535, timeout_s=0.3)),
        ({"limit": "0", "http": "429"}, Retry(statuses=(StatusRange(429, 429),))),
        ({"limit": "0", "timeout": "0"}, None),
    ],
)
def test_retries(annotations: dict[str, str], retry: Retry | None) -> None:
    """Any of the four turns them on; a limit of 0 is as if there were none, as in Linkerd."""
    given = {f"retry.linkerd.io/{name}": value for name, value in annotations.items()}
    assert traffic_of(given) == Traffic(retry=retry)


def test_timeouts() -> None:
    """Three, in Linkerd's durations; 0 is none."""
    given = {"request": "10s", "response": "500ms", "idle": "0"}
    annotations = {f"timeout.linkerd.io/{name}": value for name, value in given.items()}
    assert traffic_of(annotations).timeouts == Timeouts(request_s=10.0, response_s=0.5)


def test_a_breaker_by_failures_in_a_row() -> None:
    """Linkerd's defaults, and each of its own."""
    assert traffic_of({ACCRUAL: "consecutive"}).accrual == ConsecutiveFailures()
    own = f"{ACCRUAL}-consecutive"
    given = {
        ACCRUAL: "consecutive",
        f"{own}-max-failures": "3",
        f"{own}-min-penalty": "2s",
        f"{own}-max-penalty": "5m",
        f"{own}-jitter-ratio": "0.1",
        f"{ALPHA}failure-accrual-honor-retry-after": "true",
    }
    backoff = Backoff(min_s=2.0, max_s=300.0, jitter=0.1, respect_retry_after=True)
    assert traffic_of(given).accrual == ConsecutiveFailures(max_failures=3, backoff=backoff)


def test_a_breaker_by_success_rate() -> None:
    """With failures in a row beside it."""
    assert traffic_of({ACCRUAL: "unified"}).accrual == UnifiedFailures()
    given = {
        ACCRUAL: "unified",
        f"{RATE}-threshold": "0.5",
        f"{RATE}-window": "10ms",
        f"{RATE}-min-requests": "1000000",
    }
    found = traffic_of(given).accrual
    assert found == UnifiedFailures(
        success_rate_threshold=0.5, decay_s=0.01, min_requests=1_000_000
    )


def test_failures_are_penalized_where_that_is_said() -> None:
    """Its numbers count only then."""
    penalty = {f"{ALPHA}load-biaser-penalty": "2s"}
    assert traffic_of(penalty).load == PeakEwma()
    on = {**penalty, f"{ALPHA}penalize-failures": "true"}
    assert traffic_of(on).load == PenaltyPeakEwma(penalty_s=2.0)


@pytest.mark.parametrize(
    ("annotations", "problem"),
    [
        ({"retry.linkerd.io/http": "6xx"}, "retry.linkerd.io/http: '6xx' names no statuses"),
        ({"retry.linkerd.io/grpc": "ok"}, "retry.linkerd.io/grpc: 'ok' names no gRPC status"),
        ({"retry.linkerd.io/limit": "65536"}, "'65536' is no number from 0 to 65535"),
        ({"retry.linkerd.io/limit": "-1"}, "'-1' is no number"),
        ({"retry.linkerd.io/timeout": "1.5s"}, "'1.5s' is not a duration"),
        ({"timeout.linkerd.io/idle": "5"}, "timeout.linkerd.io/idle: '5' is not a duration"),
        ({ACCRUAL: "on"}, f"{ACCRUAL} is 'on'; wanted consecutive or unified"),
        (
            {ACCRUAL: "consecutive", f"{ACCRUAL}-consecutive-min-penalty": "61s"},
            "no less than the min-penalty of 61 s",
        ),
        (
            {ACCRUAL: "consecutive", f"{ACCRUAL}-consecutive-max-penalty": "0"},
            "wanted more than nothing",
        ),
        (
            {ACCRUAL: "consecutive", f"{ACCRUAL}-consecutive-jitter-ratio": "nan"},
            "'nan' is no number from 0 to 100",
        ),
        ({ACCRUAL: "unified", f"{RATE}-threshold": "1.1"}, "'1.1' is no number from 0 to 1"),
        ({ACCRUAL: "unified", f"{RATE}-window": "9ms"}, "wanted 10ms or more"),
        ({ACCRUAL: "unified", f"{RATE}-min-requests": "1000001"}, "at most 1000000"),
        ({f"{ALPHA}penalize-failures": "yes"}, "'yes' is neither true nor false"),
    ],
)
def test_a_mistake_leaves_its_group_without_effect_and_is_told(
    annotations: dict[str, str], problem: str
) -> None:
    """The default stands, whatever else the group says."""
    found = traffic_of({**annotations, "timeout.linkerd.io/request": "1s"})
    assert len(found.problems) == 1
    assert problem in found.problems[0]
    assert (found.retry, found.accrual, found.load) == (None, None, PeakEwma())
    is_of_timeouts = "timeout.linkerd.io/idle" in annotations
    assert found.timeouts.request_s == (None if is_of_timeouts else 1.0)


@pytest.mark.parametrize(
    ("value", "is_on", "problems"), [("enabled", True, 0), ("disabled", False, 0), ("no", False, 1)]
)
def test_safe_retries_are_off_for_whoever_does_not_say_enabled(
    value: str, is_on: bool, problems: int
) -> None:
    """A typo must not send anything twice."""
    found = traffic_of({"pillion.dev/safe-retries": value})
    assert (found.safe_retries, len(found.problems)) == (is_on, problems)


@pytest.mark.parametrize(
    ("value", "is_on", "problems"), [("allowed", True, 0), ("ignored", False, 0), ("yes", False, 1)]
)
def test_headers_count_only_where_they_are_allowed(value: str, is_on: bool, problems: int) -> None:
    """Any client could send them."""
    found = traffic_of({"pillion.dev/l5d-request-headers": value})
    assert (found.allows_headers, len(found.problems)) == (is_on, problems)
