"""Retries: what is made again, what never is, and why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model import RetryBudget
from policy.model import Backoff, Retry, StatusRange
from proxy.outbound.budget import Budget
from proxy.outbound.retry import MAX_BODY, NO_BODY, Body, Ended, Happened, Retrying, Verdict

_5XX = Retry(statuses=(StatusRange(500, 599),))
_GRPC = Retry(grpc_codes=frozenset({14}))
_LIMITED = Retry(max_retries=3)


def rich() -> Budget:
    """Return a budget that is not spent in a test."""
    return Budget(RetryBudget(min_retries_per_second=1000))


def after(
    method: bytes,
    retry: Retry | None,
    ended: Ended,
    *,
    is_safe_on: bool = True,
    body: Body = NO_BODY,
) -> Verdict:
    """Return the verdict about a request whose first attempt ended so."""
    state = Retrying(method, retry, rich(), is_safe_on=is_safe_on)
    return state.after(ended, 0.0, 0.0, body=body)


@pytest.mark.parametrize(
    ("method", "retry", "happened", "reason"),
    [
        # Nothing was sent: any method.
        (b"GET", None, Happened.UNCONNECTED, "connect"),
        (b"POST", None, Happened.UNCONNECTED, "connect"),
        # Something may have been: what changes nothing, once.
        *(
            (method, None, happened, "safe")
            for method in (b"GET", b"HEAD", b"OPTIONS")
            for happened in (Happened.UNREACHABLE, Happened.REFUSED, Happened.RESET)
        ),
        *(
            (method, None, happened, "not-repeatable")
            for method in (b"POST", b"PUT", b"DELETE", b"PATCH", b"TRACE", b"CONNECT", b"get", b"")
            for happened in (Happened.UNREACHABLE, Happened.REFUSED, Happened.RESET)
        ),
        (b"GET", None, Happened.TRY_TIMEOUT, "not-repeatable"),
        (b"GET", None, Happened.STARVED, "not-repeatable"),
        # With a policy that names no statuses: Linkerd's built-in conditions.
        (b"POST", _LIMITED, Happened.REFUSED, "policy"),
        (b"POST", _LIMITED, Happened.TRY_TIMEOUT, "policy"),
        (b"POST", _LIMITED, Happened.STARVED, "policy"),
        (b"POST", _LIMITED, Happened.RESET, "not-repeatable"),
        (b"POST", _LIMITED, Happened.UNREACHABLE, "not-repeatable"),
        # A policy that would retry the 502 which the client would get.
        (b"POST", _5XX, Happened.RESET, "policy"),
        (b"POST", _5XX, Happened.UNREACHABLE, "policy"),
        (b"POST", _GRPC, Happened.RESET, "policy"),
        (b"POST", Retry(statuses=(StatusRange(503, 503),)), Happened.RESET, "not-repeatable"),
        (b"GET", _5XX, Happened.RESET, "safe"),
    ],
)
def test_what_ends_without_a_response(
    method: bytes, retry: Retry | None, happened: Happened, reason: str
) -> None:
    """Again where it cannot do harm, or where a policy says so."""
    verdict = after(method, retry, Ended(happened))
    assert verdict.reason == reason
    assert verdict.again is (reason in {"connect", "safe", "policy"})


@pytest.mark.parametrize(
    ("retry", "status", "grpc", "again"),
    [
        (None, 503, None, False),
        (_LIMITED, 503, None, False),
        (_5XX, 499, None, False),
        (_5XX, 500, None, True),
        (_5XX, 599, None, True),
        (_5XX, 200, 14, False),
        (_GRPC, 200, 14, True),
        (_GRPC, 200, 13, False),
        (_GRPC, 503, None, False),
    ],
)
def test_responses_are_asked_for_again_by_policy_alone(
    retry: Retry | None, status: int, grpc: int | None, again: bool
) -> None:
    """By status or gRPC status, whatever the method."""
    for method in (b"GET", b"POST"):
        assert after(method, retry, Ended(Happened.RESPONSE, status, grpc)).again is again


def test_never_once_a_byte_of_a_response_went_out() -> None:
    """Whatever happened, whoever asked for it."""
    for happened in Happened:
        state = Retrying(b"GET", _5XX, rich())
        verdict = state.after(Ended(happened, 503), 0.0, 0.0, has_responded=True)
        assert verdict == Verdict(again=False, reason="response-began")


@pytest.mark.parametrize(
    ("body", "happened", "again"),
    [
        (Body(taken=MAX_BODY, declared=MAX_BODY), Happened.RESPONSE, True),
        (Body(taken=MAX_BODY + 1), Happened.RESPONSE, False),
        (Body(declared=MAX_BODY + 1), Happened.RESPONSE, False),
        (Body(taken=10, is_kept=False), Happened.RESPONSE, False),
        (Body(taken=10, is_whole=False), Happened.RESPONSE, False),
        (Body(taken=10, is_whole=False), Happened.RESET, True),
        (Body(is_whole=False), Happened.REFUSED, True),
        (Body(taken=10, is_kept=False), Happened.RESET, False),
        # Nothing was sent: only what is lost stands in the way.
        (Body(declared=MAX_BODY + 1), Happened.UNCONNECTED, True),
        (Body(taken=MAX_BODY + 1), Happened.UNCONNECTED, True),
        (Body(taken=10, is_kept=False), Happened.UNCONNECTED, False),
    ],
)
def test_a_body_has_to_be_there_to_be_sent_again(
    body: Body, happened: Happened, again: bool
) -> None:
    """64 KiB are; one byte more is not, nor one that is still coming when the response is there."""
    verdict = after(b"GET", _5XX, Ended(happened, 503), body=body)
    assert verdict.again is again
    assert again or verdict.reason == "body"


def test_the_annotation_turns_off_everything_that_is_done_unasked() -> None:
    """What a policy asks for stays."""
    for happened in (Happened.UNCONNECTED, Happened.RESET, Happened.REFUSED):
        assert not after(b"GET", None, Ended(happened), is_safe_on=False).again
    ended = Ended(Happened.RESPONSE, 503)
    assert after(b"POST", _5XX, ended, is_safe_on=False).again
    assert not Retrying(b"GET", None, rich(), is_safe_on=False).keeps_body(10)


def test_three_other_endpoints_are_dialled() -> None:
    """And no fourth; connects are no retries, and cost nothing."""
    broke = Budget(RetryBudget(retry_ratio=0.0, min_retries_per_second=0))
    state = Retrying(b"POST", None, broke)
    again = [state.after(Ended(Happened.UNCONNECTED), 0.0, 0.0).again for _ in range(4)]
    assert again == [True, True, True, False]
    assert (state.connects, state.retries, state.attempts) == (3, 0, 4)


def test_a_safe_request_is_made_again_once() -> None:
    """However it ends then."""
    state = Retrying(b"GET", None, rich())
    assert state.after(Ended(Happened.RESET), 0.0, 0.0).again
    assert state.after(Ended(Happened.REFUSED), 0.0, 0.0) == Verdict(again=False, reason="limit")


def test_a_policy_s_limit_holds_for_all_retries_together() -> None:
    """The safe one is one of them; with the last there is no per-try timeout."""
    state = Retrying(b"GET", Retry(max_retries=2, statuses=_5XX.statuses), rich())
    ends = (Happened.RESET, Happened.RESPONSE, Happened.RESPONSE, Happened.RESET)
    reasons, lasts = [], []
    for happened in ends:
        reasons.append(state.after(Ended(happened, 503), 0.0, 0.0).reason)
        lasts.append(state.is_last)
    assert reasons == ["safe", "policy", "limit", "limit"]
    assert lasts == [False, True, True, True]


def test_retries_wait_longer_each_time_with_jitter() -> None:
    """25 ms doubled up to 250 ms, and as much again at random, within the bound."""
    retry = Retry(max_retries=9, statuses=_5XX.statuses)
    state = Retrying(b"POST", retry, rich())
    delays = [state.after(Ended(Happened.RESPONSE, 500), 0.0, 0.0).delay_s for _ in range(6)]
    assert delays == [0.025, 0.05, 0.1, 0.2, 0.25, 0.25]
    verdict = Retrying(b"POST", retry, rich()).after(Ended(Happened.RESPONSE, 500), 0.0, 0.5)
    assert verdict.delay_s == pytest.approx(0.0375)


@pytest.mark.parametrize(
    ("ended", "delay"),
    [
        (Ended(Happened.RESPONSE, 503, retry_after_s=0.0), 0.1),
        (Ended(Happened.RESPONSE, 503, retry_after_s=1.0), 1.0),
        (Ended(Happened.RESPONSE, 503, retry_after_s=2.0), None),
        (Ended(Happened.RESPONSE, 503, 14, pushback_ms=0), 0.0),
        (Ended(Happened.RESPONSE, 503, 14, pushback_ms=1000), 1.0),
        (Ended(Happened.RESPONSE, 503, 14, pushback_ms=1001), None),
        (Ended(Happened.RESPONSE, 503, 14, pushback_ms=-1), None),
    ],
)
def test_what_the_server_asks_for_is_kept_to(ended: Ended, delay: float | None) -> None:
    """A pause of up to a second is kept; a longer one is the client's to keep; never is never."""
    retry = Retry(statuses=_5XX.statuses, backoff=Backoff(min_s=0.1, max_s=1.0, jitter=0.0))
    verdict = after(b"GET", retry, ended)
    assert verdict == (
        Verdict(again=False, reason="pushback")
        if delay is None
        else Verdict(again=True, reason="policy", delay_s=delay)
    )


def test_no_retry_begins_that_the_request_has_no_time_for() -> None:
    """At the deadline it is too late already; nothing is counted or spent."""
    budget = Budget(RetryBudget(retry_ratio=0.0, min_retries_per_second=1, ttl_s=1.0))
    state = Retrying(b"GET", _5XX, budget)
    for happened in (Happened.RESPONSE, Happened.UNCONNECTED):
        late = state.after(Ended(happened, 503), 0.0, 0.0, time_left_s=0.0)
        assert late.reason == "deadline"
    assert (state.attempts, budget.left(0.0)) == (1, 1.0)
    assert state.after(Ended(Happened.RESPONSE, 503), 0.0, 0.0, time_left_s=0.026).again


def test_a_spent_budget_ends_retries() -> None:
    """For the one as for the many."""
    budget = Budget(RetryBudget(min_retries_per_second=1, ttl_s=1.0))
    verdicts = [
        Retrying(b"GET", _5XX, budget).after(Ended(Happened.RESPONSE, 503), 0.0, 0.0)
        for _ in range(2)
    ]
    assert [each.reason for each in verdicts] == ["policy", "budget"]


@pytest.mark.parametrize(
    ("declared", "retry", "keeps"),
    [
        (None, None, True),
        (MAX_BODY, None, True),
        (MAX_BODY + 1, None, False),
        (101, Retry(max_request_bytes=100), False),
        (100, Retry(max_request_bytes=100), True),
        (MAX_BODY + 1, Retry(max_request_bytes=10**9), False),
    ],
)
def test_a_body_is_kept_while_it_may_be_of_use(
    declared: int | None, retry: Retry | None, keeps: bool
) -> None:
    """A policy may want less than 64 KiB, and not more."""
    assert Retrying(b"POST", retry, rich()).keeps_body(declared) is keeps


@pytest.mark.parametrize("happened", [Happened.RESPONSE, Happened.RESET, Happened.REFUSED])
def test_a_retry_storm_is_impossible(happened: Happened) -> None:
    """500 requests a second for 40 s, everything failing, a policy of ten retries: 1.25 at most."""
    budget, retry = Budget(RetryBudget()), Retry(max_retries=10, statuses=_5XX.statuses)
    sent = 0
    for index in range(20_000):
        now = index / 500
        budget.deposit(now)
        state = Retrying(b"GET", retry, budget)
        sent += 1
        while state.after(Ended(happened, 503), now, 0.5).again:
            sent += 1
    assert sent / 20_000 <= 1.25


@given(
    st.sampled_from([b"POST", b"PUT", b"PATCH", b"DELETE"]),
    st.lists(st.tuples(st.sampled_from(Happened), st.integers(100, 599)), max_size=20),
)
def test_what_changes_something_is_never_sent_twice_unasked(
    method: bytes, events: list[tuple[Happened, int]]
) -> None:
    """Without a policy only what was never sent goes elsewhere."""
    state = Retrying(method, None, rich())
    for happened, status in events:
        verdict = state.after(Ended(happened, status), 0.0, 0.0)
        assert verdict.again is (happened is Happened.UNCONNECTED and state.connects <= 3) or (
            verdict.reason == "connects"
        )
    assert state.retries == 0
