"""Requests from the workload: each is routed, given an endpoint, and carried there."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final, final

from core.errors import HandshakeError, MeshError, RefusedError, UnreachableError
from core.watch import Watch
from discovery.model import Address, EndpointSet, Profile, Target
from policy.model import (
    Backend,
    Balancer,
    FirstAvailable,
    Forward,
    OutboundPolicy,
    OutboundTls,
    RandomAvailable,
)
from proxy.http.exchange import Case, Exchange, Service
from proxy.outbound.resolve import MAX_ATTEMPTS, order_endpoints, plaintext_refusal
from proxy.outbound.route import OutboundRoutes, Taken, policy_without, routes_of
from proxy.outbound.way import Way, Ways
from proxy.providers import DiscoveryProvider
from proxy.runtime import Runtime
from proxy.telemetry.http import BackendCounts, OutboundHttp, RouteCounts
from proxy.telemetry.transport import Cache
from proxy.wire.http_field import without_fields
from proxy.wire.http_message import ResponseHead
from proxy.wire.orig_proto import MARK

REQUIRE_ID: Final = b"l5d-require-id"
_FOR_US: Final = frozenset((REQUIRE_ID,))
_FROM_SIDECARS: Final = frozenset((MARK, b"l5d-proxy-error", b"l5d-proxy-connection"))
"""What one sidecar tells another; from an application it means nothing."""
REPEATABLE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS"))
"""Methods that may be sent again when nothing came back (RFC 9110 §9.2.2)."""


@final
class Leg:
    """One backend of one rule: its endpoints as they are now, and what it counts."""

    __slots__ = ("_found", "_watch", "_ways", "backend", "counts", "target", "tls_mode", "ways")

    def __init__(
        self,
        ways: Ways,
        backend: Backend,
        watch: Watch[EndpointSet] | None,
        counts: BackendCounts,
        tls_mode: OutboundTls,
    ) -> None:
        self.backend: Final = backend
        self.counts: Final = counts
        self.tls_mode: Final = tls_mode
        self.target: Target | None = None
        self._ways = ways
        self._watch = watch
        self._found: EndpointSet | None = None
        self.ways: tuple[Way, ...] = ()
        dispatcher = backend.dispatcher
        if isinstance(dispatcher, Balancer):
            self.target = dispatcher.target

    def current(self) -> tuple[Way, ...]:
        """Return the ways to the endpoints of now.

        Raises UnreachableError when there is none.
        """
        dispatcher = self.backend.dispatcher
        if isinstance(dispatcher, Forward):
            if not self.ways or not self.ways[0].is_wanted:
                self.ways = (self._ways.to(dispatcher.endpoint, None, ()),)
            return self.ways
        watch = self._watch
        if watch is None or self.target is None:
            raise UnreachableError(f"{self.backend.metadata} is no backend", code="no-endpoints")
        found = watch.current
        if found is not self._found or not all(way.is_wanted for way in self.ways):
            self._follow(found)
        if not self.ways:
            order_endpoints(found, self.target, 0.0)
        return self.ways

    def _follow(self, found: EndpointSet) -> None:
        before = self.ways
        self._found = found
        self.ways = tuple(
            self._ways.to(endpoint, self.target, found.labels) for endpoint in found.endpoints
        )
        for way in before:
            if way not in self.ways:
                way.retire()


@final
class Rule:
    """One rule of a route, with its backends looked up."""

    __slots__ = ("counts", "legs", "taken", "total")

    def __init__(
        self, taken: Taken, legs: tuple[tuple[Leg, int], ...], counts: RouteCounts
    ) -> None:
        self.taken: Final = taken
        self.legs: Final = legs
        self.total: Final = sum(weight for _, weight in legs)
        self.counts: Final = counts

    def pick(self, point: float) -> Leg | None:
        """Return a backend by its weight, for ``point`` in [0, 1)."""
        point *= self.total
        for leg, weight in self.legs:
            point -= weight
            if point < 0:
                return leg
        return None


@final
class OutboundCase(Case):
    """One request on its way to an endpoint."""

    __slots__ = ("_failed", "_is_repeated", "_leg", "_rule", "_service", "_way")

    def __init__(self, service: OutboundRequests, rule: Rule, leg: Leg) -> None:
        self._service = service
        self._rule = rule
        self._leg = leg
        self._way: Way | None = None
        self._failed: list[Way] = []
        self._is_repeated = False

    def send(self, exchange: Exchange) -> None:
        """Choose an endpoint that has not failed this request yet, and carry it there.

        Raises UnreachableError when there is none, RefusedError where plaintext is forbidden.
        """
        way = self._service.choose(self._leg, self._failed)
        self._way = way
        way.used_at = exchange.began
        way.counts.request()
        self._leg.counts.request()
        way.pool(exchange.head).carry(exchange)

    def on_response(self, head: ResponseHead) -> ResponseHead:
        """Take off what the far sidecar told us."""
        fields = without_fields(head.fields, _FROM_SIDECARS)
        return head if fields is head.fields else replace(head, fields=fields)

    def on_failure(self, exchange: Exchange, error: MeshError, *, reused: bool) -> bool:
        """Carry a request anew whose endpoint could not be reached, or whose connection died."""
        way = self._way
        if way is None:
            return False
        self._count(exchange, way, error)
        if exchange.has_gone:
            if self._is_repeated or not exchange.is_whole:
                return False
            is_refused = error.code == "http2-refused"
            if not is_refused and exchange.head.method not in REPEATABLE:
                return False
            if not reused and not is_refused and exchange.status:
                return False
            self._is_repeated = True
        elif not isinstance(error, UnreachableError | HandshakeError):
            return False
        if not reused:
            self._failed.append(way)
        if len(self._failed) >= MAX_ATTEMPTS:
            return False
        try:
            self.send(exchange)
        except MeshError:
            self._way = None
            return False
        return True

    def _count(self, exchange: Exchange, way: Way, error: MeshError | None) -> None:
        now = exchange.clock.time()
        end = (exchange.status, exchange.grpc_status, "" if error is None else error.code)
        first = exchange.first_at if exchange.first_at >= 0 else now
        way.counts.response(end, first - exchange.began)
        self._leg.counts.response(end, now - exchange.ended_at)

    def on_done(self, exchange: Exchange, error: MeshError | None) -> None:
        """Count what the workload got."""
        if self._way is not None and (error is None or exchange.responded):
            self._count(exchange, self._way, error)
        code = "" if error is None else error.code
        end = (exchange.status, exchange.grpc_status, code)
        self._rule.counts.response(end, exchange.clock.time() - exchange.began)
        if error is not None:
            self._service.failed(error)


@final
class OutboundRules:
    """The routes of all policies in use, with their backends, for requests of one version."""

    def __init__(
        self,
        ways: Ways,
        discovery: DiscoveryProvider,
        telemetry: OutboundHttp,
        *,
        is_http2: bool,
    ) -> None:
        self._ways = ways
        self._discovery = discovery
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
        if found is None or found.taken is not taken:
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
            watch = None
            if isinstance(dispatcher, Balancer):
                watch = self._discovery.endpoints(dispatcher.target)
            counts = self._telemetry.backend(taken.parent, route, backend.metadata, is_grpc=is_grpc)
            legs.append((Leg(self._ways, backend, watch, counts, policy.tls_mode), weight))
        return Rule(taken, tuple(legs), self._telemetry.route(taken.parent, route, is_grpc=is_grpc))


@final
class OutboundRequests(Service):
    """The requests of one of the workload's connections."""

    __slots__ = (
        *("_destination", "_fallback", "_policy", "_profile", "_random", "_rules"),
        *("_runtime", "_telemetry"),
    )

    def __init__(
        self,
        runtime: Runtime,
        destination: Address,
        policy: Watch[OutboundPolicy | None],
        profile: Watch[Profile | None],
        rules: OutboundRules,
        telemetry: OutboundHttp,
        chance: random.Random,
    ) -> None:
        self._runtime = runtime
        self._destination = destination
        self._policy = policy
        self._profile = profile
        self._rules = rules
        self._telemetry = telemetry
        self._random = chance
        self._fallback: tuple[Profile | None, OutboundPolicy] | None = None

    def begin(self, exchange: Exchange) -> None:
        """Route a request and carry it to an endpoint, or answer why not."""
        try:
            self._begin(exchange)
        except MeshError as error:
            exchange.fail(error)

    def _begin(self, exchange: Exchange) -> None:
        head = exchange.head
        policy = self._policy.current or self._without_policy()
        taken = self._rules.routes(policy).find(head)
        if taken is None:
            self._telemetry.failed("route-not-found")
            raise RefusedError(
                f"no route of {policy.metadata} is for {head.method.decode('ascii')} "
                f"{head.path.decode('latin-1')[:200]}",
                code="route-not-found",
            )
        rule = self._rules.rule(taken, policy, is_grpc=exchange.is_grpc)
        leg = rule.pick(self._random.random())
        if leg is None:
            self._telemetry.failed("no-endpoints")
            raise UnreachableError(f"{taken.route.metadata} has no backend", code="no-endpoints")
        fields = without_fields(head.fields, _FOR_US)
        if fields is not head.fields or not head.authority:
            authority = head.authority or str(leg.target or self._destination).encode("ascii")
            exchange.head = replace(head, fields=fields, authority=authority)
        case = OutboundCase(self, rule, leg)
        exchange.case = case
        case.send(exchange)

    def _without_policy(self) -> OutboundPolicy:
        profile = self._profile.current
        if self._fallback is None or self._fallback[0] is not profile:
            self._fallback = (profile, policy_without(self._destination, profile))
        return self._fallback[1]

    def choose(self, leg: Leg, failed: list[Way]) -> Way:
        """Return one of a backend's endpoints that are not among the failed ones.

        Raises UnreachableError when there is none, RefusedError where plaintext is forbidden.
        """
        ways = leg.current()
        if failed:
            ways = tuple(way for way in ways if way not in failed)
            if not ways:
                raise UnreachableError(f"every endpoint of {leg.backend.metadata} has failed")
        way = ways[int(self._random.random() * len(ways))] if len(ways) > 1 else ways[0]
        if leg.tls_mode is OutboundTls.REQUIRED:
            refused = plaintext_refusal(leg.backend.metadata, way.endpoint, self._runtime.own_ips)
            if refused is not None:
                raise refused
        return way

    def refused(self, code: str) -> None:
        """Count a message that breaks the protocol's rules."""
        self._telemetry.failed(code)

    def failed(self, error: MeshError) -> None:
        """Count and tell a request that could not be answered."""
        self._telemetry.failed(error.code)
        self._runtime.log.debug(
            "request failed",
            direction="outbound",
            code=error.code,
            target=str(self._destination),
            reason=str(error),
        )
