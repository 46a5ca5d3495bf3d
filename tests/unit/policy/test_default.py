"""Policy where no policy resource speaks."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from discovery.model import Address, Endpoint, Metadata, Target, default_metadata
from identity.name import Identity
from policy.decide import decide_connection
from policy.default import (
    closed_policy,
    default_server_policy,
    egress_policy,
    refuse_all,
    service_policy,
)
from policy.model import (
    ALL_NETWORKS,
    CLUSTER_NETWORKS,
    Balancer,
    Client,
    ClientTls,
    ConsecutiveFailures,
    FirstAvailable,
    Forward,
    NoBackends,
    OutboundPolicy,
    PenaltyPeakEwma,
    Permit,
    Protocol,
    Retry,
    ServerPolicy,
    Timeouts,
    TlsAuthenticated,
    Unauthenticated,
)
from policy.route import ForbiddenFilter, HttpMatch, InvalidFilter, PathMatch, PathMatchKind
from resources.config_map import MeshConfig
from resources.namespace import Namespace
from resources.pod import Pod
from resources.service import Service
from resources.workload import CONTROL_LABEL, Workload
from tests.support import manifests

PREFIX = "config.linkerd.io/"
POLICY = f"{PREFIX}default-inbound-policy"
REQUIRE = f"{PREFIX}proxy-require-identity-inbound-ports"


def policy_of(
    annotations: dict[str, str] | None = None,
    of_namespace: dict[str, str] | None = None,
    config: MeshConfig | None = None,
    port: int = 8080,
    **more: Any,
) -> ServerPolicy:
    """Return the default policy of a pod's port."""
    pod = manifests.one(manifests.pod("web", "10.1.0.1", annotations=annotations, **more))
    namespace = manifests.one(manifests.namespace("shop", of_namespace))
    assert isinstance(pod, Pod)
    assert isinstance(namespace, Namespace)
    return default_server_policy(Workload(pod, namespace, config or MeshConfig()), port)


ANYONE = Unauthenticated()
MEMBER = TlsAuthenticated(suffixes=((),))


@pytest.mark.parametrize(
    ("name", "networks", "authentication"),
    [
        ("all-unauthenticated", ALL_NETWORKS, ANYONE),
        ("all-authenticated", ALL_NETWORKS, MEMBER),
        ("cluster-unauthenticated", CLUSTER_NETWORKS, ANYONE),
        ("cluster-authenticated", CLUSTER_NETWORKS, MEMBER),
        ("audit", ALL_NETWORKS, ANYONE),
    ],
)
def test_each_default_policy_is_one_authorization(
    name: str, networks: tuple[object, ...], authentication: object
) -> None:
    """Named after the policy, as its server is."""
    policy = policy_of({POLICY: name})
    assert policy.metadata == default_metadata(name)
    (only,) = policy.authorizations
    assert only.metadata == default_metadata(name)
    assert tuple(each.network for each in only.networks) == networks
    assert only.authentication == authentication
    assert not policy.invalid


def test_deny_admits_nobody_but_the_pod_itself() -> None:
    """``localhost`` is every policy's own."""
    policy = policy_of({POLICY: "deny"})
    assert policy.authorizations == ()
    assert policy.localhost is not None
    local = decide_connection(policy, Client("127.0.0.1"))
    other = decide_connection(policy, Client("10.0.0.1"))
    assert isinstance(local, Permit)
    assert not isinstance(other, Permit)


def test_the_clusters_networks_are_the_configured_ones() -> None:
    """Not Linkerd's defaults, where others are given."""
    network = ip_network("192.0.2.0/24")
    policy = policy_of({POLICY: "cluster-unauthenticated"}, config=MeshConfig(
        cluster_networks=(network,)))  # fmt: skip
    assert [each.network for each in policy.authorizations[0].networks] == [network]


@pytest.mark.parametrize(
    ("own", "of_namespace", "configured", "labels", "wanted"),
    [
        (None, None, "all-unauthenticated", None, "all-unauthenticated"),
        (None, None, "deny", None, "deny"),
        (None, "audit", "deny", None, "audit"),
        ("all-authenticated", "audit", "deny", None, "all-authenticated"),
        (None, "audit", "deny", {CONTROL_LABEL: "linkerd"}, "deny"),
    ],
)
def test_the_pods_word_comes_before_its_namespaces_and_the_meshs(
    own: str | None,
    of_namespace: str | None,
    configured: str,
    labels: dict[str, str] | None,
    wanted: str,
) -> None:
    """An injected pod carries its namespace's with it."""
    policy = policy_of(
        None if own is None else {POLICY: own},
        None if of_namespace is None else {POLICY: of_namespace},
        MeshConfig(default_inbound_policy=configured),
        labels=labels,
    )
    assert policy.metadata.name == wanted


@pytest.mark.parametrize(
    ("name", "port", "wanted"),
    [
        ("all-unauthenticated", 8080, "all-authenticated"),
        ("all-unauthenticated", 8081, "all-unauthenticated"),
        ("cluster-unauthenticated", 9095, "cluster-authenticated"),
        ("cluster-authenticated", 8080, "cluster-authenticated"),
        ("deny", 8080, "deny"),
        ("audit", 8080, "audit"),
    ],
)
def test_required_identity_turns_open_policies_into_authenticated_ones(
    name: str, port: int, wanted: str
) -> None:
    """On the listed ports; ranges and names too."""
    policy = policy_of({POLICY: name, REQUIRE: "http,9090-9099"}, port=port, ports={"http": 8080})
    assert policy.metadata.name == wanted
    member = Client("10.9.9.9", ClientTls.MESH, Identity("a.b"))
    assert isinstance(decide_connection(policy, member), Permit) is (name != "deny")
    if wanted.endswith("-authenticated"):
        assert not isinstance(decide_connection(policy, Client("10.9.9.9")), Permit)


def test_a_mistyped_policy_refuses_everyone_and_says_so() -> None:
    """Falling back to the default would open what was to be closed."""
    policy = policy_of({POLICY: "all-authenticatd"})
    assert "did you mean all-authenticated?" in policy.invalid
    assert "Pod shop/web" in policy.invalid
    assert not isinstance(decide_connection(policy, Client("127.0.0.1")), Permit)


def test_an_opaque_port_has_no_detection_and_no_routes() -> None:
    """By the default list or the annotation."""
    assert policy_of(port=3306).protocol is Protocol.OPAQUE
    assert policy_of(port=3306).routes == ()
    assert policy_of({f"{PREFIX}opaque-ports": ""}, port=3306).protocol is Protocol.DETECT
    assert policy_of({f"{PREFIX}opaque-ports": "8080"}).protocol is Protocol.OPAQUE


PROBED: dict[str, Any] = {
    "ports": [{"name": "http", "containerPort": 8080}],
    "livenessProbe": {"httpGet": {"path": "/live?x=1", "port": "http"}},
    "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
    "startupProbe": {"httpGet": {"port": 9090}},
}


@pytest.mark.parametrize(
    ("port", "paths"), [(8080, ["/live", "/ready"]), (9090, ["/"]), (8081, [])]
)
def test_probes_are_let_in_by_a_route_of_their_own(port: int, paths: list[str]) -> None:
    """GET, the exact path, from anywhere, whatever the default policy says."""
    policy = policy_of({POLICY: "deny"}, port=port, container=PROBED)
    assert [route.metadata.name for route in policy.routes] == (
        ["default", "probe"] if paths else ["default"]
    )
    if not paths:
        return
    probe = policy.routes[1]
    (authorization,) = probe.authorizations
    assert authorization.metadata == default_metadata("probe")
    assert tuple(each.network for each in authorization.networks) == ALL_NETWORKS
    (rule,) = probe.rules
    assert rule.matches == tuple(
        HttpMatch(method="GET", path=PathMatch(PathMatchKind.EXACT, path)) for path in paths
    )


def test_the_catch_all_route_has_no_authorizations_of_its_own() -> None:
    """The server's count on it."""
    (route,) = policy_of().routes
    assert (route.metadata, route.authorizations) == (default_metadata("default"), ())


def test_what_is_not_known_refuses_everyone() -> None:
    """With the reason."""
    policy = refuse_all("nothing is known")
    refusal = decide_connection(policy, Client("127.0.0.1"))
    assert not isinstance(refusal, Permit)
    assert "nothing is known" in refusal.reason


# --- outbound -------------------------------------------------------------------------------


def outbound(port: dict[str, Any], number: int | None = None, **more: Any) -> OutboundPolicy:
    """Return the policy of a Service's port."""
    service = manifests.one(manifests.service("web", "10.2.0.1", port, **more))
    assert isinstance(service, Service)
    return service_policy(service, None, number or port["port"], "web.shop.svc.cluster.local")


OPAQUE_80 = {f"{PREFIX}opaque-ports": "80"}


@pytest.mark.parametrize(
    ("port", "annotations", "protocol"),
    [
        ({"port": 80}, None, Protocol.DETECT),
        ({"port": 3306}, None, Protocol.OPAQUE),
        ({"port": 80}, OPAQUE_80, Protocol.OPAQUE),
        ({"port": 3306}, OPAQUE_80, Protocol.DETECT),
        ({"port": 80, "appProtocol": "http"}, OPAQUE_80, Protocol.HTTP1),
        ({"port": 3306, "appProtocol": "HTTP"}, None, Protocol.HTTP1),
        ({"port": 80, "appProtocol": "kubernetes.io/h2c"}, None, Protocol.HTTP2),
        ({"port": 80, "appProtocol": "linkerd.io/opaque"}, None, Protocol.OPAQUE),
        ({"port": 80, "appProtocol": "linkerd.io/tcp"}, None, Protocol.OPAQUE),
        ({"port": 80, "appProtocol": "grpc"}, OPAQUE_80, Protocol.HTTP2),
        ({"port": 443, "appProtocol": "https"}, None, Protocol.OPAQUE),
    ],
)
def test_a_services_protocol_is_its_app_protocol_then_its_opaque_ports(
    port: dict[str, Any], annotations: dict[str, str] | None, protocol: Protocol
) -> None:
    """And only the routes that the protocol can use are there."""
    policy = outbound(port, annotations=annotations)
    assert policy.protocol is protocol
    assert policy.metadata == Metadata("Service", "web", "core", "shop", "", port["port"])
    detects = protocol is Protocol.DETECT
    assert bool(policy.http1) is (detects or protocol is Protocol.HTTP1)
    assert bool(policy.http2) is (detects or protocol is Protocol.HTTP2)
    assert bool(policy.opaque) is (detects or protocol is Protocol.OPAQUE)


def test_annotations_say_how_a_service_is_retried_timed_out_and_balanced() -> None:
    """In every route of it; opaque ones have nothing to retry."""
    found = outbound(
        {"port": 80},
        annotations={
            "retry.linkerd.io/limit": "2",
            "timeout.linkerd.io/request": "1s",
            "balancer.linkerd.io/failure-accrual": "consecutive",
            "balancer.alpha.linkerd.io/penalize-failures": "true",
            "pillion.dev/safe-retries": "disabled",
            "pillion.dev/l5d-request-headers": "allowed",
        },
    )
    assert found.failure_accrual == ConsecutiveFailures()
    assert not found.safe_retries
    for route in (*found.http1, *found.http2):
        (rule,) = route.rules
        assert rule.retry == Retry(max_retries=2)
        assert rule.timeouts == Timeouts(request_s=1.0)
        assert rule.allow_l5d_request_headers
        assert isinstance(rule.distribution, FirstAvailable)
        (backend,) = rule.distribution.backends
        assert isinstance(backend.dispatcher, Balancer)
        assert backend.dispatcher.load == PenaltyPeakEwma()


def test_every_route_leads_to_the_services_endpoints() -> None:
    """The default routes ``http`` and ``opaq``."""
    policy = outbound({"port": 80})
    assert [route.metadata.name for route in (*policy.http1, *policy.http2)] == ["http", "http"]
    assert [route.metadata.name for route in policy.opaque] == ["opaq"]
    ways = [policy.http1[0].rules[0].distribution, policy.opaque[0].distribution]
    for way in ways:
        assert isinstance(way, FirstAvailable)
        (backend,) = way.backends
        assert backend.metadata == policy.metadata
        assert backend.dispatcher == Balancer(target=Target("web.shop.svc.cluster.local", 80))


def test_an_undeclared_port_is_closed() -> None:
    """Under the Service's name and that port."""
    policy = outbound({"port": 80}, number=81)
    assert policy.protocol is Protocol.OPAQUE
    assert policy.metadata.port == 81
    (route,) = policy.opaque
    assert route.metadata == default_metadata("undefined-port")
    assert route.filters == (ForbiddenFilter(),)
    assert route.distribution == NoBackends()


def test_the_way_out_of_the_cluster_is_the_address_itself() -> None:
    """Detected, in plaintext."""
    address = Address("192.0.2.1", 443)
    policy = egress_policy(address)
    assert policy.protocol is Protocol.DETECT
    assert policy.metadata == default_metadata("egress-fallback")
    way = policy.opaque[0].distribution
    assert isinstance(way, FirstAvailable)
    assert way.backends[0].dispatcher == Forward(Endpoint(address=address))


def test_what_must_not_be_reached_says_why() -> None:
    """No backend stands behind the filter."""
    (route,) = closed_policy("because").opaque
    assert route.filters == (InvalidFilter("because"),)
    assert route.distribution == NoBackends()
