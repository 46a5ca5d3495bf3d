"""What must hold of every set of policies, not only of those somebody thought of."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.mesh import Mesh
from discovery.model import Metadata
from identity.name import parse_identity
from policy.check import Check, address_number
from policy.checklist import Checklist
from policy.decide import decide_connection, decide_request
from policy.explain import explain_connection, explain_request
from policy.lint import lint
from policy.match import Request
from policy.model import (
    ALL_NETWORKS,
    Authorization,
    Client,
    ClientTls,
    NetworkMatch,
    Permit,
    Protocol,
    Refusal,
    ServerPolicy,
    TlsAuthenticated,
    TlsUnauthenticated,
    Unauthenticated,
    Verdict,
)
from policy.remedy import Grant, Widen
from resources.kind import ObjectKey, Resource
from resources.manifest import parse_manifest
from resources.registry import KINDS

Manifest = dict[str, Any]

POLICY = "policy.linkerd.io"
GATEWAY = "gateway.networking.k8s.io"
POD = ObjectKey("", "Pod", "app", "web")
PORTS = (80, 8080, 5432)
NAMES = ("cli.app", "web.app", "other.ext")
IDENTITIES = [f"{name}.serviceaccount.identity.linkerd.cluster.local" for name in NAMES]
CLIENTS = [
    *(Client("10.1.1.1", ClientTls.MESH, parse_identity(each)) for each in IDENTITIES),
    Client("10.9.0.1", ClientTls.MESH, parse_identity("spiffe://cluster.local/a")),
    Client("203.0.113.7", ClientTls.MESH, parse_identity(IDENTITIES[0])),
    Client("10.1.1.1", ClientTls.MESH),
    Client("10.9.0.1"),
    Client("203.0.113.7"),
    Client("127.0.0.1"),
    Client("10.1.1.1", ClientTls.FOREIGN, sni="x.example"),
]
REQUESTS = [
    Request("GET", "/a"),
    Request("POST", "/a/b", "x.app"),
    Request("GET", "/live"),
    Request("POST", "/svc.S/M"),
]


def mk_object(kind: str, group: str, name: str, spec: Manifest, **meta: object) -> Manifest:
    """Build a manifest in namespace app."""
    version = max(KINDS[group, kind].versions)
    return {
        "apiVersion": f"{group}/{version}" if group else version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "app", **meta},
        "spec": spec,
    }


def mk_pod(default: str) -> Manifest:
    """Build the pod."""
    ports = [{"name": "http", "containerPort": 80}, {"name": "db", "containerPort": 5432}]
    probe = {"httpGet": {"path": "/live", "port": 80}}
    spec = {"containers": [{"name": "web", "ports": ports, "livenessProbe": probe}]}
    return {
        **mk_object("Pod", "", "web", spec),
        "metadata": {
            "name": "web",
            "namespace": "app",
            "labels": {"app": "web"},
            "annotations": {
                "linkerd.io/inject": "enabled",
                "config.linkerd.io/default-inbound-policy": default,
            },
        },
        "status": {"podIP": "10.1.0.80"},
    }


def parse(*manifests: Manifest) -> list[Resource]:
    """Return the parsed objects; a mistake in one is the test's."""
    found = []
    for manifest in manifests:
        (document,) = parse_manifest("m.json", json.dumps(manifest).encode()).documents
        assert document.resource is not None, document.problems
        found.append(document.resource)
    return found


DEFAULTS = st.sampled_from(
    ["all-unauthenticated", "all-authenticated", "cluster-unauthenticated", "deny", "audit"]
)
CREATED = st.sampled_from(["2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z", None])
SELECTORS = st.sampled_from(
    [
        {},
        {"matchLabels": {"app": "web"}},
        {"matchLabels": {"app": "api"}},
        {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
    ]
)


@st.composite
def servers(draw: st.DrawFn) -> Manifest:
    """Draw a Server."""
    meta = {"labels": {"tier": draw(st.sampled_from(["a", "b"]))}}
    created = draw(CREATED)
    return mk_object(
        "Server",
        POLICY,
        draw(st.sampled_from(["s1", "s2", "s3"])),
        {
            "podSelector": draw(SELECTORS),
            "port": draw(st.sampled_from([80, "http", 5432, 8080])),
            "proxyProtocol": draw(
                st.sampled_from(["unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"])
            ),
            "accessPolicy": draw(DEFAULTS),
        },
        **({**meta, "creationTimestamp": created} if created else meta),
    )


TARGETS = st.sampled_from(
    [
        *({"group": POLICY, "kind": "Server", "name": f"s{n}"} for n in (1, 2, 3)),
        {"group": GATEWAY, "kind": "HTTPRoute", "name": "r1"},
        {"group": POLICY, "kind": "HTTPRoute", "name": "r1"},
        {"group": GATEWAY, "kind": "GRPCRoute", "name": "g1"},
        {"kind": "Namespace", "name": "app"},
    ]
)
MESH_REFS = st.sampled_from(
    [
        None,
        *(
            {"group": POLICY, "kind": "MeshTLSAuthentication", "name": n}
            for n in ("m1", "m2", "m0")
        ),
        {"kind": "ServiceAccount", "name": "cli"},
    ]
)
NETWORK_REFS = st.sampled_from(
    [
        None,
        *({"group": POLICY, "kind": "NetworkAuthentication", "name": n} for n in ("n1", "n0")),
    ]
)


@st.composite
def policies(
    draw: st.DrawFn, kind: str = "AuthorizationPolicy", names: tuple[str, ...] = ("p1", "p2", "p3")
) -> Manifest:
    """Draw an AuthorizationPolicy or a DenyPolicy."""
    refs = [each for each in (draw(MESH_REFS), draw(NETWORK_REFS)) if each is not None]
    mode = draw(st.sampled_from(["enforce", "enforce", "audit"]))
    return mk_object(
        kind,
        POLICY if kind == "AuthorizationPolicy" else "policy.pillion.dev",
        draw(st.sampled_from(names)),
        {"targetRef": draw(TARGETS), "requiredAuthenticationRefs": refs},
        annotations={"pillion.dev/mode": mode},
    )


@st.composite
def authentications(draw: st.DrawFn) -> Manifest:
    """Draw an authentication."""
    if draw(st.booleans()):
        patterns = ["*", "*.app.serviceaccount.identity.linkerd.cluster.local", *IDENTITIES]
        named = draw(st.lists(st.sampled_from(patterns), min_size=1, max_size=2))
        spec = {"identities": named}
        return mk_object("MeshTLSAuthentication", POLICY, draw(st.sampled_from(["m1", "m2"])), spec)
    networks = draw(
        st.lists(
            st.sampled_from(
                [{"cidr": "10.0.0.0/8", "except": ["10.9.0.0/16"]}, {"cidr": "0.0.0.0/0"}]
            ),
            min_size=1,
            max_size=2,
        )
    )
    return mk_object("NetworkAuthentication", POLICY, "n1", {"networks": networks})


@st.composite
def server_authorizations(draw: st.DrawFn, names: tuple[str, ...] = ("z1", "z2")) -> Manifest:
    """Draw a ServerAuthorization."""
    server = draw(st.sampled_from([{"name": "s1"}, {"selector": {"matchLabels": {"tier": "a"}}}]))
    client = draw(
        st.sampled_from(
            [
                {},
                {"unauthenticated": True},
                {"meshTLS": {"unauthenticatedTLS": True}},
                {"meshTLS": {"identities": ["*"]}, "networks": [{"cidr": "0.0.0.0/0"}]},
                {"meshTLS": {"serviceAccounts": [{"name": "cli"}]}},
            ]
        )
    )
    name = draw(st.sampled_from(names))
    return mk_object("ServerAuthorization", POLICY, name, {"server": server, "client": client})


@st.composite
def routes(draw: st.DrawFn) -> Manifest:
    """Draw a route."""
    parent = {"group": POLICY, "kind": "Server", "name": draw(st.sampled_from(["s1", "s2"]))}
    created = draw(CREATED)
    meta = {"creationTimestamp": created} if created else {}
    if draw(st.booleans()):
        call = draw(st.sampled_from([{}, {"method": {"service": "svc.S"}}]))
        spec: Manifest = {"parentRefs": [parent], "rules": [{"matches": [call]}]}
        return mk_object("GRPCRoute", GATEWAY, "g1", spec, **meta)
    match = draw(
        st.sampled_from(
            [
                {},
                {"path": {"type": "Exact", "value": "/a"}},
                {"path": {"value": "/a"}, "method": "POST"},
                {"path": {"type": "RegularExpression", "value": "/[a-z]+"}},
            ]
        )
    )
    spec = {"parentRefs": [parent], "rules": [{"matches": [match]}]}
    hosts = draw(st.sampled_from([None, ["x.app"], ["*.app"]]))
    if hosts:
        spec["hostnames"] = hosts
    group = draw(st.sampled_from([POLICY, GATEWAY]))
    return mk_object("HTTPRoute", group, draw(st.sampled_from(["r1", "r2"])), spec, **meta)


def key_of(manifest: Manifest) -> tuple[str, str, str]:
    """Return what tells an object from others."""
    return manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"]


OBJECTS = st.lists(
    servers()
    | policies()
    | policies("DenyPolicy")
    | authentications()
    | server_authorizations()
    | routes(),
    max_size=12,
    unique_by=key_of,
)


def build(*resources: Resource) -> Mesh:
    """Return a mesh of these objects, taken at once."""
    mesh = Mesh()
    mesh.change(resources, ())
    return mesh


def policies_of(mesh: Mesh) -> list[ServerPolicy]:
    """Return the policies of the pod's ports."""
    return [mesh.inbound(POD, port, 0.0).current for port in PORTS]


def verdicts(mesh: Mesh) -> list[Verdict]:
    """Return everybody's verdicts on everything."""
    found: list[Verdict] = []
    for policy in policies_of(mesh):
        for client in CLIENTS:
            found.append(decide_connection(policy, client))
            found += [decide_request(policy, client, each) for each in REQUESTS]
    return found


PROFILE = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@PROFILE
@given(DEFAULTS, OBJECTS, OBJECTS, st.randoms(use_true_random=False), st.data())
def test_arrival_order_does_not_matter(
    default: str,
    objects: list[Manifest],
    earlier: list[Manifest],
    random: Any,
    data: st.DataObject,
) -> None:
    """All at once, or one at a time in any order with detours: the same policies.

    What was there before, under the same names or others, leaves no trace.
    """
    resources = parse(mk_pod(default), *objects)
    shuffled = list(resources)
    random.shuffle(shuffled)
    slow = build(*parse(*earlier))
    watches = [slow.inbound(POD, port, 0.0) for port in PORTS]
    for resource in shuffled:
        slow.change([resource], ())
        if data.draw(st.booleans()):
            slow.change((), [resource.meta.key])
            slow.change([resource], ())
    kept = {each.meta.key for each in resources}
    slow.change((), [each.meta.key for each in parse(*earlier) if each.meta.key not in kept])
    assert [each.current for each in watches] == policies_of(build(*resources))


@PROFILE
@given(
    DEFAULTS,
    OBJECTS,
    policies(names=("extra",)) | server_authorizations(names=("extra",)),
)
def test_adding_an_allow_never_denies_and_removing_one_never_allows(
    default: str, objects: list[Manifest], extra: Manifest
) -> None:
    """Authorizations are a union; taken away again everything is as before."""
    resources = parse(mk_pod(default), *objects)
    mesh = build(*resources)
    before = verdicts(mesh)
    (added,) = parse(extra)
    mesh.change([added], ())
    after = verdicts(mesh)
    for then, now in zip(before, after, strict=True):
        if isinstance(then, Permit):
            assert isinstance(now, Permit)
    mesh.change((), [added.meta.key])
    assert verdicts(mesh) == before


@PROFILE
@given(DEFAULTS, OBJECTS, policies("DenyPolicy", names=("extra",)))
def test_adding_a_denial_never_allows(
    default: str, objects: list[Manifest], extra: Manifest
) -> None:
    """Nor does losing what a denial refers to; the pod itself and probes are spared."""
    resources = parse(mk_pod(default), *objects)
    mesh = build(*resources)
    before = verdicts(mesh)
    (added,) = parse(extra)
    mesh.change([added], ())
    denied = verdicts(mesh)
    for then, now in zip(before, denied, strict=True):
        if isinstance(then, Refusal):
            assert isinstance(now, Refusal)
        elif isinstance(now, Refusal):
            assert now.denial is not None
            assert then.authorization.name not in {"localhost", "probe"}
    gone = [each.meta.key for each in resources if "Authentication" in each.meta.key.kind]
    mesh.change((), gone)
    for then, now in zip(denied, verdicts(mesh), strict=True):
        if isinstance(then, Refusal) and then.denial is not None:
            assert isinstance(now, Refusal)


@PROFILE
@given(DEFAULTS, OBJECTS, policies(names=("extra",)) | policies("DenyPolicy", names=("extra",)))
def test_a_policy_in_audit_mode_changes_no_outcome(
    default: str, objects: list[Manifest], extra: Manifest
) -> None:
    """It only adds what it would have said."""
    extra["metadata"]["annotations"] = {"pillion.dev/mode": "audit"}
    resources = parse(mk_pod(default), *objects)
    with_it = verdicts(build(*resources, *parse(extra)))
    without = verdicts(build(*resources))
    assert [_bare(each) for each in with_it] == [_bare(each) for each in without]


def _bare(verdict: Verdict) -> Verdict:
    """Leave out what audits said, and the attempts of one that cannot be used."""
    if isinstance(verdict, Permit):
        return replace(verdict, audits=())
    kept = tuple(each for each in verdict.attempts if each.authorization.name != "extra")
    return replace(verdict, audits=(), attempts=kept)


@PROFILE
@given(DEFAULTS, OBJECTS)
def test_the_explanation_agrees_with_the_decision(default: str, objects: list[Manifest]) -> None:
    """Its verdict is the decision's, its text says so, and its remedy would work."""
    for policy in policies_of(build(*parse(mk_pod(default), *objects))):
        for client in CLIENTS:
            told = explain_connection(policy, client)
            assert told.verdict == decide_connection(policy, client)
            assert str(told)
            for request in REQUESTS:
                told = explain_request(policy, client, request)
                if policy.protocol not in {Protocol.OPAQUE, Protocol.TLS}:
                    assert told.verdict == decide_request(policy, client, request)
                assert str(told).startswith({"allow": "ALLOWED"}.get(told.word, ""))
                for remedy in told.remedies:
                    if remedy.change is not None:
                        mended = _apply(policy, remedy.change)
                        assert explain_request(mended, client, request).word == "allow", remedy


def _apply(policy: ServerPolicy, change: Widen | Grant) -> ServerPolicy:
    """Do what a remedy says."""

    def widened(authorizations: tuple[Authorization, ...]) -> tuple[Authorization, ...]:
        return tuple(map(widen, authorizations))

    def widen(each: Authorization) -> Authorization:
        assert isinstance(change, Widen)
        if each.metadata != change.authorization:
            return each
        wanted = each.authentication
        if change.identity is not None:
            assert isinstance(wanted, TlsAuthenticated)
            wanted = replace(wanted, identities=wanted.identities | {change.identity})
        networks = each.networks
        if change.ip:
            networks = (*networks, *(NetworkMatch(net) for net in ALL_NETWORKS))
        return replace(each, authentication=wanted, networks=networks)

    if isinstance(change, Widen):
        routes_ = tuple(
            replace(each, authorizations=widened(each.authorizations)) for each in policy.routes
        )
        return replace(policy, authorizations=widened(policy.authorizations), routes=routes_)
    named = frozenset({change.identity} if change.identity else set())
    granted = Authorization(
        metadata=Metadata(kind="authorizationpolicy", name="granted"),
        networks=tuple(NetworkMatch(net) for net in ALL_NETWORKS),
        authentication=TlsAuthenticated(named) if named else Unauthenticated(),
    )
    return replace(policy, authorizations=(*policy.authorizations, granted))


@PROFILE
@given(DEFAULTS, OBJECTS)
def test_lint_finds_what_it_finds_in_any_order(default: str, objects: list[Manifest]) -> None:
    """It never fails, and does not depend on the order of the objects."""
    resources = parse(mk_pod(default), *objects)
    assert lint(resources) == lint(list(reversed(resources)))


AUTHENTICATIONS = st.sampled_from(
    [
        Unauthenticated(),
        TlsUnauthenticated(),
        TlsAuthenticated(suffixes=((),)),
        TlsAuthenticated(suffixes=(("app", *IDENTITIES[0].split(".")[2:]),)),
        *(TlsAuthenticated(frozenset({parse_identity(each)})) for each in IDENTITIES),
    ]
)
NETWORKS = st.sampled_from(
    [
        tuple(NetworkMatch(each) for each in ALL_NETWORKS),
        (NetworkMatch(ALL_NETWORKS[0]),),
        (NetworkMatch(ALL_NETWORKS[1]),),
    ]
)
CHECKS = st.lists(
    st.builds(
        Authorization,
        metadata=st.builds(Metadata, kind=st.just("a"), name=st.sampled_from("abcdef")),
        networks=NETWORKS,
        authentication=AUTHENTICATIONS,
    ),
    max_size=6,
)


@given(CHECKS, st.sampled_from(CLIENTS), st.booleans())
def test_looking_authorizations_up_finds_what_trying_them_in_order_finds(
    authorizations: list[Authorization], client: Client, is_denial: bool
) -> None:
    """The first that admits, and otherwise the first failed clause of each."""
    checks = [Check(each, is_denial=is_denial) for each in authorizations]
    address = address_number(client.ip)
    failures = [each.failure(address, client) for each in checks]
    first = next((index for index, failed in enumerate(failures) if failed is None), -1)
    checklist = Checklist(checks)
    assert checklist.first(address, client) == first
    if first < 0:
        assert checklist.attempts(address, client) == failures


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 70_000) | st.sampled_from(
        ["", "Server", "policy.linkerd.io", "10.0.0.0/8", "*", "http", "/a", "["]
    ),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            [
                *("targetRef", "name", "kind", "group", "port", "podSelector", "networks", "cidr"),
                *("rules", "matches", "path", "value", "filters", "type", "parentRefs", "unknown"),
                *("identities", "client", "server", "total", "requestsPerSecond", "headers"),
            ]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@PROFILE
@given(st.sampled_from(sorted(KINDS)), JSON)
def test_unknown_fields_and_kinds_never_crash(kind: tuple[str, str], spec: object) -> None:
    """Whatever stands there is read, or its mistakes are told; what is read can be used."""
    group, name = kind
    version = min(KINDS[kind].versions)
    manifest = {
        "apiVersion": f"{group}/{version}" if group else version,
        "kind": name,
        "metadata": {"name": "app" if name == "Namespace" else "web", "namespace": "app"},
        "spec": spec,
    }
    for each in (manifest, {**manifest, "kind": "Strange"}):
        for document in parse_manifest("m.json", json.dumps(each).encode()).documents:
            if document.resource is None:
                assert document.problems
            else:
                mesh = build(*parse(mk_pod("deny")), document.resource)
                assert len(verdicts(mesh)) == len(PORTS) * len(CLIENTS) * (1 + len(REQUESTS))
                lint([document.resource])


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_change_is_published_whole(count: int) -> None:
    """Of a change of many objects no reader sees a part: each port has one new policy, or none."""
    servers_ = [
        mk_object("Server", POLICY, f"s{port}", {"podSelector": {}, "port": port}) for port in PORTS
    ]
    mesh = build(*parse(mk_pod("deny"), *servers_))
    seen: list[int] = []
    watches = [mesh.inbound(POD, port, 0.0) for port in PORTS]
    for watch in watches:
        watch.subscribe(lambda policy: seen.append(len(policy.authorizations)))
    spec = {"targetRef": {"kind": "Namespace", "name": "app"}, "requiredAuthenticationRefs": []}
    mesh.change(
        parse(*(mk_object("AuthorizationPolicy", POLICY, f"p{n}", spec) for n in range(count))), ()
    )
    assert seen == ([count] * len(PORTS) if count else [])
    assert [each.version for each in watches] == [1 if count else 0] * len(PORTS)
