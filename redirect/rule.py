"""One capture rule, and what stands of ours somewhere. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from enum import Enum
from typing import Final, final

from core.record import dataclass

TAG: Final = "proxy-init/"
"""What the comments of our rules begin with, as those of Linkerd's proxy-init do."""


class Family(Enum):
    """A family of addresses, as the kernel keeps rules for each."""

    IPV4 = 4
    IPV6 = 6

    def __str__(self) -> str:
        return f"IPv{self.value}"


@final
@dataclass(frozen=True, slots=True)
class Rule:
    """One rule in its back end's words."""

    chain: str
    match: str
    """Empty: everything."""
    target: str
    comment: str


@final
@dataclass(frozen=True, slots=True)
class Found:
    """What stands already, as far as it concerns us."""

    chains: tuple[str, ...] = ()
    """Those of our chains (or tables, where these are ours) that exist."""
    rules: tuple[Rule, ...] = ()
    """Rules in our chains, and jumps to them, in the table's order."""
    installed: bool = False
    """Whether both directions are captured."""
    idle: tuple[str, ...] = ()
    """Base chains that hold nothing of anybody else's, and accept."""


Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


def of_family(subnets: Iterable[Subnet], family: Family) -> list[Subnet]:
    """Return the subnets of one family."""
    return [each for each in subnets if each.version == family.value]
