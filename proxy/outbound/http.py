"""Requests from the workload: each is routed, given an endpoint, and carried there."""

from __future__ import annotations

import random
from typing import Final, final

from core.errors import MeshError, RefusedError
from core.watch import Watch
from discovery.model import Address, Profile
from policy.model import OutboundPolicy
from policy.route import Cors, Filter
from proxy.http.cors import preflight_answer
from proxy.http.exchange import Exchange, Service
from proxy.http.filter import Match, filter_request
from proxy.outbound.answered import AnsweredCase
from proxy.outbound.attempt import Attempt, OutboundCase
from proxy.outbound.mirror import Mirrored
from proxy.outbound.override import HEADERS, overridden
from proxy.outbound.route import OutboundRoutes, Taken, policy_without
from proxy.outbound.rule import OutboundRules, Rule
from proxy.runtime import Runtime
from proxy.telemetry.http import OutboundHttp
from proxy.wire.http_message import RequestHead
from proxy.wire.native import value_of, without_fields

REQUIRE_ID: Final = b"l5d-require-id"
_FOR_US: Final = frozenset((REQUIRE_ID,))


@final
class OutboundRequests(Service):
    """The requests of one of the workload's connections."""

    __slots__ = (
        *("_destination", "_fallback", "_policy", "_profile", "_random", "_routes", "_rule"),
        *("_rule_is_grpc", "_rules", "_runtime", "_telemetry"),
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
        self._routes: OutboundRoutes | None = None
        """Those of the last request, which are most often the next one's as well; so its rule."""
        self._rule: Rule | None = None
        self._rule_is_grpc = False

    def begin(self, exchange: Exchange) -> None:
        """Route a request and carry it to an endpoint, or answer why not."""
        try:
            self._begin(exchange)
        except MeshError as error:
            exchange.fail(error)

    def _begin(self, exchange: Exchange) -> None:
        head = exchange.head
        policy = self._policy.current or self._without_policy()
        routes = self._routes
        if routes is None or routes.policy is not policy:
            self._routes = routes = self._rules.routes(policy)
        taken = routes.find(head)
        if taken is None:
            code = "call-not-found" if exchange.is_grpc else "route-not-found"
            self._telemetry.failed(code)
            raise RefusedError(
                f"no route of {policy.metadata} is for {head.method.decode('ascii')} "
                f"{head.path.decode('latin-1')[:200]}",
                code=code,
            )
        rule = self._rule_of(taken, policy, is_grpc=exchange.is_grpc)
        if rule.filters:
            exchange.case = AnsweredCase(rule, self)
            if self._filtered(exchange, rule.filters, taken.match):
                return
            head = exchange.head
        before = head
        leg = rule.next_leg(self._random.random)
        if leg.is_filtered:
            exchange.case = AnsweredCase(rule, self)
            if self._filtered(exchange, leg.backend.filters, taken.match):
                return
            head = exchange.head
        timeouts, retry = rule.timeouts, rule.retry
        fields = without_fields(head.fields, _FOR_US)
        if rule.takes_headers:
            timeouts, retry = overridden(fields, timeouts, retry)
            fields = without_fields(fields, HEADERS)
        if fields is not head.fields or not head.authority:
            authority = head.authority or str(leg.target or self._destination).encode("ascii")
            exchange.head = head.with_fields(fields, authority)
        required = None if fields is head.fields else value_of(head.fields, REQUIRE_ID)
        name = None if required is None else required.decode("latin-1")
        case = OutboundCase(self._runtime, self, exchange, rule, leg, timeouts, retry, name)
        exchange.case = case
        case.send(exchange.began)
        if rule.mirrors:
            self._copy(exchange, before, rule.mirrors)
        if leg.is_filtered:
            self._copy(exchange, exchange.head, rule.mirrors_of(leg))

    def _rule_of(self, taken: Taken, policy: OutboundPolicy, *, is_grpc: bool) -> Rule:
        """Return a rule with its backends."""
        rule = self._rule
        if (
            rule is None
            or rule.taken is not taken
            or rule.policy is not policy
            or self._rule_is_grpc is not is_grpc
        ):
            self._rule = rule = self._rules.rule(taken, policy, is_grpc=is_grpc)
            self._rule_is_grpc = is_grpc
        return rule

    def _copy(self, exchange: Exchange, head: RequestHead, mirrored: tuple[Mirrored, ...]) -> None:
        """Send copies where a mirror asks for them."""
        if mirrored and not exchange.is_over:
            chances = tuple(self._random.random() for _ in mirrored)
            stripped = head.with_fields(without_fields(head.fields, _FOR_US | HEADERS))
            self._rules.mirrors.copy(exchange, stripped, mirrored, chances)

    def _filtered(self, exchange: Exchange, filters: tuple[Filter, ...], match: Match) -> bool:
        """Edit a request's head; whether a filter has answered it. Raises RefusedError."""
        for each in filters:
            if isinstance(each, Cors):
                answer = preflight_answer(each, exchange.head)
                if answer is not None:
                    exchange.answer(answer)
                    return True
        going = filter_request(
            filters,
            match,
            exchange.head,
            self._random.random(),
            is_grpc=exchange.is_grpc,
            injects=True,
        )
        if isinstance(going, RequestHead):
            exchange.head = going
            return False
        exchange.answer(going)
        return True

    def chance(self) -> float:
        """Return a number in [0, 1)."""
        return self._random.random()

    def _without_policy(self) -> OutboundPolicy:
        profile = self._profile.current
        if self._fallback is None or self._fallback[0] is not profile:
            self._fallback = (profile, policy_without(self._destination, profile))
        return self._fallback[1]

    def refused(self, code: str) -> None:
        """Count a message that breaks the protocol's rules."""
        self._telemetry.failed(code)

    def attempted(self, attempt: Attempt) -> None:
        """Tell of an attempt that did not end well."""
        self._runtime.log.debug(
            "attempt failed",
            direction="outbound",
            target=str(self._destination),
            endpoint=attempt.endpoint,
            attempt=attempt.number,
            happened=attempt.happened,
            status=attempt.status,
            code=attempt.code,
            again=attempt.verdict.again,
            verdict=attempt.verdict.reason,
            delay_ms=round(attempt.verdict.delay_s * 1000),
        )

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
