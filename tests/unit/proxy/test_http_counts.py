"""Where requests are counted: Linkerd's names and labels, bounds, and no label left to a peer."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from discovery.model import Address, Endpoint, Metadata, default_metadata
from identity.name import parse_identity
from policy.model import Client, ClientTls, LimitHit, LimitScope, Permit, Refusal
from proxy.telemetry.exposition import expose
from proxy.telemetry.http import MAX_ENDS, MAX_PERMITS, InboundHttp, OutboundHttp
from proxy.telemetry.http_metric import LATENCY_MS
from proxy.telemetry.metric import Metrics
from proxy.telemetry.slot import MAX_CHILDREN

GROUP = "policy.linkerd.io"
SERVER = Metadata("Server", "api-http", GROUP, "shop")
ROUTE = Metadata("HTTPRoute", "orders", GROUP, "shop")
PERMIT = Permit(
    server=SERVER, route=ROUTE, authorization=Metadata("AuthorizationPolicy", "web", GROUP, "shop")
)
TARGET = Address("10.8.0.9", 8080)
WEB = parse_identity("web.shop.serviceaccount.identity.linkerd.cluster.local")
CLIENT = Client("10.8.0.7", ClientTls.MESH, WEB)

TARGET_LABELS = {"target_addr": "10.8.0.9:8080", "target_ip": "10.8.0.9", "target_port": "8080"}
TLS_LABELS = {"tls": "true", "client_id": WEB.name}
SRV_LABELS = {
    "srv_group": GROUP,
    "srv_kind": "server",
    "srv_name": "api-http",
    "srv_port": "8080",
}
ROUTE_LABELS = {"route_group": GROUP, "route_kind": "HTTPRoute", "route_name": "orders"}
AUTHZ_LABELS = {"authz_group": GROUP, "authz_kind": "authorizationpolicy", "authz_name": "web"}
INBOUND_LABELS = TARGET_LABELS | TLS_LABELS | SRV_LABELS | ROUTE_LABELS | AUTHZ_LABELS
ROUTED_LABELS = ROUTE_LABELS | {
    "parent_group": GROUP,
    "parent_kind": "server",
    "parent_name": "api-http",
    "parent_port": "8080",
}

SERVICE = Metadata("Service", "api", "core", "shop", port=8080)
PARENT_LABELS = {
    "parent_group": "core",
    "parent_kind": "Service",
    "parent_namespace": "shop",
    "parent_name": "api",
    "parent_port": "8080",
    "parent_section_name": "",
}
OUT_ROUTE_LABELS = {
    "route_group": "",
    "route_kind": "default",
    "route_namespace": "",
    "route_name": "http",
}

Samples = dict[frozenset[tuple[str, str]], float]


def samples(metrics: Metrics, name: str) -> Samples:
    """Return labels → value of one exposed series."""
    return {
        frozenset(sample.labels.items()): sample.value
        for family in text_string_to_metric_families(b"".join(expose(metrics.families())).decode())
        for sample in family.samples
        if sample.name == name
    }


def only(metrics: Metrics, name: str) -> tuple[dict[str, str], float]:
    """Return labels and value of a series that has one label set."""
    ((labels, value),) = samples(metrics, name).items()
    return dict(labels), value


def test_an_inbound_request_carries_linkerd_s_labels() -> None:
    """Target, client, server, route and authorization; two generations of families."""
    metrics = Metrics()
    counts = InboundHttp(metrics).client(TARGET, CLIENT).permitted(PERMIT, is_grpc=False)
    counts.request()
    counts.request()
    direction = {"direction": "inbound"}
    assert only(metrics, "request_total") == (INBOUND_LABELS | direction, 2)
    assert only(metrics, "inbound_http_authz_allow_total") == (INBOUND_LABELS, 2)
    assert only(metrics, "inbound_http_requests_total") == (ROUTED_LABELS, 2)
    assert not samples(metrics, "inbound_grpc_requests_total")


def test_an_inbound_response_is_classified_and_timed() -> None:
    """Latency in milliseconds in one generation, durations in seconds in the other."""
    metrics = Metrics()
    counts = InboundHttp(metrics).client(TARGET, CLIENT).permitted(PERMIT, is_grpc=False)
    counts.response((503, None, ""), 0.0042, 0.2, 0.04)
    common = {**INBOUND_LABELS, "direction": "inbound", "status_code": "503"}
    ending = {"classification": "failure", "grpc_status": "", "error": ""}
    assert only(metrics, "response_total") == (common | ending, 1)
    assert only(metrics, "inbound_http_statuses_total") == ({**ROUTED_LABELS, "status": "503"}, 1)
    buckets = {
        dict(labels)["le"]: value
        for labels, value in samples(metrics, "response_latency_ms_bucket").items()
    }
    assert len(buckets) == len(LATENCY_MS) + 1
    assert (buckets["4"], buckets["5"], buckets["50000"]) == (0, 1, 1)
    assert only(metrics, "response_latency_ms_count") == (common, 1)
    assert only(metrics, "inbound_http_request_duration_seconds_sum") == (ROUTED_LABELS, 0.2)
    assert only(metrics, "inbound_http_response_duration_seconds_sum") == (ROUTED_LABELS, 0.04)


def test_the_buckets_are_linkerd_s() -> None:
    """1 to 5 of each decade, from milliseconds to ten seconds."""
    wanted = (
        *(1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500),
        *(1000, 2000, 3000, 4000, 5000, 10000, 20000, 30000, 40000, 50000),
    )
    assert wanted == LATENCY_MS


def test_grpc_has_families_of_its_own_and_is_judged_by_its_status() -> None:
    """HTTP says 200 all the time."""
    metrics = Metrics()
    counts = InboundHttp(metrics).client(TARGET, CLIENT).permitted(PERMIT, is_grpc=True)
    counts.request()
    counts.response((200, 14, ""), 0.1, 0.1, 0.1)
    labels, _ = only(metrics, "response_total")
    assert (labels["classification"], labels["grpc_status"]) == ("failure", "14")
    assert only(metrics, "inbound_grpc_requests_total") == (ROUTED_LABELS, 1)
    assert only(metrics, "inbound_grpc_statuses_total") == ({**ROUTED_LABELS, "status": "14"}, 1)


def test_clients_are_told_apart_by_what_they_prove_not_by_their_address() -> None:
    """A hundred pods of one identity are one label set; without identity they are another."""
    metrics = Metrics()
    inbound = InboundHttp(metrics)
    for number in range(100):
        client = replace(CLIENT, ip=f"10.8.1.{number}")
        inbound.client(TARGET, client).permitted(PERMIT, is_grpc=False).request()
    plain = Client("10.8.0.8")
    inbound.client(TARGET, plain).permitted(PERMIT, is_grpc=False).request()
    found = samples(metrics, "request_total")
    assert sorted(found.values()) == [1, 100]
    bare = next(dict(labels) for labels, value in found.items() if value == 1)
    assert (bare["tls"], bare["no_tls_reason"]) == ("no_identity", "no_tls_from_remote")


def test_permits_made_anew_for_each_request_count_as_one() -> None:
    """Audits make them so; what is kept of them is bounded, and never mistaken for another."""
    metrics = Metrics()
    client = InboundHttp(metrics).client(TARGET, CLIENT)
    denied = replace(PERMIT, route=None)
    for _ in range(MAX_PERMITS * 2 + 1):
        client.permitted(replace(PERMIT), is_grpc=False).request()
        client.permitted(replace(denied), is_grpc=False).request()
    found = samples(metrics, "request_total")
    assert {dict(labels)["route_name"]: value for labels, value in found.items()} == {
        "orders": MAX_PERMITS * 2 + 1,
        "default": MAX_PERMITS * 2 + 1,
    }
    first = client.permitted(PERMIT, is_grpc=False)
    assert client.permitted(PERMIT, is_grpc=False) is first
    assert client.permitted(PERMIT, is_grpc=True) is not first


def test_refusals_have_a_family_each() -> None:
    """Denied, without a route, past a rate limit; policy that cannot be used denies."""
    metrics = Metrics()
    client = InboundHttp(metrics).client(TARGET, CLIENT)
    base = Refusal(code="unauthorized", server=SERVER, reason="", route=ROUTE)
    client.refused(base)
    client.refused(replace(base, code="policy-invalid", route=None))
    client.refused(replace(base, code="route-not-found", route=None))
    limit = Metadata("HTTPLocalRateLimitPolicy", "slow", GROUP, "shop")
    client.refused(
        replace(base, code="rate-limited", limit=LimitHit(limit, LimitScope.IDENTITY, 5))
    )
    plain = TARGET_LABELS | SRV_LABELS | TLS_LABELS
    denied = samples(metrics, "inbound_http_authz_deny_total")
    assert denied[frozenset((plain | ROUTE_LABELS).items())] == 1
    assert sum(denied.values()) == 2
    assert only(metrics, "inbound_http_route_not_found_total") == (plain, 1)
    scoped = {
        "ratelimit_group": GROUP,
        "ratelimit_kind": "httplocalratelimitpolicy",
        "ratelimit_name": "slow",
        "ratelimit_scope": "identity",
    }
    assert only(metrics, "inbound_http_local_ratelimit_total") == (plain | scoped, 1)


def test_failed_requests_are_counted_by_their_code() -> None:
    """Of the codecs too."""
    metrics = Metrics()
    InboundHttp(metrics).client(TARGET, CLIENT).failed("http1-bare-lf", SERVER)
    OutboundHttp(metrics).failed("http2-resets")
    labels = {"error": "http1-bare-lf", **TARGET_LABELS, **SRV_LABELS}
    assert only(metrics, "inbound_http_errors_total") == (labels, 1)
    assert only(metrics, "outbound_http_errors_total") == ({"error": "http2-resets"}, 1)


def test_an_outbound_request_counts_for_its_route_its_backend_and_its_endpoint() -> None:
    """Two attempts, one answer."""
    metrics = Metrics()
    outbound = OutboundHttp(metrics)
    default = default_metadata("http")
    route = outbound.route(SERVICE, default, is_grpc=False)
    backend = outbound.backend(SERVICE, default, SERVICE, is_grpc=False)
    endpoint = outbound.endpoint(
        Endpoint(address=TARGET, labels=(("pod", "api-0"),)),
        authority="api.shop.svc.cluster.local:8080",
        server=WEB,
        labels=(("service", "api"),),
    )
    for end in ((0, None, "connect-refused"), (200, None, "")):
        backend.request()
        endpoint.request()
        endpoint.response(end, 0.003)
        backend.response(end, 0.003)
    route.response((200, None, ""), 0.006)

    requested = {
        "direction": "outbound",
        "authority": "api.shop.svc.cluster.local:8080",
        **TARGET_LABELS,
        "tls": "true",
        "server_id": WEB.name,
        "dst_pod": "api-0",
        "dst_service": "api",
    }
    assert only(metrics, "request_total") == (requested, 2)
    ends = {
        (dict(labels)["status_code"], dict(labels)["classification"], dict(labels)["error"])
        for labels in samples(metrics, "response_total")
    }
    assert ends == {("", "failure", "connect-refused"), ("200", "success", "")}
    backed = {
        **PARENT_LABELS,
        **OUT_ROUTE_LABELS,
        **{name.replace("parent", "backend"): value for name, value in PARENT_LABELS.items()},
    }
    assert only(metrics, "outbound_http_route_backend_requests_total") == (backed, 2)
    statuses = samples(metrics, "outbound_http_route_backend_response_statuses_total")
    assert statuses == {
        frozenset({**backed, "http_status": "", "error": "IO"}.items()): 1,
        frozenset({**backed, "http_status": "200", "error": ""}.items()): 1,
    }
    hosted = {**PARENT_LABELS, **OUT_ROUTE_LABELS, "hostname": ""}
    assert only(metrics, "outbound_http_route_request_statuses_total") == (
        {**hosted, "http_status": "200", "error": ""},
        1,
    )
    assert only(metrics, "outbound_http_route_request_duration_seconds_sum") == (hosted, 0.006)


def test_a_grpc_route_names_statuses_and_errors_as_linkerd_does() -> None:
    """A response without status is UNKNOWN; a reset is a RESET, whatever its reason."""
    metrics = Metrics()
    route = OutboundHttp(metrics).route(SERVICE, default_metadata("grpc"), is_grpc=True)
    for end in (
        (200, 0, ""),
        (200, None, ""),
        (200, 8, "http2-noise"),
        (0, None, "no-endpoints"),
        (0, None, "handshake"),
    ):
        route.response(end, 0.1)
    found = samples(metrics, "outbound_grpc_route_request_statuses_total")
    assert {(dict(labels)["grpc_status"], dict(labels)["error"]) for labels in found} == {
        ("OK", ""),
        ("UNKNOWN", ""),
        ("RESOURCE_EXHAUSTED", "RESET"),
        ("UNKNOWN", "FAIL_FAST"),
        ("UNKNOWN", "UNKNOWN"),
    }


def test_an_endpoint_without_tls_says_why() -> None:
    """As for connections."""
    metrics = Metrics()
    endpoint = OutboundHttp(metrics).endpoint(
        Endpoint(address=TARGET), authority="", server=None, no_tls_reason="loopback"
    )
    endpoint.request()
    labels, _ = only(metrics, "request_total")
    assert (labels["tls"], labels["no_tls_reason"]) == ("no_identity", "loopback")
    assert "authority" not in labels


def test_statuses_that_a_server_makes_up_share_one_label_set_past_the_bound() -> None:
    """At the bound each has its own, one past it is ``other``, and failures stay failures."""
    metrics = Metrics()
    client = InboundHttp(metrics).client(TARGET, CLIENT)
    counts = client.permitted(PERMIT, is_grpc=False)
    for status in range(200, 200 + MAX_ENDS):
        counts.response((status, None, ""), 0, 0, 0)
    assert len(samples(metrics, "response_total")) == MAX_ENDS
    for status in (300, 301, 300, 700, 999):
        counts.response((status, None, ""), 0, 0, 0)
    counts.response((200, None, ""), 0, 0, 0)
    found = samples(metrics, "response_total")
    assert len(found) == MAX_ENDS + 2
    other = {
        dict(labels)["classification"]: value
        for labels, value in found.items()
        if dict(labels)["status_code"] == "other"
    }
    assert other == {"success": 3, "failure": 2}
    statuses = samples(metrics, "inbound_http_statuses_total")
    assert sum(statuses.values()) == MAX_ENDS + 6
    assert sum(found.values()) == MAX_ENDS + 6


def test_a_family_of_requests_is_bounded_too() -> None:
    """Clients by the thousand: what is new past the bound is ``other``, and nothing is lost."""
    metrics = Metrics()
    inbound = InboundHttp(metrics)
    for number in range(MAX_CHILDREN + 1):
        identity = parse_identity(f"web-{number}.example")
        client = Client("10.8.0.7", ClientTls.MESH, identity)
        inbound.client(TARGET, client).permitted(PERMIT, is_grpc=False).request()
    lines = list(metrics.http.requests.samples())
    assert len(lines) == MAX_CHILDREN + 1
    assert sum(value for _, _, value in lines) == MAX_CHILDREN + 1
    assert metrics.http.requests.folds == 1


def test_detection_is_counted_with_its_time() -> None:
    """By server inbound, by parent outbound."""
    metrics = Metrics()
    InboundHttp(metrics).detected("http/1", 0.002, SERVER, 8080)
    OutboundHttp(metrics).detected("not_http", 0.2, SERVICE)
    labels = {"result": "http/1", **SRV_LABELS}
    assert only(metrics, "inbound_tcp_detect_http_results_total") == (labels, 1)
    assert only(metrics, "inbound_tcp_detect_http_duration_seconds_sum") == (SRV_LABELS, 0.002)
    labels = {"result": "not_http", **PARENT_LABELS}
    assert only(metrics, "outbound_tcp_detect_http_results_total") == (labels, 1)
    assert only(metrics, "outbound_tcp_detect_http_duration_seconds_sum") == (PARENT_LABELS, 0.2)


def test_retries_are_counted_by_what_was_decided() -> None:
    """Made, out of attempts, out of budget, ended well; whatever else was decided is none."""
    metrics = Metrics()
    counts = OutboundHttp(metrics).retry(SERVICE, default_metadata("http"), is_grpc=False)
    decided = (*["connect"] * 2, *["safe", "policy"], *["limit", "connects"], "budget", "body")
    for reason in decided:
        counts.decided(reason)
    counts.succeeded()
    labels = {**PARENT_LABELS, **OUT_ROUTE_LABELS, "hostname": ""}
    wanted = {"requests": 4, "successes": 1, "limit_exceeded": 2, "overflow": 1}
    for name, value in wanted.items():
        assert only(metrics, f"outbound_http_route_retry_{name}_total") == (labels, value)
