"""What real connections are counted as, on both sides, as a scrape shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from core.watch import Watch
from discovery.model import Endpoint, EndpointSet, Metadata
from identity.generation import Generation
from policy.route import ForbiddenFilter
from proxy.telemetry.metric import LABEL_SETS, Metrics
from tests.session.apps import echo, exchange, serve
from tests.session.client import CLUSTER_IP, call, is_reset, run_client
from tests.session.test_outbound import mk_control, mk_policy
from tests.sidecars import Running, free_address, run_pair
from tests.support.streams import until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(running: Running) -> Samples:
    """Return every sample of the sidecar's /metrics."""
    page = await exchange(
        running.config.admin_listen,
        b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    head, _, body = page.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def total(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of the samples that have these labels."""
    wanted = set(labels.items())
    return sum(value for (each, has), value in samples.items() if each == name and wanted <= has)


def labels_of(samples: Samples, name: str, **labels: str) -> Mapping[str, str]:
    """Return the labels of the one sample that has these."""
    wanted = set(labels.items())
    (found,) = (has for (each, has) in samples if each == name and wanted <= has)
    return dict(found)


def undeclared(samples: Samples) -> set[tuple[str, str]]:
    """Return (family, label) of samples with a label that their family does not declare."""
    wrong = set()
    for family in Metrics().families():
        known = {name for each in family.labels for name in LABEL_SETS.get(each, (each,))}
        if family.kind == "histogram":
            known.add("le")
        open_ended = tuple(name[:-1] for name in known if name.endswith("*")) or ("\0",)
        for name, labels in samples:
            if name.removesuffix("_bucket") == family.name:
                wrong |= {
                    (family.name, label)
                    for label, _ in labels
                    if label not in known and not label.startswith(open_ended)
                }
    return wrong


async def test_a_meshed_connection_is_counted_on_both_sides(
    web: Generation, api: Generation
) -> None:
    """Opened, closed, bytes without TLS, who was at either end, how long it took."""
    async with serve(echo) as app, run_pair(web, api, app) as pair:
        for _ in range(3):
            assert await exchange(pair.entry, b"12345") == b"12345"
        # The client has its end; that both sidecars have theirs is another moment.
        sides = [each.sidecar.runtime for each in (pair.client, pair.server)]
        await until(lambda: not any(side.connections for side in sides))
        near, far = await scrape(pair.client), await scrape(pair.server)
    assert undeclared(near) | undeclared(far) == set()

    mine = {"direction": "outbound", "peer": "dst", "target_ip": app.ip, "tls": "true"}
    assert total(near, "tcp_open_total", **mine, server_id=api.identity.name) == 3
    assert total(near, "tcp_close_total", **mine, errno="") == 3
    assert total(near, "tcp_open_connections", **mine) == 0
    assert total(near, "tcp_read_bytes_total", **mine) == 15
    assert total(near, "tcp_open_total", direction="outbound", peer="src") == 3
    assert total(near, "outbound_tcp_protocol_connections_total", protocol="opaq") == 3
    assert total(near, "outbound_tcp_route_open_total", parent_name="endpoint") == 3
    assert total(near, "outbound_tcp_route_close_total", error="") == 3
    assert total(near, "pillion_tcp_connect_duration_seconds_count", tls="true") == 3

    theirs = {"direction": "inbound", "peer": "src", "client_id": web.identity.name}
    assert total(far, "tcp_open_total", **theirs, srv_name="all-unauthenticated") == 3
    assert total(far, "tcp_read_bytes_total", **theirs) == 15
    assert total(far, "inbound_tcp_authz_allow_total", tls="true", authz_kind="default") == 3
    ports = {"target_port": str(app.port)}
    assert total(far, "inbound_tcp_transport_header_connections_total", **ports) == 3
    assert total(far, "pillion_tcp_connection_duration_seconds_count", srv_kind="default") == 3
    for side, direction in ((near, "outbound"), (far, "inbound")):
        shaken = {"direction": direction}
        assert total(side, "pillion_tls_handshake_duration_seconds_count", **shaken) == 3
        full = total(
            side, "pillion_tls_handshake_duration_seconds_count", **shaken, resumed="false"
        )
        assert full >= 1
        assert total(side, "pillion_tls_handshake_failures_total") == 0


async def test_an_endpoint_s_own_labels_stand_over_those_of_its_set(web: Generation) -> None:
    """As in the control API: the set says service and namespace, the endpoint pod and zone."""
    async with serve(echo) as app:
        endpoint = Endpoint(
            address=app,
            labels=(("namespace", "mine"), ("pod", "api-0"), ("zone_locality", "remote")),
        )
        control = mk_control(web)
        (target,) = control.sets
        control.sets[target] = Watch(
            EndpointSet(endpoints=(endpoint,), labels=(("namespace", "theirs"), ("service", "api")))
        )
        async with run_client(web, control) as client:
            assert await call(client, b"1234") == b"1234"
            seen = await scrape(client)
            labels = labels_of(seen, "tcp_open_total", peer="dst")
            assert labels["dst_namespace"] == "mine"
            assert labels["dst_service"] == "api"
            assert labels["dst_pod"] == "api-0"
            assert labels["authority"] == str(target)
            moved = "outbound_tcp_transfer_cost_bytes_total"
            assert total(seen, moved, op="Send", zone_locality="Remote") == 4
            assert total(seen, moved, op="Recv", zone_locality="Remote") == 4
            # A change of the set's labels alone is seen by the next connection.
            control.sets[target].publish(
                replace(control.sets[target].current, labels=(("service", "other"),))
            )
            await call(client)
            seen = await scrape(client)
            assert total(seen, "tcp_open_total", peer="dst", dst_service="other") == 1
            assert undeclared(seen) == set()


async def test_a_connection_that_no_endpoint_took_is_counted_with_its_route(
    web: Generation,
) -> None:
    """Under the Service it was for, with the reason in Linkerd's words."""
    control = mk_control(web, Endpoint(address=free_address("127.0.0.3")))
    async with run_client(web, control) as client:
        assert await is_reset(client)
        (target,) = control.sets
        control.outbound_policies[CLUSTER_IP].publish(
            mk_policy(target, filters=(ForbiddenFilter(),))
        )
        assert await is_reset(client)
        control.outbound_policies[CLUSTER_IP].publish(mk_policy())
        assert await is_reset(client)
        seen = await scrape(client)
    at = {"target_ip": CLUSTER_IP.ip, "target_port": str(CLUSTER_IP.port), "parent_name": "api"}
    for error in ("unexpected", "forbidden", "invalid_backend"):
        assert total(seen, "outbound_tcp_route_close_total", error=error, **at) == 1
    assert total(seen, "outbound_tcp_route_open_total", route_name="opaque", **at) == 3
    assert total(seen, "outbound_tcp_errors_total", error="connect-refused") == 1
    assert undeclared(seen) == set()


async def test_a_service_s_port_and_section_are_labels_of_its_connections(web: Generation) -> None:
    """PARENT in full, as dashboards group by it."""
    parent = Metadata(kind="Service", name="api", group="core", namespace="shop", port=80)
    async with serve(echo) as app:
        control = mk_control(web, Endpoint(address=app))
        policy = control.outbound_policies[CLUSTER_IP].current
        assert policy is not None
        control.outbound_policies[CLUSTER_IP] = Watch(replace(policy, metadata=parent))
        async with run_client(web, control) as client:
            assert await call(client) == b"ping"
            seen = await scrape(client)
    labels = labels_of(seen, "outbound_tcp_protocol_connections_total")
    assert labels == {
        "protocol": "opaq",
        "parent_group": "core",
        "parent_kind": "Service",
        "parent_namespace": "shop",
        "parent_name": "api",
        "parent_port": "80",
        "parent_section_name": "",
    }


async def test_handshakes_that_fail_are_counted_by_their_cause(
    web: Generation, api: Generation
) -> None:
    """Whom we expected is not who answered: on our side a mismatch, on theirs nothing at all."""
    async with serve(echo) as app, run_pair(web, api, app) as pair:
        stranger = replace(
            Endpoint(address=app, direct_port=pair.server.config.inbound_listen.port),
            identity=web.identity,
            server_name=api.server_name,
        )
        pair.client.control.route(app, stranger)
        assert await is_reset(pair.client)
        near = await scrape(pair.client)
    failed = {"direction": "outbound", "error": "identity-mismatch"}
    assert total(near, "pillion_tls_handshake_failures_total", **failed) == 1


async def test_the_bounds_and_the_build_are_metrics(web: Generation) -> None:
    """What a dashboard divides by."""
    async with run_client(web, MAX_CONNECTIONS="77") as client:
        seen = await scrape(client)
    assert total(seen, "pillion_connections_max") == 77
    assert total(seen, "proxy_build_info") == 1
    assert labels_of(seen, "pillion_tls_info")["tls"] == "1.3"
