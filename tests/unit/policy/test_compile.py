"""From objects to one port's policy: what the cases cannot show from outside."""

from __future__ import annotations

import json
from typing import Any

import pytest

from control.mesh import Mesh
from policy.model import Protocol, ServerPolicy
from policy.route import HeaderModifier, RequestHeaders
from resources.kind import ObjectKey, Resource
from resources.manifest import parse_manifest
from tests.support import manifests

POLICY = "policy.linkerd.io"
GATEWAY = "gateway.networking.k8s.io"
POD = ObjectKey("", "Pod", "shop", "api")


def made(kind: str, name: str, spec: dict[str, Any], **meta: object) -> dict[str, Any]:
    """Build a policy object in namespace shop."""
    version = {"Server": "v1beta3", "ServerAuthorization": "v1beta1", "HTTPRoute": "v1beta3"}
    group, number = POLICY, version.get(kind, "v1alpha1")
    if kind == "DenyPolicy":
        group = "policy.pillion.dev"
    return {
        "apiVersion": f"{group}/{number}",
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop", **meta},
        "spec": spec,
    }


def parsed(*given: dict[str, Any]) -> list[Resource]:
    """Return the objects."""
    found = []
    for each in given:
        (document,) = parse_manifest("c.json", json.dumps(each).encode()).documents
        assert document.resource is not None, document.problems
        found.append(document.resource)
    return found


def compiled(*given: dict[str, Any], port: int = 80) -> ServerPolicy:
    """Return the policy of a port of the pod."""
    mesh = Mesh()
    mesh.change(parsed(manifests.pod("api", "10.1.0.1"), *given), ())
    return mesh.inbound(POD, port, 0.0).current


def server(protocol: str = "unknown", **meta: object) -> dict[str, Any]:
    """Build the Server of port 80."""
    return made("Server", "srv", {"podSelector": {}, "port": 80, "proxyProtocol": protocol}, **meta)


OLD = {"name": "y-server", "namespace": "shop", "creationTimestamp": "2020-01-01T00:00:00Z"}
ON_SERVER = {"group": POLICY, "kind": "Server", "name": "srv"}
OPEN = {"unauthenticated": True}


def policy(name: str, target: dict[str, str], kind: str = "AuthorizationPolicy") -> dict[str, Any]:
    """Build a policy that fits everybody."""
    return made(kind, name, {"targetRef": target, "requiredAuthenticationRefs": []})


def test_authorizations_stand_in_their_order() -> None:
    """On the Server, ServerAuthorizations, on the namespace, the default; each by name."""
    namespace = {"kind": "Namespace", "name": "shop"}
    found = compiled(
        {**server(labels={"tier": "a"}), "spec": {**server()["spec"], "accessPolicy": "audit"}},
        policy("b-namespace", namespace),
        policy("a-namespace", namespace),
        made("ServerAuthorization", "a-named", {"server": {"name": "srv"}, "client": OPEN}),
        made(
            "ServerAuthorization",
            "b-selected",
            {"server": {"selector": {"matchLabels": {"tier": "a"}}}, "client": OPEN},
        ),
        made("ServerAuthorization", "c-named", {"server": {"name": "srv"}, "client": OPEN}),
        made("ServerAuthorization", "d-empty", {"server": {"name": "srv"}, "client": {}}),
        {**policy("y-server", ON_SERVER), "metadata": OLD},
        policy("x-server", ON_SERVER),
    )
    assert [each.metadata.name for each in found.authorizations] == [
        *("x-server", "y-server", "a-named", "b-selected", "c-named"),
        *("a-namespace", "b-namespace", "audit"),
    ]
    assert {each.metadata.kind for each in found.authorizations} == {
        *("authorizationpolicy", "serverauthorization", "default")
    }
    assert (found.metadata.kind, found.metadata.group) == ("server", POLICY)


@pytest.mark.parametrize(
    ("given", "protocol"),
    [
        ("unknown", Protocol.DETECT),
        ("HTTP/1", Protocol.HTTP1),
        ("HTTP/2", Protocol.HTTP2),
        ("gRPC", Protocol.GRPC),
        ("opaque", Protocol.OPAQUE),
        ("TLS", Protocol.TLS),
    ],
)
def test_what_a_server_speaks_decides_what_counts(given: str, protocol: Protocol) -> None:
    """Routes of requests, calls or none; rate limits where the control API can carry them."""
    http = made("HTTPRoute", "http", {"parentRefs": [ON_SERVER]})
    call = {**made("HTTPRoute", "call", {"parentRefs": [ON_SERVER], "rules": [{}]}),
            "apiVersion": f"{GATEWAY}/v1", "kind": "GRPCRoute"}  # fmt: skip
    rate = {"targetRef": ON_SERVER, "total": {"requestsPerSecond": 1}}
    limit = made("HTTPLocalRateLimitPolicy", "l", rate)
    found = compiled(server(given), http, call, limit)
    is_http = protocol in {Protocol.DETECT, Protocol.HTTP1, Protocol.HTTP2}
    names = ["http"] if is_http else ["call"] if protocol is Protocol.GRPC else []
    assert found.protocol is protocol
    assert [each.metadata.name for each in found.routes] == names
    assert (found.rate_limit is not None) is is_http


def test_a_rule_edits_the_requests_headers_alone() -> None:
    """Edits of the response's have no meaning towards the workload."""
    edit = {"set": [{"name": "a", "value": "b"}], "remove": ["c"]}
    rule = {
        "filters": [
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": edit},
            {"type": "RequestHeaderModifier", "requestHeaderModifier": edit},
        ]
    }
    found = compiled(server(), made("HTTPRoute", "r", {"parentRefs": [ON_SERVER], "rules": [rule]}))
    modifier = HeaderModifier(set=(("a", "b"),), remove=("c",))
    assert found.routes[0].rules[0].filters == (RequestHeaders(modifier),)


def test_routes_are_named_as_their_resources_are() -> None:
    """Kinds in their own case, with group and namespace; Linkerd's labels."""
    found = compiled(server(), made("HTTPRoute", "r", {"parentRefs": [ON_SERVER]}))
    metadata = found.routes[0].metadata
    assert (metadata.group, metadata.kind, metadata.namespace, metadata.name) == (
        *(POLICY, "HTTPRoute", "shop", "r"),
    )


def test_an_object_that_moves_leaves_nothing_behind() -> None:
    """A policy that turns to another target, a route that leaves, a Server that lets go."""
    other = {**ON_SERVER, "name": "other"}
    route = made("HTTPRoute", "r", {"parentRefs": [ON_SERVER]})
    mesh = Mesh()
    mesh.change(
        parsed(manifests.pod("api", "10.1.0.1"), server(), policy("p", ON_SERVER), route), ()
    )
    port = mesh.inbound(POD, 80, 0.0)
    assert [each.metadata.name for each in port.current.authorizations] == ["p"]
    assert [each.metadata.name for each in port.current.routes] == ["r"]
    mesh.change(parsed(policy("p", other)), ())
    assert port.current.authorizations == ()
    mesh.change(parsed(made("HTTPRoute", "r", {"parentRefs": [other]})), ())
    assert [each.metadata.name for each in port.current.routes] == ["default"]
    mesh.change(parsed(made("HTTPRoute", "r", {})), ())
    mesh.change(parsed(route), ())
    assert [each.metadata.name for each in port.current.routes] == ["r"]
    mesh.change((), [ObjectKey(POLICY, "Server", "shop", "srv")])
    assert port.current.metadata.kind == "default"


def test_a_denial_without_what_it_refers_to_says_so() -> None:
    """It holds, and its note names the object that is missing."""
    reference = {"group": POLICY, "kind": "NetworkAuthentication", "name": "gone"}
    spec = {"targetRef": ON_SERVER, "requiredAuthenticationRefs": [reference]}
    found = compiled(server(), made("DenyPolicy", "d", spec))
    assert found.void == ()
    (denial,) = found.denials
    assert "NetworkAuthentication 'gone', which does not exist" in denial.note
    assert denial.metadata.kind == "denypolicy"
