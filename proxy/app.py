"""The composition root of the data plane: it reads as the data path.

Inbound: accept on 4143 → original destination → mesh TLS, foreign TLS or neither → transport
header on direct connections → policy → the application. Outbound: accept on 4140 → original
destination → policy and discovery → endpoint → mutual TLS → header → relay. The admin server
is up first; user connections are accepted once there is an identity, and wait in the kernel's
queue until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, final

from core.clock import Clock, SystemClock
from core.drain import Drain
from core.errors import DrainingError, IdentityError
from core.memory import release_code
from core.record import dataclass
from core.watch import Watch
from discovery.model import Address, Labels
from identity.generation import Generation
from policy.model import Client
from proxy.config import Config
from proxy.crew import Crew
from proxy.explicit import Explicit
from proxy.gateway.prober import Prober
from proxy.gateway.server import Gateway
from proxy.inbound.server import InboundServer
from proxy.net.capture import Capture
from proxy.net.connector import Connector
from proxy.net.listener import Accepted, Admission, Bound, Listener, bind_all
from proxy.net.loop import poller_of
from proxy.net.poller import Poller
from proxy.net.sockopt import TcpOptions
from proxy.net.splice import Pipes, affordable_pipes
from proxy.outbound.lookup import Lookup
from proxy.outbound.server import OutboundServer
from proxy.providers import (
    DiscoveryProvider,
    ExportProvider,
    GatewayProvider,
    IdentityProvider,
    NameProvider,
    PolicyProvider,
    ReadinessSource,
)
from proxy.runtime import Limits, Runtime
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.identity import count_identity
from proxy.telemetry.log import Logger
from proxy.telemetry.metric import Metrics
from proxy.wire.tls_library import choose_library

if TYPE_CHECKING:
    from proxy.admin.kept import KeptMetrics
    from proxy.admin.pages import AdminPages

APP_LISTENER: Final = "application"
EXIT_DRAINED: Final = 0
EXIT_DEADLINE: Final = 3
_GC_THRESHOLDS: Final = (20_000, 20, 20)
SETTLE_S: Final = 0.25
"""How long the first connections have us to themselves."""
_RESTART_PAUSE_S: Final = 1.0
_NO_IDENTITY_REMINDER_S: Final = 15.0
"""Linkerd reminds every 15 s of a certificate that has not come."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Providers:
    """What the data plane is given from outside."""

    identity: IdentityProvider
    policies: PolicyProvider
    discovery: DiscoveryProvider
    readiness: Sequence[ReadinessSource] = ()
    names: NameProvider | None = None
    """What names of Services lead to, where applications tell us names."""
    exports: ExportProvider | None = None
    """What other clusters may reach through us, where we are a gateway."""
    gateways: GatewayProvider | None = None
    """The gateways of other clusters that we use."""
    services: Sequence[tuple[str, Callable[[], Awaitable[None]]]] = ()
    """What has to run beside: (name, run); started again when it breaks."""
    build: Callable[[], Labels] = tuple
    """What runs, for the metric that says so; asked when that is read."""


@final
class Sidecar:
    """One sidecar, from bound sockets to drained exit."""

    def __init__(
        self,
        config: Config,
        providers: Providers,
        capture: Capture,
        own_ips: frozenset[str],
        log: Logger,
        clock: Clock | None = None,
        explicit: Explicit | None = None,
        crew: Crew | None = None,
    ) -> None:
        """Take the listening sockets, or those of the ``crew`` that we are one worker of."""
        self._config = config
        self._crew = crew
        self._providers = providers
        self._capture = capture
        self._own_ips = own_ips
        self._log = log
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._drain = Drain()
        workers = 1 if crew is None else crew.count
        self._admission = Admission(
            config.max_connections // workers, None if crew is None else crew.loads
        )
        self._metrics = Metrics()
        if crew is not None:
            worker = ("worker", str(crew.number))
            self._metrics.worker_starts.child((worker,)).value = crew.starts
        self._tls = choose_library(
            config.tls_engine, resume=config.tls_resume, hybrid=config.tls_hybrid
        )
        library = ("library", self._tls.version)
        self._metrics.tls_info.child((library, ("tls", "1.3"))).value = 1
        self._pages: AdminPages | None = None
        self._kept: KeptMetrics | None = None
        self._stop = asyncio.Event()
        self._news = asyncio.Event()
        """Something happened that the start waits for: a certificate, or the order to stop."""
        self._options = TcpOptions(
            keepalive_s=config.keepalive_s, user_timeout_ms=config.user_timeout_ms
        )
        bound = bind_ports(config, explicit) if crew is None else crew.bound
        self._socks = bound.socks
        self._explicit = explicit.without(bound.taken) if explicit is not None else None

    runtime: Runtime
    """The shared parts, there once ``run`` has begun."""

    def stop(self) -> None:
        """Begin to drain; ``run`` returns when that is done."""
        self._stop.set()
        self._news.set()

    def cut(self) -> None:
        """End now, whatever is open: ``run`` returns with the status of a missed deadline."""
        self._drain.give_up()
        self.stop()

    async def run(self) -> int:
        """Serve until stopped; returns the exit status: 0 drained, 3 the deadline was hit."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            runtime = self.runtime = self._runtime(loop, tasks)
            self._prepare(runtime.generation)
            runtime.ticker.add(runtime.pipes)
            runtime.on_end.append(runtime.pipes.close)
            ticking = tasks.create_task(runtime.ticker.run())
            for name, run in self._providers.services:
                runtime.spawn(self._supervise(name, run))
            # Probes and scrapes must come through when user connections are at their bound.
            admin_door = LateDoor(lambda: self._admin(runtime))
            admin = self._listeners(runtime.poller, "admin", admin_door, Admission(1))
            server = InboundServer(runtime, self._providers.policies, self._gateway(runtime))
            if self._providers.gateways is not None:
                prober = Prober(runtime, self._providers.gateways)
                runtime.spawn(self._supervise("gateways", prober.run))
            inbound = (
                *self._listeners(runtime.poller, "inbound", server, self._admission),
                *self._listeners(runtime.poller, APP_LISTENER, server, self._admission),
            )
            outbound = self._listeners(
                runtime.poller,
                "outbound",
                OutboundServer(
                    runtime,
                    self._providers.policies,
                    self._providers.discovery,
                    Lookup(runtime, self._providers.names) if self._explicit else None,
                ),
                self._admission,
            )
            if self._crew is not None:
                self._answer_siblings(runtime, self._crew)
            for listener in admin:
                listener.start()
            if await self._identified():
                for listener in (*inbound, *outbound):
                    listener.start()
                if self._crew is not None:
                    self._crew.loads.tell(self._admission.open)
                self._log.info(
                    "serving",
                    inbound=_texts(inbound),
                    outbound=_texts(outbound),
                    admin=_texts(admin),
                    identity=self._identity_text(),
                    tls=self._tls.version,
                    drain_s=self._config.grace_period_s,
                )
                # Connections that waited for us come first: what is next may take as long as all
                # their handshakes. Who asks the admin port meanwhile is served all the same.
                if await self._settled():
                    admin_door.open()
                    self._quiet_collector()
                    await self._stop.wait()
            status = await self._drained(runtime, inbound, outbound)
            for listener in admin:
                listener.close()
            ticking.cancel()
            await runtime.cancel()
        runtime.poller.close()
        if runtime.access_log is not None:
            runtime.access_log.close()
        return status

    def _gateway(self, runtime: Runtime) -> Gateway | None:
        providers = self._providers
        if providers.exports is None:
            return None
        return Gateway(runtime, providers.policies, providers.discovery, providers.exports)

    def _runtime(self, loop: asyncio.AbstractEventLoop, tasks: asyncio.TaskGroup) -> Runtime:
        config = self._config
        poller = poller_of(loop)
        return Runtime(
            loop=loop,
            poller=poller,
            pipes=Pipes(affordable_pipes()),
            tasks=tasks,
            clock=self._clock,
            drain=self._drain,
            admission=self._admission,
            capture=self._capture,
            connector=Connector(
                poller, self._options, self._explicit.ips if self._explicit is not None else ()
            ),
            generation=self._providers.identity.generation,
            own_ips=self._own_ips,
            explicit=self._explicit,
            inbound_port=config.inbound_listen.port,
            outbound_port=config.outbound_listen.port,
            admin_port=config.admin_listen.port,
            limits=Limits(
                detect_s=config.detect_timeout_s,
                inbound_connect_s=config.inbound_connect_timeout_s,
                outbound_connect_s=config.outbound_connect_timeout_s,
            ),
            tls=self._tls,
            resume=config.tls_resume,
            upgrades=config.h2_upgrade,
            metrics=self._metrics,
            log=self._log,
            workers=1 if self._crew is None else self._crew.count,
            access_log=self._access_log(),
        )

    def _access_log(self) -> AccessLog | None:
        # Python has none when it was closed before us; the number is then somebody else's.
        stderr = sys.__stderr__
        if not self._config.access_log or stderr is None:
            return None
        drops = self._metrics.http.access_log_drops
        return AccessLog(
            self._config.access_log, stderr.fileno(), drops, is_shared=self._crew is not None
        )

    def _prepare(self, watch: Watch[Generation | None]) -> None:
        def prepare(generation: Generation | None) -> None:
            if generation is None:
                return
            try:
                self._tls.prepare(generation)
            except IdentityError as error:
                # Connections fail with the same error, which says what to do.
                self._log.error("certificate is of no use", reason=str(error), code=error.code)

        prepare(watch.current)
        watch.subscribe(prepare)

    async def _settled(self) -> bool:
        """Wait until the start is some time ago; False when we are stopped before."""
        try:
            async with asyncio.timeout(SETTLE_S):
                await self._stop.wait()
        except TimeoutError:
            return True
        return False

    def _quiet_collector(self) -> None:
        # What the start left behind was kept from the collector until there is time for it. What
        # is there by now stays; closed connections free themselves, so that the collector looks
        # for rare cycles only: some 10 % of a connection's cost at Python's own thresholds.
        if gc.get_threshold() != _GC_THRESHOLDS:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        release_code()

    def _listeners(
        self, poller: Poller, name: str, handler: Accepted, admission: Admission
    ) -> tuple[Listener, ...]:
        return tuple(
            Listener(
                poller,
                sock,
                handler,
                admission,
                self._options,
                is_shared=self._crew is not None,
            )
            for each, sock in self._socks
            if each == name
        )

    def _admin(self, runtime: Runtime) -> Accepted:
        from proxy.admin.server import AdminServer  # noqa: PLC0415 - after the start, see LateDoor

        pages = self._admin_pages(runtime)
        if self._crew is None:
            return AdminServer(runtime, pages)
        from proxy.admin.joined import JoinedPages  # noqa: PLC0415 - most sidecars are one process

        return AdminServer(runtime, JoinedPages(pages, self._kept_metrics(self._crew), self._crew))

    def _answer_siblings(self, runtime: Runtime, crew: Crew) -> None:
        """Answer the other workers' questions to our admin pages."""
        from proxy.net.sibling import Question, Siblings, Told  # noqa: PLC0415 - as above

        async def answer(asked: Question) -> Told:
            method, path, query, body, ip = asked
            pages = self._admin_pages(runtime)
            own = await pages.answer(method, path, query, body, Client(ip))
            return Told(*await self._kept_metrics(crew).told(path, own))

        def close() -> None:
            siblings.close()
            if crew.is_orphan():
                from proxy.admin.kept import forget_kept  # noqa: PLC0415 - as above

                # Whoever ends last finds nothing else there.
                with contextlib.suppress(OSError):
                    forget_kept(crew.directory)
                    crew.directory.rmdir()

        siblings = Siblings(crew.socket(crew.number), answer, self._log)
        runtime.on_end.append(close)
        runtime.spawn(self._supervise("workers", siblings.run))

    def _kept_metrics(self, crew: Crew) -> KeptMetrics:
        if self._kept is None:
            from proxy.admin.kept import KeptMetrics  # noqa: PLC0415 - as above

            self._kept = KeptMetrics(crew.directory, crew.number)
        return self._kept

    def _admin_pages(self, runtime: Runtime) -> AdminPages:
        if self._pages is not None:
            return self._pages
        from proxy.admin.pages import AdminPages  # noqa: PLC0415 - after the start, see LateDoor
        from proxy.admin.policies import PolicyPages  # noqa: PLC0415

        config = self._config
        pod = f"{config.pod_namespace}/{config.pod_name}" if config.pod_name else ""
        stop = self.stop if self._crew is None else self._crew.stop
        self._pages = AdminPages(
            runtime,
            asdict(config),
            PolicyPages(runtime, self._providers.policies, pod),
            unready=self.unready,
            warnings=self.warnings,
            refresh=self._refresh_gauges,
            stop=stop if config.shutdown_endpoint else None,
        )
        return self._pages

    def unready(self) -> str:
        """Return why we are not ready; empty when we are."""
        if self._drain.started or self._stop.is_set():
            return "draining"
        identity = self._providers.identity
        if identity.generation.current is None:
            reason = identity.status.current.last_error
            return f"no certificate has been issued to us yet{': ' if reason else ''}{reason}"
        for source in self._providers.readiness:
            reason = source.unready.current
            if reason:
                return reason
        return ""

    def warnings(self) -> tuple[str, ...]:
        """Return what somebody should look at although we are ready."""
        ports = sorted(self._explicit.unprotected) if self._explicit is not None else ()
        unprotected = (
            f"port {port} is unprotected: the application holds it, clients outside the mesh "
            "reach it past the sidecar (PILLION_MESH_ONLY_INBOUND)"
            for port in ports
        )
        return (*self._providers.identity.status.current.warnings, *unprotected)

    def _refresh_gauges(self) -> None:
        identity = self._providers.identity
        count_identity(
            self._metrics,
            identity.generation.current,
            identity.status.current,
            self._clock.now().timestamp(),
        )
        self._metrics.accept_pauses.child().value = self._admission.pauses
        self._metrics.connections_max.child().value = self._admission.limit
        self._metrics.build_info.child(self._providers.build()).value = 1

    def _identity_text(self) -> str:
        generation = self._providers.identity.generation.current
        return "" if generation is None else str(generation.identity)

    async def _identified(self) -> bool:
        """Wait for the first certificate; False when we are stopped before it comes."""
        watch = self._providers.identity.generation
        unsubscribe = watch.subscribe(lambda _: self._news.set())
        try:
            while watch.current is None and not self._stop.is_set():
                try:
                    async with asyncio.timeout(_NO_IDENTITY_REMINDER_S):
                        await self._news.wait()
                except TimeoutError:
                    self._log.warning("waiting for the first certificate")
        finally:
            unsubscribe()
        return not self._stop.is_set()

    async def _drained(
        self, runtime: Runtime, inbound: Sequence[Listener], outbound: Sequence[Listener]
    ) -> int:
        """Take no more inbound connections, let the open ones end, cut what is left."""
        deadline, began = self._config.grace_period_s, self._clock.monotonic()
        self._log.info("draining", open=self._drain.in_flight, deadline_s=deadline)
        self._drain.start()
        self._admission.retire()
        for connection in tuple(runtime.connections):
            connection.drain()
        async with asyncio.TaskGroup() as tasks:
            for listener in inbound:
                tasks.create_task(listener.finish())
        # The application may still have to call somebody to finish what it does.
        drained = await self._drain.drained(deadline)
        for listener in outbound:
            listener.close()
        left = self._drain.in_flight
        for connection in tuple(runtime.connections):
            connection.cut(DrainingError("the deadline for draining has passed"))
        seconds = round(self._clock.monotonic() - began, 3)
        if drained:
            self._log.info("drained", seconds=seconds)
        elif seconds < deadline:
            self._log.warning("drain given up", seconds=seconds, cut=left)
        else:
            self._log.warning("drain deadline hit", seconds=seconds, cut=left)
        return EXIT_DRAINED if drained else EXIT_DEADLINE

    async def _supervise(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
            except Exception:  # noqa: BLE001  # last known good stays; this starts anew
                self._log.exception("service broke", service=name, code="internal")
            await asyncio.sleep(_RESTART_PAUSE_S)


@final
class LateDoor:
    """Serves a listener by what is loaded when first somebody comes, or there is time for it."""

    def __init__(self, make: Callable[[], Accepted]) -> None:
        self._make = make
        self._made: Accepted | None = None

    def open(self) -> Accepted:
        """Return who serves."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def accepted(self, sock: socket.socket, ip: str) -> None:
        """Hand the connection on."""
        self.open().accepted(sock, ip)


def bind_ports(config: Config, explicit: Explicit | None) -> Bound:
    """Take the listening sockets of a sidecar. Raises ConfigError naming all it cannot have."""
    return bind_all(
        listen_addresses(config, explicit),
        optional=APP_LISTENER if config.mesh_only_inbound else "",
    )


def listen_addresses(config: Config, explicit: Explicit | None) -> list[tuple[str, Address]]:
    """Return what a sidecar listens on, by the name of who serves it."""
    listens = [
        ("admin", config.admin_listen),
        ("inbound", config.inbound_listen),
        *(("outbound", address) for address in config.outbound_listens),
    ]
    if explicit is None:
        return listens
    ports = dict.fromkeys((name, address.port) for name, address in listens)
    return [
        *((name, Address(ip, port)) for name, port in ports for ip in explicit.ips),
        *((APP_LISTENER, address) for address in explicit.wanted()),
    ]


def _texts(listeners: Sequence[Listener]) -> str:
    return ", ".join(str(each.address) for each in listeners)
