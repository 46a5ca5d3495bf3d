"""Deadlines of a request: which one passes when."""

from __future__ import annotations

import pytest

from core.errors import outcome_of
from policy.model import Timeouts
from proxy.outbound.timeout import NEVER, Deadlines, Expired, expired_error


def test_without_timeouts_nothing_ever_expires() -> None:
    """Nor is there a time to look again; 0 is none."""
    for timeouts in (Timeouts(), Timeouts(request_s=0.0, response_s=0.0, idle_s=0.0)):
        deadlines = Deadlines(timeouts, None, 0.0)
        deadlines.attempt(0.0, is_last=False)
        deadlines.sent(0.0)
        assert deadlines.next == NEVER
        assert deadlines.left_s(1e9) == NEVER
        assert deadlines.expired(1e9) is None


@pytest.mark.parametrize(
    ("timeouts", "try_s", "expired"),
    [
        (Timeouts(request_s=5.0), None, Expired.REQUEST),
        (Timeouts(response_s=4.0), None, Expired.RESPONSE),
        (Timeouts(idle_s=4.0), None, Expired.IDLE),
        (Timeouts(), 5.0, Expired.TRY),
    ],
)
def test_each_expires_at_its_time_and_not_before(
    timeouts: Timeouts, try_s: float | None, expired: Expired
) -> None:
    """The request begins at 0; its last byte goes out at 1."""
    deadlines = Deadlines(timeouts, try_s, 0.0)
    deadlines.attempt(0.0, is_last=False)
    deadlines.sent(1.0)
    assert deadlines.next == 5.0
    assert deadlines.expired(4.999) is None
    assert deadlines.expired(5.0) is expired


def test_the_head_of_a_response_ends_the_attempt_s_limit_alone() -> None:
    """The response has still to be complete in time."""
    deadlines = Deadlines(Timeouts(response_s=10.0), 1.0, 0.0)
    deadlines.attempt(0.0, is_last=False)
    deadlines.sent(0.0)
    deadlines.answered(0.9)
    assert deadlines.expired(9.9) is None
    assert deadlines.expired(10.0) is Expired.RESPONSE


def test_the_last_attempt_has_no_limit_of_its_own() -> None:
    """Nothing would come after it."""
    deadlines = Deadlines(Timeouts(), 1.0, 0.0)
    deadlines.attempt(0.0, is_last=True)
    assert deadlines.next == NEVER


def test_a_new_attempt_begins_its_own_and_the_request_s_goes_on() -> None:
    """The whole request is bounded across all attempts."""
    deadlines = Deadlines(Timeouts(request_s=5.0, response_s=2.0, idle_s=3.0), 1.0, 0.0)
    deadlines.attempt(0.0, is_last=False)
    deadlines.sent(0.0)
    assert deadlines.expired(1.0) is Expired.TRY
    deadlines.attempt(1.0, is_last=False)
    assert (deadlines.next, deadlines.response_at, deadlines.left_s(1.0)) == (2.0, NEVER, 4.0)
    assert deadlines.expired(5.0) is Expired.REQUEST


def test_frames_keep_a_stream_from_being_idle() -> None:
    """In either direction."""
    deadlines = Deadlines(Timeouts(idle_s=1.0), None, 0.0)
    for tenth in range(1, 50):
        deadlines.moved(tenth / 10)
    assert deadlines.expired(5.8) is None
    assert deadlines.expired(5.9) is Expired.IDLE


@pytest.mark.parametrize("expired", Expired)
def test_each_has_its_code_and_is_a_504(expired: Expired) -> None:
    """Which tells the annotation that set the limit."""
    error = expired_error(expired)
    assert error.code == expired.value
    assert (outcome_of(error).http, outcome_of(error).grpc) == (504, 4)
    assert ".linkerd.io/" in error.hint
