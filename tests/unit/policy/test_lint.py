"""What lint finds, and what it leaves alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policy.lint import lint
from resources.kind import Resource
from resources.manifest import parse_manifest
from tests.support import manifests

POLICY = "policy.linkerd.io"
GATEWAY = "gateway.networking.k8s.io"


def made(kind: str, name: str, spec: dict[str, Any], **meta: object) -> dict[str, Any]:
    """Build a policy object in namespace shop."""
    group = GATEWAY if kind == "GRPCRoute" else POLICY
    group = "policy.pillion.dev" if kind == "DenyPolicy" else group
    version = {"Server": "v1beta3", "ServerAuthorization": "v1beta1", "HTTPRoute": "v1beta3"}
    number = "v1" if group == GATEWAY else version.get(kind, "v1alpha1")
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
        (document,) = parse_manifest("l.json", json.dumps(each).encode()).documents
        assert document.resource is not None, document.problems
        found.append(document.resource)
    return found


POD = manifests.pod(
    "api",
    "10.1.0.1",
    labels={"app": "api"},
    ports={"http": 80},
    container={"livenessProbe": {"httpGet": {"path": "/live", "port": 80}}},
)
SERVER = made("Server", "srv", {"podSelector": {"matchLabels": {"app": "api"}}, "port": 80})
ON_SERVER = {"group": POLICY, "kind": "Server", "name": "srv"}
ALLOW = made(
    "AuthorizationPolicy", "allow", {"targetRef": ON_SERVER, "requiredAuthenticationRefs": []}
)


def policy(name: str, target: dict[str, str], *refs: dict[str, str], kind: str = "") -> Any:
    """Build a policy."""
    spec = {"targetRef": target, "requiredAuthenticationRefs": list(refs)}
    return made(kind or "AuthorizationPolicy", name, spec)


def route(name: str, *parents: dict[str, Any], kind: str = "HTTPRoute", **rule: Any) -> Any:
    """Build a route."""
    return made(kind, name, {"parentRefs": list(parents), "rules": [rule]})


MESH_REF = {"group": POLICY, "kind": "MeshTLSAuthentication", "name": "clients"}
CLIENTS = made("MeshTLSAuthentication", "clients", {"identities": ["*"]})


def test_a_sound_mesh_has_nothing_to_look_at() -> None:
    """Server, route with its probe, policies with their authentications."""
    on_route = {"group": POLICY, "kind": "HTTPRoute", "name": "live"}
    assert not lint(
        parsed(
            POD,
            SERVER,
            policy("clients", ON_SERVER, MESH_REF),
            CLIENTS,
            route("all", ON_SERVER, matches=[{"path": {"value": "/"}}]),
            route("live", ON_SERVER, matches=[{"path": {"type": "Exact", "value": "/live"}}]),
            policy("live", on_route),
            policy("deny", {"kind": "Namespace", "name": "shop"}, MESH_REF, kind="DenyPolicy"),
        )
    )


@pytest.mark.parametrize(
    ("objects", "name", "code", "words"),
    [
        (
            [policy("p", ON_SERVER, {**MESH_REF, "name": "client"}), CLIENTS],
            "p",
            "dangling-reference",
            "did you mean 'clients'?",
        ),
        (
            [policy("p", ON_SERVER, {**MESH_REF, "namespace": "ops"}), CLIENTS],
            "p",
            "dangling-reference",
            "in namespace ops, which does not exist (there is one in namespace 'shop'",
        ),
        (
            [policy("p", ON_SERVER, {**MESH_REF, "name": "none"}, kind="DenyPolicy")],
            "p",
            "wide-denial",
            "so it denies whoever the rest of it fits",
        ),
        (
            [policy("p", {**ON_SERVER, "name": "srvv"})],
            "p",
            "no-target",
            "Server shop/srvv does not exist (did you mean 'srv'?)",
        ),
        (
            [
                policy("p", {"group": GATEWAY, "kind": "HTTPRoute", "name": "r"}),
                route("r", ON_SERVER),
            ],
            "p",
            "no-target",
            f"(there is one of group {POLICY})",
        ),
        (
            [policy("p", {"group": POLICY, "kind": "HTTPRoute", "name": "r"}), route("r")],
            "p",
            "no-effect",
            "attached to no Server",
        ),
        ([CLIENTS], "clients", "no-effect", "no policy refers to it"),
        (
            [made("ServerAuthorization", "z", {"server": {"name": "srv"}, "client": {}})],
            "z",
            "no-effect",
            "nobody fits it",
        ),
        (
            [
                made(
                    "ServerAuthorization",
                    "z",
                    {
                        "server": {"selector": {"matchLabels": {"a": "b"}}},
                        "client": {"unauthenticated": True},
                    },
                )
            ],
            "z",
            "no-target",
            "fits no Server",
        ),
        (
            [made("Server", "other", {"podSelector": {"matchLabels": {"app": "x"}}, "port": 1})],
            "other",
            "no-effect",
            "fits no pod",
        ),
        (
            [made("Server", "other", {"podSelector": {}, "port": "htpp"})],
            "other",
            "no-effect",
            "no pod has a port 'htpp' (did you mean 'http'?)",
        ),
        (
            [
                made(
                    "Server",
                    "old",
                    {"podSelector": {}, "port": "http"},
                    creationTimestamp="2020-01-01T00:00:00Z",
                )
            ],
            "srv",
            "shadowed",
            "Server shop/old is older and selects port 80 of Pod shop/api",
        ),
        (
            [route("r", {**ON_SERVER, "port": 80})],
            "r",
            "not-attached",
            "takes no route by a port or section",
        ),
        (
            [route("r", {**ON_SERVER, "namespace": "ops"})],
            "r",
            "not-attached",
            "takes no route by its namespace",
        ),
        (
            [route("r", {**ON_SERVER, "name": "srvr"})],
            "r",
            "not-attached",
            "Server shop/srvr does not exist (did you mean 'srv'?)",
        ),
        (
            [route("r", ON_SERVER, kind="GRPCRoute")],
            "r",
            "not-attached",
            "speaks unknown: GRPCRoute is left out",
        ),
        (
            [
                made("Server", "db", {"podSelector": {}, "port": 9, "proxyProtocol": "opaque"}),
                route("r", {**ON_SERVER, "name": "db"}),
            ],
            "r",
            "not-attached",
            "takes no requests",
        ),
        (
            [
                route(
                    "r",
                    ON_SERVER,
                    filters=[
                        {
                            "type": "RequestMirror",
                            "requestMirror": {"backendRef": {"name": "a", "port": 1}},
                        }
                    ],
                )
            ],
            "r",
            "not-attached",
            "a RequestMirror filter cannot be used on a Server",
        ),
        (
            [route("r", ON_SERVER, matches=[{"path": {"value": "/api"}}])],
            "srv",
            "probe-lost",
            "the probe GET /live of Pod shop/api is not-found",
        ),
        (
            [route("r", ON_SERVER)],
            "srv",
            "probe-lost",
            "the probe GET /live of Pod shop/api is deny",
        ),
        (
            [made("HTTPLocalRateLimitPolicy", "l", {"targetRef": {**ON_SERVER, "name": "x"}})],
            "l",
            "no-target",
            "does not exist",
        ),
        (
            [
                made("Server", "g", {"podSelector": {}, "port": 9, "proxyProtocol": "gRPC"}),
                made("HTTPLocalRateLimitPolicy", "l", {"targetRef": {**ON_SERVER, "name": "g"}}),
            ],
            "l",
            "no-effect",
            "speaks gRPC",
        ),
        (
            [
                made("HTTPLocalRateLimitPolicy", "a", {"targetRef": ON_SERVER}),
                made("HTTPLocalRateLimitPolicy", "b", {"targetRef": ON_SERVER}),
            ],
            "b",
            "shadowed",
            "HTTPLocalRateLimitPolicy shop/a is older",
        ),
    ],
)
def test_findings(objects: list[dict[str, Any]], name: str, code: str, words: str) -> None:
    """Each is told of the object to be mended, with what is wrong and what may have been meant."""
    base = [POD, SERVER] if name in {"srv", "p"} else [POD, SERVER, ALLOW]
    found = [each for each in lint(parsed(*base, *objects)) if each.key.name == name]
    assert [each.code for each in found] == [code]
    assert words in found[0].message


def test_an_authorization_on_a_namespace_without_servers_has_no_effect() -> None:
    """A denial there has: it holds on every port."""
    target = {"kind": "Namespace", "name": "shop"}
    (found,) = lint(parsed(POD, policy("a", target), policy("d", target, kind="DenyPolicy")))
    assert (found.key.name, found.code) == ("a", "no-effect")


def test_an_annotation_that_cannot_be_read_is_told() -> None:
    """It is without effect, which nobody would notice."""
    annotations = {"retry.linkerd.io/limit": "many", "timeout.linkerd.io/idle": "5s"}
    (found,) = lint(parsed(manifests.service("web", annotations=annotations)))
    assert (str(found.key), found.code) == ("Service shop/web", "annotation")
    assert "retry.linkerd.io/limit: 'many' is no number" in found.message
