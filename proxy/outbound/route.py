"""Which route an outbound request takes: the policy's table, made once a policy. Pure."""

from __future__ import annotations

from typing import Final, final

from core.errors import RefusedError, ResourceError
from core.record import dataclass
from discovery.model import Address, Endpoint, Metadata, Profile, default_metadata
from policy.match import Alternative, Precedence, Request, RouteTable
from policy.model import (
    Backend,
    FirstAvailable,
    Forward,
    OutboundPolicy,
    OutboundRoute,
    OutboundRule,
    Protocol,
)
from proxy.http.filter import Match
from proxy.wire.http_message import RequestHead


@final
@dataclass(frozen=True, slots=True)
class Taken:
    """A route, and which of its rules a request has met."""

    parent: Metadata
    route: OutboundRoute
    rule: OutboundRule
    match: Match = None
    """Which of the rule's alternatives it met."""


@final
class OutboundRoutes:
    """The routes of one policy for requests of one version of HTTP."""

    __slots__ = ("_by_alternative", "_only", "_routes", "_table", "policy")

    def __init__(self, policy: OutboundPolicy, *, is_http2: bool) -> None:
        """Prepare the table. Raises ResourceError for an expression that cannot be used."""
        self.policy: Final = policy
        routes = policy.http2 if is_http2 else policy.http1
        if policy.protocol is Protocol.GRPC:
            routes = policy.grpc
        self._routes: Final = routes
        self._table: Final = RouteTable(routes, Precedence.GATEWAY_API)
        self._by_alternative: Final[dict[int, Taken]] = {}
        self._only: Taken | None = None
        """What every request meets; None: that is to be found out."""
        if self._table.only is not None:
            self._only = self._take(self._table.only)

    def find(self, head: RequestHead) -> Taken | None:
        """Return what a request meets; None: no route is for it."""
        if self._only is not None:
            return self._only
        path, _, query = head.path.decode("latin-1").partition("?")
        found = self._table.find(
            Request(
                head.method.decode("ascii"),
                path,
                head.authority.decode("ascii"),
                query,
                head.fields if self._table.reads_headers else (),
            )
        )
        return None if found is None else self._take(found)

    def _take(self, found: Alternative) -> Taken:
        taken = self._by_alternative.get(found.order)
        if taken is None:
            route = self._routes[found.route]
            match = found.http or found.grpc
            taken = Taken(self.policy.metadata, route, route.rules[found.rule], match)
            self._by_alternative[found.order] = taken
        return taken


def policy_without(destination: Address, profile: Profile | None) -> OutboundPolicy:
    """Return how requests go whose destination no policy knows: to it as it stands.

    The one endpoint that the profile names, else the destination itself, in plaintext
    (linkerd2-proxy, app/outbound/src/discover.rs).
    """
    endpoint = profile.endpoint if profile is not None else None
    name = "fallback" if endpoint is None else "endpoint"
    metadata = default_metadata(name)
    backend = Backend(
        metadata=metadata, dispatcher=Forward(endpoint or Endpoint(address=destination))
    )
    route = OutboundRoute(
        metadata=metadata,
        rules=(OutboundRule(distribution=FirstAvailable((backend,))),),
    )
    return OutboundPolicy(metadata=metadata, http1=(route,), http2=(route,))


def routes_of(policy: OutboundPolicy, *, is_http2: bool) -> OutboundRoutes:
    """Return a policy's routes; one that cannot be used is refused as a whole."""
    try:
        return OutboundRoutes(policy, is_http2=is_http2)
    except ResourceError as error:
        raise RefusedError(f"{policy.metadata}: {error}", code="policy-invalid") from error
