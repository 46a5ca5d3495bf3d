"""The rules of all policies in use, with their backends looked up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from core.errors import UnreachableError
from discovery.model import Metadata
from policy.model import (
    Backend,
    Balancer,
    FirstAvailable,
    OutboundPolicy,
    RandomAvailable,
    Timeouts,
)
from policy.route import Filter, Mirror
from proxy.outbound.budget import Budget
from proxy.outbound.destination import Concrete
from proxy.outbound.destinations import Destinations
from proxy.outbound.leg import Leg
from proxy.outbound.mirror import Mirrored, Mirrors
from proxy.outbound.route import OutboundRoutes, Taken, routes_of
from proxy.outbound.way import Ways
from proxy.telemetry.http import OutboundHttp, RetryCounts, RouteCounts
from proxy.telemetry.transport import Cache

_GOLDEN: Final = 0.618_033_988_749_894_9
NO_TIMEOUTS: Final = Timeouts()
"""Those that bound nothing."""


@final
class Rule:
    """One rule of a route, with its backends looked up."""

    __slots__ = (
        *("_mirrors", "_turn", "budget", "counts", "filters", "is_safe_on", "is_timed", "legs"),
        *("mirrors", "only_leg", "policy", "retries", "retry", "taken", "takes_headers"),
        *("timeouts", "total"),
    )

    def __init__(
        self,
        taken: Taken,
        policy: OutboundPolicy,
        legs: tuple[tuple[Leg, int], ...],
        counts: RouteCounts,
        retries: RetryCounts,
        budget: Budget,
        mirrors: tuple[Mirrored, ...],
        of_legs: dict[Leg, tuple[Mirrored, ...]],
    ) -> None:
        self.taken: Final = taken
        self.policy: Final = policy
        self.legs: Final = legs
        self.total: Final = sum(weight for _, weight in legs)
        self.only_leg: Leg | None = legs[0][0] if len(legs) == 1 and self.total else None
        self.filters: Final = taken.rule.filters
        self.timeouts: Final = taken.rule.timeouts
        self.retry: Final = taken.rule.retry
        self.takes_headers: Final = taken.rule.allow_l5d_request_headers
        """Whether a request may ask for time limits and retries of its own."""
        self.is_safe_on: Final = policy.safe_retries
        self.mirrors: Final = mirrors
        self._mirrors = of_legs
        self._turn = -1.0
        self.counts: Final = counts
        self.retries: Final = retries
        self.budget: Final = budget
        self.is_timed: Final = taken.rule.timeouts != NO_TIMEOUTS
        """Whether its own time limits bound anything."""

    def mirrors_of(self, leg: Leg) -> tuple[Mirrored, ...]:
        """Return the mirrors of a backend's own filters."""
        return self._mirrors[leg]

    def next_leg(self, chance: Callable[[], float]) -> Leg:
        """Return the backend whose turn it is; ``chance`` returns numbers in [0, 1).

        Turns step around a circle by the golden ratio, from a place of its own in each sidecar:
        of any number of requests in a row each backend has its share as exactly as can be.
        Raises UnreachableError where the rule has none.
        """
        if self.only_leg is not None:
            return self.only_leg
        self._turn = chance() if self._turn < 0 else (self._turn + _GOLDEN) % 1.0
        return self.leg(self._turn)

    def leg(self, point: float) -> Leg:
        """Return a backend by its weight, for ``point`` in [0, 1).

        Raises UnreachableError where the rule has none.
        """
        legs = self.legs
        point *= self.total
        for leg, weight in legs:
            point -= weight
            if point < 0:
                return leg
        raise UnreachableError(f"{self.taken.route.metadata} has no backend", code="no-endpoints")


@final
class OutboundRules:
    """The routes of all policies in use, with their backends, for requests of one version."""

    def __init__(
        self,
        ways: Ways,
        destinations: Destinations,
        telemetry: OutboundHttp,
        *,
        is_http2: bool,
    ) -> None:
        self._ways = ways
        self._destinations = destinations
        self._telemetry = telemetry
        self._is_http2 = is_http2
        self.mirrors: Final = Mirrors(ways.runtime)
        self._routes: Cache[int, OutboundRoutes] = Cache()
        self._rules: Cache[int, Rule] = Cache()

    def routes(self, policy: OutboundPolicy) -> OutboundRoutes:
        """Return a policy's table of routes."""
        found = self._routes.get(id(policy))
        # The table holds its policy, so the id cannot have come to mean another.
        if found is None or found.policy is not policy:
            found = self._routes.put(id(policy), routes_of(policy, is_http2=self._is_http2))
        return found

    def rule(self, taken: Taken, policy: OutboundPolicy, *, is_grpc: bool) -> Rule:
        """Return a rule with its backends."""
        key = id(taken) * 2 + is_grpc
        found = self._rules.get(key)
        if found is None or found.taken is not taken or found.policy is not policy:
            found = self._rules.put(key, self._make(taken, policy, is_grpc=is_grpc))
        return found

    def _make(self, taken: Taken, policy: OutboundPolicy, *, is_grpc: bool) -> Rule:
        distribution = taken.rule.distribution
        weighted: list[tuple[Backend, int]] = []
        if isinstance(distribution, FirstAvailable):
            weighted = [(backend, 1) for backend in distribution.backends[:1]]
        elif isinstance(distribution, RandomAvailable):
            weighted = [(each.backend, each.weight) for each in distribution.backends]
        legs: list[tuple[Leg, int]] = []
        mirrors: dict[Leg, tuple[Mirrored, ...]] = {}
        for backend, weight in weighted:
            leg = self._leg(taken, policy, backend, taken.parent, is_grpc=is_grpc)
            legs.append((leg, weight))
            mirrors[leg] = self._mirrored(taken, policy, backend.filters, is_grpc=is_grpc)
        route = taken.route.metadata
        return Rule(
            taken,
            policy,
            tuple(legs),
            self._telemetry.route(taken.parent, route, is_grpc=is_grpc),
            self._telemetry.retry(taken.parent, route, is_grpc=is_grpc),
            self._destinations.budget(taken.parent, policy.retry_budget),
            self._mirrored(taken, policy, taken.rule.filters, is_grpc=is_grpc),
            mirrors,
        )

    def _leg(
        self,
        taken: Taken,
        policy: OutboundPolicy,
        backend: Backend,
        parent: Metadata,
        *,
        is_grpc: bool,
    ) -> Leg:
        dispatcher = backend.dispatcher
        destination = None
        if isinstance(dispatcher, Balancer):
            destination = self._destinations.of(
                Concrete(
                    parent=parent,
                    backend=backend.metadata,
                    target=dispatcher.target,
                    load=dispatcher.load,
                    accrual=policy.failure_accrual,
                    tls_mode=policy.tls_mode,
                )
            )
        route = taken.route.metadata
        counts = self._telemetry.backend(parent, route, backend.metadata, is_grpc=is_grpc)
        return Leg(self._ways, backend, destination, counts, policy.tls_mode, taken.rule.filters)

    def _mirrored(
        self, taken: Taken, policy: OutboundPolicy, filters: tuple[Filter, ...], *, is_grpc: bool
    ) -> tuple[Mirrored, ...]:
        """Return mirrors with their backends; as the route's they share nothing with others."""
        found: list[Mirrored] = []
        for each in filters:
            if not isinstance(each, Mirror):
                continue
            route = taken.route.metadata
            backend = Backend(metadata=each.backend, dispatcher=Balancer(target=each.target))
            leg = self._leg(taken, policy, backend, route, is_grpc=is_grpc)
            counts = self._telemetry.mirror(taken.parent, route, each.backend)
            found.append(Mirrored(each, leg, counts))
        return tuple(found)
