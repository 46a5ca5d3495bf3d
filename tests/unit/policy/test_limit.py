"""Rate limits: buckets, scopes, bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from discovery.model import Metadata
from identity.name import Identity, parse_identity
from policy import limit as limits
from policy.limit import RateState, decide_rate, refuse_rate, take
from policy.model import (
    Audit,
    LimitHit,
    LimitScope,
    Permit,
    RateLimit,
    RateLimitOverride,
)

META = Metadata(kind="HTTPLocalRateLimitPolicy", name="limit", group="policy.linkerd.io")
ONE, TWO, THREE = (parse_identity(name) for name in ("one.example", "two.example", "three.example"))


def scopes(
    state: RateState, *calls: tuple[Identity | None, float]
) -> list[tuple[LimitScope, bool] | None]:
    """Make these calls; None for each that may go."""
    hits = [state.hit(who, now) for who, now in calls]
    return [None if hit is None else (hit.scope, hit.is_override) for hit in hits]


TOTAL, OWN, OVERRIDE = (
    (LimitScope.TOTAL, False),
    (LimitScope.IDENTITY, False),
    (LimitScope.IDENTITY, True),
)


def test_the_total_counts_everyone() -> None:
    """Two a second: the third at the same instant is refused, half a second later one may go."""
    state = RateState(RateLimit(metadata=META, total=2))
    assert scopes(state, (ONE, 9.0), (TWO, 9.0), (None, 9.0), (ONE, 9.5), (ONE, 9.5)) == [
        None,
        None,
        TOTAL,
        None,
        TOTAL,
    ]


def test_each_identity_has_its_own_bucket_and_the_nameless_share_one() -> None:
    """One a second each; clients without identity count together."""
    state = RateState(RateLimit(metadata=META, identity=1))
    calls = ((ONE, 1.0), (TWO, 1.0), (ONE, 1.0), (None, 1.0), (None, 1.0), (ONE, 2.0))
    assert scopes(state, *calls) == [None, None, OWN, None, OWN, None]


def test_a_bucket_outlives_the_turn_of_the_second() -> None:
    """Whoever was counted just before it is still known just after, and forgotten in time."""
    state = RateState(RateLimit(metadata=META, identity=1))
    calls = ((ONE, 10.0), (TWO, 10.9), (TWO, 11.05), (TWO, 11.95), (TWO, 12.5), (TWO, 14.0))
    assert scopes(state, *calls) == [None, None, OWN, None, OWN, None]


def test_an_override_is_shared_and_skips_the_own_bucket() -> None:
    """The named clients share their rate; others keep the per-identity one."""
    limit = RateLimit(
        metadata=META,
        total=100,
        identity=1,
        overrides=(RateLimitOverride(3, frozenset({ONE, TWO})),),
    )
    calls = ((ONE, 1.0), (ONE, 1.0), (TWO, 1.0), (TWO, 1.0), (THREE, 1.0), (THREE, 1.0))
    assert scopes(RateState(limit), *calls) == [None, None, None, OVERRIDE, None, OWN]


def test_what_the_identity_bucket_refuses_the_total_has_counted() -> None:
    """The total is asked first, as in linkerd2-proxy."""
    state = RateState(RateLimit(metadata=META, total=2, identity=1))
    assert scopes(state, (ONE, 1.0), (ONE, 1.0), (TWO, 1.0)) == [None, OWN, TOTAL]


def test_identities_past_the_bound_share_one_bucket() -> None:
    """At the bound everyone has a bucket; past it all new clients are one; later all is well."""
    state = RateState(RateLimit(metadata=META, identity=1))
    for number in range(limits.MAX_IDENTITIES):
        assert state.hit(Identity(f"w{number}.example"), 5.0) is None
    assert state.hit(Identity("w0.example"), 5.0) is not None
    assert scopes(state, (ONE, 5.0), (TWO, 5.0)) == [None, OWN]
    assert scopes(state, (ONE, 7.0), (TWO, 7.0)) == [None, None]
    assert len(state._last) == 2
    assert not state._before


def test_a_reached_limit_turns_a_permit_into_a_refusal() -> None:
    """The words say which limit, and the code says 429."""
    permit = Permit(
        server=Metadata(kind="server", name="s"),
        authorization=Metadata(kind="default", name="all-unauthenticated"),
        route=Metadata(kind="default", name="default"),
    )
    refusal = refuse_rate(permit, LimitHit(META, LimitScope.TOTAL, 2))
    assert (refusal.code, refusal.route) == ("rate-limited", permit.route)
    assert refusal.reason == "total rate limit of limit exceeded: 2 requests per second"


def test_a_limit_in_audit_mode_only_says() -> None:
    """The permit stays, with what the limit would have said; enforced it would refuse."""
    permit = Permit(
        server=Metadata(kind="server", name="s"),
        authorization=Metadata(kind="default", name="all-unauthenticated"),
    )
    tried = RateState(RateLimit(metadata=META, total=1, is_audit=True))
    enforced = RateState(RateLimit(metadata=META, total=1))
    said = []
    for state in (tried, enforced):
        for _ in range(2):
            verdict = decide_rate(state, permit, ONE, 1.0)
            said.append((isinstance(verdict, Permit), verdict.audits))
    assert said == [
        (True, (Audit(META, would_allow=True),)),
        (True, (Audit(META, would_allow=False),)),
        (True, ()),
        (False, ()),
    ]


@given(
    st.integers(1, 2_000_000_000),
    st.lists(st.integers(0, 3_000_000_000), min_size=1, max_size=60),
)
def test_no_window_of_a_second_sees_more_than_twice_the_rate(rate: int, steps: list[int]) -> None:
    """A full bucket and a second of refilling: never more, and never a negative wait."""
    now, full_at = 10**12, 0
    gone: list[int] = []
    for step in steps:
        now += step
        full_at, may_go = take(full_at, now, rate)
        if may_go:
            gone.append(now)
        assert full_at - now <= 1_000_000_000
    for start in gone:
        assert sum(1 for each in gone if start <= each < start + 1_000_000_000) <= 2 * rate


@given(st.integers(1, 1000))
def test_a_fresh_bucket_holds_exactly_its_rate(rate: int) -> None:
    """At one instant N may go, the next may not."""
    full_at, answers = 0, []
    for _ in range(rate + 1):
        full_at, may_go = take(full_at, 10**12, rate)
        answers.append(may_go)
    assert answers == [True] * rate + [False]


@given(
    st.integers(1, 10_000),
    st.integers(2, 16),
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 2_000_000_000)), min_size=1, max_size=60),
)
def test_workers_together_admit_no_more_than_one_would(
    rate: int, workers: int, steps: list[tuple[int, int]]
) -> None:
    """However requests fall to them: the rate, and at one instant a whole request each at least."""
    now, full_at, gone = 10**12, [0] * workers, list[int]()
    for number, step in steps:
        now += step
        index = number % workers
        full_at[index], may_go = take(full_at[index], now, rate, workers)
        if may_go:
            gone.append(now)
    most_at_once = workers * max(rate // workers, 1)
    assert most_at_once <= max(rate, workers)
    for start in gone:
        for end in (each for each in gone if each >= start):
            admitted = sum(1 for each in gone if start <= each <= end)
            # One more for each worker: its next may fall just into the span.
            assert admitted <= most_at_once + (end - start) * rate / 1e9 + 1e-3 + workers - 1


@given(st.integers(1, 1000), st.integers(1, 16))
def test_each_worker_admits_its_share_for_ever(rate: int, workers: int) -> None:
    """Of a minute of more requests than it may: what the rate gives it, and what it began with."""
    full_at, gone = 0, 0
    for moment in range(0, 60_000_000_000, 1_000_000_000 // 200):
        full_at, may_go = take(full_at, 10**12 + moment, rate, workers)
        gone += may_go
    assert gone <= 60 * rate / workers + max(rate // workers, 1) + 1


def test_a_bucket_of_less_than_one_a_second_is_not_forgotten() -> None:
    """One a second for four workers: each admits one in four seconds, and remembers for as long."""
    state = RateState(RateLimit(metadata=META, identity=1), 4)
    times = [1.0, 2.0, 3.5, 4.9, 5.1, 7.0, 9.2]
    answers = scopes(state, *((ONE, each) for each in times))
    assert answers == [None, OWN, OWN, OWN, None, OWN, None]
