"""What the user may choose about capture, checked as a whole: every mistake is reported at once.

Names, ports and defaults are those of Linkerd's proxy-init, so that its users find what they know.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from typing import Final, final

from core.errors import ConfigError
from core.record import dataclass
from redirect.rule import Family, Subnet

PROXY_UID: Final = 2102
INBOUND_PORT: Final = 4143
OUTBOUND_PORT: Final = 4140
SIDECAR_PORTS: Final = (4190, 4191)
"""Tap and admin: the sidecar's own servers, never captured."""
DEFAULT_SKIP_PORTS: Final = "4567,4568"
"""Linkerd's default: Galera's cluster ports, where neither side sends a hello."""
MAX_ENTRIES: Final = 512
"""Most ports, or subnets, one list may name."""
_LARGEST_ID: Final = 2**32 - 2
_PORTS: Final = re.compile(r"([0-9]{1,5})(?:[-:]([0-9]{1,5}))?", re.ASCII)


@final
@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports from ``first`` to ``last``, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}:{self.last}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureOptions:
    """Everything the rules depend on."""

    proxy_uid: int = PROXY_UID
    """Traffic of this user is the sidecar's own and never captured."""
    proxy_gid: int | None = None
    """The same for a group; None: no rule for a group."""
    inbound_port: int = INBOUND_PORT
    outbound_port: int = OUTBOUND_PORT
    skip_inbound: tuple[PortRange, ...] = ()
    """Ports whose inbound connections go straight to the app."""
    skip_outbound: tuple[PortRange, ...] = ()
    """Destination ports that the app reaches without the sidecar."""
    skip_subnets: tuple[Subnet, ...] = ()
    """Client addresses whose inbound connections go straight to the app."""
    families: tuple[Family, ...] = (Family.IPV4, Family.IPV6)
    """The kinds of addresses that are captured; IPv4 always is."""

    def without_ipv6(self) -> CaptureOptions:
        """Return the same options for IPv4 alone."""
        return replace(self, families=(Family.IPV4,))


def parse_options(
    *,
    proxy_uid: str = str(PROXY_UID),
    proxy_gid: str = "",
    inbound_port: str = str(INBOUND_PORT),
    outbound_port: str = str(OUTBOUND_PORT),
    skip_inbound_ports: str = DEFAULT_SKIP_PORTS,
    skip_outbound_ports: str = DEFAULT_SKIP_PORTS,
    skip_subnets: str = "",
) -> CaptureOptions:
    """Return the options that these texts mean.

    Lists are comma-separated; a port range is written ``lo-hi`` or ``lo:hi``. The sidecar's own
    tap and admin ports are skipped inbound whatever the list says.

    Raises ConfigError with every mistake in it.
    """
    problems: list[str] = []
    uid = _parse_id("--proxy-uid", proxy_uid, problems)
    gid = _parse_id("--proxy-gid", proxy_gid, problems) if proxy_gid.strip() else None
    inbound = _parse_port("--inbound-port", inbound_port, problems)
    outbound = _parse_port("--outbound-port", outbound_port, problems)
    if inbound and inbound == outbound:
        problems.append(f"--inbound-port and --outbound-port are both {inbound}; they must differ")
    own = [PortRange(port, port) for port in SIDECAR_PORTS]
    skip_inbound = _parse_ports("--skip-inbound-ports", skip_inbound_ports, problems)
    skip_outbound = _parse_ports("--skip-outbound-ports", skip_outbound_ports, problems)
    subnets = _parse_subnets("--skip-subnets", skip_subnets, problems)
    if problems:
        raise ConfigError(problems)
    return CaptureOptions(
        proxy_uid=uid,
        proxy_gid=gid,
        inbound_port=inbound,
        outbound_port=outbound,
        skip_inbound=tuple(dict.fromkeys([*own, *skip_inbound])),
        skip_outbound=tuple(dict.fromkeys(skip_outbound)),
        skip_subnets=tuple(dict.fromkeys(subnets)),
    )


def _parse_id(name: str, text: str, problems: list[str]) -> int:
    value = _number(text)
    if value == 0:
        problems.append(
            f"{name} is 0, which is root: every root process would leave the mesh; "
            f"wanted the sidecar's own id, as a rule {PROXY_UID}"
        )
    elif value is None or value > _LARGEST_ID:
        problems.append(f"{name} is {text!r}; wanted a number from 1 to {_LARGEST_ID}")
    return value or 0


def _parse_port(name: str, text: str, problems: list[str]) -> int:
    value = _number(text)
    if value is None or not 1 <= value <= 65535:
        problems.append(f"{name} is {text!r}; wanted a port from 1 to 65535")
        return 0
    return value


def _parse_ports(name: str, text: str, problems: list[str]) -> list[PortRange]:
    ranges = []
    for entry in _entries(name, text, problems):
        found = _PORTS.fullmatch(entry)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= first <= last <= 65535:
            problems.append(
                f"{name} has {entry!r}; wanted a port from 1 to 65535, or a range lo-hi of them"
            )
        else:
            ranges.append(PortRange(first, last))
    return ranges


def _parse_subnets(name: str, text: str, problems: list[str]) -> list[Subnet]:
    subnets: list[Subnet] = []
    for entry in _entries(name, text, problems):
        try:
            subnets.append(ipaddress.ip_network(entry))
        except ValueError:
            problems.append(f"{name} has {entry!r}; wanted {_subnet_wanted(entry)}")
    return subnets


def _subnet_wanted(entry: str) -> str:
    try:
        return f"{ipaddress.ip_network(entry, strict=False)}: bits right of the mask must be 0"
    except ValueError:
        return "a subnet such as 10.0.0.0/8"


def _entries(name: str, text: str, problems: list[str]) -> list[str]:
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if len(entries) > MAX_ENTRIES:
        problems.append(f"{name} has {len(entries)} entries; at most {MAX_ENTRIES} are taken")
        return []
    return entries


def _number(text: str) -> int | None:
    stripped = text.strip()
    return (
        int(stripped) if stripped.isascii() and stripped.isdigit() and len(stripped) <= 12 else None
    )
