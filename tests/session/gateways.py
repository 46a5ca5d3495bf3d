"""A gateway between two sidecars, on loopback: for tests of whatever passes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from core.watch import Watch
from discovery.model import Address, Endpoint, EndpointSet, Hint, Path, PathKind, Profile, Target
from identity.generation import Generation
from policy.model import ServerPolicy
from proxy.net.capture import FixedCapture
from tests.session.apps import App, echo, serve
from tests.session.client import CLUSTER_IP, run_client
from tests.sidecars import OPEN, Control, Running, free_address, run_sidecar

NAME = "api.shop.svc.cluster.local"
TARGET = Target(NAME, 80)
GATEWAY_IP = "127.0.0.4"


@dataclass
class Exports:
    """What a test exports: one name, to one port of a Service."""

    watch: Watch[Target | None] = field(default_factory=lambda: Watch(TARGET))

    def exported(self, host: str, port: int) -> Watch[Target | None]:
        """Return the one export."""
        return self.watch if (host, port) == (NAME, 80) else Watch(None)


@dataclass
class Scene:
    """A client's sidecar, a gateway, and a server's sidecar with its application."""

    client: Running
    gateway: Running
    server: Running
    exports: Exports
    policy: Watch[ServerPolicy]
    endpoints: Watch[EndpointSet]


def through(gateway: Generation, address: Address, name: str = f"{NAME}:80") -> Endpoint:
    """Return a gateway as its clients know it."""
    return Endpoint(
        address=address,
        identity=gateway.identity,
        hint=Hint.H2,
        authority_override=name,
        path=Path(PathKind.GATEWAY, "west"),
    )


@asynccontextmanager
async def scene_of(
    client: Generation,
    gateway: Generation,
    server: Generation,
    name: str = f"{NAME}:80",
    app: App = echo,
) -> AsyncIterator[Scene]:
    """Run all three; a connection of the client's goes to the gateway, asking for ``name``."""
    async with (
        serve(app) as address,
        behind_gateway(client, gateway, server, address, name) as scene,
    ):
        yield scene


@asynccontextmanager
async def behind_gateway(
    client: Generation,
    gateway: Generation,
    server: Generation,
    app: Address,
    name: str = f"{NAME}:80",
) -> AsyncIterator[Scene]:
    """Run all three before an application that runs already."""
    door, inbound = free_address(GATEWAY_IP), free_address(app.ip)
    exports, policy = Exports(), Watch(OPEN)
    endpoint = Endpoint(
        address=app, identity=server.identity, direct_port=inbound.port, hint=Hint.H2
    )
    endpoints = Watch(EndpointSet(endpoints=(endpoint,)))
    control = Control(Watch(gateway), policies={door.port: policy}, sets={TARGET: endpoints})
    async with (
        run_sidecar(server, FixedCapture(inbound), ip=app.ip, inbound=inbound) as far,
        run_sidecar(
            gateway,
            FixedCapture(door),
            ip=GATEWAY_IP,
            inbound=door,
            control=control,
            exports=exports,
        ) as middle,
        run_client(client) as near,
    ):
        near.control.profiles[CLUSTER_IP] = Watch(Profile(endpoint=through(gateway, door, name)))
        yield Scene(near, middle, far, exports, policy, endpoints)
