"""Networks with exceptions, as authorizations name their clients' addresses."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import final

from core.record import dataclass
from resources.fields import Fields

Network = IPv4Network | IPv6Network


@final
@dataclass(frozen=True, slots=True)
class NetworkRange:
    """Addresses in ``network`` and in none of ``exceptions``."""

    network: Network
    exceptions: tuple[Network, ...] = ()


def parse_networks(
    fields: Fields, name: str, *, required: bool = False
) -> tuple[NetworkRange, ...]:
    """Read a list of ``{cidr, except}``; a ``cidr`` may be a single address.

    An exception must lie in its network and leave something of it (linkerd2, policy-controller
    admission).
    """
    found = []
    for each in fields.maps(name, required=required):
        each.only("cidr", "except")
        text = each.text("cidr", required=True)
        network = _network(each, "cidr", text) if text else None
        exceptions = []
        for given in each.texts("except"):
            exception = _network(each, "except", given)
            if network is None or exception is None:
                continue
            exceptions.append(exception)
            if not _is_within(exception, network):
                each.problem("except", f"{given} does not lie in {network}")
            elif exception == network:
                each.problem("except", f"{given} leaves nothing of {network}")
        if network is not None:
            found.append(NetworkRange(network, tuple(exceptions)))
    return tuple(found)


def _network(fields: Fields, name: str, text: str) -> Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        fields.problem(name, f"{text[:80]!r} is no network, as 10.0.0.0/8 is, and no address")
        return None


def _is_within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)
