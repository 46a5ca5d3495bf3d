"""Outbound connections: where they go, what the far side must prove, what happens when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest

from core.watch import Watch
from discovery.model import (
    Address,
    Endpoint,
    EndpointSet,
    Profile,
    Target,
    default_metadata,
)
from identity.generation import Generation
from policy.model import (
    Backend,
    Balancer,
    FirstAvailable,
    Forward,
    OpaqueRoute,
    OutboundPolicy,
    OutboundTls,
    RandomAvailable,
    WeightedBackend,
)
from policy.route import Filter, ForbiddenFilter, InvalidFilter
from tests.session.apps import echo, serve
from tests.session.client import CLUSTER_IP, call, is_reset, run_client
from tests.session.peers import (
    black_hole,
    silent_server,
)
from tests.sidecars import Control, free_address

_TARGET = Target("api.shop.svc.cluster.local", 80)


def mk_policy(
    *targets: Target, endpoint: Endpoint | None = None, filters: tuple[Filter, ...] = ()
) -> OutboundPolicy:
    """Return a Service's policy for opaque connections."""
    forward = Forward(endpoint) if endpoint is not None else None
    backends = tuple(
        Backend(metadata=default_metadata("backend"), dispatcher=each)
        for each in ([forward] if forward else [Balancer(target=target) for target in targets])
    )
    return OutboundPolicy(
        metadata=default_metadata("api"),
        opaque=(
            OpaqueRoute(
                metadata=default_metadata("opaque"),
                filters=filters,
                distribution=FirstAvailable(backends),
            ),
        ),
    )


def mk_control(generation: Generation, *endpoints: Endpoint, exists: bool = True) -> Control:
    """Return providers for a Service with these endpoints."""
    control = Control(Watch(generation))
    control.outbound_policies[CLUSTER_IP] = Watch(mk_policy(_TARGET))
    control.sets[_TARGET] = Watch(EndpointSet(endpoints=endpoints, exists=exists))
    return control


async def test_plaintext_is_refused_where_mutual_tls_is_required(web: Generation) -> None:
    """An endpoint without identity is never dialled; the refusal says what is required."""
    reached: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read())
        writer.close()

    async with serve(record) as app:
        control = mk_control(web, Endpoint(address=app))
        policy = replace(mk_policy(_TARGET), tls_mode=OutboundTls.REQUIRED)
        control.outbound_policies[CLUSTER_IP] = Watch(policy)
        async with run_client(web, control=control) as client:
            assert await is_reset(client)
            failed = await client.until_event("connection failed")
            assert failed["code"] == "mtls-required"
    assert reached == []


# Where to


async def test_an_unknown_destination_is_reached_in_plaintext(web: Generation) -> None:
    """Neither policy nor profile: the original destination itself, counted with the reason."""
    async with serve(echo) as app, run_client(web, destination=app) as client:
        assert await call(client) == b"ping"
        seen = await client.until_event("connection")
        assert seen["tls"] == "none"
        assert seen["no_tls_reason"] == "not_provided_by_service_discovery"
        assert seen["parent"] == "default:fallback"


async def test_a_profile_s_endpoint_is_taken_where_there_is_no_policy(web: Generation) -> None:
    """A pod's own address, say: the endpoint that discovery names."""
    control = Control(Watch(web))
    async with serve(echo) as app, run_client(web, control) as client:
        control.profiles[CLUSTER_IP] = Watch(Profile(endpoint=Endpoint(address=app)))
        assert await call(client) == b"ping"
        assert (await client.until_event("connection"))["parent"] == "default:endpoint"


async def test_a_policy_comes_before_a_profile(web: Generation) -> None:
    """The policy's one endpoint, not the profile's."""
    control = Control(Watch(web))
    async with serve(echo) as app, run_client(web, control) as client:
        control.profiles[CLUSTER_IP] = Watch(
            Profile(endpoint=Endpoint(address=free_address("127.0.0.3")))
        )
        policy = mk_policy(endpoint=Endpoint(address=app))
        control.outbound_policies[CLUSTER_IP] = Watch(policy)
        assert await call(client) == b"ping"
        assert (await client.until_event("connection"))["parent"] == "default:api"


async def test_a_service_s_connections_go_to_all_of_its_endpoints(web: Generation) -> None:
    """Each of three is chosen sooner or later."""
    async with contextlib.AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(serve(echo, f"127.0.0.{n}")) for n in (3, 4, 5)]
        control = mk_control(web, *(Endpoint(address=app) for app in apps))
        client = await stack.enter_async_context(run_client(web, control))
        for _ in range(60):
            assert await call(client) == b"ping"
        seen = {each["endpoint"] for each in client.events("connection")}
        assert seen == {str(app) for app in apps}


async def test_endpoints_are_those_of_the_moment(web: Generation) -> None:
    """A connection made after a change goes to the new endpoint."""
    async with serve(echo, "127.0.0.3") as old, serve(echo, "127.0.0.4") as new:
        control = mk_control(web, Endpoint(address=old))
        async with run_client(web, control) as client:
            assert await call(client) == b"ping"
            control.sets[_TARGET].publish(EndpointSet(endpoints=(Endpoint(address=new),)))
            assert await call(client) == b"ping"
            seen = [each["endpoint"] for each in client.events("connection")]
            assert seen == [str(old), str(new)]


@pytest.mark.parametrize(
    ("exists", "said"), [(True, "no ready endpoints"), (False, "does not exist")]
)
async def test_without_endpoints_the_client_is_reset(
    web: Generation, exists: bool, said: str
) -> None:
    """At once, and the log says whether the Service is there."""
    async with run_client(web, mk_control(web, exists=exists)) as client:
        assert await is_reset(client)
        failed = await client.until_event("connection failed")
        assert failed["code"] == "no-endpoints"
        assert said in failed["reason"]


_REFUSING: dict[str, tuple[OutboundPolicy, str]] = {
    "an undeclared port": (mk_policy(filters=(ForbiddenFilter(),)), "forbidden-destination"),
    "a filter that cannot be used": (mk_policy(filters=(InvalidFilter("?"),)), "policy-invalid"),
    "no backend": (mk_policy(), "no-endpoints"),
    "no opaque route": (OutboundPolicy(metadata=default_metadata("api")), "unreachable"),
    "weights of nothing": (
        OutboundPolicy(
            metadata=default_metadata("api"),
            opaque=(
                OpaqueRoute(
                    metadata=default_metadata("opaque"),
                    distribution=RandomAvailable(
                        (
                            WeightedBackend(
                                Backend(
                                    metadata=default_metadata("b"),
                                    dispatcher=Balancer(target=_TARGET),
                                ),
                                0,
                            ),
                        )
                    ),
                ),
            ),
        ),
        "no-endpoints",
    ),
}


@pytest.mark.parametrize("name", list(_REFUSING))
async def test_a_policy_that_leads_nowhere_resets_the_client(web: Generation, name: str) -> None:
    """Nothing falls back to the original destination."""
    policy, code = _REFUSING[name]
    reached: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read())
        writer.close()

    async with serve(record) as app:
        control = Control(Watch(web))
        control.outbound_policies[app] = Watch(policy)
        async with run_client(web, control, destination=app) as client:
            assert await is_reset(client)
            assert (await client.until_event("connection failed"))["code"] == code
    assert reached == []


# Loops


async def test_a_connection_to_our_own_outbound_listener_is_refused(web: Generation) -> None:
    """Dialled straight at 4140: nobody knows where it was going."""
    listen = free_address()
    async with run_client(web, destination=listen, OUTBOUND_LISTEN_ADDR=str(listen)) as client:
        assert await is_reset(client)
        assert (await client.until_event("connection failed"))["code"] == "loop"


@pytest.mark.parametrize("which", ["inbound", "outbound"])
@pytest.mark.parametrize("how", ["address", "direct port", "redirected"])
async def test_an_endpoint_that_is_our_own_listener_is_refused(
    web: Generation, api: Generation, which: str, how: str
) -> None:
    """However the endpoint leads there, a sidecar never dials itself."""
    control = Control(Watch(web))
    async with run_client(web, control) as client:
        config = client.config
        own = config.inbound_listen if which == "inbound" else config.outbound_listen
        endpoint = Endpoint(address=own)
        if how == "direct port":
            endpoint = Endpoint(
                address=Address("127.0.0.1", 9), identity=api.identity, direct_port=own.port
            )
            # Otherwise the address is our own pod's, and no direct port is dialled.
            client.sidecar.runtime.own_ips = frozenset({"127.0.0.9"})
        elif how == "redirected":
            endpoint = Endpoint(address=own, identity=api.identity)
        control.route(CLUSTER_IP, endpoint)
        assert await is_reset(client)
        assert (await client.until_event("connection failed"))["code"] == "loop"


async def test_an_endpoint_beside_us_is_dialled_in_plaintext(
    web: Generation, api: Generation
) -> None:
    """A pod that calls itself through its Service: no TLS, no header, whatever discovery says."""
    control = Control(Watch(web))
    async with serve(echo, "127.0.0.1") as app, run_client(web, control) as client:
        control.route(CLUSTER_IP, Endpoint(address=app, identity=api.identity, direct_port=4143))
        assert await call(client) == b"ping"
        seen = await client.until_event("connection")
        assert (seen["tls"], seen["no_tls_reason"]) == ("none", "loopback")


# Failures and other endpoints


async def test_after_a_connect_failure_other_endpoints_are_tried(web: Generation) -> None:
    """The one endpoint that answers is found, wherever the first choice falls."""
    async with serve(echo) as app:
        dead = [Endpoint(address=free_address("127.0.0.3")) for _ in range(3)]
        async with run_client(web, mk_control(web, *dead, Endpoint(address=app))) as client:
            for _ in range(12):
                assert await call(client) == b"ping"
            assert client.events("connect failed")
            assert client.events("connection failed") == []


async def test_four_endpoints_are_tried_at_most(web: Generation) -> None:
    """Then the client is reset, with the last failure in the log."""
    dead = [Endpoint(address=free_address("127.0.0.3")) for _ in range(7)]
    async with run_client(web, mk_control(web, *dead)) as client:
        assert await is_reset(client)
        assert (await client.until_event("connection failed"))["code"] == "connect-refused"
        tried = [each["endpoint"] for each in client.events("connect failed")]
        assert len(set(tried)) == len(tried) == 4


async def test_a_black_hole_is_given_up_on_in_time(web: Generation) -> None:
    """An address that drops SYNs costs the connect timeout, and then another endpoint serves."""
    with black_hole() as hole:
        async with serve(echo) as app:
            control = mk_control(web, Endpoint(address=hole), Endpoint(address=app))
            async with run_client(web, control, OUTBOUND_CONNECT_TIMEOUT="100ms") as client:
                started = time.monotonic()
                for _ in range(6):
                    assert await call(client) == b"ping"
                assert time.monotonic() - started < 10 * 6 * 0.1
                codes = {each["code"] for each in client.events("connect failed")}
                assert codes <= {"connect-timeout"}


async def test_a_black_hole_alone_resets_the_client_in_time(web: Generation) -> None:
    """Nothing waits for longer than the connect timeout."""
    with black_hole() as hole:
        control = mk_control(web, Endpoint(address=hole))
        async with run_client(web, control, OUTBOUND_CONNECT_TIMEOUT="100ms") as client:
            started = time.monotonic()
            assert await is_reset(client)
            assert 0.1 <= time.monotonic() - started < 1.0
            assert (await client.until_event("connection failed"))["code"] == "connect-timeout"


async def test_a_server_that_never_answers_the_handshake_is_given_up_on(
    web: Generation, api: Generation
) -> None:
    """TCP and TLS share one bound."""
    with silent_server() as address:
        control = mk_control(web, Endpoint(address=address, identity=api.identity))
        async with run_client(web, control, OUTBOUND_CONNECT_TIMEOUT="100ms") as client:
            started = time.monotonic()
            assert await is_reset(client)
            assert 0.1 <= time.monotonic() - started < 1.0
            failed = await client.until_event("connection failed")
            assert failed["code"] == "connect-timeout"
            assert "handshake" in failed["reason"]


async def test_a_client_that_leaves_during_the_dial_costs_nothing(web: Generation) -> None:
    """The dial ends in its time, and nothing is left over."""
    with black_hole() as hole:
        control = mk_control(web, Endpoint(address=hole))
        async with run_client(web, control, OUTBOUND_CONNECT_TIMEOUT="100ms") as client:
            address = client.config.outbound_listen
            for _ in range(5):
                _, writer = await asyncio.open_connection(address.ip, address.port)
                writer.transport.abort()
            async with asyncio.timeout(5):
                while len(client.events("connection failed")) < 5:
                    await asyncio.sleep(0.01)
            assert client.sidecar.runtime.admission.open == 0


async def test_a_client_that_left_during_the_dial_is_told_to_the_server(web: Generation) -> None:
    """The server sees the connection end, not hang."""
    ended = asyncio.get_running_loop().create_future()

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            data = await reader.read()
        except ConnectionError:
            data = b"reset"
        ended.set_result(data)
        writer.close()

    async with serve(record) as app, run_client(web, destination=app) as client:
        address = client.config.outbound_listen
        _, writer = await asyncio.open_connection(address.ip, address.port)
        writer.transport.abort()
        async with asyncio.timeout(5):
            assert await ended in {b"", b"reset"}
