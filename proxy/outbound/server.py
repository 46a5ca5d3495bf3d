"""From the workload: accept, find out where to and in what protocol, connect, relay."""

from __future__ import annotations

import random
import socket
from typing import final

from core.errors import MeshError
from core.record import dataclass
from discovery.model import Address, Endpoint, Labels, Metadata, Target, default_metadata
from policy.model import Protocol
from proxy.detect import DECLARED, RESULTS, detect_protocol
from proxy.greeting import Greetings
from proxy.http.connection import HttpConnection
from proxy.http.exchange import Service
from proxy.net.connection import Connection, error_name
from proxy.net.inbox import Inbox
from proxy.net.stream import Stream
from proxy.outbound.connecting import connect
from proxy.outbound.count import Counted, Kind, OutboundCounts
from proxy.outbound.destination import Concrete
from proxy.outbound.destinations import Destinations
from proxy.outbound.dial import Dialled, KeepSession, dial
from proxy.outbound.entry import Entry
from proxy.outbound.forward import ForwardRequests
from proxy.outbound.http import OutboundRequests
from proxy.outbound.lookup import Lookup
from proxy.outbound.pick import Pick
from proxy.outbound.resolve import (
    Plan,
    is_plain,
    plan_connection,
    refuse_plaintext,
    refused_plan,
)
from proxy.outbound.rule import OutboundRules
from proxy.outbound.way import Ways
from proxy.providers import DiscoveryProvider, PolicyProvider
from proxy.runtime import Runtime
from proxy.speaker import Speaker
from proxy.telemetry.http import OutboundHttp
from proxy.telemetry.metric import target_labels
from proxy.wire.http_detect import HttpKind


@final
@dataclass(frozen=True, slots=True)
class Reached:
    """An endpoint that answered, and how we came to it."""

    plan: Plan
    labels: Labels
    """Of all endpoints it was chosen from."""
    dialled: Dialled
    seconds: float
    """From the dial that succeeded to a usable connection."""
    pick: Pick | None = None
    """The endpoint's ticket, to be closed with the connection; None: it was not chosen."""

    @property
    def stream(self) -> Stream:
        """The stream to the endpoint."""
        return self.dialled.stream

    @property
    def inbox(self) -> Inbox:
        """What the server has said."""
        return self.dialled.inbox

    def drop(self, now: float) -> None:
        """Let go of it unused."""
        self.dialled.stream.abort()
        if self.pick is not None:
            self.pick.close(now)


@final
@dataclass(frozen=True, slots=True)
class RoutedHttp:
    """What is remembered of a connection whose requests are routed one by one."""

    destination: Address
    parent: Metadata

    def facts(self) -> dict[str, str]:
        """Return where it was going."""
        return {
            "direction": "outbound",
            "target": str(self.destination),
            "parent": str(self.parent),
        }


@final
@dataclass(frozen=True, slots=True)
class Routed:
    """What is remembered of an outbound connection."""

    kind: Kind
    counted: Counted
    resumed: KeepSession | None
    pick: Pick | None

    def facts(self) -> dict[str, str]:
        """Return where it went, by which way, and who is there."""
        kind = self.kind
        return {
            "direction": "outbound",
            "target": str(kind.destination),
            "parent": str(kind.parent),
            "endpoint": str(kind.endpoint.address),
            "path": kind.endpoint.path.kind.value,
            "server_identity": str(kind.server or ""),
            "tls": "mesh" if kind.server is not None else "none",
            "no_tls_reason": kind.no_tls_reason,
        }


@final
class OutboundServer:
    """Serves connections that the workload opened and that were redirected to us."""

    def __init__(
        self,
        runtime: Runtime,
        policies: PolicyProvider,
        discovery: DiscoveryProvider,
        lookup: Lookup | None = None,
    ) -> None:
        self._runtime = runtime
        self._policies = policies
        self._discovery = discovery
        self._lookup = lookup
        self._entry = None if lookup is None else Entry(runtime, lookup)
        """Where connections are not redirected, they begin with their destination."""
        self._counts = OutboundCounts(runtime.metrics)
        self._destinations = Destinations(runtime, discovery)
        self._greetings: Greetings[Address, Reached] = Greetings(runtime)
        self._http = OutboundHttp(runtime.metrics)
        ways = Ways(runtime, self._http)
        self._rules = {
            kind: OutboundRules(
                ways, self._destinations, self._http, is_http2=kind is HttpKind.HTTP2
            )
            for kind in (HttpKind.HTTP1, HttpKind.HTTP2)
        }
        self._random = random.Random()  # noqa: S311  # spreads load, keeps no secret

    def accepted(self, sock: socket.socket, ip: str) -> None:
        """Take a connection from the workload."""
        self._runtime.start(self._serve(sock, ip))

    async def _serve(self, sock: socket.socket, ip: str) -> None:
        runtime = self._runtime
        inbox = Inbox(runtime.loop)
        stream = Stream(runtime.poller, sock, inbox)
        inbox.stream = stream
        handed_over = False
        destination: Address | None = None
        try:
            if self._entry is None:
                destination = runtime.capture.original_destination(sock)
            else:
                destination = await self._entry.destination(stream, inbox, ip)
            if destination is None:
                self._forward(stream, inbox)
                handed_over = True
                return
            runtime.refuse_own_listener(destination)
            kind, reached = await self._identify(stream, inbox, destination)
            if kind is HttpKind.NONE:
                reached = reached or await self._reach(destination)
                self._join(stream, inbox, destination, reached)
            else:
                self._serve_http(stream, inbox, destination, kind)
            handed_over = True
        except MeshError as error:
            self._failed(error, destination)
        finally:
            if not handed_over:
                # A reset, as from a host that refuses: the client must not take it for an end.
                stream.abort()
                runtime.leave()

    async def _identify(
        self, stream: Stream, inbox: Inbox, destination: Address
    ) -> tuple[HttpKind, Reached | None]:
        """Find out what the workload speaks, and whether the server is the one to speak first."""
        policy = self._policies.outbound(destination).current
        profile = self._discovery.profile(destination).current
        if profile is not None and profile.opaque_protocol:
            return HttpKind.NONE, None
        protocol = Protocol.DETECT if policy is None else policy.protocol
        declared = DECLARED.get(protocol)
        if declared is not None:
            return declared, None
        stream.resume()
        if policy is None or is_plain(policy):
            first = await self._greetings.listen(
                inbox, destination, lambda: self._reach(destination)
            )
            if isinstance(first, Reached):
                return HttpKind.NONE, first
            if first is Speaker.SERVER and not inbox.data:
                return HttpKind.NONE, None
        began = self._runtime.loop.time()
        kind = await detect_protocol(inbox, self._runtime.limits.detect_s, HttpKind.NONE)
        parent = policy.metadata if policy is not None else default_metadata("fallback")
        self._http.detected(RESULTS[kind], self._runtime.loop.time() - began, parent)
        return kind, None

    def _serve_http(
        self, stream: Stream, inbox: Inbox, destination: Address, kind: HttpKind
    ) -> None:
        """Serve requests; each is routed by itself."""
        policy = self._policies.outbound(destination).current
        parent = policy.metadata if policy is not None else default_metadata("fallback")
        service = self._requests(destination, kind)
        self._start_http(stream, inbox, service, kind, RoutedHttp(destination, parent))

    def _forward(self, stream: Stream, inbox: Inbox) -> None:
        """Serve requests that say where they go."""
        runtime = self._runtime
        if self._lookup is None:
            raise ValueError("only who has no captured connections is told destinations")
        service = ForwardRequests(
            runtime,
            self._lookup,
            self._http,
            lambda destination: self._requests(destination, HttpKind.HTTP1),
        )
        here = Address(next(iter(sorted(runtime.own_ips)), ""), runtime.outbound_port)
        about = RoutedHttp(here, default_metadata("explicit"))
        self._start_http(stream, inbox, service, HttpKind.HTTP1, about)

    def _requests(self, destination: Address, kind: HttpKind) -> OutboundRequests:
        """Return what routes the requests to a destination."""
        return OutboundRequests(
            self._runtime,
            destination,
            self._policies.outbound(destination),
            self._discovery.profile(destination),
            self._rules[kind],
            self._http,
            self._random,
        )

    def _start_http(
        self, stream: Stream, inbox: Inbox, service: Service, kind: HttpKind, about: RoutedHttp
    ) -> None:
        runtime = self._runtime
        counted = self._counts.http(about.destination, about.parent, RESULTS[kind])
        connection = HttpConnection(
            runtime,
            stream,
            service,
            counted.near,
            about,
            lambda over: counted.life.observe(runtime.clock.monotonic() - over.opened_at),
            is_http2=kind is HttpKind.HTTP2,
            drains=False,
        )
        counted.protocol.value += 1
        runtime.log.info("connection", **about.facts())
        connection.start(bytes(inbox.take()))

    async def _reach(self, destination: Address) -> Reached:
        """Find out where the destination is, and dial it."""
        policy = self._policies.outbound(destination).current
        profile = self._discovery.profile(destination).current
        plan = refused_plan(policy) if policy is not None else None
        try:
            plan = plan_connection(destination, policy, profile, self._random.random())
            return await self._follow(destination, plan)
        except MeshError as error:
            if plan is not None:
                self._counts.never_opened(destination, plan.parent, plan.route, error.code)
            raise

    async def _follow(self, destination: Address, plan: Plan) -> Reached:
        """Dial what a plan says: one endpoint as it stands, or one of a service's."""
        if plan.target is not None:
            return await self._balance(destination, plan, plan.target)
        endpoint = plan.endpoint or Endpoint(address=destination)
        refused = refuse_plaintext(plan, endpoint, self._runtime.own_ips)
        if refused is not None:
            raise refused
        began = self._runtime.clock.monotonic()
        dialled = await self._dial(destination, endpoint)
        return Reached(plan, (), dialled, self._runtime.clock.monotonic() - began)

    async def _balance(self, destination: Address, plan: Plan, target: Target) -> Reached:
        """Dial one endpoint of a service's."""
        clock = self._runtime.clock
        balanced = self._destinations.of(
            Concrete(
                parent=plan.parent,
                backend=plan.backend or plan.parent,
                target=target,
                load=plan.load,
                tls_mode=plan.tls_mode,
                is_by_connection=True,
            )
        )
        dialled, pick = await connect(
            balanced, lambda endpoint: self._dial(destination, endpoint), clock
        )
        return Reached(plan, balanced.labels, dialled, clock.monotonic() - pick.began_at, pick)

    async def _dial(self, destination: Address, endpoint: Endpoint) -> Dialled:
        try:
            return await dial(self._runtime, endpoint)
        except MeshError as error:
            self._runtime.log.info(
                "connect failed",
                direction="outbound",
                code=error.code,
                target=str(destination),
                endpoint=str(endpoint.address),
                reason=str(error),
            )
            raise

    def _join(self, stream: Stream, inbox: Inbox, destination: Address, reached: Reached) -> None:
        runtime = self._runtime
        plan, dialled = reached.plan, reached.dialled
        kind = Kind(
            destination=destination,
            parent=plan.parent,
            route=plan.route,
            target=plan.target,
            labels=reached.labels,
            endpoint=dialled.endpoint,
            server=dialled.server,
            no_tls_reason=dialled.no_tls_reason,
        )
        counted = self._counts.of(kind)
        counted.connect.observe(reached.seconds)
        counted.protocol.value += 1
        counted.opened.value += 1
        about = Routed(kind, counted, dialled.resumed, reached.pick)
        connection = Connection(
            self,
            stream,
            dialled.stream,
            counted.near,
            counted.far,
            about,
            runtime.clock.monotonic(),
            runtime.pipes,
        )
        runtime.connections.add(connection)
        runtime.log.info("connection", **about.facts())
        connection.relay.start(early_near=inbox.take(), early_far=dialled.inbox.take())

    def connection_closed(self, connection: Connection, error: Exception | None) -> None:
        """Forget a connection that is over."""
        runtime = self._runtime
        runtime.connections.discard(connection)
        about = connection.about
        if isinstance(about, Routed):
            if about.pick is not None:
                about.pick.close(runtime.clock.monotonic())
            kind = about.kind
            code = None if error is None else error_name(error)
            self._counts.closed(kind.destination, kind.parent, kind.route, code)
            about.counted.life.observe(runtime.clock.monotonic() - connection.opened_at)
            if about.resumed and not connection.relay.far.bytes_in:
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
