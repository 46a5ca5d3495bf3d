"""What both directions of one sidecar share: limits, clocks, counters, and the open connections.

Made once by the composition root and handed down; holds no logic of the data path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import field
from ipaddress import ip_address
from typing import Final, final

from core.clock import Clock
from core.drain import Drain
from core.errors import MeshError, RefusedError
from core.record import dataclass
from core.watch import Watch
from discovery.model import Address
from identity.generation import Generation
from proxy.explicit import Explicit
from proxy.net.address import plain_ip
from proxy.net.capture import Capture
from proxy.net.connection import OpenConnection
from proxy.net.connector import Connector
from proxy.net.listener import Admission
from proxy.net.poller import Poller
from proxy.net.splice import Pipes
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.log import Logger
from proxy.telemetry.metric import Metrics
from proxy.ticker import Ticker
from proxy.wire.tls_library import TlsLibrary

_HERE: Final = ("::1", "::", "0.0.0.0")  # noqa: S104  # dialled, they all lead to this host


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on waits, in seconds."""

    detect_s: float
    inbound_connect_s: float
    outbound_connect_s: float


@final
@dataclass(slots=True, kw_only=True, eq=False)
class Runtime:
    """The shared parts of a running sidecar."""

    loop: asyncio.AbstractEventLoop
    poller: Poller
    pipes: Pipes
    tasks: asyncio.TaskGroup
    clock: Clock
    drain: Drain
    admission: Admission
    capture: Capture
    connector: Connector
    generation: Watch[Generation | None]
    own_ips: frozenset[str]
    """The pod's own addresses; empty: any address is taken for ours."""
    explicit: Explicit | None
    """Where applications are behind the ports that we hold; None: connections are redirected."""
    inbound_port: int
    outbound_port: int
    admin_port: int
    limits: Limits
    tls: TlsLibrary
    """What makes TLS engines."""
    resume: bool
    """Whether TLS sessions are taken up when a peer is dialled again."""
    upgrades: bool
    """Whether HTTP/1 goes to other sidecars as HTTP/2."""
    metrics: Metrics
    log: Logger
    workers: int = 1
    """Processes that serve this sidecar's ports, this one included."""
    access_log: AccessLog | None = None
    """Where requests are logged; None: they are not."""
    connections: set[OpenConnection] = field(default_factory=set)
    """The users' connections that are open."""
    ticker: Ticker = field(default_factory=Ticker)
    """Who looks after waits once a second."""
    on_end: list[Callable[[], None]] = field(default_factory=list)
    """What closes when all of the users' connections are over."""
    running: set[asyncio.Task[None]] = field(default_factory=set)
    """Sessions and services that have not ended."""

    def is_own_listener(self, address: Address) -> bool:
        """Whether dialling ``address`` would reach one of our own listeners: a loop."""
        if address.port not in (self.inbound_port, self.outbound_port):
            return False
        ip = plain_ip(address.ip)
        if ip in self.own_ips or ip in _HERE:
            return True
        # Where nothing is redirected, each pod of a machine may have a loopback address.
        return self.explicit is None and ip.startswith("127.")

    def refuse_own_listener(self, address: Address) -> None:
        """Raise RefusedError for an address that would lead back to us."""
        if self.is_own_listener(address):
            raise RefusedError(
                f"{address} is one of the sidecar's own listeners",
                hint="connections come here only by redirection",
                code="loop",
            )

    def app(self, target: Address) -> Address:
        """Return where to dial the application for a port of the pod.

        Raises ConnectRefusedError for a port that the pod does not declare, where it has to.
        """
        return target if self.explicit is None else self.explicit.must_app(target)

    def own_way(self, address: Address) -> Address:
        """Return how the pod reaches itself at one of its own addresses."""
        if self.explicit is None or address.ip not in self.own_ips:
            return address
        return self.explicit.app(address) or address

    def is_own_port(self, port: int) -> bool:
        """Whether the sidecar itself listens on ``port``: no port of the application's."""
        return port in (self.inbound_port, self.outbound_port, self.admin_port)

    def is_local(self, ip: str) -> bool:
        """Whether a peer with this address is in our pod, or on our machine's loopback."""
        return ip in self.own_ips or ip_address(ip).is_loopback

    def start(self, session: Coroutine[None, None, None]) -> None:
        """Run one connection's session to its end; it counts as in flight until ``leave``."""
        self.admission.enter()
        self.drain.enter()
        self.spawn(session)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run ``work`` beside everything else until it ends or the sidecar does.

        What breaks in it is told, and ends nothing else.
        """
        task = self.tasks.create_task(self._guard(work))
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def cancel(self) -> None:
        """Cancel everything that is still running."""
        # Cancelled before its first step, a session would never see its socket, nor close it.
        await asyncio.sleep(0)
        for task in tuple(self.running):
            task.cancel()
        for close in self.on_end:
            close()

    def leave(self) -> None:
        """Count one connection less."""
        self.admission.leave()
        self.drain.leave()

    async def _guard(self, session: Coroutine[None, None, None]) -> None:
        try:
            await session
        except MeshError as error:
            self.log.warning("session failed", code=error.code, reason=str(error))
        except Exception:  # one connection's bug must not end the sidecar
            self.log.exception("session broke", code="internal")
