"""Requests of other clusters: each is decided, told apart from loops, and carried inwards.

As linkerd2-proxy's gateway: the policy of its own port decides, the target's name becomes the
authority, ``forwarded`` says for whom; routes of the target's cluster are not looked at.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final, final

from core.errors import MeshError, RefusedError
from core.record import dataclass
from core.watch import Watch
from discovery.model import Address, EndpointSet, Profile, Target, default_metadata
from policy.decide import decide_request
from policy.limit import decide_rate
from policy.match import Request
from policy.model import (
    Backend,
    Balancer,
    Client,
    FirstAvailable,
    OutboundPolicy,
    OutboundRoute,
    OutboundRule,
    Permit,
    Protocol,
    Refusal,
    ServerPolicy,
)
from policy.route import ANY_PATH, HttpMatch
from proxy.gateway.forwarded import authority_of, forwarded, has_passed
from proxy.gateway.rule import carried
from proxy.http.exchange import Exchange, Service
from proxy.inbound.http import RateLimits
from proxy.outbound.destinations import Destinations
from proxy.outbound.http import OutboundRequests
from proxy.outbound.rule import OutboundRules
from proxy.outbound.way import Ways
from proxy.providers import DiscoveryProvider
from proxy.runtime import Runtime
from proxy.telemetry.denial import log_denial
from proxy.telemetry.http import OutboundHttp
from proxy.telemetry.transport import Cache
from proxy.wire.native import without_fields
from proxy.wire.orig_proto_field import CLIENT_ID

ROUTE: Final = default_metadata("gateway")
_FROM_CLIENTS: Final = frozenset((b"host", CLIENT_ID, b"l5d-dst-canonical"))
"""What the request's new authority and the gateway's own identity take the place of."""
_NO_PROFILE: Final[Watch[Profile | None]] = Watch(None)


@final
@dataclass(frozen=True, slots=True)
class CarriedRequests:
    """What is remembered of a connection whose requests are carried one by one."""

    client: Client
    target: Target

    def facts(self) -> dict[str, str]:
        """Return who asks for what."""
        return {
            "direction": "gateway",
            "client_ip": self.client.ip,
            "client_identity": str(self.client.identity or ""),
            "target": str(self.target),
            "tls": self.client.tls.value,
        }


@final
class Inwards:
    """Discovery as a gateway may use it: of each target what may be carried to."""

    def __init__(self, discovery: DiscoveryProvider, own_ips: frozenset[str]) -> None:
        self._discovery = discovery
        self._own_ips = own_ips
        self._followed: dict[Target, tuple[Watch[EndpointSet], Watch[EndpointSet]]] = {}
        """Target → what discovery says, and what of that is left; only exported ones come here."""

    def profile(self, destination: Address) -> Watch[Profile | None]:
        """Return nothing: a gateway knows names alone."""
        del destination
        return _NO_PROFILE

    def endpoints(self, target: Target) -> Watch[EndpointSet]:
        """Return the live endpoints of a target that may be carried to."""
        found = self._followed.get(target)
        if found is None:
            source = self._discovery.endpoints(target)
            left = Watch(self._left(source.current))
            source.subscribe(lambda current: left.publish(self._left(current)))
            found = self._followed[target] = source, left
        return found[1]

    def _left(self, found: EndpointSet) -> EndpointSet:
        try:
            return carried(found, self._own_ips)
        except RefusedError:
            return replace(found, endpoints=())


@final
class GatewayRules:
    """What all requests through a gateway share: the ways inwards and their counters."""

    def __init__(self, runtime: Runtime, discovery: DiscoveryProvider) -> None:
        self.runtime: Final = runtime
        self.telemetry: Final = OutboundHttp(runtime.metrics)
        self.limits: Final = RateLimits(runtime.workers)
        self.random: Final = random.Random()  # noqa: S311  # spreads load, keeps no secret
        ways = Ways(runtime, self.telemetry)
        self.inwards: Final = Destinations(runtime, Inwards(discovery, runtime.own_ips))
        self._rules: Final = {
            is_http2: OutboundRules(ways, self.inwards, self.telemetry, is_http2=is_http2)
            for is_http2 in (False, True)
        }
        self._policies: Cache[Target, Watch[OutboundPolicy | None]] = Cache()

    def onward(self, target: Target, *, is_http2: bool) -> OutboundRequests:
        """Return who carries requests to a target."""
        policy = self._policies.get(target) or self._policies.put(target, Watch(_policy(target)))
        return OutboundRequests(
            self.runtime,
            Address(target.host, target.port),
            policy,
            _NO_PROFILE,
            self._rules[is_http2],
            self.telemetry,
            self.random,
        )


@final
class GatewayRequests(Service):
    """The requests of one other sidecar's connection."""

    __slots__ = ("_client", "_export", "_onward", "_policy", "_rules", "_target")

    def __init__(
        self,
        rules: GatewayRules,
        client: Client,
        policy: Watch[ServerPolicy],
        export: Watch[Target | None],
        target: Target,
        *,
        is_http2: bool,
    ) -> None:
        self._rules = rules
        self._client = client
        self._policy = policy
        self._export = export
        self._target = target
        self._onward = rules.onward(target, is_http2=is_http2)

    def begin(self, exchange: Exchange) -> None:
        """Decide about a request, and carry it or answer why not."""
        try:
            self._decide(exchange)
            self._rewrite(exchange)
        except MeshError as error:
            self._onward.failed(error)
            exchange.fail(error)
            return
        self._onward.begin(exchange)

    def _decide(self, exchange: Exchange) -> None:
        head, client = exchange.head, self._client
        path, _, query = head.path.decode("latin-1").partition("?")
        asked = Request(
            head.method.decode("ascii"),
            path,
            head.authority.decode("ascii"),
            query,
            head.fields,
        )
        policy = self._policy.current
        verdict = decide_request(policy, client, asked)
        if isinstance(verdict, Permit) and policy.rate_limit is not None:
            state = self._rules.limits.of(policy.rate_limit)
            verdict = decide_rate(state, verdict, client.identity, exchange.began)
        if isinstance(verdict, Refusal):
            log_denial(
                self._rules.runtime.log,
                "request denied",
                verdict,
                client,
                self._target,
                direction="gateway",
                method=head.method,
                path=head.path,
            )
            raise RefusedError(verdict.reason, code=verdict.code)
        if self._export.current is None:
            raise RefusedError(f"{self._target} is no longer exported", code="gateway-not-exported")

    def _rewrite(self, exchange: Exchange) -> None:
        """Say whom the request is for, and who carried it. Raises RefusedError for a loop."""
        generation = self._rules.runtime.generation.current
        if generation is None:
            raise RefusedError("no certificate has been issued to us yet", code="draining")
        head, own = exchange.head, generation.identity.name
        if has_passed(head.fields, own):
            raise RefusedError(f"{own} has carried this request before", code="loop")
        authority = authority_of(self._target.host, self._target.port)
        who = self._client.identity
        fields = (
            (b"host", authority),
            *without_fields(head.fields, _FROM_CLIENTS),
            forwarded(own, who.name if who is not None else "unknown", authority),
        )
        exchange.head = replace(head, authority=authority, fields=fields)

    def refused(self, code: str) -> None:
        """Count a message that breaks the protocol's rules."""
        self._onward.refused(code)


def _policy(target: Target) -> OutboundPolicy:
    """Return the policy of a target: one backend, whatever the request."""
    backend = Backend(metadata=ROUTE, dispatcher=Balancer(target=target))
    rule = OutboundRule(
        matches=(HttpMatch(path=ANY_PATH),), distribution=FirstAvailable((backend,))
    )
    route = OutboundRoute(metadata=ROUTE, rules=(rule,))
    return OutboundPolicy(metadata=ROUTE, protocol=Protocol.DETECT, http1=(route,), http2=(route,))
