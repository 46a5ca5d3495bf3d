"""The balancer: who is chosen, who is held back, and what a changed set leaves as it was."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model import Address, Path, PathKind
from identity.name import parse_identity
from policy.model import ConsecutiveFailures, PenaltyPeakEwma, UnifiedFailures
from proxy.outbound.balancer import Balancer, Balancing
from proxy.outbound.member import Member
from proxy.outbound.pick import Outcome, Pick, outcome_of
from proxy.telemetry.balancer import BalancerSlots
from tests.unit.proxy.outbound.crowd import balancer, endpoint, must

ONE, TWO, THREE = (endpoint(number) for number in (1, 2, 3))
_BREAK = ConsecutiveFailures(max_failures=1)

# Who is chosen


def test_without_endpoints_nobody_is_chosen() -> None:
    """Nor is there anything to wait for but news."""
    empty = balancer()
    assert empty.pick(0.0) is None
    assert not empty.is_ready
    assert empty.next_wake(0.0) is None


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1000])
def test_endpoints_that_are_alike_get_alike(count: int) -> None:
    """Each is drawn, and none much more often than its share."""
    even = balancer(*(endpoint(number) for number in range(count)))
    seen: Counter[Address] = Counter()
    for _ in range(count * 100):
        pick = must(even.pick(0.0))
        seen[pick.endpoint.address] += 1
        pick.finish(0.0, Outcome.ABANDONED)
    assert len(seen) == count
    assert max(seen.values()) < 200


def test_of_two_the_less_loaded_is_chosen() -> None:
    """What is pending counts before any answer is there."""
    pair = balancer(ONE, TWO)
    first, second = must(pair.pick(0.0)), must(pair.pick(0.0))
    assert first.endpoint != second.endpoint
    assert first.member.load.pending == 1


def test_where_two_are_in_trouble_more_are_looked_at() -> None:
    """Of three endpoints two that are silent get no third of the load."""
    trio = balancer(ONE, TWO, THREE)
    for _ in range(60):
        pick = must(trio.pick(0.0))
        if pick.endpoint is THREE:
            pick.finish(0.0, Outcome.SUCCESS)
    seen: Counter[Address] = Counter()
    for step in range(300):
        now = 1.0 + step * 0.01
        pick = must(trio.pick(now))
        seen[pick.endpoint.address] += 1
        pick.finish(now + 0.005, Outcome.ABANDONED)
    assert seen == {THREE.address: 300}


def test_the_draws_are_of_two_different_endpoints_and_all_pairs_occur() -> None:
    """Every value of chance names two, the last one below 1 included."""
    numbers = iter([index / 6 for index in range(6)] + [1 - 2**-53])
    trio = balancer(ONE, TWO, THREE, chance=lambda: next(numbers))
    firsts = [must(trio.pick(0.0)) for _ in range(7)]
    assert {each.endpoint for each in firsts} == {ONE, TWO, THREE}


def test_no_endpoint_is_chosen_twice_while_another_is_ready() -> None:
    """Whatever their load; and once all were tried, one of them is."""
    trio = balancer(ONE, TWO, THREE)
    for _ in range(50):
        tried: tuple[Member, ...] = ()
        for _ in range(3):
            pick = must(trio.pick(0.0, tried))
            assert pick.member not in tried
            tried = (*tried, pick.member)
        assert must(trio.pick(0.0, tried)).member in tried


def test_other_clusters_are_for_when_none_of_ours_is_ready() -> None:
    """Those reached directly before those behind a gateway; however loaded ours are."""
    gateway = replace(endpoint(30), path=Path(PathKind.GATEWAY, "west"))
    mixed = balancer(ONE, endpoint(20, cluster="east"), gateway)
    for wanted in (ONE, endpoint(20, cluster="east"), gateway):
        picks = [must(mixed.pick(0.0)) for _ in range(20)]
        assert {each.endpoint for each in picks} == {wanted}
        picks[0].finish(0.0, Outcome.UNREACHABLE)
    assert mixed.pick(0.0) is None


def test_after_two_failures_here_one_in_another_cluster_comes_next() -> None:
    """A third of ours only when nobody else is left."""
    mixed = balancer(ONE, TWO, THREE, endpoint(20, cluster="east"))
    ours = tuple(_member(mixed, number) for number in (1, 2, 3))
    assert must(mixed.pick(0.0, ours[:1])).endpoint in (TWO, THREE)
    far = must(mixed.pick(0.0, ours[:2]))
    assert far.endpoint == endpoint(20, cluster="east")
    assert must(mixed.pick(0.0, (*ours[:2], far.member))).endpoint == THREE


def test_after_a_failure_in_another_cluster_a_different_one_comes_first() -> None:
    """A whole cluster is out of reach more often than two of its pods."""
    east = [endpoint(number, cluster="east") for number in range(20)]
    west = endpoint(100, cluster="west")
    both = balancer(*east, west)
    failed = _member(both, 1)
    for _ in range(20):
        assert must(both.pick(0.0, (failed,))).endpoint == west
    assert must(both.pick(0.0, (failed, _member(both, 100)))).endpoint in east


def _member(among: Balancer, number: int) -> Member:
    picks = (must(among.pick(0.0)) for _ in range(1000))
    return next(each.member for each in picks if each.endpoint.address == endpoint(number).address)


# In reserve


def test_endpoints_in_reserve_wait_until_the_others_are_not_ready() -> None:
    """Spill-over for want of any."""
    pair = balancer(ONE, reserve=(endpoint(9),))
    for _ in range(20):
        pick = must(pair.pick(0.0))
        assert pick.endpoint == ONE
        pick.finish(0.0, Outcome.ABANDONED)
    must(pair.pick(0.0)).finish(0.0, Outcome.UNREACHABLE)
    assert must(pair.pick(0.01)).endpoint == endpoint(9)


def test_endpoints_in_reserve_help_when_the_others_are_much_more_loaded() -> None:
    """At four times the cost not yet, at five they do."""
    pair = balancer(ONE, reserve=(endpoint(9),))
    chosen = [must(pair.pick(0.0)).endpoint == ONE for _ in range(5)]
    assert chosen == [True, True, True, True, False]


def test_an_endpoint_moves_into_reserve_and_back_with_its_state() -> None:
    """The hints changed; the load did not."""
    pair = balancer(ONE, TWO)
    pick = must(pair.pick(0.0))
    before = pick.member
    pick.finish(0.0, Outcome.ABANDONED)
    other = TWO if before.endpoint == ONE else ONE
    pair.update((other,), 1.0, (before.endpoint,))
    for _ in range(3):
        assert must(pair.pick(1.0)).endpoint == other
    pair.update((ONE, TWO), 2.0)
    assert must(pair.pick(2.0)).member is before


# Held back


def test_an_unreachable_endpoint_is_held_back_and_then_probed_once() -> None:
    """100 ms; then one request goes, and while it is under way no other."""
    pair = balancer(ONE, TWO, chance=lambda: 0.0)
    failed = must(pair.pick(0.0))
    failed.finish(0.0, Outcome.UNREACHABLE)
    for _ in range(10):
        pick = must(pair.pick(0.05))
        assert pick.endpoint != failed.endpoint
    assert pair.next_wake(0.05) == pytest.approx(0.1)
    probe = must(pair.pick(0.1))
    assert (probe.endpoint, probe.is_probe) == (failed.endpoint, True)
    assert must(pair.pick(0.1)).endpoint != failed.endpoint
    probe.connected(0.2)
    assert must(pair.pick(0.2)).endpoint == failed.endpoint


def test_a_probe_that_fails_lengthens_the_wait() -> None:
    """100 ms, 200 ms, 400 ms: as long as another endpoint is ready, up to a minute."""
    pair, now, waits = balancer(ONE, TWO, chance=lambda: 0.0), 0.0, list[float]()
    failed = must(pair.pick(now))
    assert must(pair.pick(now)).endpoint != failed.endpoint
    for _ in range(11):
        failed.finish(now, Outcome.UNREACHABLE)
        until = pair.next_wake(now)
        assert until is not None
        waits.append(round(until - now, 3))
        now = until
        failed = must(pair.pick(now))
        assert failed.is_probe
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0]


def test_a_probe_that_says_nothing_lets_another_go() -> None:
    """The client went away: the endpoint is as unknown as before."""
    one = balancer(ONE)
    must(one.pick(0.0)).finish(0.0, Outcome.UNREACHABLE)
    probe = must(one.pick(1.0))
    assert one.pick(1.0) is None
    probe.finish(1.1, Outcome.ABANDONED)
    assert must(one.pick(1.1)).is_probe


def test_while_nothing_is_ready_nothing_unreachable_is_left_alone_over_a_second() -> None:
    """However often it failed: its return is seen within a second, once somebody asks."""
    one, now = balancer(ONE), 0.0
    dials = 0
    while now < 120.0:
        pick = one.pick(now)
        if pick is not None:
            dials += 1
            pick.finish(now, Outcome.UNREACHABLE)
        now += 0.05
    assert 100 <= dials <= 125
    assert len(one._roster._shut) < 70


def test_an_open_breaker_keeps_its_word_even_when_nothing_else_is_ready() -> None:
    """As Linkerd's: a probe when the wait is over, not before."""
    one = balancer(ONE, accrual=_BREAK, chance=lambda: 0.0)
    must(one.pick(0.0)).finish(0.0, Outcome.FAILURE)
    for _ in range(2):
        assert one.pick(0.999) is None
    probe = must(one.pick(1.0))
    probe.finish(1.0, Outcome.FAILURE)
    assert one.pick(2.9) is None
    must(one.pick(3.0)).finish(3.0, Outcome.SUCCESS)
    assert not must(one.pick(3.0)).is_probe


def test_a_broken_endpoint_has_to_answer_not_only_to_accept() -> None:
    """A connection is no success of the breaker's probe."""
    one = balancer(ONE, accrual=_BREAK)
    must(one.pick(0.0)).finish(0.0, Outcome.FAILURE)
    probe = must(one.pick(2.0))
    probe.connected(2.0)
    assert one.pick(2.0) is None
    probe.finish(2.1, Outcome.SUCCESS)
    assert one.is_ready


@pytest.mark.parametrize("outcome", Outcome)
def test_an_endpoint_that_begins_to_answer_can_be_reached(outcome: Outcome) -> None:
    """A stream may go on for hours; what is no answer proves nothing."""
    one = balancer(ONE)
    must(one.pick(0.0)).finish(0.0, Outcome.UNREACHABLE)
    probe = must(one.pick(1.0))
    probe.answered(1.1, outcome)
    is_answer = outcome in (Outcome.SUCCESS, Outcome.FAILURE, Outcome.LIMITED)
    assert one.is_ready is is_answer
    probe.finish(3600.0, Outcome.SUCCESS)
    assert one.is_ready


def test_a_stream_that_goes_on_may_prove_its_endpoint_before_its_end() -> None:
    """Others go there again; how it ends counts as any request's end then."""
    one = balancer(ONE, accrual=_BREAK)
    must(one.pick(0.0)).finish(0.0, Outcome.FAILURE)
    probe = must(one.pick(100.0))
    assert probe.is_probe
    assert one.pick(100.0) is None
    probe.proved(101.0)
    must(one.pick(101.0)).finish(101.0, Outcome.SUCCESS)
    probe.finish(102.0, Outcome.FAILURE)
    assert one.pick(102.0) is None


def test_outcomes_from_before_it_was_held_back_change_nothing() -> None:
    """Ten dials fail together: the wait is that of one failure."""
    one = balancer(ONE, chance=lambda: 0.0)
    picks = [must(one.pick(0.0)) for _ in range(10)]
    for pick in picks:
        pick.finish(0.0, Outcome.UNREACHABLE)
    assert one.next_wake(0.0) == 0.0
    probe = must(one.pick(0.1))
    assert probe.is_probe
    assert probe.member.connecting.until == pytest.approx(0.1)


def test_a_connect_that_comes_late_frees_an_endpoint() -> None:
    """It began before the failure and proves that the endpoint can be reached."""
    one = balancer(ONE)
    late, failed = must(one.pick(0.0)), must(one.pick(0.0))
    failed.finish(0.0, Outcome.UNREACHABLE)
    assert one.pick(0.0) is None
    late.connected(0.05)
    assert not must(one.pick(0.05)).is_probe


def test_without_a_breaker_failures_hold_nobody_back() -> None:
    """It is off unless annotated."""
    one = balancer(ONE)
    for _ in range(100):
        must(one.pick(0.0)).finish(0.0, Outcome.FAILURE)
    assert one.is_ready


def test_failures_are_penalized_where_that_is_asked_for() -> None:
    """Five seconds, or what the endpoint asks for, five minutes at most."""
    load = PenaltyPeakEwma()
    one = Balancer(Balancing(load=load), random.Random(1).random, BalancerSlots())
    one.update((ONE,), 0.0)
    latencies = []
    for outcome, hint in ((Outcome.SUCCESS, 9.0), (Outcome.FAILURE, 0.0), (Outcome.LIMITED, 9999)):
        pick = must(one.pick(0.0))
        pick.finish(0.0, outcome, hint)
        latencies.append(pick.member.load.latency_s(0.0))
    assert latencies == [0.03, 5.0, 300.0]


def test_a_rate_breaker_counts_those_turned_away() -> None:
    """429 is a failed probe there, and none elsewhere."""
    accrual = UnifiedFailures(max_consecutive_failures=1)
    one = balancer(ONE, accrual=accrual, chance=lambda: 0.0)
    must(one.pick(0.0)).finish(0.0, Outcome.FAILURE)
    must(one.pick(1.0)).finish(1.0, Outcome.LIMITED)
    assert not one.is_ready


# Tickets


def test_a_ticket_ends_once() -> None:
    """Whatever is said after that counts nothing."""
    one = balancer(ONE)
    pick, other = must(one.pick(0.0)), must(one.pick(0.0))
    pick.answered(0.5)
    pick.answered(0.7)
    assert pick.member.load.pending == 1
    pick.finish(0.7, Outcome.SUCCESS)
    pick.finish(0.8, Outcome.UNREACHABLE)
    pick.close(0.9)
    assert pick.member.load.pending == 1
    assert one.is_ready
    other.close(1.0)
    assert pick.member.load.pending == 0


def test_a_connection_is_pending_until_it_closes() -> None:
    """Its connect is the latency; then it is load as long as it is open."""
    one = balancer(ONE, by_connection=True)
    pick = must(one.pick(0.0))
    pick.opened(0.2)
    load = pick.member.load
    assert (load.pending, load.latency_s(0.2)) == (1, 0.2)
    assert load.latency_s(3600.0) == 0.01
    pick.close(3600.0)
    assert load.pending == 0


@pytest.mark.parametrize(
    ("status", "grpc", "outcome"),
    [
        (200, None, Outcome.SUCCESS),
        (404, None, Outcome.SUCCESS),
        (429, None, Outcome.LIMITED),
        (499, None, Outcome.SUCCESS),
        (500, None, Outcome.FAILURE),
        (599, None, Outcome.FAILURE),
        (200, 0, Outcome.SUCCESS),
        (200, 1, Outcome.SUCCESS),
        (200, 2, Outcome.FAILURE),
        (200, 5, Outcome.SUCCESS),
        (200, 7, Outcome.FAILURE),
        (200, 8, Outcome.LIMITED),
        (200, 14, Outcome.FAILURE),
        (503, 0, Outcome.SUCCESS),
    ],
)
def test_what_a_response_says_about_its_endpoint(
    status: int, grpc: int | None, outcome: Outcome
) -> None:
    """Linkerd's classes."""
    assert outcome_of(status, grpc) is outcome


# A changed set


def test_endpoints_that_stay_keep_what_is_known_of_them() -> None:
    """New labels are no news; one that goes and comes back begins anew."""
    pair = balancer(ONE, TWO)
    failed = must(pair.pick(0.0))
    failed.finish(0.0, Outcome.UNREACHABLE)
    labelled = replace(failed.endpoint, labels=(("zone", "a"),))
    other = TWO if failed.endpoint == ONE else ONE
    pair.update((labelled, other), 0.01)
    assert all(must(pair.pick(0.02)).endpoint == other for _ in range(10))
    pair.update((other,), 0.03)
    pair.update((labelled, other), 0.04)
    assert any(must(pair.pick(0.05)).endpoint == labelled for _ in range(10))


@pytest.mark.parametrize(
    "change",
    [
        {"identity": parse_identity("api.shop.serviceaccount.identity.linkerd.cluster.local")},
        {"server_name": "other"},
        {"direct_port": 4143},
    ],
)
def test_an_endpoint_reached_in_another_way_begins_anew(change: dict[str, object]) -> None:
    """What failed may have been the way."""
    one = balancer(ONE)
    must(one.pick(0.0)).finish(0.0, Outcome.UNREACHABLE)
    one.update((replace(ONE, **change),), 0.0)  # type: ignore[arg-type]
    assert not must(one.pick(0.0)).is_probe


def test_a_ticket_of_an_endpoint_that_went_does_no_harm() -> None:
    """Neither to the set nor to what is counted."""
    slots = BalancerSlots()
    one = balancer(ONE, TWO, slots=slots, accrual=_BREAK)
    picks = [must(one.pick(0.0)) for _ in range(8)]
    one.update((THREE,), 0.0)
    for pick, outcome in zip(picks, [*Outcome, *Outcome], strict=False):
        pick.connected(0.1)
        pick.finish(0.1, outcome)
    assert must(one.pick(0.2)).endpoint == THREE
    assert (slots.members.value, slots.ready.value, slots.pending.value) == (1, 1, 0)
    assert (slots.added.value, slots.removed.value) == (3, 2)


def test_an_address_listed_twice_is_one_endpoint() -> None:
    """The first counts."""
    assert len(balancer(ONE, replace(ONE, weight=1), TWO)) == 2


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["pick", "finish", "connect", "wait", "update"]),
        st.integers(0, 63),
    ),
    max_size=120,
)


@given(_STEPS, st.integers(0, 2**32))
def test_whatever_happens_the_books_balance(steps: list[tuple[str, int]], seed: int) -> None:
    """Nobody who is held back is chosen but one probe; gauges say what is; the set is the set."""
    slots, now = BalancerSlots(), 0.0
    tested = balancer(
        *(endpoint(number) for number in range(6)),
        accrual=ConsecutiveFailures(max_failures=2),
        slots=slots,
        chance=random.Random(seed).random,
    )
    out: list[Pick] = []
    outcomes = list(Outcome)
    for step, number in steps:
        if step == "pick":
            pick = tested.pick(now, tuple(each.member for each in out[: number % 3]))
            if pick is not None:
                assert not any(
                    pick.is_probe and each.is_probe and each.member is pick.member for each in out
                )
                out.append(pick)
        elif step == "finish" and out:
            out.pop(number % len(out)).finish(now, outcomes[number % 5])
        elif step == "connect" and out:
            out[number % len(out)].connected(now)
        elif step == "wait":
            now += number / 20
        elif step == "update":
            tested.update((endpoint(each) for each in range(6) if number & (1 << each)), now)
            assert len(tested) == number.bit_count()
        assert slots.members.value == len(tested)
        assert slots.ready.value + slots.pending.value == len(tested)
        assert (slots.ready.value > 0) is tested.is_ready
        waiting = Counter(id(each.member) for each in out if each._is_pending)
        for member in tested._members.values():
            assert member.load.pending == waiting[id(member)]
