"""Authorizations made ready to be tried: what can be computed once is, at first use.

Addresses become integers: an IPv4 address is itself, an IPv6 address carries one bit above its
128, so that one shift and one comparison tell whether a network holds it, and the families
never mix. An IPv4-mapped IPv6 address is the IPv4 address it carries, as a dual-stack listener
shows it. No I/O here; this module is compiled.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final, final

from policy.model import (
    ALL_NETWORKS,
    Attempt,
    Authorization,
    Clause,
    Client,
    ClientTls,
    Network,
    NetworkMatch,
    TlsAuthenticated,
    TlsUnauthenticated,
)

NO_ADDRESS: Final = -1
"""What text that is no address becomes: in no network."""
SHOWN: Final = 3
"""How many names or networks a sentence lists before it says how many more there are."""

_V6: Final = 1 << 128
_OCTET: Final = r"(0|[1-9][0-9]{0,2})"
_V4: Final = re.compile(rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}", re.ASCII)


@lru_cache(maxsize=4096)
def address_number(text: str) -> int:
    """Return an address as the number networks are compared with; ``NO_ADDRESS`` for none."""
    found = _V4.fullmatch(text)
    if found is not None:
        # A third of what the general way costs, and every new client comes by here.
        one, two, three, four = found.groups()
        number = int(one) << 24 | int(two) << 16 | int(three) << 8 | int(four)
        return number if max(int(one), int(two), int(three), int(four)) < 256 else NO_ADDRESS
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return NO_ADDRESS
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return _V6 | int(address) if mapped is None else int(mapped)
    return int(address)


@final
class Check:
    """One authorization, ready to be tried."""

    __slots__ = (
        "any_identity",
        "any_network",
        "any_tls",
        "authorization",
        "bad_identity",
        "bad_network",
        "bad_tls",
        "names",
        "networks",
        "suffixes",
        "wants_identity",
    )

    def __init__(self, authorization: Authorization, *, is_denial: bool = False) -> None:
        """Prepare ``authorization``; in a denial ``*`` covers URI identities too."""
        self.authorization: Final = authorization
        wanted = authorization.authentication
        self.any_network: Final = _holds_all(authorization.networks)
        self.networks: Final = tuple(_compile(each) for each in authorization.networks)
        self.any_tls: Final = not isinstance(wanted, TlsUnauthenticated | TlsAuthenticated)
        self.wants_identity: Final = isinstance(wanted, TlsAuthenticated)
        names: frozenset[str] = frozenset()
        suffixes: tuple[str, ...] = ()
        any_identity = False
        if isinstance(wanted, TlsAuthenticated):
            names = frozenset(each.name for each in wanted.identities)
            any_identity = is_denial and () in wanted.suffixes
            # Every name ends in the empty text: that is what "any DNS identity" comes to.
            suffixes = tuple("." + ".".join(each) if each else "" for each in wanted.suffixes)
        self.names: Final = names
        self.suffixes: Final = suffixes
        self.any_identity: Final = any_identity
        self.bad_network: Final = Attempt(
            authorization=authorization.metadata,
            clause=Clause.NETWORK,
            failed=f"the caller must come from {_describe_networks(authorization.networks)}",
        )
        self.bad_tls: Final = Attempt(
            authorization=authorization.metadata,
            clause=Clause.TLS,
            failed="the caller must use mesh TLS",
        )
        self.bad_identity: Final = Attempt(
            authorization=authorization.metadata,
            clause=Clause.IDENTITY,
            failed=f"the caller must be {_describe_identities(names, suffixes)}",
        )

    def failure(self, address: int, client: Client) -> Attempt | None:
        """Return the first clause that a client at ``address`` fails; None: it is admitted."""
        if not self.any_network and not self.holds(address):
            return self.bad_network
        if self.any_tls:
            return None
        if client.tls is not ClientTls.MESH:
            return self.bad_tls
        if not self.wants_identity:
            return None
        identity = client.identity
        if identity is not None:
            name = identity.name
            if self.any_identity or name in self.names:
                return None
            if not identity.is_uri and name.endswith(self.suffixes):
                return None
        return self.bad_identity

    def holds(self, address: int) -> bool:
        """Whether an address lies in a network and in none of its exceptions."""
        for shift, base, exceptions in self.networks:
            if address >> shift == base:
                for except_shift, except_base in exceptions:
                    if address >> except_shift == except_base:
                        break
                else:
                    return True
        return False


def _compile(match: NetworkMatch) -> tuple[int, int, tuple[tuple[int, int], ...]]:
    shift, base = _prefix(match.network)
    return shift, base, tuple(_prefix(each) for each in match.exceptions)


def _prefix(network: Network) -> tuple[int, int]:
    shift = network.max_prefixlen - network.prefixlen
    base = int(network.network_address)
    return shift, (base if network.version == 4 else base | _V6) >> shift


def _holds_all(networks: tuple[NetworkMatch, ...]) -> bool:
    whole = {each.network for each in networks if not each.exceptions}
    return whole.issuperset(ALL_NETWORKS)


def _describe_networks(networks: tuple[NetworkMatch, ...]) -> str:
    texts = []
    for each in networks:
        excepted = ", ".join(str(exception) for exception in each.exceptions[:SHOWN])
        texts.append(f"{each.network} except {excepted}" if excepted else str(each.network))
    return _listed(texts) or "no network at all"


def _describe_identities(names: frozenset[str], suffixes: tuple[str, ...]) -> str:
    if "" in suffixes:
        return "any mesh identity"
    return _listed([*sorted(names), *("*" + each for each in suffixes)]) or "nobody"


def _listed(texts: list[str]) -> str:
    shown = " or ".join(texts[:SHOWN])
    more = len(texts) - SHOWN
    return f"{shown} or {more} more" if more > 0 else shown
