"""The rules of all policies in use, with their backends looked up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from core.errors import UnreachableError
from discovery.model import Target
from policy.model import (
    Backend,
    Balancer,
    FirstAvailable,
    Forward,
    OutboundPolicy,
    OutboundTls,
    RandomAvailable,
    Timeouts,
)
from policy.route import Filter
from proxy.http.edit import edits_of
from proxy.outbound.budget import Budget
from proxy.outbound.destination import Concrete, Destination
from proxy.outbound.destinations import Destinations
from proxy.outbound.pick import Pick
from proxy.outbound.resolve import plaintext_refusal
from proxy.outbound.route import OutboundRoutes, Taken, routes_of
from proxy.outbound.way import Way, Ways
from proxy.telemetry.http import BackendCounts, OutboundHttp, RetryCounts, RouteCounts
from proxy.telemetry.transport import Cache

_GOLDEN: Final = 0.618_033_988_749_894_9
NO_TIMEOUTS: Final = Timeouts()
"""Those that bound nothing."""


@final
class Leg:
    """One backend of one rule: where its requests go, and what it counts."""

    __slots__ = (
        *("_tls_mode", "_way", "_ways", "backend", "counts", "destination", "edits"),
        *("is_filtered", "target"),
    )

    def __init__(
        self,
        ways: Ways,
        backend: Backend,
        destination: Destination | None,
        counts: BackendCounts,
        tls_mode: OutboundTls,
        filters: tuple[Filter, ...] = (),
    ) -> None:
        """Prepare a backend; ``filters`` are its rule's."""
        self.backend: Final = backend
        self.is_filtered: Final = bool(backend.filters)
        self.edits: Final = edits_of((*filters, *backend.filters))
        """What becomes of responses."""
        self.destination: Final = destination
        """Its endpoints, balanced; None: it has one, as it stands, or none."""
        self.counts: Final = counts
        self.target: Target | None = None
        self._tls_mode = tls_mode
        self._ways = ways
        self._way: Way | None = None
        if isinstance(backend.dispatcher, Balancer):
            self.target = backend.dispatcher.target

    def way(self, pick: Pick | None, own_ips: frozenset[str]) -> Way:
        """Return the connections to the endpoint picked, or to the one there is.

        Raises UnreachableError for a backend without any, RefusedError where plaintext is
        forbidden.
        """
        if pick is not None and self.destination is not None:
            kept = pick.member.kept
            if isinstance(kept, Way) and kept.is_wanted:
                return kept
            labels = self.destination.labels
            fresh = self._ways.to(pick.endpoint, self.target, labels, pick.member)
            pick.member.kept = fresh
            return fresh
        way = self._way
        if way is not None and way.is_wanted:
            return way
        dispatcher = self.backend.dispatcher
        if not isinstance(dispatcher, Forward):
            raise UnreachableError(f"{self.backend.metadata} is no backend", code="no-endpoints")
        if self._tls_mode is OutboundTls.REQUIRED:
            refused = plaintext_refusal(self.backend.metadata, dispatcher.endpoint, own_ips)
            if refused is not None:
                raise refused
        made = self._ways.to(dispatcher.endpoint, None, ())
        self._way = made
        return made


@final
class Rule:
    """One rule of a route, with its backends looked up."""

    __slots__ = (
        *("_turn", "budget", "counts", "filters", "is_timed", "legs", "policy", "retries"),
        *("taken", "total"),
    )

    def __init__(
        self,
        taken: Taken,
        policy: OutboundPolicy,
        legs: tuple[tuple[Leg, int], ...],
        counts: RouteCounts,
        retries: RetryCounts,
        budget: Budget,
    ) -> None:
        self.taken: Final = taken
        self.policy: Final = policy
        self.legs: Final = legs
        self.total: Final = sum(weight for _, weight in legs)
        self.filters: Final = taken.rule.filters
        self._turn = -1.0
        self.counts: Final = counts
        self.retries: Final = retries
        self.budget: Final = budget
        self.is_timed: Final = taken.rule.timeouts != NO_TIMEOUTS
        """Whether its own time limits bound anything."""

    def next_leg(self, chance: Callable[[], float]) -> Leg:
        """Return the backend whose turn it is; ``chance`` returns numbers in [0, 1).

        Turns step around a circle by the golden ratio, from a place of its own in each sidecar:
        of any number of requests in a row each backend has its share as exactly as can be.
        Raises UnreachableError where the rule has none.
        """
        legs = self.legs
        if len(legs) == 1 and self.total:
            return legs[0][0]
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
        route = taken.route.metadata
        legs: list[tuple[Leg, int]] = []
        for backend, weight in weighted:
            dispatcher = backend.dispatcher
            destination = None
            if isinstance(dispatcher, Balancer):
                destination = self._destinations.of(
                    Concrete(
                        parent=taken.parent,
                        backend=backend.metadata,
                        target=dispatcher.target,
                        load=dispatcher.load,
                        accrual=policy.failure_accrual,
                        tls_mode=policy.tls_mode,
                    )
                )
            counts = self._telemetry.backend(taken.parent, route, backend.metadata, is_grpc=is_grpc)
            filters = taken.rule.filters
            leg = Leg(self._ways, backend, destination, counts, policy.tls_mode, filters)
            legs.append((leg, weight))
        return Rule(
            taken,
            policy,
            tuple(legs),
            self._telemetry.route(taken.parent, route, is_grpc=is_grpc),
            self._telemetry.retry(taken.parent, route, is_grpc=is_grpc),
            self._destinations.budget(taken.parent, policy.retry_budget),
        )
