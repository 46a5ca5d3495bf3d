"""Real sidecars in one process, on loopback addresses, with fixed captures: for session tests."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.watch import Watch
from discovery.model import (
    UNKNOWN_ENDPOINTS,
    Address,
    Endpoint,
    EndpointSet,
    Hint,
    Profile,
    Target,
    default_metadata,
)
from identity.generation import Generation
from identity.status import IdentityStatus
from policy.model import (
    ALL_NETWORKS,
    Authorization,
    NetworkMatch,
    OutboundPolicy,
    ServerPolicy,
    Unauthenticated,
)
from proxy.app import Providers, Sidecar
from proxy.config import Config, read_config
from proxy.explicit import Explicit
from proxy.net.capture import Capture, FixedCapture
from proxy.net.connection import Connection
from proxy.providers import ExportProvider, GatewayProvider, NameProvider, ReadinessSource
from proxy.telemetry.log import make_logger

OPEN = ServerPolicy(
    metadata=default_metadata("all-unauthenticated"),
    authorizations=(
        Authorization(
            metadata=default_metadata("all-unauthenticated"),
            networks=tuple(NetworkMatch(each) for each in ALL_NETWORKS),
            authentication=Unauthenticated(),
        ),
    ),
    localhost=None,
)
"""Admits everyone. Tests call from 127.0.0.1, so the implicit ``localhost`` is left out."""


@dataclass
class Control:
    """Providers whose state a test sets."""

    generation: Watch[Generation | None]
    status: Watch[IdentityStatus] = field(default_factory=lambda: Watch(IdentityStatus()))
    policies: dict[int, Watch[ServerPolicy]] = field(default_factory=dict)
    policy: ServerPolicy = OPEN
    outbound_policies: dict[Address, Watch[OutboundPolicy | None]] = field(default_factory=dict)
    profiles: dict[Address, Watch[Profile | None]] = field(default_factory=dict)
    sets: dict[Target, Watch[EndpointSet]] = field(default_factory=dict)

    def inbound(self, port: int) -> Watch[ServerPolicy]:
        """Return the port's policy: the common one until a test sets another."""
        return self.policies.setdefault(port, Watch(self.policy))

    def ports(self) -> tuple[int, ...]:
        """Return the ports that were asked for or set."""
        return tuple(sorted(self.policies))

    def outbound(self, destination: Address) -> Watch[OutboundPolicy | None]:
        """Return the destination's policy, None unless a test sets one."""
        return self.outbound_policies.setdefault(destination, Watch(None))

    def profile(self, destination: Address) -> Watch[Profile | None]:
        """Return the destination's profile, None unless a test sets one."""
        return self.profiles.setdefault(destination, Watch(None))

    def endpoints(self, target: Target) -> Watch[EndpointSet]:
        """Return the target's endpoints, unknown unless a test sets them."""
        return self.sets.setdefault(target, Watch(UNKNOWN_ENDPOINTS))

    def route(self, destination: Address, endpoint: Endpoint) -> None:
        """Let connections to ``destination`` go to ``endpoint``."""
        self.profiles[destination] = Watch(Profile(endpoint=endpoint))


@dataclass
class Running:
    """A sidecar that serves."""

    sidecar: Sidecar
    control: Control
    config: Config
    log: io.StringIO
    task: asyncio.Task[int]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's events of this name."""
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == name]

    @property
    def relayed(self) -> list[Connection]:
        """The open connections that are relayed as bytes."""
        runtime = self.sidecar.runtime
        return [each for each in runtime.connections if isinstance(each, Connection)]

    async def until_event(self, name: str) -> dict[str, Any]:
        """Wait for an event of this name, 10 seconds at most."""
        async with asyncio.timeout(10):
            while not self.events(name):
                await asyncio.sleep(0.01)
        return self.events(name)[-1]


_HANDED_OUT: set[int] = set()
SETTINGS: dict[str, str] = {}
"""What sidecars are set to where a test does not say otherwise."""


def free_address(ip: str = "127.0.0.1") -> Address:
    """Return an address nobody listens on now, and that no call returned before.

    Its port lies below those that the system gives to connections, which come in between.
    """
    while True:
        address = Address(ip, random.randrange(10_000, 32_000))
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind((ip, address.port))
            if address.port not in _HANDED_OUT:
                _HANDED_OUT.add(address.port)
                return address


@contextlib.asynccontextmanager
async def run_sidecar(
    generation: Generation | None,
    capture: Capture,
    *,
    ip: str = "127.0.0.1",
    inbound: Address | None = None,
    settings: Mapping[str, str] | None = None,
    control: Control | None = None,
    readiness: Sequence[ReadinessSource] = (),
    exports: ExportProvider | None = None,
    gateways: GatewayProvider | None = None,
    explicit: Explicit | None = None,
    names: NameProvider | None = None,
) -> AsyncIterator[Running]:
    """Run a sidecar whose pod is at ``ip``; it is stopped and waited for at the end."""
    environment = {
        "PILLION_POD": "shop/web-0",
        "PILLION_MESH_DIR": "/nowhere",
        "PILLION_IDENTITY_DIR": "/nowhere",
        "PILLION_INBOUND_LISTEN_ADDR": str(inbound or free_address(ip)),
        "PILLION_OUTBOUND_LISTEN_ADDR": str(free_address(ip)),
        "PILLION_ADMIN_LISTEN_ADDR": str(free_address(ip)),
        "PILLION_SHUTDOWN_GRACE_PERIOD": "2s",
        **SETTINGS,
        **(settings or {}),
    }
    config = read_config(environment)
    control = control or Control(Watch(generation))
    log = io.StringIO()
    sidecar = Sidecar(
        config,
        Providers(
            identity=control,
            policies=control,
            discovery=control,
            readiness=readiness,
            exports=exports,
            gateways=gateways,
            names=names,
        ),
        capture,
        frozenset({ip}),
        make_logger("debug", "json", log),
        explicit=explicit,
    )
    task = asyncio.get_running_loop().create_task(sidecar.run())
    running = Running(sidecar, control, config, log, task)
    try:
        if control.generation.current is not None:
            await running.until_event("serving")
        yield running
    finally:
        sidecar.stop()
        async with asyncio.timeout(10):
            await task
        runtime = sidecar.runtime
        left = (len(runtime.running), len(runtime.connections))
        counted = (runtime.admission.open, runtime.drain.in_flight)
        assert (*left, *counted) == (0, 0, 0, 0), (left, counted)


@dataclass
class Pair:
    """A client's and a server's sidecar, with an application behind the latter."""

    client: Running
    server: Running
    app: Address
    """Where the application listens."""

    @property
    def entry(self) -> Address:
        """Where a client's connection is captured."""
        return self.client.config.outbound_listen


@contextlib.asynccontextmanager
async def run_pair(
    client: Generation,
    server: Generation,
    app: Address,
    *,
    direct: bool = True,
    hint: Hint = Hint.UNKNOWN,
    client_settings: Mapping[str, str] | None = None,
    server_settings: Mapping[str, str] | None = None,
    server_control: Control | None = None,
) -> AsyncIterator[Pair]:
    """Run both sidecars; what enters the client's goes to ``app`` behind the server's.

    ``direct``: over the direct port with a transport header; otherwise as if redirected.
    ``hint``: what discovery says that the server takes; H2: HTTP/1 rides on HTTP/2.
    """
    inbound = free_address(app.ip)
    destination = inbound if direct else app
    async with (
        run_sidecar(
            server,
            FixedCapture(destination),
            ip=app.ip,
            inbound=inbound,
            settings=server_settings,
            control=server_control,
        ) as far,
        run_sidecar(client, FixedCapture(app), settings=client_settings) as near,
    ):
        endpoint = Endpoint(
            address=app if direct else inbound,
            identity=server.identity,
            direct_port=inbound.port if direct else None,
            hint=hint,
        )
        near.control.route(app, endpoint)
        yield Pair(near, far, app)
