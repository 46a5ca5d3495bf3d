"""A sidecar that stands beside a pod of a mesh directory, on an island where all callers live."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from control.embedded import EmbeddedControl
from core.clock import SystemClock
from core.watch import Watch
from discovery.model import Address
from identity.name import Identity
from policy.model import Client, ClientTls, Protocol
from proxy.net.address import plain_ip
from proxy.telemetry.exposition import expose
from proxy.wire.transport_header import ALPN, TransportHeader, encode_header
from tests.authority import Mesh
from tests.session.admin import samples
from tests.session.peers import mk_context, mk_files
from tests.sidecars import Control, Running, run_sidecar
from tests.support.calls import app
from tests.support.island import Island

POD = "10.1.0.80"
PORTS = (80, 5432, 5433, 8080, 8081)
CALLERS = (
    *("10.1.1.1/32", "10.1.2.3/32", "10.2.0.1/32", "10.9.0.1/32", "10.9.9.9/32"),
    *("10.0.255.255/32", "203.0.113.7/32", "fd00::7/128"),
)
ADDRESSES = (f"{POD}/32", *CALLERS)


class Chosen:
    """A capture whose destination the test chooses before it connects."""

    destination = Address(POD, 80)

    def original_destination(self, _: object) -> Address:
        """Return it."""
        return self.destination


@dataclass
class Scene:
    """The place, the authority, and where keys are kept."""

    island: Island
    mesh: Mesh
    keys: Path

    def context(self, identity: Identity | None, alpn: str) -> ssl.SSLContext:
        """Return a caller's TLS, with a certificate if it has an identity."""
        if identity is None:
            return mk_context(self.mesh, None, "")
        directory = self.keys / identity.name.replace("/", "_")
        return mk_context(self.mesh, mk_files(self.mesh, identity.name, directory), alpn)


@dataclass
class Standing:
    """A sidecar that stands beside the case's pod."""

    running: Running
    embedded: EmbeddedControl
    capture: Chosen
    server_name: str
    ip: str

    def total(self, name: str, labels: dict[str, str]) -> float:
        """Return what a family has counted under some labels."""
        found = samples(b"".join(expose(self.running.sidecar.runtime.metrics.families()))).get(
            name, {}
        )
        return sum(value for at, value in found.items() if labels.items() <= set(at))


@asynccontextmanager
async def standing(
    scene: Scene, directory: Path, pod: str = "web", only: Address | None = None
) -> AsyncIterator[Standing]:
    """Run the sidecar of a pod of a mesh directory, and its application on every port.

    ``only``: on that one address and port, which are the pod's.
    """
    ip = only.ip if only is not None else POD
    ports = (only.port,) if only is not None else PORTS
    embedded = EmbeddedControl(str(directory), "app", pod, SystemClock())
    await embedded.start()
    generation = scene.mesh.generation("app/web")
    control = Control(Watch(generation))
    control.policies = {port: embedded.inbound(port) for port in ports}
    capture = Chosen()
    servers = [await asyncio.start_server(app, ip, port) for port in ports]
    following = asyncio.get_running_loop().create_task(embedded.run())
    try:
        async with run_sidecar(
            generation, capture, ip=ip, inbound=Address("::", 4143), control=control
        ) as running:
            yield Standing(running, embedded, capture, generation.server_name, ip)
    finally:
        following.cancel()
        for server in servers:
            server.close()
            await server.wait_closed()


@asynccontextmanager
async def calling(
    scene: Scene, place: Standing, client: Client, port: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect as a client, from its address.

    Who has an identity comes directly, with a transport header, to an opaque port: there
    nothing else is terminated.
    """
    is_opaque = place.embedded.inbound(port).current.protocol is Protocol.OPAQUE
    is_direct = is_opaque and client.identity is not None
    place.capture.destination = Address(place.ip, 4143 if is_direct else port)
    source = plain_ip(client.ip)
    to = source if ":" in source else "127.0.0.1" if source.startswith("127.") else place.ip
    is_tls = client.tls is ClientTls.MESH
    reader, writer = await asyncio.open_connection(
        to,
        4143,
        local_addr=(source, 0),
        ssl=scene.context(client.identity, ALPN if is_direct else "") if is_tls else None,
        server_hostname=place.server_name if is_tls else None,
    )
    try:
        if is_direct:
            writer.write(encode_header(TransportHeader(port)))
        yield reader, writer
    finally:
        writer.transport.abort()
