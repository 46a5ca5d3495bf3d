"""Which endpoint takes the next request or connection: the less loaded of two drawn at random.

Pure; time and chance are arguments. Power of two choices over the endpoints that are ready, as
linkerd2-proxy balances (pool/p2c), at a cost that does not grow with their number. Ours: where
both are in trouble, some more are looked at. Endpoints that
could not be reached, or whose breaker is open, are not ready; when their wait is over one request
goes there and decides. Ours: while nothing at all is ready, no endpoint that could not be reached
is left alone for longer than a second; and endpoints meant for other zones are chosen when our
own are not ready, or several times as loaded, those of other clusters when no others are ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Final, final

from core.record import dataclass
from discovery.model import Endpoint
from policy.model import FailureAccrual, PeakEwma, PenaltyPeakEwma
from proxy.outbound.load import Load
from proxy.outbound.member import FAR_TIER, Member, Phase, same_way, tier_of
from proxy.outbound.pick import Pick
from proxy.outbound.roster import Roster
from proxy.telemetry.balancer import BalancerSlots

SPILL: Final = 4.0
"""How many times as loaded the nearer endpoint must be for one in reserve to be chosen."""
CONNECTION_FLOOR_S: Final = 0.01
"""Connects faster than this are alike: then open connections alone decide."""
REQUEST_FLOOR_S: Final = 0.000_05
"""Below this a latency says nothing, and what is pending decides."""

NEAR_ATTEMPTS: Final = 2
"""How many near endpoints are tried before those of other clusters, where there are any."""
HEAVY_S: Final = 1.0
"""From this load on two are not enough to draw: of a few endpoints two may be in trouble."""
MORE: Final = 8
"""How many are looked at then."""

Key = tuple[str, int, str, str]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Balancing:
    """How to balance."""

    load: PeakEwma | PenaltyPeakEwma = PeakEwma()  # it is frozen
    accrual: FailureAccrual | None = None
    is_by_connection: bool = False
    """Connections are balanced: open ones are the load, and connects its latency."""


def _unheard(_phase: Phase) -> None:
    """Nobody waits."""


@final
class Balancer:
    """The endpoints of one destination and what is known of each."""

    __slots__ = ("_balancing", "_chance", "_members", "_penalty", "_roster")

    def __init__(
        self,
        balancing: Balancing,
        chance: Callable[[], float],
        slots: BalancerSlots,
        news: Callable[[Phase], None] = _unheard,
    ) -> None:
        """Begin without endpoints; ``chance`` returns numbers in [0, 1).

        ``news`` is told when one more endpoint may be chosen: READY, or PROBE by one request.
        """
        self._balancing = balancing
        self._chance = chance
        self._members: dict[Key, Member] = {}
        self._roster = Roster(slots, news)
        load = balancing.load
        self._penalty: PenaltyPeakEwma | None = load if isinstance(load, PenaltyPeakEwma) else None

    def __len__(self) -> int:
        return len(self._members)

    @property
    def is_ready(self) -> bool:
        """Whether an endpoint may be chosen, as far as is known."""
        return not self._roster.is_empty

    @property
    def pending(self) -> int:
        """How many requests or connections are under way at the endpoints of now."""
        return sum(each.load.pending for each in self._members.values())

    def update(
        self, endpoints: Iterable[Endpoint], now: float, reserve: Iterable[Endpoint] = ()
    ) -> None:
        """Take a new set: endpoints that stay keep their state, unless the way to them changed.

        Those in ``reserve`` are meant for other zones.
        """
        roster, slots = self._roster, self._roster.slots
        old, members = self._members, dict[Key, Member]()
        for endpoint, is_reserve in chain(
            ((each, False) for each in endpoints), ((each, True) for each in reserve)
        ):
            address = endpoint.address
            key = (address.ip, address.port, endpoint.authority_override, endpoint.path.cluster)
            if key in members:
                continue
            tier = tier_of(endpoint, is_reserve=is_reserve)
            member = old.pop(key, None)
            if member is not None and same_way(member.endpoint, endpoint):
                member.endpoint = endpoint
                if member.tier != tier:
                    roster.move(member, tier)
            else:
                if member is None:
                    slots.added.value += 1
                else:
                    slots.reset.value += 1
                    roster.drop(member)
                member = self._make(endpoint, tier, now)
                roster.join(member)
            members[key] = member
        slots.removed.value += len(old)
        for member in old.values():
            roster.drop(member)
        self._members = members
        roster.prune()

    def pick(self, now: float, tried: tuple[Member, ...] = ()) -> Pick | None:
        """Return a ticket for an endpoint; None when none is ready.

        None of ``tried`` is chosen while another is ready. Where one of another cluster failed, or
        two of ours, one in a different cluster comes first.
        """
        roster = self._roster
        roster.wake(now)
        member: Member | None
        if tried:
            member = self._other(now, tried)
        else:
            near = roster.tiers[0]
            member = self._spilled(now) if not near or roster.tiers[1] else self._draw(near, now)
        if member is None:
            return None
        return Pick(roster, member, now, self._chance, self._penalty)

    def next_wake(self, now: float) -> float | None:
        """Return when an endpoint that is held back may be tried; None: only news can help."""
        return self._roster.next_wake(now)

    def _make(self, endpoint: Endpoint, tier: int, now: float) -> Member:
        load, by_connection = self._balancing.load, self._balancing.is_by_connection
        measured = Load(
            now,
            seed_s=load.default_rtt_s,
            decay_s=load.decay_s,
            floor_s=CONNECTION_FLOOR_S if by_connection else REQUEST_FLOOR_S,
            penalty_decay_s=10.0 if self._penalty is None else self._penalty.penalty_decay_s,
            is_awaited=not by_connection,
        )
        return Member(endpoint, tier, measured, self._balancing.accrual)

    def _draw(self, ready: list[Member], now: float) -> Member | None:
        """Return the less loaded of two different ones; the first of equals."""
        count = len(ready)
        if count < 2:
            return ready[0] if count else None
        # One number holds both draws: the first among all, the second among the others.
        number = int(self._chance() * (count * (count - 1)))
        first, second = number // (count - 1), number % (count - 1)
        if second >= first:
            second += 1
        one, other = ready[first], ready[second]
        cost, other_cost = one.load.cost(now), other.load.cost(now)
        if other_cost < cost:
            one, cost = other, other_cost
        return one if cost < HEAVY_S or count == 2 else _lightest(ready, second, now)

    def _spilled(self, now: float) -> Member | None:
        """Return one of the first tier that has any; of the second where the first is loaded."""
        tiers = self._roster.tiers
        near, reserve = self._draw(tiers[0], now), self._draw(tiers[1], now)
        if near is not None:
            if reserve is None or near.load.cost(now) <= SPILL * reserve.load.cost(now):
                return near
            return reserve
        for tier in tiers[1:]:
            if tier:
                return self._draw(tier, now)
        return None

    def _other(self, now: float, tried: tuple[Member, ...]) -> Member | None:
        """Return one that was not tried, in a cluster where not too much has failed."""
        avoided = _avoided(tried)
        last: Member | None = None
        for tier in self._roster.tiers:
            found = self._untried(tier, now, tried, avoided)
            if found is not None and found.endpoint.path.cluster not in avoided:
                return found
            last = last or found
        # All that are ready were tried: once more is better than not at all.
        return last or self._spilled(now)

    def _untried(
        self, ready: list[Member], now: float, tried: tuple[Member, ...], avoided: set[str]
    ) -> Member | None:
        """Return the better of two that will do, from a place drawn at random."""
        count = len(ready)
        start = int(self._chance() * count)
        best: Member | None = None
        last: Member | None = None
        for index in range(count):
            member = ready[(start + index) % count]
            if member in tried:
                continue
            if member.endpoint.path.cluster in avoided:
                last = last or member
            elif best is None:
                best = member
            else:
                return best if best.load.cost(now) <= member.load.cost(now) else member
        return best or last


def _lightest(ready: list[Member], start: int, now: float) -> Member:
    """Return the least loaded of some that stand together from ``start`` on."""
    count = len(ready)
    some = (ready[(start + index) % count] for index in range(min(count, MORE)))
    return min(some, key=lambda each: each.load.cost(now))


def _avoided(tried: tuple[Member, ...]) -> set[str]:
    """Return the clusters that others come before: what broke may be the whole cluster."""
    names = [each.endpoint.path.cluster for each in tried]
    near = sum(each.tier < FAR_TIER for each in tried)
    return {
        name
        for name, each in zip(names, tried, strict=True)
        if each.tier >= FAR_TIER or near >= NEAR_ATTEMPTS
    }
