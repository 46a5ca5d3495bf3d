"""From the workload: accept, find out where to, choose an endpoint, connect, relay."""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass
from typing import final

from core.errors import MeshError, RefusedError, Retry
from discovery.model import Address, Endpoint, Labels, Metadata
from identity.name import Identity
from proxy.net.connection import Connection, error_name
from proxy.net.inbox import Inbox
from proxy.net.stream import Stream
from proxy.outbound.dial import Dialled, KeepSession, dial
from proxy.outbound.resolve import order_endpoints, plan_connection
from proxy.providers import DiscoveryProvider, PolicyProvider
from proxy.runtime import Runtime
from proxy.telemetry.metric import target_labels
from proxy.telemetry.transport import Cache, SideSlots


@final
@dataclass(frozen=True, slots=True)
class Routed:
    """What is remembered of an outbound connection."""

    destination: Address
    endpoint: Endpoint
    parent: Metadata
    resumed: KeepSession | None


Kind = tuple[Address, Endpoint, Identity | None, str]
"""What makes connections alike: destination, endpoint, and what our TLS was."""


@final
class OutboundServer:
    """Serves connections that the workload opened and that were redirected to us."""

    def __init__(
        self, runtime: Runtime, policies: PolicyProvider, discovery: DiscoveryProvider
    ) -> None:
        self._runtime = runtime
        self._policies = policies
        self._discovery = discovery
        self._counted: Cache[Kind, tuple[SideSlots, SideSlots]] = Cache()
        self._random = random.Random()  # noqa: S311  # spreads load, keeps no secret

    def accepted(self, sock: socket.socket, ip: str) -> None:
        """Take a connection from the workload."""
        self._runtime.start(self._serve(sock, ip))

    async def _serve(self, sock: socket.socket, ip: str) -> None:
        runtime = self._runtime
        inbox = Inbox(runtime.loop)
        stream = Stream(runtime.loop, sock, inbox)
        inbox.stream = stream
        handed_over = False
        destination: Address | None = None
        try:
            destination = runtime.capture.original_destination(sock)
            if runtime.is_own_listener(destination):
                raise RefusedError(
                    f"{ip} dialled our own listener {destination}",
                    hint="connections come here only by redirection",
                    code="loop",
                )
            parent, dialled = await self._reach(destination)
            self._join(stream, inbox, destination, parent, dialled)
            handed_over = True
        except MeshError as error:
            self._failed(error, destination)
        finally:
            if not handed_over:
                # A reset, as from a host that refuses: the client must not take it for an end.
                stream.abort()
                runtime.leave()

    async def _reach(self, destination: Address) -> tuple[Metadata, Dialled]:
        """Dial the destination, after a connect failure up to three other endpoints."""
        plan = plan_connection(
            destination,
            self._policies.outbound(destination).current,
            self._discovery.profile(destination).current,
            self._random.random(),
        )
        if plan.target is not None:
            found = self._discovery.endpoints(plan.target).current
            candidates = order_endpoints(found, plan.target, self._random.random())
        else:
            candidates = (plan.endpoint,) if plan.endpoint is not None else ()
        failures: list[MeshError] = []
        for endpoint in candidates:
            try:
                return plan.parent, await dial(self._runtime, endpoint)
            except MeshError as error:
                failures.append(error)
                self._runtime.log.info(
                    "connect failed",
                    direction="outbound",
                    code=error.code,
                    target=str(destination),
                    endpoint=str(endpoint.address),
                    reason=str(error),
                )
                if error.retry is Retry.NEVER and not error.where.value == "server":
                    raise
        raise failures[-1]

    def _join(
        self,
        stream: Stream,
        inbox: Inbox,
        destination: Address,
        parent: Metadata,
        dialled: Dialled,
    ) -> None:
        runtime = self._runtime
        endpoint = dialled.endpoint
        near, far = self._count_as(destination, dialled)
        connection = Connection(
            self,
            stream,
            dialled.stream,
            near,
            far,
            Routed(destination, endpoint, parent, dialled.resumed),
            runtime.clock.monotonic(),
        )
        runtime.connections.add(connection)
        runtime.log.info(
            "connection",
            direction="outbound",
            target=str(destination),
            parent=str(parent),
            endpoint=str(endpoint.address),
            path=endpoint.path.kind.value,
            server_identity=str(dialled.server or ""),
            tls="mesh" if dialled.server is not None else "none",
            no_tls_reason=dialled.no_tls_reason,
        )
        connection.relay.start(early_near=inbox.take(), early_far=dialled.inbox.take())

    def _count_as(self, destination: Address, dialled: Dialled) -> tuple[SideSlots, SideSlots]:
        """Return where a connection like this one is counted, near side and far side."""
        kind = (destination, dialled.endpoint, dialled.server, dialled.no_tls_reason)
        slots = self._counted.get(kind)
        if slots is not None:
            return slots
        metrics = self._runtime.metrics
        endpoint = dialled.endpoint
        tls: Labels = (
            (("tls", "true"), ("server_id", dialled.server.name))
            if dialled.server is not None
            else (("tls", "no_identity"), ("no_tls_reason", dialled.no_tls_reason))
        )
        near = SideSlots(
            metrics,
            (
                ("direction", "outbound"),
                ("peer", "src"),
                *target_labels(destination),
                ("tls", "no_identity"),
                ("no_tls_reason", "loopback"),
            ),
        )
        far = SideSlots(
            metrics,
            (
                ("direction", "outbound"),
                ("peer", "dst"),
                *target_labels(endpoint.address),
                *tls,
                *((f"dst_{name}", value) for name, value in endpoint.labels),
            ),
        )
        return self._counted.put(kind, (near, far))

    def connection_closed(self, connection: Connection, error: Exception | None) -> None:
        """Forget a connection that is over."""
        runtime = self._runtime
        runtime.connections.discard(connection)
        about = connection.about
        if isinstance(about, Routed) and about.resumed and not connection.relay.far.bytes_in:
            # Whoever no longer honours a session can only hang up on it (RFC 8446, 4.6.1).
            about.resumed.drop()
        runtime.leave()
        runtime.log.debug(
            "connection closed",
            direction="outbound",
            error=error_name(error),
            bytes_in=connection.relay.far.bytes_in,
            bytes_out=connection.relay.far.bytes_out,
        )

    def _failed(self, error: MeshError, destination: Address | None) -> None:
        runtime = self._runtime
        labels = target_labels(destination) if destination is not None else ()
        runtime.metrics.outbound_errors.child((*labels, ("error", error.code))).value += 1
        runtime.log.info(
            "connection failed",
            direction="outbound",
            code=error.code,
            target=str(destination or ""),
            reason=str(error),
        )
