"""The gateway: connections of other clusters' sidecars, carried to what our cluster exports.

A direct connection whose transport header has a name: the policy of the gateway's own port
decides who may enter, the exports where to; onward it goes as from any sidecar, under the
gateway's own identity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, final

from core.errors import MeshError, RefusedError
from core.record import dataclass
from core.watch import Watch
from discovery.model import Endpoint, Labels, Metadata, Target
from identity.name import Identity
from policy.decide import decide_connection
from policy.model import Client, PeakEwma, Permit, Refusal, ServerPolicy
from proxy.gateway.http import ROUTE, CarriedRequests, GatewayRequests, GatewayRules
from proxy.gateway.rule import carried, must_exported, refuse_loop
from proxy.http.connection import HttpConnection
from proxy.net.connection import Connection, error_name
from proxy.net.inbox import Inbox
from proxy.net.stream import Stream
from proxy.outbound.connecting import connect
from proxy.outbound.count import Kind, OutboundCounts
from proxy.outbound.destination import Concrete
from proxy.outbound.dial import Dialled, dial
from proxy.outbound.pick import Pick
from proxy.providers import DiscoveryProvider, ExportProvider, PolicyProvider
from proxy.runtime import Runtime
from proxy.telemetry.denial import log_denial
from proxy.telemetry.metric import accept_labels, authz_labels, server_labels
from proxy.telemetry.transport import SideSlots
from proxy.wire.transport_header import SessionProtocol, TransportHeader

_NEAR: Final[Labels] = (("direction", "inbound"), ("peer", "src"))


@final
@dataclass(frozen=True, slots=True)
class Carried:
    """What is remembered of a connection through the gateway."""

    client: Client
    target: Target
    endpoint: Endpoint
    server: Identity | None
    authorization: Metadata
    labels: Labels
    pick: Pick

    def facts(self) -> dict[str, str]:
        """Return who asked for what, by which rule, and where it went."""
        return {
            "direction": "gateway",
            "client_ip": self.client.ip,
            "client_identity": str(self.client.identity or ""),
            "target": str(self.target),
            "authorization": str(self.authorization),
            "endpoint": str(self.endpoint.address),
            "server_identity": str(self.server or ""),
            "tls": "mesh" if self.server is not None else "none",
        }


@final
@dataclass(frozen=True, slots=True)
class Reached:
    """An endpoint that answered."""

    dialled: Dialled
    labels: Labels
    """Of all endpoints it was chosen from."""
    seconds: float
    pick: Pick
    """The endpoint's ticket, to be closed with the connection."""


@final
class Gateway:
    """Carries what comes by name from other clusters."""

    def __init__(
        self,
        runtime: Runtime,
        policies: PolicyProvider,
        discovery: DiscoveryProvider,
        exports: ExportProvider,
    ) -> None:
        self._runtime = runtime
        self._policies = policies
        self._discovery = discovery
        self._exports = exports
        self._counts = OutboundCounts(runtime.metrics)
        self._rules = GatewayRules(runtime, discovery)
        self._open: dict[Connection, tuple[Callable[[], None], ...]] = {}
        """Connections and how to stop following what they depend on."""

    async def carry(
        self, stream: Stream, inbox: Inbox, client: Client, header: TransportHeader
    ) -> bool:
        """Carry a connection to what its header names; False when policy refuses.

        Raises MeshError: RefusedError for a loop or what is not exported.
        """
        runtime = self._runtime
        identity = client.identity
        if identity is None:
            raise RefusedError(f"{client.ip} did not prove who it is", code="direct-not-mutual")
        policy = self._policies.inbound(runtime.inbound_port)
        verdict = decide_connection(policy.current, client)
        labels = self._labels(policy.current, client)
        if isinstance(verdict, Refusal):
            runtime.metrics.deny.child(labels).value += 1
            asked = Target(header.name, header.port)
            log_denial(
                runtime.log, "connection denied", verdict, client, asked, direction="gateway"
            )
            return False
        generation = runtime.generation.current
        refuse_loop(identity, generation.identity if generation is not None else None)
        export = self._exports.exported(header.name, header.port)
        target = must_exported(header, identity, export.current)
        if header.session is not None:
            self._serve_http(stream, inbox, client, target, header.session, labels, export)
            return True
        reached = await self._reach(target)
        about = Carried(
            client=client,
            target=target,
            endpoint=reached.dialled.endpoint,
            server=reached.dialled.server,
            authorization=verdict.authorization,
            labels=labels,
            pick=reached.pick,
        )
        connection = self._join(stream, about, reached)
        self._follow(connection, policy, export)
        connection.relay.start(early_near=inbox.take(), early_far=reached.dialled.inbox.take())
        return True

    def _serve_http(
        self,
        stream: Stream,
        inbox: Inbox,
        client: Client,
        target: Target,
        session: SessionProtocol,
        labels: Labels,
        export: Watch[Target | None],
    ) -> None:
        """Carry requests; policy and exports are asked about each."""
        runtime = self._runtime
        is_http2 = session is SessionProtocol.HTTP2
        policy = self._policies.inbound(runtime.inbound_port)
        connection = HttpConnection(
            runtime,
            stream,
            GatewayRequests(self._rules, client, policy, export, target, is_http2=is_http2),
            SideSlots(runtime.metrics, (*_NEAR, *labels)),
            CarriedRequests(client, target),
            lambda _over: None,
            is_http2=is_http2,
            drains=True,
        )
        runtime.log.info("connection", **connection.about.facts())
        connection.start(bytes(inbox.take()))

    async def _reach(self, target: Target) -> Reached:
        """Dial one endpoint, after a failure others.

        Raises RefusedError where all endpoints have a sidecar that cannot be reached as one.
        """
        runtime = self._runtime
        carried(self._discovery.endpoints(target).current, runtime.own_ips)
        balanced = self._rules.inwards.of(
            Concrete(
                parent=ROUTE, backend=ROUTE, target=target, load=PeakEwma(), is_by_connection=True
            )
        )
        dialled, pick = await connect(
            balanced, lambda endpoint: self._dial(target, endpoint), runtime.clock
        )
        seconds = runtime.clock.monotonic() - pick.began_at
        return Reached(dialled, balanced.labels, seconds, pick)

    async def _dial(self, target: Target, endpoint: Endpoint) -> Dialled:
        try:
            return await dial(self._runtime, endpoint)
        except MeshError as error:
            self._runtime.log.info(
                "connect failed",
                direction="gateway",
                code=error.code,
                target=str(target),
                endpoint=str(endpoint.address),
                reason=str(error),
            )
            raise

    def _join(self, stream: Stream, about: Carried, reached: Reached) -> Connection:
        runtime = self._runtime
        kind = Kind(
            destination=about.endpoint.address,
            parent=ROUTE,
            route=ROUTE,
            target=about.target,
            labels=reached.labels,
            endpoint=about.endpoint,
            server=about.server,
            no_tls_reason=reached.dialled.no_tls_reason,
        )
        counted = self._counts.of(kind)
        counted.connect.observe(reached.seconds)
        near = SideSlots(runtime.metrics, (*_NEAR, *about.labels))
        connection = Connection(
            self,
            stream,
            reached.dialled.stream,
            near,
            counted.far,
            about,
            runtime.clock.monotonic(),
            runtime.pipes,
        )
        allowed = (*about.labels, *authz_labels(about.authorization))
        runtime.metrics.allow.child(allowed).value += 1
        runtime.connections.add(connection)
        runtime.log.info("connection", **about.facts())
        return connection

    def _follow(
        self,
        connection: Connection,
        policy: Watch[ServerPolicy],
        export: Watch[Target | None],
    ) -> None:
        """Cut the connection as soon as policy or the exports no longer allow it."""

        def decide(current: ServerPolicy) -> None:
            self._decide_again(connection, current)

        def look(target: Target | None) -> None:
            if target is None:
                gone = RefusedError("it is no longer exported", code="gateway-not-exported")
                connection.relay.cut(gone)

        forget = policy.subscribe(decide), export.subscribe(look)
        self._open[connection] = forget
        # Either may have changed while the endpoint was dialled.
        decide(policy.current)
        look(export.current)

    def _decide_again(self, connection: Connection, policy: ServerPolicy) -> None:
        about = connection.about
        if not isinstance(about, Carried):
            return
        verdict = decide_connection(policy, about.client)
        if isinstance(verdict, Permit):
            connection.about = replace(about, authorization=verdict.authorization)
            return
        self._runtime.metrics.terminate.child(about.labels).value += 1
        log_denial(
            self._runtime.log,
            "connection terminated due to policy change",
            verdict,
            about.client,
            about.target,
            direction="gateway",
        )
        connection.relay.cut(RefusedError(verdict.reason, code=verdict.code))

    def connection_closed(self, connection: Connection, error: Exception | None) -> None:
        """Forget a connection that is over."""
        runtime = self._runtime
        for forget in self._open.pop(connection, ()):
            forget()
        runtime.connections.discard(connection)
        if isinstance(connection.about, Carried):
            connection.about.pick.close(runtime.clock.monotonic())
        runtime.leave()
        runtime.log.debug(
            "connection closed",
            direction="gateway",
            error=error_name(error),
            bytes_in=connection.relay.near.bytes_in,
            bytes_out=connection.relay.near.bytes_out,
        )

    def _labels(self, policy: ServerPolicy, client: Client) -> Labels:
        port = self._runtime.inbound_port
        return (*server_labels(policy.metadata, port), *accept_labels(client))
