"""One hop of pillion: the real data plane, for ``python bench/hop.py SIDE JSON``.

On loopback nothing is redirected, so the capture says of every connection that it was going to
the one place where the bench's connections go. Everything else is as in a pod: the outbound hop
finds the endpoint by policy and discovery, dials its direct port with mutual TLS and a transport
header; the inbound one reads the header, asks policy for the client's identity, counts and logs.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Final, Self, final

import uvloop

from core.watch import Watch
from discovery.model import (
    UNKNOWN_ENDPOINTS,
    Address,
    Endpoint,
    EndpointSet,
    Metadata,
    Profile,
    Target,
)
from identity.anchors import load_anchors
from identity.generation import Generation, build_generation
from identity.name import Identity, parse_identity
from identity.pem import split_pem
from policy.model import (
    Authorization,
    Backend,
    Balancer,
    NetworkMatch,
    OpaqueRoute,
    OutboundPolicy,
    Protocol,
    RandomAvailable,
    ServerPolicy,
    TlsAuthenticated,
    WeightedBackend,
)
from proxy.app import Providers, Sidecar
from proxy.config import read_config
from proxy.net.capture import FixedCapture
from proxy.telemetry.log import make_logger

LOOPBACK: Final = ip_network("127.0.0.0/8")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the bench asks of a hop, as JSON carries it."""

    listen: Address
    """Where this hop's connections come in."""
    other: Address
    """For the listener of the other direction, which nobody calls."""
    admin: Address
    inner: Address
    """The inbound hop's direct port."""
    backend: Address
    """The application; its IP is that of the inbound hop's pod."""
    chain: str
    key: str
    anchors: str
    trust_domain: str
    own_identity: str
    far_identity: str
    resumes: bool

    def to_json(self) -> str:
        """Return the order as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what ``to_json`` wrote."""
        fields = json.loads(text)
        for name in ("listen", "other", "admin", "inner", "backend"):
            fields[name] = Address(**fields[name])
        return cls(**fields)


@final
class Everything:
    """Identity, policy and discovery of a mesh with two workloads and one opaque port."""

    def __init__(self, order: Order) -> None:
        far = parse_identity(order.far_identity)
        self.generation: Watch[Generation | None] = Watch(_generation(order))
        self._backend = order.backend
        self._server = Watch(_server_policy(far))
        self._profile: Watch[Profile | None] = Watch(None)
        target = Target("server.bench.svc.cluster.local", order.backend.port)
        self._outbound: Watch[OutboundPolicy | None] = Watch(_outbound_policy(target))
        self._unknown: Watch[OutboundPolicy | None] = Watch(None)
        self._nowhere = Watch(UNKNOWN_ENDPOINTS)
        endpoint = Endpoint(address=order.backend, identity=far, direct_port=order.inner.port)
        self._endpoints = {target: Watch(EndpointSet(endpoints=(endpoint,)))}

    def inbound(self, port: int) -> Watch[ServerPolicy]:
        """Return the policy: the other workload alone, with its identity proved."""
        del port
        return self._server

    def outbound(self, destination: Address) -> Watch[OutboundPolicy | None]:
        """Return the way to the service."""
        return self._outbound if destination == self._backend else self._unknown

    def profile(self, destination: Address) -> Watch[Profile | None]:
        """Return nothing: no destination has a profile."""
        del destination
        return self._profile

    def endpoints(self, target: Target) -> Watch[EndpointSet]:
        """Return the one endpoint of the service."""
        return self._endpoints.get(target, self._nowhere)


def _generation(order: Order) -> Generation:
    return build_generation(
        leaf_chain_der=split_pem(Path(order.chain).read_bytes())[0],
        key_path=Path(order.key),
        anchors=load_anchors(Path(order.anchors), order.trust_domain),
        identity=parse_identity(order.own_identity),
        now=time.time(),
    )


def _server_policy(client: Identity) -> ServerPolicy:
    return ServerPolicy(
        metadata=_named("server", "server"),
        protocol=Protocol.OPAQUE,
        authorizations=(
            Authorization(
                metadata=_named("authorizationpolicy", "client"),
                networks=(NetworkMatch(LOOPBACK),),
                authentication=TlsAuthenticated(frozenset({client})),
            ),
        ),
        localhost=None,
    )


def _outbound_policy(target: Target) -> OutboundPolicy:
    service = Metadata("Service", "server", namespace="bench", port=target.port)
    backend = Backend(metadata=service, dispatcher=Balancer(target=target))
    distribution = RandomAvailable((WeightedBackend(backend, 1),))
    return OutboundPolicy(
        metadata=service,
        protocol=Protocol.OPAQUE,
        opaque=(OpaqueRoute(metadata=service, distribution=distribution),),
    )


def _named(kind: str, name: str) -> Metadata:
    return Metadata(kind, name, group="policy.linkerd.io", namespace="bench")


async def serve(side: str, order: Order) -> int:
    """Serve until SIGTERM; return the sidecar's exit status."""
    is_inbound = side == "inbound"
    config = read_config(
        {
            "PILLION_POD": f"bench/{side}-0",
            "PILLION_MESH_DIR": "/nonexistent",
            "PILLION_IDENTITY_DIR": "/nonexistent",
            "PILLION_INBOUND_LISTEN_ADDR": str(order.listen if is_inbound else order.other),
            "PILLION_OUTBOUND_LISTEN_ADDR": str(order.other if is_inbound else order.listen),
            "PILLION_ADMIN_LISTEN_ADDR": str(order.admin),
            "PILLION_TLS_RESUME": str(order.resumes).lower(),
            "PILLION_SHUTDOWN_GRACE_PERIOD": "1s",
        }
    )
    everything = Everything(order)
    sidecar = Sidecar(
        config,
        Providers(identity=everything, policies=everything, discovery=everything),
        FixedCapture(order.inner if is_inbound else order.backend),
        frozenset({order.listen.ip}),
        make_logger(config.log_level, "json"),
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sidecar.stop)
    return await sidecar.run()


if __name__ == "__main__":
    sys.exit(uvloop.run(serve(sys.argv[1], Order.from_json(sys.argv[2]))))
