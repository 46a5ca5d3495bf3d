"""Policy kinds: what is read, and every mistake at its field."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from identity.name import parse_identity
from resources.authorization_policy import AuthorizationPolicy
from resources.document import Problem
from resources.identity_pattern import ANY_IDENTITY, IdentityPattern, try_pattern
from resources.kind import ObjectKey, Resource
from resources.manifest import parse_manifest
from resources.mesh_tls_authentication import MeshTlsAuthentication
from resources.network import NetworkRange
from resources.network_authentication import NetworkAuthentication
from resources.object_name import Account
from resources.rate_limit_policy import RateLimitPolicy, RateOverride
from resources.selector import Requirement, Selector
from resources.server import Server
from resources.server_authorization import ServerAuthorization

POLICY = "policy.linkerd.io"
VERSIONS = {
    "Server": "policy.linkerd.io/v1beta3",
    "ServerAuthorization": "policy.linkerd.io/v1beta1",
    "DenyPolicy": "policy.pillion.dev/v1alpha1",
}


def read(
    kind: str, spec: str, *, version: str = "", annotations: str = "{}"
) -> tuple[Resource | None, tuple[Problem, ...]]:
    """Parse one object of namespace app with this spec, in flow style."""
    version = version or VERSIONS.get(kind, "policy.linkerd.io/v1alpha1")
    text = (
        f"{{apiVersion: {version}, kind: {kind},"
        f" metadata: {{name: one, namespace: app, annotations: {annotations}}}, spec: {spec}}}"
    )
    (document,) = parse_manifest("p.yaml", text.encode()).documents
    return document.resource, document.problems


def good(kind: str, spec: str, *, version: str = "", annotations: str = "{}") -> Resource:
    """Parse an object without mistakes."""
    resource, problems = read(kind, spec, version=version, annotations=annotations)
    assert problems == ()
    assert resource is not None
    return resource


def paths(kind: str, spec: str) -> list[str]:
    """Return the fields of all mistakes, without ``spec.``."""
    _, problems = read(kind, spec)
    return [each.path.removeprefix("spec").removeprefix(".") for each in problems]


def test_a_server() -> None:
    """Selector, port, protocol and access policy, with Linkerd's defaults."""
    server = good("Server", "{podSelector: {matchLabels: {app: web}}, port: 80}")
    assert isinstance(server, Server)
    assert server.pods == Selector((Requirement("app", "In", frozenset({"web"})),))
    assert (server.port, server.protocol, server.access_policy) == (80, "unknown", "deny")
    named = good(
        "Server", "{podSelector: {}, port: http, proxyProtocol: HTTP/2, accessPolicy: audit}"
    )
    assert isinstance(named, Server)
    assert (named.port, named.protocol, named.access_policy) == ("http", "HTTP/2", "audit")


@pytest.mark.parametrize("version", ["v1beta2", "v1beta1", "v1alpha1"])
def test_older_servers_have_no_access_policy(version: str) -> None:
    """The API server drops the field before v1beta3: such a Server denies."""
    spec = "{podSelector: {}, port: 80, accessPolicy: all-unauthenticated}"
    server = good("Server", spec, version=f"{POLICY}/{version}")
    assert isinstance(server, Server)
    assert server.access_policy == "deny"


def test_a_server_of_external_workloads_selects_no_pod() -> None:
    """It is read, and is about nobody here."""
    server = good("Server", "{externalWorkloadSelector: {}, port: 80}")
    assert isinstance(server, Server)
    assert server.pods is None


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{port: 80}", ["podSelector"]),
        ("{podSelector: {}}", ["port"]),
        ("{podSelector: {}, externalWorkloadSelector: {}, port: 80}", ["externalWorkloadSelector"]),
        ("{podSelector: {}, port: 0}", ["port"]),
        ("{podSelector: {}, port: 65536}", ["port"]),
        ("{podSelector: {}, port: Not_A_Name}", ["port"]),
        ("{podSelector: {}, port: a-name-of-16-chr}", ["port"]),
        ("{podSelector: {}, port: 80, proxyProtocol: http/1}", ["proxyProtocol"]),
        ("{podSelector: {}, port: 80, accessPolicy: allow}", ["accessPolicy"]),
        ("{podSelector: {}, port: 80, acessPolicy: deny}", ["acessPolicy"]),
        (
            "{podSelector: {matchExpressions: [{key: a, operator: In}]}, port: 80}",
            ["podSelector.matchExpressions[0].values"],
        ),
        (
            "{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}, port: 1}",
            ["podSelector.matchExpressions[0].values"],
        ),
        (
            "{podSelector: {matchExpressions: [{operator: Near}]}, port: 1}",
            ["podSelector.matchExpressions[0].key", "podSelector.matchExpressions[0].operator"],
        ),
        ("{podSelector: {matchLables: {a: b}}, port: 1}", ["podSelector.matchLables"]),
        ("{proxyProtocol: tls}", ["podSelector", "port", "proxyProtocol"]),
    ],
)
def test_mistakes_in_a_server(spec: str, expected: list[str]) -> None:
    """All of them at once."""
    assert sorted(paths("Server", spec)) == sorted(expected)


@pytest.mark.parametrize(
    ("operator", "values", "labels", "holds"),
    [
        ("In", "[a, b]", {"k": "b"}, True),
        ("In", "[a]", {"k": "b"}, False),
        ("In", "[a]", {}, False),
        ("NotIn", "[a]", {"k": "b"}, True),
        ("NotIn", "[a]", {"k": "a"}, False),
        ("NotIn", "[a]", {}, True),
        ("Exists", "[]", {"k": ""}, True),
        ("Exists", "[]", {}, False),
        ("DoesNotExist", "[]", {}, True),
        ("DoesNotExist", "[]", {"k": "a"}, False),
    ],
)
def test_selectors(operator: str, values: str, labels: dict[str, str], holds: bool) -> None:
    """Kubernetes' label selector semantics."""
    spec = f"{{matchExpressions: [{{key: k, operator: {operator}, values: {values}}}]}}"
    server = good("Server", f"{{podSelector: {spec}, port: 80}}")
    assert isinstance(server, Server)
    assert server.pods is not None
    assert server.pods.matches(labels) is holds


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("*", ANY_IDENTITY),
        ("*.a.b.c", IdentityPattern(suffix=("a", "b", "c"))),
        ("a.b.c", IdentityPattern(parse_identity("a.b.c"))),
        ("spiffe://td/path", IdentityPattern(parse_identity("spiffe://td/path"))),
        ("foo.*.bar", None),
        ("x*.y", None),
        ("*x.y", None),
        ("*.", None),
        ("**", None),
        ("A.b", None),
        ("a.b.", None),
        ("a_b.c", None),
        ("", None),
        ("spiffe://td/*", None),
        ("spiffe://td/a//b", None),
        ("spiffe://td/a/", None),
        ("spiffe://td/./b", None),
        ("spiffe://TD/a", None),
        ("https://td/a", None),
        (".".join(["a" * 49] * 5), IdentityPattern(parse_identity(".".join(["a" * 49] * 5)))),
        (".".join(["a" * 50] * 6), None),
    ],
)
def test_identity_patterns(text: str, pattern: IdentityPattern | None) -> None:
    """A leading wildcard label, or one identity."""
    assert try_pattern(text) == pattern


def test_a_server_authorization() -> None:
    """Server by name or labels, clients by network, identity or account."""
    one = good(
        "ServerAuthorization",
        """{server: {name: srv}, client: {networks: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}],
        meshTLS: {identities: ['*.x'], serviceAccounts: [{name: cli},
        {name: a, namespace: b}]}}}""",
    )
    assert isinstance(one, ServerAuthorization)
    assert one.server_name == "srv"
    assert one.networks == (NetworkRange(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),)),)
    assert one.accounts == (Account("app", "cli"), Account("b", "a"))
    assert one.authorizes
    labelled = good(
        "ServerAuthorization",
        "{server: {selector: {matchLabels: {a: b}}}, client: {unauthenticated: true}}",
    )
    assert isinstance(labelled, ServerAuthorization)
    assert labelled.servers is not None
    assert labelled.is_unauthenticated
    nobody = good("ServerAuthorization", "{server: {name: srv}, client: {}}")
    assert isinstance(nobody, ServerAuthorization)
    assert not nobody.authorizes


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{server: {}, client: {unauthenticated: true}}", ["server"]),
        ("{server: {name: a, selector: {}}, client: {}}", ["server"]),
        ("{server: {name: a}}", ["client"]),
        ("{client: {}}", ["server", "server"]),
        (
            "{server: {name: a}, client: {unauthenticated: true, meshTLS: {identities: ['*']}}}",
            ["client.unauthenticated"],
        ),
        (
            "{server: {name: a}, client: {meshTLS: {unauthenticatedTLS: true, identities: [a]}}}",
            ["client.meshTLS.unauthenticatedTLS"],
        ),
        (
            (
                "{server: {name: a}, client: {meshTLS: {unauthenticatedTLS: true,"
                " serviceAccounts: [{name: a}]}}}"
            ),
            ["client.meshTLS.unauthenticatedTLS"],
        ),
        (
            "{server: {name: a}, client: {networks: [{cidr: 10.0.0.0/33}]}}",
            ["client.networks[0].cidr"],
        ),
        (
            "{server: {name: a}, client: {networks: [{cidr: 10.0.0.0/8, except: [x]}]}}",
            ["client.networks[0].except"],
        ),
        (
            "{server: {name: a}, client: {meshTLS: {identities: ['a.*.b']}}}",
            ["client.meshTLS.identities"],
        ),
        ("{server: {name: a}, client: {unauthenticatd: true}}", ["client.unauthenticatd"]),
    ],
)
def test_mistakes_in_a_server_authorization(spec: str, expected: list[str]) -> None:
    """Each at its field."""
    assert paths("ServerAuthorization", spec) == expected


MESH = "{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: m}"
NET = "{group: policy.linkerd.io, kind: NetworkAuthentication, name: n, namespace: other}"
ACCOUNT = "{kind: ServiceAccount, name: cli}"
TO_SERVER = "targetRef: {group: policy.linkerd.io, kind: Server, name: srv}"


@pytest.mark.parametrize("kind", ["AuthorizationPolicy", "DenyPolicy"])
def test_an_authorization_policy(kind: str) -> None:
    """Target and authentications; a DenyPolicy has the same shape."""
    policy = good(
        kind,
        f"{{{TO_SERVER}, requiredAuthenticationRefs: [{MESH}, {NET}]}}",
        annotations="{pillion.dev/mode: audit}",
    )
    assert isinstance(policy, AuthorizationPolicy)
    assert policy.is_denial is (kind == "DenyPolicy")
    assert policy.is_audit
    assert policy.target == ObjectKey(POLICY, "Server", "app", "srv")
    assert policy.authentications == (
        ObjectKey(POLICY, "MeshTLSAuthentication", "app", "m"),
        ObjectKey(POLICY, "NetworkAuthentication", "other", "n"),
    )


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("{group: policy.linkerd.io, kind: HTTPRoute, name: r}", (POLICY, "HTTPRoute", "app", "r")),
        (
            "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}",
            ("gateway.networking.k8s.io", "HTTPRoute", "app", "r"),
        ),
        (
            "{group: gateway.networking.k8s.io, kind: GRPCRoute, name: r}",
            ("gateway.networking.k8s.io", "GRPCRoute", "app", "r"),
        ),
        ("{kind: Namespace, name: app}", ("", "Namespace", "", "app")),
        ("{group: core, kind: Namespace, name: app}", ("", "Namespace", "", "app")),
    ],
)
def test_targets(target: str, key: tuple[str, str, str, str]) -> None:
    """Servers, routes and the own namespace."""
    policy = good("AuthorizationPolicy", f"{{targetRef: {target}, requiredAuthenticationRefs: []}}")
    assert isinstance(policy, AuthorizationPolicy)
    assert policy.target == ObjectKey(*key)
    assert not policy.is_audit


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (f"{{{TO_SERVER}}}", ["requiredAuthenticationRefs"]),
        ("{requiredAuthenticationRefs: []}", ["targetRef", "targetRef.kind", "targetRef.name"]),
        (
            "{targetRef: {kind: Service, name: a}, requiredAuthenticationRefs: []}",
            ["targetRef.kind"],
        ),
        (
            "{targetRef: {kind: Server, name: a}, requiredAuthenticationRefs: []}",
            ["targetRef.group"],
        ),
        (
            "{targetRef: {kind: Namespace, name: other}, requiredAuthenticationRefs: []}",
            ["targetRef.name"],
        ),
        (
            f"{{{TO_SERVER}, requiredAuthenticationRefs: [{MESH}, {ACCOUNT}]}}",
            ["requiredAuthenticationRefs"],
        ),
        (
            f"{{{TO_SERVER}, requiredAuthenticationRefs: [{MESH}, {MESH}]}}",
            ["requiredAuthenticationRefs"],
        ),
        (
            f"{{{TO_SERVER}, requiredAuthenticationRefs: [{ACCOUNT}, {ACCOUNT}]}}",
            ["requiredAuthenticationRefs"],
        ),
        (
            f"{{{TO_SERVER}, requiredAuthenticationRefs: [{NET}, {NET}]}}",
            ["requiredAuthenticationRefs"],
        ),
        (
            f"{{{TO_SERVER}, requiredAuthenticationRefs: [{{kind: Secret, name: a}}]}}",
            ["requiredAuthenticationRefs[0].kind"],
        ),
        (
            (
                f"{{{TO_SERVER}, requiredAuthenticationRefs: [{{kind: MeshTLSAuthentication,"
                f" name: a, nmespace: b}}]}}"
            ),
            ["requiredAuthenticationRefs[0].nmespace", "requiredAuthenticationRefs[0].group"],
        ),
        (
            f"{{{TO_SERVER}, requiredAuthenticationRef: []}}",
            ["requiredAuthenticationRef", "requiredAuthenticationRefs"],
        ),
    ],
)
def test_mistakes_in_an_authorization_policy(spec: str, expected: list[str]) -> None:
    """Each at its field, in both kinds."""
    assert sorted(paths("AuthorizationPolicy", spec)) == sorted(expected)
    assert sorted(paths("DenyPolicy", spec)) == sorted(expected)


def test_an_unknown_mode_is_a_mistake() -> None:
    """A policy meant to be tried is not enforced by a typo."""
    spec = f"{{{TO_SERVER}, requiredAuthenticationRefs: []}}"
    _, problems = read("AuthorizationPolicy", spec, annotations="{pillion.dev/mode: audti}")
    assert [each.path for each in problems] == ["metadata.annotations['pillion.dev/mode']"]
    assert "did you mean audit?" in problems[0].message


def test_a_mesh_tls_authentication() -> None:
    """Identities, or references to accounts and namespaces."""
    named = good("MeshTLSAuthentication", "{identities: ['*', a.b]}")
    assert isinstance(named, MeshTlsAuthentication)
    assert named.identities == (ANY_IDENTITY, IdentityPattern(parse_identity("a.b")))
    referring = good(
        "MeshTLSAuthentication",
        "{identityRefs: [{kind: ServiceAccount, name: cli}, {kind: Namespace, name: ext}]}",
    )
    assert isinstance(referring, MeshTlsAuthentication)
    assert referring.references == (
        ObjectKey("", "ServiceAccount", "app", "cli"),
        ObjectKey("", "Namespace", "", "ext"),
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{}", [""]),
        ("{identities: [a], identityRefs: [{kind: Namespace, name: a}]}", [""]),
        ("{identities: []}", ["identities"]),
        ("{identityRefs: []}", ["identityRefs"]),
        ("{identities: ['a.*']}", ["identities"]),
        ("{identityRefs: [{kind: Pod, name: a}]}", ["identityRefs[0].kind"]),
        (
            "{identityRefs: [{kind: Namespace, name: a, namespace: b}]}",
            ["identityRefs[0].namespace"],
        ),
        (
            "{identityRefs: [{group: apps, kind: Namespace, name: a}]}",
            ["identityRefs[0].group"],
        ),
        ("{identites: [a]}", ["identites", ""]),
    ],
)
def test_mistakes_in_a_mesh_tls_authentication(spec: str, expected: list[str]) -> None:
    """Each at its field."""
    assert paths("MeshTLSAuthentication", spec) == expected


def test_a_network_authentication() -> None:
    """A plain address is its own network; host bits do not count."""
    one = good(
        "NetworkAuthentication",
        "{networks: [{cidr: 10.0.0.7}, {cidr: 10.0.0.7/8, except: [10.1.0.0/16]}, {cidr: '::/0'}]}",
    )
    assert isinstance(one, NetworkAuthentication)
    assert one.networks == (
        NetworkRange(ip_network("10.0.0.7/32")),
        NetworkRange(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),)),
        NetworkRange(ip_network("::/0")),
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{networks: []}", ["networks"]),
        ("{}", ["networks"]),
        ("{networks: [{}]}", ["networks[0].cidr"]),
        ("{networks: [{cidr: x}]}", ["networks[0].cidr"]),
        ("{networks: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]}", ["networks[0].except"]),
        ("{networks: [{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}]}", ["networks[0].except"]),
        ("{networks: [{cidr: 10.0.0.0/8, except: [0.0.0.0/0]}]}", ["networks[0].except"]),
        ("{networks: [{cidr: 10.0.0.0/8, except: ['::/0']}]}", ["networks[0].except"]),
        ("{networks: [{cidr: 10.0.0.0/8, expect: [10.1.0.0/16]}]}", ["networks[0].expect"]),
    ],
)
def test_mistakes_in_a_network_authentication(spec: str, expected: list[str]) -> None:
    """Each at its field."""
    assert paths("NetworkAuthentication", spec) == expected


def test_a_rate_limit() -> None:
    """Total, per identity, and overrides."""
    one = good(
        "HTTPLocalRateLimitPolicy",
        f"""{{{TO_SERVER}, total: {{requestsPerSecond: 100}}, identity: {{requestsPerSecond: 10}},
        overrides: [{{requestsPerSecond: 20, clientRefs: [{ACCOUNT}]}}]}}""",
    )
    assert isinstance(one, RateLimitPolicy)
    assert (one.server, one.total, one.identity) == ("srv", 100, 10)
    assert one.overrides == (RateOverride(20, (Account("app", "cli"),)),)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{targetRef: {kind: Service, name: a}}", ["targetRef.kind", "targetRef.group"]),
        ("{targetRef: {kind: Server, name: a}}", ["targetRef.group"]),
        (f"{{{TO_SERVER}, total: {{}}}}", ["total.requestsPerSecond"]),
        (f"{{{TO_SERVER}, total: {{requestsPerSecond: 0}}}}", ["total.requestsPerSecond"]),
        (f"{{{TO_SERVER}, identity: {{requestsPerSecond: 0}}}}", ["identity.requestsPerSecond"]),
        (
            f"{{{TO_SERVER}, total: {{requestsPerSecond: 5}}, identity: {{requestsPerSecond: 6}}}}",
            ["identity.requestsPerSecond"],
        ),
        (
            (
                f"{{{TO_SERVER}, total: {{requestsPerSecond: 5}},"
                f" overrides: [{{requestsPerSecond: 6, clientRefs: [{ACCOUNT}]}}]}}"
            ),
            ["overrides[0].requestsPerSecond"],
        ),
        (
            f"{{{TO_SERVER}, overrides: [{{requestsPerSecond: 6, clientRefs: []}}]}}",
            ["overrides[0].clientRefs"],
        ),
        (
            (
                f"{{{TO_SERVER}, overrides: [{{requestsPerSecond: 6,"
                f" clientRefs: [{{kind: Namespace, name: a}}]}}]}}"
            ),
            ["overrides[0].clientRefs[0].kind"],
        ),
    ],
)
def test_mistakes_in_a_rate_limit(spec: str, expected: list[str]) -> None:
    """Each at its field."""
    assert paths("HTTPLocalRateLimitPolicy", spec) == expected
