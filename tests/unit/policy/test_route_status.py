"""The status of routes on Services: what is in force, what is not, and why."""

from __future__ import annotations

from typing import Any

import pytest

from policy.route_attach import effective_routes
from policy.route_status import CONTROLLER, Condition, route_status
from resources.route import Route
from resources.service import Service
from tests.support import manifests

GATEWAY = "gateway.networking.k8s.io/v1"
SERVICES = [
    manifests.service("api", "10.2.0.1", {"name": "http", "port": 80}, {"name": "alt", "port": 81}),
    manifests.service("headless", "None", {"name": "http", "port": 80}),
    manifests.service("outside", "None", {"port": 80}, spec={"type": "ExternalName"}),
]
TO_API = {"backendRefs": [{"name": "api", "port": 80}]}


def mk(
    name: str = "r",
    *rules: dict[str, Any],
    parent: dict[str, Any] | None = None,
    kind: str = "HTTPRoute",
    namespace: str = "shop",
) -> Route:
    """Parse a route; its parent is api's port 80 unless another is given."""
    reference = {"group": "", "kind": "Service", "name": "api", "port": 80, "namespace": "shop"}
    found = manifests.one(
        {
            "apiVersion": GATEWAY,
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace, "generation": 7},
            "spec": {"parentRefs": [parent or reference], "rules": list(rules or (TO_API,))},
        }
    )
    assert isinstance(found, Route)
    return found


def find(namespace: str, name: str) -> Service | None:
    """Return one of the Services."""
    for each in manifests.objects(*SERVICES):
        if (each.meta.namespace, each.meta.name) == (namespace, name):
            assert isinstance(each, Service)
            return each
    return None


def conditions(route: Route, *others: Route) -> dict[str, Condition]:
    """Return a route's conditions on its one parent, by type."""
    (status,) = route_status(route, [route, *others], find)
    return {each.type: each for each in status.conditions}


def on(**reference: Any) -> Route:
    """Return a route on another parent."""
    return mk(parent={"group": "", "kind": "Service", **reference})


def test_a_route_that_is_in_force() -> None:
    """Both conditions hold, and say of which generation."""
    found = conditions(mk())
    assert {name: (each.is_true, each.reason) for name, each in found.items()} == {
        "Accepted": (True, "Accepted"),
        "ResolvedRefs": (True, "ResolvedRefs"),
    }
    assert {each.observed_generation for each in found.values()} == {7}


@pytest.mark.parametrize(
    ("route", "said"),
    [
        (on(name="nobody"), "Service shop/nobody does not exist"),
        (on(name="api", port=8080), "has no port of number 8080; its ports: 80, 81"),
        (on(name="api", sectionName="grpc"), "has no port of name 'grpc'"),
        (on(name="api", port=80, sectionName="alt"), "of number 80 and name 'alt'"),
        (on(name="headless"), "no cluster address"),
        (on(name="outside"), "no cluster address"),
    ],
)
def test_a_parent_that_is_none(route: Route, said: str) -> None:
    """Not accepted, and what it refers to is judged all the same."""
    found = conditions(route)
    assert found["Accepted"].reason == "NoMatchingParent"
    assert not found["Accepted"].is_true
    assert said in found["Accepted"].message
    assert found["ResolvedRefs"].is_true


def test_a_parent_of_somebody_else_has_no_status() -> None:
    """A Gateway's, a Server's."""
    route = mk(parent={"name": "gateway"})
    assert route_status(route, [route], find) == ()


def test_calls_put_requests_out_of_force() -> None:
    """On the same ports, in the same namespace."""
    route, calls = mk(), mk("calls", kind="GRPCRoute")
    assert conditions(route, calls)["Accepted"].reason == "RouteReasonConflicted"
    assert conditions(calls, route)["Accepted"].is_true
    everywhere = on(name="api")
    assert conditions(everywhere, calls)["Accepted"].is_true
    elsewhere = mk("calls", kind="GRPCRoute", namespace="other")
    assert conditions(route, elsewhere)["Accepted"].is_true


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ({"name": "nobody", "port": 80}, "BackendNotFound"),
        ({"name": "api", "port": 82}, "BackendNotFound"),
        ({"name": "api", "port": 80, "group": "x.org", "kind": "X"}, "InvalidKind"),
        ({"name": "outside", "port": 80}, "InvalidKind"),
    ],
)
def test_references_that_lead_nowhere(reference: dict[str, Any], reason: str) -> None:
    """Of backends and of mirrors; the route is accepted."""
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": reference}}
    for rule in ({"backendRefs": [reference]}, {**TO_API, "filters": [mirror]}):
        found = conditions(mk("r", rule, TO_API))
        assert found["Accepted"].is_true
        assert (found["ResolvedRefs"].is_true, found["ResolvedRefs"].reason) == (False, reason)


def test_filters_that_nobody_can_carry_out() -> None:
    """Of some rules: partially invalid; of all: not accepted."""
    reference = {"group": "x.org", "kind": "X", "name": "x"}
    bad = {**TO_API, "filters": [{"type": "ExtensionRef", "extensionRef": reference}]}
    found = conditions(mk("r", bad, TO_API))
    assert found["Accepted"].is_true
    assert found["PartiallyInvalid"].message.startswith("Dropped Rule")
    assert found["ResolvedRefs"].reason == "InvalidKind"
    assert conditions(mk("r", bad))["Accepted"].reason == "UnsupportedValue"


def test_a_status_is_data_as_kubernetes_has_it() -> None:
    """The reference as it was written, group and all."""
    (status,) = route_status(mk(), [], find)
    assert status.is_fine
    data = status.as_data()
    assert data["parentRef"] == {
        "group": "", "kind": "Service", "namespace": "shop", "name": "api", "port": 80,
    }  # fmt: skip
    assert data["controllerName"] == CONTROLLER
    assert data["conditions"][0] == {
        "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
        "observedGeneration": 7,
    }  # fmt: skip


def test_whose_routes_count() -> None:
    """A consumer's in place of the producer's; calls in place of requests; by port."""
    service = find("shop", "api")
    assert service is not None
    producer, consumer = mk("p"), mk("c", namespace="web")
    routes = [producer, consumer]
    assert effective_routes(routes, service, 80, "shop") == [producer]
    assert effective_routes(routes, service, 80, "web") == [consumer]
    assert effective_routes(routes, service, 80, "other") == [producer]
    assert effective_routes(routes, service, 81, "web") == []
    calls = mk("g", kind="GRPCRoute")
    assert effective_routes([producer, calls], service, 80, "shop") == [calls]
    assert effective_routes([producer, calls, consumer], service, 80, "web") == [consumer]
