"""Towards the workload: accept, find out who calls and in what protocol, ask policy, relay."""

from __future__ import annotations

import socket
from typing import Final, final

from core.errors import ClosedEarlyError, MeshError, RefusedError, TcpAction, outcome_of
from core.record import dataclass
from core.watch import Watch
from discovery.model import Address, Labels, Metadata
from identity.name import Identity
from policy.decide import decide_connection
from policy.model import Client, ClientTls, Permit, Protocol, Refusal, ServerPolicy
from proxy.detect import DECLARED, RESULTS, detect_protocol
from proxy.gateway.server import Gateway
from proxy.greeting import Greetings
from proxy.http.connection import HttpConnection
from proxy.inbound.detect import detect_client, read_transport_header
from proxy.inbound.http import AppPools, InboundRequests, RateLimits
from proxy.inbound.journal import Journal
from proxy.inbound.port import Admitted, Counted, OpenPorts
from proxy.net.connection import Connection, error_name, peer_of
from proxy.net.inbox import Inbox
from proxy.net.stream import Stream
from proxy.providers import PolicyProvider
from proxy.runtime import Runtime
from proxy.speaker import Speaker
from proxy.telemetry.denial import log_denial
from proxy.telemetry.http import InboundHttp
from proxy.telemetry.metric import (
    accept_labels,
    authz_labels,
    count_audits,
    server_labels,
    target_labels,
)
from proxy.telemetry.transport import Cache, SideSlots
from proxy.wire.http_detect import HttpKind
from proxy.wire.transport_header import ALPN, SessionProtocol, TransportHeader


@final
@dataclass(frozen=True, slots=True)
class Greeted:
    """A connection to the application that has spoken."""

    stream: Stream
    inbox: Inbox

    def drop(self, now: float) -> None:
        """Let go of it unused."""
        del now
        self.stream.abort()


@final
@dataclass(frozen=True, slots=True)
class HttpClient:
    """What is remembered of a connection whose requests are decided one by one."""

    client: Client
    target: Address
    policy: Watch[ServerPolicy]

    def facts(self) -> dict[str, str]:
        """Return who calls where."""
        return {
            "direction": "inbound",
            "client_ip": self.client.ip,
            "client_identity": str(self.client.identity or ""),
            "tls": self.client.tls.value,
            "target": str(self.target),
            "server": str(self.policy.current.metadata),
        }


Kind = tuple[Address, Metadata, ClientTls, Identity | None, str, bool]
"""What makes connections alike: target, server, and what the client's TLS was."""


SESSIONS: Final = {
    None: HttpKind.NONE,
    SessionProtocol.HTTP1: HttpKind.HTTP1,
    SessionProtocol.HTTP2: HttpKind.HTTP2,
}
"""What a transport header says that its connection carries."""
_INBOUND: Final = ("direction", "inbound")
_APP_LABELS: Final[Labels] = (
    _INBOUND,
    ("peer", "dst"),
    ("tls", "no_identity"),
    ("no_tls_reason", "loopback"),
)


@final
class InboundServer:
    """Serves connections that were redirected to, or dialled at, the inbound port."""

    def __init__(
        self, runtime: Runtime, policies: PolicyProvider, gateway: Gateway | None = None
    ) -> None:
        self._runtime = runtime
        self._gateway = gateway
        self._policies = policies
        self._ports = OpenPorts(runtime, policies)
        self._greetings: Greetings[int, Greeted] = Greetings(runtime)
        self._http = InboundHttp(runtime.metrics)
        self._limits = RateLimits(runtime.workers)
        self._pools = AppPools(runtime, _APP_LABELS)
        self._counted: Cache[Kind, Counted] = Cache()
        self._connect_seconds = runtime.metrics.connect_seconds.child(
            (_INBOUND, ("tls", "no_identity"))
        )

    def accepted(self, sock: socket.socket, ip: str) -> None:
        """Take a connection from the client at ``ip``."""
        self._runtime.start(self._serve(sock, ip))

    async def _serve(self, sock: socket.socket, ip: str) -> None:
        runtime = self._runtime
        inbox = Inbox(runtime.loop)
        stream = Stream(runtime.poller, sock, inbox)
        inbox.stream = stream
        handed_over = False
        target: Address | None = None
        greeted: Greeted | None = None
        try:
            destination = runtime.capture.original_destination(sock)
            target = destination
            if runtime.own_ips and destination.ip not in runtime.own_ips:
                raise RefusedError(
                    f"{destination} is not this pod's", code="direct-foreign-address"
                )
            if destination.port == runtime.inbound_port:
                client, header = await self._direct(stream, inbox, ip)
                if header.name:
                    handed_over = await self._carry(stream, inbox, client, header)
                    return
                target = Address(destination.ip, header.port)
                kind = SESSIONS[header.session]
            else:
                client, kind, greeted = await self._identify(stream, inbox, destination, ip)
            self._refuse_own(target)
            if kind is HttpKind.NONE:
                handed_over = await self._admit(stream, inbox, client, target, greeted)
            else:
                self._serve_http(stream, inbox, client, target, kind)
                handed_over = True
        except ClosedEarlyError as error:
            runtime.log.debug("client left", direction="inbound", client_ip=ip, reason=str(error))
        except MeshError as error:
            self._failed(error, ip, target)
            if outcome_of(error).tcp is TcpAction.RESET:
                stream.abort(error)
        finally:
            if not handed_over:
                stream.close()
                if greeted is not None:
                    greeted.stream.abort()
                runtime.leave()

    async def _identify(
        self, stream: Stream, inbox: Inbox, target: Address, ip: str
    ) -> tuple[Client, HttpKind, Greeted | None]:
        """Find out who calls a port of the application's, in what protocol, and who speaks first.

        Linkerd's table (app/inbound/src/detect.rs), beside servers that speak first.
        """
        policy = self._policies.inbound(target.port).current
        client = Client(ip)
        if policy.protocol is Protocol.OPAQUE:
            return client, HttpKind.NONE, None
        first = await self._first_word(stream, inbox, policy, client, target)
        if not isinstance(first, Greeted):
            if first is Speaker.SERVER and not inbox.data:
                return client, HttpKind.NONE, None
            client = await self._detect(stream, inbox, ip, direct=False)
            if client.tls is ClientTls.MESH:
                first = await self._first_word(stream, inbox, policy, client, target)
        if isinstance(first, Greeted):
            return client, HttpKind.NONE, first
        if first is Speaker.SERVER and not inbox.data:
            return client, HttpKind.NONE, None
        return client, await self._detect_http(inbox, policy, client, target), None

    async def _first_word(
        self,
        stream: Stream,
        inbox: Inbox,
        policy: ServerPolicy,
        client: Client,
        target: Address,
    ) -> Greeted | Speaker:
        """Wait for the first word on a port whose server may be the one to say it."""
        # A route of the user's makes it an HTTP port, whose server never speaks first.
        if policy.protocol is not Protocol.DETECT or has_user_routes(policy):
            return Speaker.CLIENT
        stream.resume()
        if not isinstance(decide_connection(policy, client), Permit):
            return Speaker.CLIENT
        return await self._greetings.listen(inbox, target.port, lambda: self._dial_app(target))

    async def _dial_app(self, target: Address) -> Greeted:
        """Connect to the application on speculation."""
        runtime = self._runtime
        sock = await runtime.connector.connect(
            runtime.app(target), runtime.limits.inbound_connect_s
        )
        inbox = Inbox(runtime.loop)
        stream = Stream(runtime.poller, sock, inbox)
        inbox.stream = stream
        return Greeted(stream, inbox)

    async def _detect_http(
        self, inbox: Inbox, policy: ServerPolicy, client: Client, target: Address
    ) -> HttpKind:
        """Find out which HTTP a connection speaks, where that is not declared."""
        declared = DECLARED.get(policy.protocol)
        is_tls = client.tls is not ClientTls.NONE
        if declared is not None and not (declared is HttpKind.HTTP1 and is_tls):
            return declared
        began = self._runtime.loop.time()
        timeout_s = policy.detect_timeout_s if declared is None else self._runtime.limits.detect_s
        # Where routes decide, half a request line must not get past them as bytes.
        otherwise = HttpKind.HTTP1 if has_user_routes(policy) else HttpKind.NONE
        kind = await detect_protocol(inbox, timeout_s, declared or otherwise)
        self._http.detected(
            RESULTS[kind], self._runtime.loop.time() - began, policy.metadata, target.port
        )
        if kind is HttpKind.NONE and declared is not None:
            raise RefusedError(
                f"{client.identity or client.ip} speaks no HTTP to {policy.metadata}, which does",
                code="not-http",
            )
        return kind

    async def _carry(
        self, stream: Stream, inbox: Inbox, client: Client, header: TransportHeader
    ) -> bool:
        """Take a connection that is meant for somebody else, where we are a gateway."""
        if self._gateway is None:
            raise RefusedError(
                f"{client.identity} asks for {header.name}, and this sidecar is no gateway",
                code="gateway-disabled",
            )
        return await self._gateway.carry(stream, inbox, client, header)

    async def _direct(
        self, stream: Stream, inbox: Inbox, ip: str
    ) -> tuple[Client, TransportHeader]:
        """Take a connection dialled at the inbound port itself: mutual TLS and a header."""
        runtime = self._runtime
        client = await self._detect(stream, inbox, ip, direct=True)
        if client.tls is not ClientTls.MESH or client.identity is None:
            raise RefusedError(
                f"a direct connection from {ip} without a client identity",
                hint="only sidecars dial this port, with mutual TLS",
                code="direct-not-mutual",
            )
        if stream.engine is None or stream.engine.alpn != ALPN:
            raise RefusedError(
                f"a direct connection from {client.identity} did not negotiate {ALPN}",
                code="direct-no-alpn",
            )
        header = await read_transport_header(inbox, runtime.limits.detect_s)
        stream.bytes_in = len(inbox.data)
        runtime.metrics.headers.child(
            (
                ("session_protocol", header.session.value if header.session else ""),
                ("target_port", str(header.port)),
                ("target_name", header.name),
                ("client_id", client.identity.name),
            )
        ).value += 1
        return client, header

    async def _detect(self, stream: Stream, inbox: Inbox, ip: str, *, direct: bool) -> Client:
        runtime = self._runtime
        if runtime.generation.current is None:
            raise RefusedError("no certificate has been issued to us yet", code="draining")
        stream.resume()
        return await detect_client(
            stream,
            inbox,
            runtime,
            ip,
            runtime.limits.detect_s,
            direct=direct,
        )

    def _refuse_own(self, target: Address) -> None:
        """Refuse what is meant for the sidecar itself.

        Who reached the admin server through us would be a local peer to it.
        """
        if self._runtime.is_own_port(target.port):
            raise RefusedError(
                f"inbound connections must not target port {target.port}, which is ours",
                code="loop",
            )

    def _serve_http(
        self, stream: Stream, inbox: Inbox, client: Client, target: Address, kind: HttpKind
    ) -> None:
        """Serve requests; policy is asked about each."""
        runtime = self._runtime
        watch = self._policies.inbound(target.port)
        counted = self._count_as(watch.current, target, client)
        connection = HttpConnection(
            runtime,
            stream,
            InboundRequests(
                runtime,
                watch,
                client,
                target,
                self._pools,
                self._http.client(target, client),
                self._limits,
                self._journal(stream, client),
            ),
            counted.near,
            HttpClient(client, target, watch),
            lambda over: counted.life.observe(runtime.clock.monotonic() - over.opened_at),
            is_http2=kind is HttpKind.HTTP2,
            drains=True,
        )
        runtime.log.info("connection", **connection.about.facts())
        connection.start(bytes(inbox.take()))

    def _journal(self, stream: Stream, client: Client) -> Journal | None:
        log = self._runtime.access_log
        return None if log is None else Journal(log, client, peer_of(stream))

    async def _admit(
        self,
        stream: Stream,
        inbox: Inbox,
        client: Client,
        target: Address,
        greeted: Greeted | None,
    ) -> bool:
        """Ask policy, dial the application, join the two; False when policy refuses."""
        runtime = self._runtime
        policy = self._policies.inbound(target.port).current
        verdict = decide_connection(policy, client)
        counted = self._count_as(policy, target, client)
        if verdict.audits:
            count_audits(runtime.metrics, verdict, counted.labels, is_request=False)
        if isinstance(verdict, Refusal):
            runtime.metrics.deny.child(counted.labels).value += 1
            log_denial(
                runtime.log, "connection denied", verdict, client, target, direction="inbound"
            )
            return False
        if greeted is None:
            began = runtime.clock.monotonic()
            sock = await runtime.connector.connect(
                runtime.app(target), runtime.limits.inbound_connect_s
            )
            self._connect_seconds.observe(runtime.clock.monotonic() - began)
            far = Stream(runtime.poller, sock, inbox)
        else:
            far = greeted.stream
        about = Admitted(client, target, verdict.server, verdict.authorization, counted)
        connection = Connection(
            self,
            stream,
            far,
            counted.near,
            counted.far,
            about,
            runtime.clock.monotonic(),
            runtime.pipes,
        )
        authorization = authz_labels(verdict.authorization)
        runtime.metrics.allow.child((*counted.labels, *authorization)).value += 1
        self._ports.add(connection, about, policy)
        early = b"" if greeted is None else greeted.inbox.take()
        connection.relay.start(early_near=inbox.take(), early_far=early)
        return True

    def _count_as(self, policy: ServerPolicy, target: Address, client: Client) -> Counted:
        """Return where a connection like this one is counted."""
        skipped = policy.protocol is Protocol.OPAQUE and client.tls is ClientTls.NONE
        kind = (target, policy.metadata, client.tls, client.identity, client.sni, skipped)
        counted = self._counted.get(kind)
        if counted is not None:
            return counted
        labels = (
            *target_labels(target),
            *server_labels(policy.metadata, target.port),
            *accept_labels(client, port_skipped=skipped),
        )
        metrics = self._runtime.metrics
        near = SideSlots(metrics, (_INBOUND, ("peer", "src"), *labels))
        far = SideSlots(metrics, _APP_LABELS)
        life = metrics.life_seconds.child((_INBOUND, *server_labels(policy.metadata, target.port)))
        return self._counted.put(kind, Counted(labels, near, far, life))

    def connection_closed(self, connection: Connection, error: Exception | None) -> None:
        """Forget a connection that is over."""
        runtime = self._runtime
        self._ports.discard(connection)
        runtime.leave()
        runtime.log.debug(
            "connection closed",
            direction="inbound",
            error=error_name(error),
            bytes_in=connection.relay.near.bytes_in,
            bytes_out=connection.relay.near.bytes_out,
        )

    def _failed(self, error: MeshError, ip: str, target: Address | None) -> None:
        runtime = self._runtime
        labels = target_labels(target) if target is not None else ()
        runtime.metrics.inbound_errors.child((("error", error.code), *labels)).value += 1
        runtime.log.info(
            "connection failed",
            direction="inbound",
            code=error.code,
            client_ip=ip,
            target=str(target or ""),
            reason=str(error),
        )


def has_user_routes(policy: ServerPolicy) -> bool:
    """Tell whether somebody attached a route; every policy has the default ones."""
    return any(route.metadata.kind != "default" for route in policy.routes)
