"""Capture without privileges: the sidecar holds the pod's ports, the application loopback's.

Clients of a declared port P of the pod reach the sidecar, which dials the application at its own
port on loopback. A port that the application holds itself is unprotected: meshed clients come
through the direct port and the sidecar, others past it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, final

from core.errors import ConfigError, ConnectRefusedError
from core.record import dataclass
from discovery.model import Address

LOOPBACK: Final = "127.0.0.1"


@final
@dataclass(frozen=True, slots=True)
class Explicit:
    """The pod's declared ports, and where the application is behind each."""

    ips: tuple[str, ...]
    """The pod's own addresses."""
    apps: Mapping[int, int]
    """Port of the pod → the application's own on loopback."""
    unprotected: frozenset[int] = frozenset()
    """Ports that the application holds on the pod's address itself."""

    def wanted(self) -> list[Address]:
        """Return the addresses to listen on for the application."""
        return [Address(ip, port) for ip in self.ips for port in sorted(self.apps)]

    def without(self, taken: Iterable[Address]) -> Explicit:
        """Return the same with the ports of ``taken`` left to the application."""
        return replace(self, unprotected=frozenset(address.port for address in taken))

    def app(self, target: Address) -> Address | None:
        """Return where the application is behind a port of the pod; None for undeclared ones."""
        port = self.apps.get(target.port)
        if port is None or target.port in self.unprotected:
            return None if port is None else target
        return Address(LOOPBACK, port)

    def must_app(self, target: Address) -> Address:
        """Return where the application is; ConnectRefusedError for undeclared ports.

        To dial them on loopback would open what the pod keeps to itself.
        """
        found = self.app(target)
        if found is None:
            raise ConnectRefusedError(
                f"{target} is no declared port of this pod",
                hint="declare it as containerPort, or in PILLION_APP_PORTS",
            )
        return found


def plan_explicit(
    ips: Iterable[str],
    declared: Iterable[int],
    given: Mapping[int, int],
    own_ports: Iterable[int],
) -> Explicit:
    """Return which ports to hold: those of the manifest and those of the setting.

    Raises ConfigError where an application's own address would be one that we hold.
    """
    own = frozenset(own_ports)
    apps = {port: port for port in declared if port not in own}
    apps.update(given)
    ips = tuple(sorted(ips))
    problems = [
        f"port {port} of the pod is one of the sidecar's own" for port in given if port in own
    ]
    if LOOPBACK in ips:
        held = own | frozenset(apps)
        problems += [
            f"the application of port {port} would be at {LOOPBACK}:{inner}, which the sidecar "
            f"holds: the pod's address is {LOOPBACK}"
            for port, inner in sorted(apps.items())
            if inner in held
        ]
    if problems:
        raise ConfigError(problems, hint="write PILLION_APP_PORTS=P:P' with another P'")
    return Explicit(ips, apps)
