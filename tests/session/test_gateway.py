"""A gateway between sidecars: only what is exported, to whom policy lets in, never in plaintext."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from core.watch import Watch
from discovery.model import Address, EndpointSet, Hint, Path, PathKind
from identity.generation import Generation
from multicluster.model import Gateway
from proxy.net.capture import FixedCapture
from tests.authority import Mesh
from tests.session.client import CLUSTER_IP, call
from tests.session.gateways import GATEWAY_IP, NAME, TARGET, scene_of
from tests.session.http_apps import hello
from tests.sidecars import OPEN, free_address, run_sidecar

CLOSED = replace(OPEN, authorizations=())


@pytest.fixture
def gateway(mesh: Mesh) -> Generation:
    """Return the gateway's generation."""
    return mesh.generation("mesh/gateway")


async def test_bytes_come_through(web: Generation, gateway: Generation, api: Generation) -> None:
    """The gateway knows the caller, the target knows the gateway, and both say so."""
    async with scene_of(web, gateway, api) as scene:
        assert await call(scene.client, b"ping") == b"ping"
        told = await scene.gateway.until_event("connection")
        assert (told["direction"], told["target"]) == ("gateway", str(TARGET))
        assert told["client_identity"] == str(web.identity)
        assert told["server_identity"] == str(api.identity)
        seen = await scene.server.until_event("connection")
        assert seen["client_identity"] == str(gateway.identity)


@pytest.mark.parametrize(
    "name",
    [
        "api.shop.svc.cluster.local:81",
        "other.shop.svc.cluster.local:80",
        "127.0.0.1:80",
        "localhost:80",
        "api.shop.svc.other.local:80",
    ],
)
async def test_nothing_else_is_reached(
    web: Generation, gateway: Generation, api: Generation, name: str
) -> None:
    """Whatever the header says."""
    async with scene_of(web, gateway, api, name) as scene:
        assert await call(scene.client) == b""
        failed = await scene.gateway.until_event("connection failed")
        assert failed["code"] == "gateway-not-exported"
        assert not scene.server.events("connection")


async def test_a_gateway_does_not_ask_itself(gateway: Generation, api: Generation) -> None:
    """Traffic that goes in a circle ends at its second entry."""
    async with scene_of(gateway, gateway, api) as scene:
        assert await call(scene.client) == b""
        assert (await scene.gateway.until_event("connection failed"))["code"] == "loop"


async def test_policy_says_who_may_enter(
    web: Generation, gateway: Generation, api: Generation
) -> None:
    """That of the gateway's own port."""
    async with scene_of(web, gateway, api) as scene:
        scene.policy.publish(CLOSED)
        assert await call(scene.client) == b""
        denied = await scene.gateway.until_event("connection denied")
        assert (denied["client_identity"], denied["target"]) == (str(web.identity), str(TARGET))


async def test_a_meshed_pod_is_never_sent_plaintext(
    web: Generation, gateway: Generation, api: Generation
) -> None:
    """One without a provable identity is not reached; a pod outside the mesh is, and counted."""
    async with scene_of(web, gateway, api) as scene:
        (good,) = scene.endpoints.current.endpoints
        plain = replace(good, identity=None, direct_port=None)
        meshed = replace(plain, labels=(("control_plane_ns", "linkerd"),))
        scene.endpoints.publish(EndpointSet(endpoints=(meshed,)))
        assert await call(scene.client) == b""
        failed = await scene.gateway.until_event("connection failed")
        assert failed["code"] == "mtls-required"
        scene.endpoints.publish(EndpointSet(endpoints=(plain,)))
        assert await call(scene.client) == b"ping"
        assert (await scene.gateway.until_event("connection"))["tls"] == "none"


async def test_another_clusters_endpoints_are_not_ours_to_reach(
    web: Generation, gateway: Generation, api: Generation
) -> None:
    """A gateway leads into its own cluster and nowhere else, nor to itself."""
    async with scene_of(web, gateway, api) as scene:
        (good,) = scene.endpoints.current.endpoints
        remote = replace(good, path=Path(PathKind.DIRECT, "south"))
        own = replace(good, address=Address(GATEWAY_IP, good.address.port))
        scene.endpoints.publish(EndpointSet(endpoints=(remote, own)))
        assert await call(scene.client) == b""
        failed = await scene.gateway.until_event("connection failed")
        assert failed["code"] == "no-endpoints"


@pytest.mark.parametrize("by", ["policy", "export"])
async def test_what_is_no_longer_allowed_is_cut(
    web: Generation, gateway: Generation, api: Generation, by: str
) -> None:
    """Open connections are decided again."""
    async with scene_of(web, gateway, api) as scene:
        address = scene.client.config.outbound_listen
        reader, writer = await asyncio.open_connection(address.ip, address.port)
        writer.write(b"ping")
        async with asyncio.timeout(10):
            assert await reader.readexactly(4) == b"ping"
            if by == "policy":
                scene.policy.publish(CLOSED)
            else:
                scene.exports.watch.publish(None)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        writer.close()


GET = b"GET /a?b=c HTTP/1.1\r\nHost: api-west.shop\r\nX-A: b\r\n%b\r\n"


async def test_requests_come_through(web: Generation, gateway: Generation, api: Generation) -> None:
    """With the target's name for authority, the caller in ``forwarded``, and our own id."""
    async with scene_of(web, gateway, api, app=hello) as scene:
        got = await call(scene.client, GET % b"l5d-client-id: somebody\r\n")
        head, _, body = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body.startswith(b"GET /a?b=c HTTP/1.1\r\n")
        lines = body.lower().split(b"\r\n")
        assert [each for each in lines if each.startswith(b"host:")] == [b"host: " + NAME.encode()]
        by, client = gateway.identity.name, web.identity.name
        wanted = f"forwarded: by={by};for={client};host={NAME};proto=https"
        assert wanted.encode() in lines
        ids = [each for each in lines if each.startswith(b"l5d-client-id:")]
        assert ids == [b"l5d-client-id: " + by.encode()]
        told = await scene.gateway.until_event("connection")
        assert (told["direction"], told["target"]) == ("gateway", str(TARGET))


async def test_a_request_is_carried_once(
    web: Generation, gateway: Generation, api: Generation
) -> None:
    """One that says it has been here is refused with 508."""
    async with scene_of(web, gateway, api, app=hello) as scene:
        passed = b"forwarded: by=%b;for=x\r\n" % gateway.identity.name.encode()
        assert (await call(scene.client, GET % passed)).startswith(b"HTTP/1.1 508 ")
        other = b"forwarded: by=other.example;for=x\r\n"
        assert (await call(scene.client, GET % other)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("by", "status"), [("policy", b"403"), ("export", b"404")])
async def test_each_request_is_decided(
    web: Generation, gateway: Generation, api: Generation, by: str, status: bytes
) -> None:
    """Also on a connection between sidecars that has carried others."""
    async with scene_of(web, gateway, api, app=hello) as scene:
        assert (await call(scene.client, GET % b"")).startswith(b"HTTP/1.1 200 ")
        if by == "policy":
            scene.policy.publish(CLOSED)
        else:
            scene.exports.watch.publish(None)
        assert (await call(scene.client, GET % b"")).startswith(b"HTTP/1.1 " + status)


async def test_requests_to_a_pod_outside_the_mesh(
    web: Generation, gateway: Generation, api: Generation
) -> None:
    """It is spoken to in its own HTTP; a meshed one without identity is not spoken to at all."""
    async with scene_of(web, gateway, api, app=hello) as scene:
        (good,) = scene.endpoints.current.endpoints
        plain = replace(good, identity=None, direct_port=None, hint=Hint.UNKNOWN)
        scene.endpoints.publish(EndpointSet(endpoints=(plain,)))
        got = await call(scene.client, GET % b"")
        assert got.startswith(b"HTTP/1.1 200 ")
        assert b"GET /a?b=c HTTP/1.1\r\n" in got
        assert b"l5d-orig-proto" not in got
        meshed = replace(plain, labels=(("control_plane_ns", "linkerd"),))
        scene.endpoints.publish(EndpointSet(endpoints=(meshed,)))
        assert (await call(scene.client, GET % b"")).startswith(b"HTTP/1.1 503 ")


@dataclass
class Gateways:
    """The gateways a test has in use, and what was said of them."""

    gateways: Watch[tuple[Gateway, ...]]
    usable: Watch[bool | None] = field(default_factory=lambda: Watch(None))

    def gateway_probed(self, cluster: str, *, is_usable: bool) -> None:
        """Take notice."""
        assert cluster == "west"
        self.usable.publish(is_usable)


def probed(address: Address, who: Generation, **more: object) -> Gateway:
    """Return a gateway to probe, often."""
    made = Gateway(
        cluster="west",
        addresses=(address,),
        identity=who.identity,
        trust_domain="cluster.local",
        path="/ready",
        period_s=0.05,
        timeout_s=1.0,
        failure_threshold=3,
    )
    return replace(made, **more)  # type: ignore[arg-type]


async def until(watch: Watch[bool | None], value: bool) -> None:
    """Wait for a value."""
    async with asyncio.timeout(10):
        version = watch.version
        while watch.current is not value:
            await watch.changed(version)
            version = watch.version


async def test_probes_see_a_gateway_live_die_and_come_back(
    web: Generation, gateway: Generation
) -> None:
    """By its admin port, over mutual TLS; three failures in a row take it out, one answer in."""
    admin = free_address(GATEWAY_IP)
    settings = {"PILLION_ADMIN_LISTEN_ADDR": str(admin)}
    known = Gateways(Watch((probed(admin, gateway),)))
    async with run_sidecar(web, FixedCapture(CLUSTER_IP), gateways=known) as running:
        for _ in range(2):
            async with run_sidecar(
                gateway, FixedCapture(CLUSTER_IP), ip=GATEWAY_IP, settings=settings
            ):
                await until(known.usable, value=True)
            await until(known.usable, value=False)
        told = [each["liveness"] for each in running.events("gateway")]
        assert told == ["alive", "dead", "alive", "dead"]


async def test_a_gateway_of_another_name_does_not_live(
    web: Generation, api: Generation, gateway: Generation
) -> None:
    """Who answers at its address is not enough; and one that never answered stays in use."""
    admin = free_address(GATEWAY_IP)
    settings = {"PILLION_ADMIN_LISTEN_ADDR": str(admin)}
    known = Gateways(Watch((probed(admin, gateway, failure_threshold=1),)))
    async with (
        run_sidecar(api, FixedCapture(CLUSTER_IP), ip=GATEWAY_IP, settings=settings),
        run_sidecar(web, FixedCapture(CLUSTER_IP), gateways=known) as running,
    ):
        failed = await running.until_event("gateway probe failed")
        assert failed["cluster"] == "west"
        assert known.usable.current is None
        known.gateways.publish(())
