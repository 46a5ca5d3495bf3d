"""Connections over a service's endpoints: by load, past those that are out of reach."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from discovery.model import Endpoint, EndpointSet, Target
from identity.generation import Generation
from proxy.telemetry.exposition import expose
from tests.session.apps import echo, serve
from tests.session.client import call, is_reset, run_client
from tests.session.peers import black_hole
from tests.session.test_outbound import mk_control
from tests.sidecars import Running, free_address

TARGET = Target("api.shop.svc.cluster.local", 80)


def metric(running: Running, name: str, **labels: str) -> float:
    """Return the sum of a series' values that have these labels."""
    families = running.sidecar.runtime.metrics.families()
    return sum(
        sample.value
        for family in text_string_to_metric_families(b"".join(expose(families)).decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_an_endpoint_that_is_out_of_reach_costs_one_connect_and_not_each(
    web: Generation,
) -> None:
    """A black hole would else hold up half of the connections, 100 ms each."""
    with black_hole() as hole:
        async with serve(echo) as app:
            control = mk_control(web, Endpoint(address=hole), Endpoint(address=app))
            async with run_client(web, control, OUTBOUND_CONNECT_TIMEOUT="100ms") as client:
                for _ in range(100):
                    assert await call(client) == b"ping"
                assert 1 <= len(client.events("connect failed")) <= 10
                prefix = "pillion_outbound_tcp_balancer"
                assert metric(client, f"{prefix}_unreachable_total") >= 1


async def test_open_connections_are_load(web: Generation) -> None:
    """Twenty that stay open are ten on each of two endpoints."""
    async with contextlib.AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(serve(echo, f"127.0.0.{n}")) for n in (3, 4)]
        control = mk_control(web, *(Endpoint(address=app) for app in apps))
        client = await stack.enter_async_context(run_client(web, control))
        address = client.config.outbound_listen
        for _ in range(20):
            reader, writer = await asyncio.open_connection(address.ip, address.port)
            stack.push_async_callback(writer.wait_closed)
            stack.callback(writer.close)
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
        seen = Counter(each["endpoint"] for each in client.events("connection"))
        assert sorted(seen.values()) == [10, 10]


async def test_a_set_that_goes_to_zero_and_back_loses_no_connection(web: Generation) -> None:
    """Those in between wait."""
    async with serve(echo) as app:
        control = mk_control(web)
        async with run_client(web, control) as client:
            waiting = [asyncio.ensure_future(call(client)) for _ in range(20)]
            await asyncio.sleep(0.3)
            assert metric(client, "outbound_tcp_balancer_queue_length") == 20
            control.sets[TARGET].publish(EndpointSet(endpoints=(Endpoint(address=app),)))
            assert await asyncio.gather(*waiting) == [b"ping"] * 20
            assert metric(client, "outbound_tcp_balancer_queue_length") == 0
            # A client whose first byte is late on a busy machine has a server asked for a greeting.
            asked = metric(client, "outbound_tcp_balancer_queue_requests_total")
            assert 20 <= asked <= 40


async def test_an_application_that_comes_back_is_found(web: Generation) -> None:
    """Its one endpoint failed for a while: the first connections fail, the next are served."""
    address = free_address("127.0.0.3")
    control = mk_control(web, Endpoint(address=address))
    async with run_client(web, control) as client:
        for _ in range(4):
            assert await is_reset(client)
        app = await asyncio.start_server(echo, address.ip, address.port)
        async with app:
            assert await call(client) == b"ping"
        prefix = "pillion_outbound_tcp_balancer_probes_total"
        assert metric(client, prefix, result="error") == 3
        assert metric(client, prefix, result="ok") == 1


async def test_balancers_are_counted_under_linkerd_s_names(web: Generation) -> None:
    """Endpoints by state, what came and went, by Service and backend."""
    async with serve(echo) as app:
        dead = Endpoint(address=free_address("127.0.0.3"))
        control = mk_control(web, Endpoint(address=app), dead)
        async with run_client(web, control) as client:
            while not client.events("connect failed"):
                assert await call(client) == b"ping"
            labels = {"parent_name": "api", "backend_name": "backend", "logical": str(TARGET)}
            name = "outbound_tcp_balancer"
            assert metric(client, f"{name}_endpoints", endpoint_state="ready", **labels) == 1
            assert metric(client, f"{name}_endpoints", endpoint_state="pending", **labels) == 1
            assert metric(client, f"{name}_p2c_endpoints", **labels) == 2
            assert metric(client, f"{name}_queue_gate_timeout_seconds", **labels) == 3
            control.sets[TARGET].publish(EndpointSet(endpoints=(dead,)))
            assert metric(client, f"{name}_p2c_updates_total", op="Add", **labels) == 2
            assert metric(client, f"{name}_p2c_updates_total", op="Remove", **labels) == 1
            assert metric(client, f"{name}_p2c_endpoints", **labels) == 1
