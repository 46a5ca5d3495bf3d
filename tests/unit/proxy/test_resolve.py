from __future__ import annotations

import pytest

from core.errors import MeshError, RefusedError, UnreachableError
from discovery.model import (
    UNKNOWN_ENDPOINTS,
    Address,
    Endpoint,
    EndpointSet,
    Profile,
    Target,
    default_metadata,
)
from policy.model import (
    Backend,
    Balancer,
    Distribution,
    FirstAvailable,
    Forward,
    NoBackends,
    OpaqueRoute,
    OutboundPolicy,
    OutboundTls,
    RandomAvailable,
    WeightedBackend,
)
from policy.route import Filter, ForbiddenFilter, InvalidFilter
from proxy.outbound.resolve import (
    Plan,
    no_endpoints,
    plan_connection,
    refused_plan,
)

_DESTINATION = Address("10.96.0.10", 80)
_ENDPOINT = Endpoint(address=Address("10.1.0.1", 8080))
_OTHER = Endpoint(address=Address("10.1.0.2", 8080))
_TARGET = Target("api.shop.svc.cluster.local", 80)
_SECOND = Target("api-v2.shop.svc.cluster.local", 80)
_ROUTE = default_metadata("route")
_SERVICE = default_metadata("service")
_BACKEND = default_metadata("backend")


def backend(target: Target | None = _TARGET, endpoint: Endpoint | None = None) -> Backend:
    """Return a backend that balances over a target, or leads to one endpoint, or nowhere."""
    dispatcher: Balancer | Forward | None = None
    if endpoint is not None:
        dispatcher = Forward(endpoint)
    elif target is not None:
        dispatcher = Balancer(target=target)
    return Backend(metadata=default_metadata("backend"), dispatcher=dispatcher)


def policy(distribution: Distribution, *filters: Filter) -> OutboundPolicy:
    """Return a policy whose one opaque route sends there."""
    route = OpaqueRoute(metadata=_ROUTE, filters=filters, distribution=distribution)
    return OutboundPolicy(metadata=_SERVICE, opaque=(route,))


def weighted(*shares: tuple[Target, int]) -> RandomAvailable:
    """Return backends with their weights."""
    return RandomAvailable(tuple(WeightedBackend(backend(each), share) for each, share in shares))


_PLANS: dict[str, tuple[OutboundPolicy | None, Profile | None, float, Plan]] = {
    "nothing is known": (
        None,
        None,
        0.0,
        Plan(default_metadata("fallback"), endpoint=Endpoint(address=_DESTINATION)),
    ),
    "a profile without an endpoint": (
        None,
        Profile(fully_qualified_name="api.shop.svc.cluster.local"),
        0.0,
        Plan(default_metadata("fallback"), endpoint=Endpoint(address=_DESTINATION)),
    ),
    "a profile's endpoint": (
        None,
        Profile(endpoint=_ENDPOINT),
        0.0,
        Plan(default_metadata("endpoint"), endpoint=_ENDPOINT),
    ),
    "a policy before a profile": (
        policy(FirstAvailable((backend(endpoint=_OTHER),))),
        Profile(endpoint=_ENDPOINT),
        0.0,
        Plan(_SERVICE, _ROUTE, endpoint=_OTHER),
    ),
    "a service to balance over": (
        policy(FirstAvailable((backend(), backend(_SECOND)))),
        None,
        0.9,
        Plan(_SERVICE, _ROUTE, target=_TARGET, backend=_BACKEND),
    ),
    "weights, low": (
        policy(weighted((_TARGET, 1), (_SECOND, 3))),
        None,
        0.0,
        Plan(_SERVICE, _ROUTE, target=_TARGET, backend=_BACKEND),
    ),
    "weights, just below": (
        policy(weighted((_TARGET, 1), (_SECOND, 3))),
        None,
        0.2499,
        Plan(_SERVICE, _ROUTE, target=_TARGET, backend=_BACKEND),
    ),
    "weights, just at": (
        policy(weighted((_TARGET, 1), (_SECOND, 3))),
        None,
        0.25,
        Plan(_SERVICE, _ROUTE, target=_SECOND, backend=_BACKEND),
    ),
    "weights, high": (
        policy(weighted((_TARGET, 1), (_SECOND, 3))),
        None,
        0.9999,
        Plan(_SERVICE, _ROUTE, target=_SECOND, backend=_BACKEND),
    ),
    "a weight of nothing is never chosen": (
        policy(weighted((_TARGET, 0), (_SECOND, 1))),
        None,
        0.0,
        Plan(_SERVICE, _ROUTE, target=_SECOND, backend=_BACKEND),
    ),
}


@pytest.mark.parametrize("name", list(_PLANS))
def test_where_a_connection_goes(name: str) -> None:
    """Policy, then profile, then the destination itself; weights as shares of chance."""
    given, profile, pick, expected = _PLANS[name]
    assert plan_connection(_DESTINATION, given, profile, pick) == expected


_REFUSED: dict[str, tuple[OutboundPolicy, type[MeshError], str]] = {
    "a port that is not declared": (
        policy(FirstAvailable((backend(),)), ForbiddenFilter()),
        RefusedError,
        "forbidden-destination",
    ),
    "a filter that cannot be used": (
        policy(FirstAvailable((backend(),)), InvalidFilter("what is this?")),
        RefusedError,
        "policy-invalid",
    ),
    "no backends": (policy(NoBackends()), UnreachableError, "no-endpoints"),
    "an empty list": (policy(FirstAvailable(())), UnreachableError, "no-endpoints"),
    "weights of nothing": (policy(weighted((_TARGET, 0))), UnreachableError, "no-endpoints"),
    "a backend that leads nowhere": (
        policy(FirstAvailable((backend(None),))),
        UnreachableError,
        "no-endpoints",
    ),
    "no opaque route": (OutboundPolicy(metadata=_SERVICE), UnreachableError, "unreachable"),
}


@pytest.mark.parametrize("name", list(_REFUSED))
def test_where_none_goes(name: str) -> None:
    """A policy that leads nowhere is never passed by; the refusal knows whose it is."""
    given, kind, code = _REFUSED[name]
    with pytest.raises(kind) as caught:
        plan_connection(_DESTINATION, given, Profile(endpoint=_ENDPOINT), 0.5)
    assert caught.value.code == code
    assert refused_plan(given).parent == _SERVICE
    assert refused_plan(given).endpoint is None
    assert refused_plan(given).target is None


def test_whether_plaintext_may_be_is_part_of_the_plan() -> None:
    """With a service as with one endpoint."""
    for each in (backend(), backend(endpoint=_ENDPOINT)):
        route = OpaqueRoute(metadata=_ROUTE, distribution=FirstAvailable((each,)))
        strict = OutboundPolicy(metadata=_SERVICE, opaque=(route,), tls_mode=OutboundTls.REQUIRED)
        plan = plan_connection(_DESTINATION, strict, None, 0.0)
        assert plan.tls_mode is OutboundTls.REQUIRED


@pytest.mark.parametrize(
    ("found", "said"),
    [(EndpointSet(), "no ready endpoints"), (UNKNOWN_ENDPOINTS, "does not exist")],
)
def test_without_endpoints_the_error_says_why(found: EndpointSet, said: str) -> None:
    """The Service is there and nobody behind it, or it is not there at all."""
    error = no_endpoints(found, _TARGET)
    assert said in str(error)
    assert error.code == "no-endpoints"
    assert str(_TARGET) in str(error)
