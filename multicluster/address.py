"""Addresses for Services that no cluster has given one: the same in every process that asks.

An address follows from the Service's name, so that sidecars and commands agree without talking.
Where two names want one address the older Service has it, and the other takes the next that is
free: a new Service never takes an address away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from datetime import datetime
from ipaddress import ip_address
from typing import final

from core.record import dataclass
from resources.config_map import Network


@final
@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """A Service that wants an address; sorts oldest first, ties by name."""

    since: datetime
    namespace: str
    name: str


def allocate(
    claims: Iterable[Claim], network: Network, taken: Collection[str]
) -> dict[tuple[str, str], str]:
    """Return an address of ``network`` by namespace and name, none of those ``taken``.

    The first and the last address stay unused. Whoever comes when all are gone gets none.
    """
    size = network.num_addresses - 2
    used = {str(network[0]), str(network[-1]), *taken}
    found: dict[tuple[str, str], str] = {}
    free = size + 2 - sum(1 for each in used if _lies_in(each, network))
    for claim in sorted(claims):
        if free <= 0:
            break
        at = _place(claim, size)
        while (address := str(network[1 + at])) in used:
            at = (at + 1) % size
        used.add(address)
        free -= 1
        found[claim.namespace, claim.name] = address
    return found


def _place(claim: Claim, size: int) -> int:
    name = f"{claim.namespace}/{claim.name}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "big") % size


def _lies_in(text: str, network: Network) -> bool:
    address = ip_address(text)
    return address.version == network.version and address in network
