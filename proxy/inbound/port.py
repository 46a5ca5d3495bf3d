"""Connections that policy has admitted to the application's ports, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import final

from core.errors import RefusedError
from core.record import dataclass
from core.watch import Watch
from discovery.model import Address, Labels, Metadata
from policy.decide import decide_connection
from policy.model import Client, Refusal, ServerPolicy
from proxy.net.connection import Connection
from proxy.providers import PolicyProvider
from proxy.runtime import Runtime
from proxy.telemetry.denial import log_denial
from proxy.telemetry.slot import Histogram
from proxy.telemetry.transport import SideSlots


@final
@dataclass(frozen=True, slots=True)
class Counted:
    """Labels and slots that all alike connections share."""

    labels: Labels
    near: SideSlots
    far: SideSlots
    life: Histogram


@final
@dataclass(frozen=True, slots=True)
class Admitted:
    """What is remembered of an admitted connection, to decide about it again."""

    client: Client
    target: Address
    server: Metadata
    authorization: Metadata
    counted: Counted

    def facts(self) -> dict[str, str]:
        """Return who was let in where, and by which rule."""
        return {
            "direction": "inbound",
            "client_ip": self.client.ip,
            "client_identity": str(self.client.identity or ""),
            "tls": self.client.tls.value,
            "target": str(self.target),
            "server": str(self.server),
            "authorization": str(self.authorization),
        }


@final
@dataclass(slots=True)
class OpenPort:
    """A port with open connections; its policy is held, so that changes reach them."""

    policy: Watch[ServerPolicy]
    connections: set[Connection]
    forget: Callable[[], None] = lambda: None


@final
class OpenPorts:
    """The open connections of each port; what its policy no longer allows is cut."""

    __slots__ = ("_policies", "_ports", "_runtime")

    def __init__(self, runtime: Runtime, policies: PolicyProvider) -> None:
        self._runtime = runtime
        self._policies = policies
        self._ports: dict[int, OpenPort] = {}

    def add(self, connection: Connection, about: Admitted, policy: ServerPolicy) -> None:
        """Take a connection that ``policy`` has admitted, be it that there is another by now."""
        self._runtime.log.info("connection", **about.facts())
        self._runtime.connections.add(connection)
        port = about.target.port
        watch = self._policies.inbound(port)
        open_port = self._ports.get(port)
        if open_port is None:
            open_port = self._ports[port] = OpenPort(watch, set())
            open_port.forget = watch.subscribe(lambda latest: self._decide_again(port, latest))
        open_port.connections.add(connection)
        if watch.current is not policy:
            # It changed while the application was dialled.
            self._decide_again(port, watch.current)

    def discard(self, connection: Connection) -> None:
        """Forget a connection that is over."""
        runtime = self._runtime
        runtime.connections.discard(connection)
        about = connection.about
        if isinstance(about, Admitted):
            about.counted.life.observe(runtime.clock.monotonic() - connection.opened_at)
            open_port = self._ports[about.target.port]
            open_port.connections.discard(connection)
            if not open_port.connections:
                del self._ports[about.target.port]
                open_port.forget()

    def _decide_again(self, port: int, policy: ServerPolicy) -> None:
        """Cut what a changed policy no longer allows."""
        for connection in tuple(self._ports[port].connections):
            about = connection.about
            if not isinstance(about, Admitted):
                continue
            verdict = decide_connection(policy, about.client)
            if isinstance(verdict, Refusal):
                self._runtime.metrics.terminate.child(about.counted.labels).value += 1
                log_denial(
                    self._runtime.log,
                    "connection terminated due to policy change",
                    verdict,
                    about.client,
                    about.target,
                    direction="inbound",
                )
                connection.relay.cut(RefusedError(verdict.reason, code=verdict.code))
            elif verdict.authorization != about.authorization:
                connection.about = replace(
                    about, server=verdict.server, authorization=verdict.authorization
                )
