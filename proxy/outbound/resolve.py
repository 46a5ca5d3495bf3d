"""Where an outbound connection may go: from what policy and discovery say to endpoints to try.

Pure. The rules for unknown destinations are linkerd2-proxy's (app/outbound/src/discover.rs): a
policy if there is one; else the one endpoint that the profile names; else the original
destination itself, in plaintext.
"""

from __future__ import annotations

from typing import Final, final

from core.errors import RefusedError, UnreachableError
from core.record import dataclass
from discovery.model import (
    Address,
    Endpoint,
    EndpointSet,
    Metadata,
    Profile,
    Target,
    default_metadata,
)
from policy.model import (
    Backend,
    FirstAvailable,
    Forward,
    OutboundPolicy,
    OutboundTls,
    PeakEwma,
    PenaltyPeakEwma,
    RandomAvailable,
)
from policy.route import ForbiddenFilter, InvalidFilter

MAX_ATTEMPTS: Final = 4
"""An endpoint, and after a connect failure up to three others."""


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """What to dial: a service still to be looked up, or an endpoint as it stands."""

    parent: Metadata
    route: Metadata = default_metadata("default")  # it is frozen
    target: Target | None = None
    endpoint: Endpoint | None = None
    tls_mode: OutboundTls = OutboundTls.OPPORTUNISTIC
    backend: Metadata | None = None
    """What a target is a backend of, and how loads compare there."""
    load: PeakEwma | PenaltyPeakEwma = PeakEwma()  # it is frozen


def plan_connection(
    destination: Address,
    policy: OutboundPolicy | None,
    profile: Profile | None,
    pick: float,
) -> Plan:
    """Return what to dial for an opaque connection to ``destination``.

    ``pick`` in [0, 1) chooses among weighted backends. Raises RefusedError where policy forbids
    the destination, UnreachableError where it names no backend.
    """
    if policy is None:
        endpoint = profile.endpoint if profile is not None else None
        if endpoint is None:
            return Plan(default_metadata("fallback"), endpoint=Endpoint(address=destination))
        return Plan(default_metadata("endpoint"), endpoint=endpoint)
    route = policy.opaque[0] if policy.opaque else None
    if route is None:
        raise UnreachableError(f"{policy.metadata} has no route for opaque connections")
    for each in route.filters:
        if isinstance(each, ForbiddenFilter):
            raise RefusedError(
                f"{destination} is forbidden by {route.metadata}",
                hint="declare the port on the Service",
                code="forbidden-destination",
            )
        if isinstance(each, InvalidFilter):
            raise RefusedError(f"{route.metadata}: {each.message}", code="policy-invalid")
    backend = _pick_backend(route.distribution, pick)
    dispatcher = backend.dispatcher if backend is not None else None
    if dispatcher is None:
        raise UnreachableError(f"{route.metadata} has no backend", code="no-endpoints")
    if isinstance(dispatcher, Forward):
        endpoint = dispatcher.endpoint
        return Plan(policy.metadata, route.metadata, endpoint=endpoint, tls_mode=policy.tls_mode)
    return Plan(
        policy.metadata,
        route.metadata,
        target=dispatcher.target,
        tls_mode=policy.tls_mode,
        backend=backend.metadata if backend is not None else None,
        load=dispatcher.load,
    )


def refused_plan(policy: OutboundPolicy) -> Plan:
    """Return whose connection it was that ``plan_connection`` raised for: nothing to dial."""
    if not policy.opaque:
        return Plan(policy.metadata)
    return Plan(policy.metadata, policy.opaque[0].metadata)


def is_plain(policy: OutboundPolicy) -> bool:
    """Tell whether a destination may be one whose server speaks first.

    It is not where a route of the user's makes it one of HTTP, or all there are are for requests.
    """
    if not policy.opaque and (policy.http1 or policy.http2 or policy.grpc):
        return False
    return all(
        route.metadata.kind == "default"
        for routes in (policy.http1, policy.http2, policy.grpc)
        for route in routes
    )


def refuse_plaintext(
    plan: Plan, endpoint: Endpoint, own_ips: frozenset[str]
) -> RefusedError | None:
    """Return why an endpoint may not be dialled without TLS; None: it may, or has an identity.

    Our own pod is no way out, and always plain.
    """
    if plan.tls_mode is OutboundTls.OPPORTUNISTIC:
        return None
    return plaintext_refusal(plan.parent, endpoint, own_ips)


def plaintext_refusal(
    parent: Metadata, endpoint: Endpoint, own_ips: frozenset[str]
) -> RefusedError | None:
    """Return why an endpoint cannot be reached by mutual TLS; None: it can, or is our own pod."""
    if endpoint.sni or endpoint.address.ip in own_ips:
        return None
    return RefusedError(
        f"{parent} is to be reached by mutual TLS alone, and {endpoint.address} has no"
        " identity to prove",
        hint="mesh the pod behind it, or lift pillion.dev/outbound-mtls on who requires it",
        code="mtls-required",
    )


def no_endpoints(found: EndpointSet, target: Target) -> UnreachableError:
    """Return what is said of a destination without endpoints."""
    state = "has no ready endpoints" if found.exists else "does not exist"
    return UnreachableError(
        f"{target} {state}",
        hint="see the Service's selector and its pods' readiness",
        code="no-endpoints",
    )


def _pick_backend(distribution: object, pick: float) -> Backend | None:
    if isinstance(distribution, FirstAvailable):
        return distribution.backends[0] if distribution.backends else None
    if not isinstance(distribution, RandomAvailable):
        return None
    total = sum(each.weight for each in distribution.backends)
    point = pick * total
    for each in distribution.backends:
        point -= each.weight
        if point < 0:
            return each.backend
    return None
