"""Pod: where it is, what its containers listen on and how they are probed.

A pod written by hand may have no conditions: with an address it then counts as ready.
"""

from __future__ import annotations

from typing import Final, final

from core.record import dataclass
from resources.fields import Fields
from resources.kind import Meta, is_name

DEFAULT_SERVICE_ACCOUNT: Final = "default"

_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_DONE: Final = frozenset({"Succeeded", "Failed"})
_PHASES: Final = ("Pending", "Running", "Succeeded", "Failed", "Unknown")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPort:
    """One TCP port of a container."""

    name: str = ""
    number: int
    host_port: int | None = None


@final
@dataclass(frozen=True, slots=True)
class HttpProbe:
    """An HTTP probe's target, its port resolved; the path without query, ``/`` at least."""

    port: int
    path: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod, the parts that the mesh reads."""

    meta: Meta
    ips: tuple[str, ...] = ()
    host_ips: tuple[str, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    """TCP ports of all containers, in their order."""
    probes: tuple[HttpProbe, ...] = ()
    service_account: str = DEFAULT_SERVICE_ACCOUNT
    node_name: str = ""
    hostname: str = ""
    subdomain: str = ""
    phase: str = "Running"
    is_ready: bool = True
    """Its Ready condition is true; or it has an address and no conditions at all."""
    is_host_network: bool = False

    @property
    def is_done(self) -> bool:
        """Whether its containers have ended for good."""
        return self.phase in _DONE

    def numbers_of(self, port: int | str) -> tuple[int, ...]:
        """Return the port numbers that a number or a port's name stands for."""
        if isinstance(port, int):
            return (port,)
        return tuple(dict.fromkeys(each.number for each in self.ports if each.name == port))


def parse_pod(meta: Meta, body: Fields) -> Pod:
    """Read a Pod."""
    spec = body.map("spec", required=True)
    status = body.map("status")
    ports: list[ContainerPort] = []
    probes: list[HttpProbe] = []
    is_host_network = spec.flag("hostNetwork")
    containers = spec.maps("containers", required=True)
    for container in (*containers, *spec.maps("initContainers")):
        own = _ports(container, is_host_network=is_host_network)
        ports.extend(own)
        probes.extend(_probes(container, own))
    ips = _addresses(status, "podIP", "podIPs")
    return Pod(
        meta=meta,
        ips=ips,
        host_ips=_addresses(status, "hostIP", "hostIPs"),
        ports=tuple(ports),
        probes=tuple(dict.fromkeys(probes)),
        service_account=_service_account(spec),
        node_name=spec.text("nodeName"),
        hostname=spec.text("hostname"),
        subdomain=spec.text("subdomain"),
        phase=status.choice("phase", _PHASES, "Running"),
        is_ready=bool(ips) and _is_ready(status),
        is_host_network=is_host_network,
    )


def _service_account(spec: Fields) -> str:
    for field in ("serviceAccountName", "serviceAccount"):
        name = spec.text(field)
        if name and not is_name(name):
            spec.problem(field, f"{name[:80]!r} is no DNS name in lower case")
        elif name:
            return name
    return DEFAULT_SERVICE_ACCOUNT


def _ports(container: Fields, *, is_host_network: bool) -> list[ContainerPort]:
    found = []
    for fields in container.maps("ports"):
        number = fields.port("containerPort", required=True)
        host_port = fields.port("hostPort") if fields.has("hostPort") else None
        protocol = fields.choice("protocol", _PROTOCOLS, "TCP")
        name = fields.text("name")
        if number is not None and protocol == "TCP":
            reached = number if is_host_network else host_port
            found.append(ContainerPort(name=name, number=number, host_port=reached))
    return found


def _probes(container: Fields, ports: list[ContainerPort]) -> list[HttpProbe]:
    """Return the HTTP probes; a port's name counts inside its own container alone."""
    found = []
    for name in _PROBES:
        if not container.has(name) or not container.map(name).has("httpGet"):
            continue
        fields = container.map(name).map("httpGet")
        port = fields.port_or_name("port", required=True)
        path = fields.text("path").partition("?")[0] or "/"
        if isinstance(port, str):
            number = next((each.number for each in ports if each.name == port), None)
        else:
            number = port
        if number is not None:
            found.append(HttpProbe(number, path if path.startswith("/") else f"/{path}"))
    return found


def _addresses(status: Fields, one: str, many: str) -> tuple[str, ...]:
    first = status.address(one)
    rest = tuple(each.address("ip") for each in status.maps(many))
    return tuple(dict.fromkeys(ip for ip in (first, *rest) if ip))


def _is_ready(status: Fields) -> bool:
    conditions = status.maps("conditions")
    for condition in conditions:
        if condition.text("type") == "Ready":
            return condition.text("status") == "True"
    return not conditions
