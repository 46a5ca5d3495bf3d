"""Headers by which a request asks for timeouts and retries of its own."""

from __future__ import annotations

import pytest

from policy.model import Retry, StatusRange, Timeouts
from proxy.outbound.override import HEADERS, MAX_VALUE, overridden

_SET = Timeouts(request_s=1.0, response_s=2.0, idle_s=3.0)
_RETRY = Retry(max_retries=5, statuses=(StatusRange(500, 599),), timeout_s=1.0)


@pytest.mark.parametrize(
    ("fields", "timeouts", "retry"),
    [
        ([], _SET, _RETRY),
        ([(b"x-other", b"1s")], _SET, _RETRY),
        ([(b"l5d-timeout", b"9s")], Timeouts(request_s=9.0, response_s=2.0, idle_s=3.0), _RETRY),
        (
            [(b"l5d-request-timeout", b"8s"), (b"l5d-timeout", b"9s")],
            Timeouts(request_s=8.0, response_s=2.0, idle_s=3.0),
            _RETRY,
        ),
        (
            [(b"l5d-response-timeout", b" 500ms ")],
            Timeouts(request_s=1.0, response_s=0.5, idle_s=3.0),
            _RETRY,
        ),
        ([(b"l5d-timeout", b"0")], Timeouts(response_s=2.0, idle_s=3.0), _RETRY),
        ([(b"l5d-timeout", b"soon"), (b"l5d-retry-limit", b"-1")], _SET, _RETRY),
        (
            [(b"l5d-retry-http", b"429"), (b"l5d-retry-limit", b"2")],
            _SET,
            Retry(max_retries=2, statuses=(StatusRange(429, 429),), timeout_s=1.0),
        ),
        (
            [(b"l5d-retry-grpc", b"unavailable"), (b"l5d-retry-timeout", b"0")],
            _SET,
            Retry(max_retries=5, statuses=_RETRY.statuses, grpc_codes=frozenset({14})),
        ),
    ],
)
def test_a_request_s_own_wishes_stand_over_the_policy_s(
    fields: list[tuple[bytes, bytes]], timeouts: Timeouts, retry: Retry
) -> None:
    """Each for itself; what cannot be read changes nothing; the long name of the timeout wins."""
    assert overridden(fields, _SET, _RETRY) == (timeouts, retry)


def test_a_request_may_ask_for_retries_that_no_policy_has() -> None:
    """With Linkerd's limit of one."""
    _, retry = overridden([(b"l5d-retry-http", b"5xx")], Timeouts(), None)
    assert retry == Retry(max_retries=1, statuses=(StatusRange(500, 599),))


def test_a_value_as_long_as_may_be_is_read_and_one_longer_is_not() -> None:
    """Hostile input has a bound."""
    fits = b"9s".rjust(MAX_VALUE)
    assert overridden([(b"l5d-timeout", fits)], Timeouts(), None)[0].request_s == 9.0
    assert overridden([(b"l5d-timeout", b" " + fits)], Timeouts(), None)[0].request_s is None


def test_all_names_that_are_read_are_taken_off() -> None:
    """Seven, of DP's table."""
    assert len(HEADERS) == 7
    assert all(name == name.lower() for name in HEADERS)
