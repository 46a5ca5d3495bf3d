"""The nft back end: options in, one atomic ruleset out, in tables of our own. Pure.

One table ``inet pillion`` captures both families (``ip pillion`` where IPv6 is left alone), so
removing the table removes everything. The order of the rules is that of ``redirect.iptables``;
table and rules go in as one transaction that first takes away what we had installed before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Final

from redirect.options import CaptureOptions, PortRange
from redirect.rule import TAG, Family, Found, Rule, Subnet, of_family

TABLE: Final = "pillion"
OWN_TABLES: Final = (f"inet {TABLE}", f"ip {TABLE}")
INBOUND_CHAIN: Final = "inbound"
OUTBOUND_CHAIN: Final = "outbound"
_HOOKS: Final = {
    INBOUND_CHAIN: "type nat hook prerouting priority -100; policy accept;",
    OUTBOUND_CHAIN: "type nat hook output priority -100; policy accept;",
}
"""The priority of destination NAT, which iptables has too."""
_RULE: Final = re.compile(r'(.*?) ?(return|redirect to :[0-9]+)(?: comment "([^"]*)")?', re.DOTALL)
_TCP: Final = "meta l4proto tcp"
_LONGEST_COMMENT: Final = 120
"""Bytes; the kernel keeps at most 128."""


def build_rules(options: CaptureOptions) -> tuple[Rule, ...]:
    """Return the rules for ``options`` in the order in which they are added."""
    return (
        *_ignored_ports(INBOUND_CHAIN, options.skip_inbound),
        *_ignored_subnets(options),
        Rule(
            INBOUND_CHAIN,
            _TCP,
            f"redirect to :{options.inbound_port}",
            f"{TAG}redirect-all-incoming-to-proxy-port",
        ),
        Rule(
            OUTBOUND_CHAIN,
            f"meta skuid {options.proxy_uid}",
            "return",
            f"{TAG}ignore-proxy-user-id",
        ),
        *_ignored_group(options.proxy_gid),
        Rule(OUTBOUND_CHAIN, 'oifname "lo"', "return", f"{TAG}ignore-loopback"),
        *_ignored_ports(OUTBOUND_CHAIN, options.skip_outbound),
        Rule(
            OUTBOUND_CHAIN,
            _TCP,
            f"redirect to :{options.outbound_port}",
            f"{TAG}redirect-all-outgoing-to-proxy-port",
        ),
    )


def render_install(options: CaptureOptions) -> str:
    """Return the script that makes our rules exactly those of ``options``."""
    rules = build_rules(options)
    lines = [line for table in OWN_TABLES for line in _gone(table)]
    lines.append(f"table {table_of(options)} {{")
    for chain, hook in _HOOKS.items():
        lines += [
            f"\tchain {chain} {{",
            f"\t\t{hook}",
            *(
                f'\t\t{rule.match} {rule.target} comment "{rule.comment}"'
                for rule in rules
                if rule.chain == chain
            ),
            "\t}",
        ]
    return "\n".join([*lines, "}", ""])


def render_remove(found: Found) -> str:
    """Return the script that takes away all that is ours; empty when nothing is."""
    return "".join(f"delete table {table}\n" for table in found.chains)


def table_of(options: CaptureOptions) -> str:
    """Return family and name of the table that captures what ``options`` say."""
    return OWN_TABLES[0] if Family.IPV6 in options.families else OWN_TABLES[1]


def parse_tables(text: str) -> tuple[str, ...]:
    """Return our tables among what ``nft list tables`` printed."""
    tables = [line.removeprefix("table ").strip() for line in text.splitlines()]
    return tuple(table for table in OWN_TABLES if table in tables)


def parse_listed(tables: Sequence[str], text: str) -> Found:
    """Return what ``nft list table`` printed of ``tables``, which are ours."""
    rules = tuple(_rules(text))
    captured = {rule.chain for rule in rules if rule.target.startswith("redirect")}
    return Found(tuple(tables), rules, captured == set(_HOOKS))


def is_empty(text: str) -> bool:
    """Whether a table, as ``nft list table`` prints it, holds nothing at all."""
    return re.fullmatch(r"table \S+ \S+ \{\s*\}", text.strip()) is not None


def _rules(text: str) -> Iterator[Rule]:
    chain = ""
    whole = ""
    for line in (line.strip() for line in text.splitlines()):
        # A long set is printed over several lines.
        whole = f"{whole} {line}" if whole else line
        if whole.startswith("chain ") and whole.endswith("{"):
            chain = whole.split()[1]
        elif whole.count("{") > whole.count("}") and not whole.startswith("table "):
            continue
        elif found := _RULE.fullmatch(whole):
            yield Rule(chain, found[1], found[2], found[3] or "")
        whole = ""


def _gone(table: str) -> tuple[str, str]:
    # To delete a table that is not there is an error; to name one makes it.
    return f"table {table}", f"delete table {table}"


def _ignored_group(gid: int | None) -> Iterator[Rule]:
    if gid is not None:
        yield Rule(OUTBOUND_CHAIN, f"meta skgid {gid}", "return", f"{TAG}ignore-proxy-group-id")


def _ignored_ports(chain: str, ranges: tuple[PortRange, ...]) -> Iterator[Rule]:
    if ranges:
        ports = [str(entry).replace(":", "-") for entry in _merged(ranges)]
        yield Rule(chain, f"tcp dport {_set(ports)}", "return", _comment("ignore-port-", ports))


def _ignored_subnets(options: CaptureOptions) -> Iterator[Rule]:
    for family, word in ((Family.IPV4, "ip"), (Family.IPV6, "ip6")):
        subnets = _collapsed(of_family(options.skip_subnets, family))
        if subnets and family in options.families:
            match = f"{word} saddr {_set(subnets)}"
            yield Rule(INBOUND_CHAIN, match, "return", _comment("ignore-subnet-", subnets))


def _merged(ranges: Iterable[PortRange]) -> list[PortRange]:
    """Return the same ports in ranges that do not overlap, as a set of the kernel's wants them."""
    merged: list[PortRange] = []
    for entry in sorted(ranges, key=lambda each: each.first):
        if merged and entry.first <= merged[-1].last + 1:
            last = max(entry.last, merged[-1].last)
            merged[-1] = PortRange(merged[-1].first, last)
        else:
            merged.append(entry)
    return merged


def _collapsed(subnets: list[Subnet]) -> list[str]:
    four = [each for each in subnets if isinstance(each, IPv4Network)]
    six = [each for each in subnets if isinstance(each, IPv6Network)]
    return [str(each) for each in (*collapse_addresses(four), *collapse_addresses(six))]


def _set(entries: Sequence[str]) -> str:
    return f"{{ {', '.join(entries)} }}"


def _comment(what: str, entries: Sequence[str]) -> str:
    whole = f"{TAG}{what}{','.join(entries)}"
    return whole if len(whole) <= _LONGEST_COMMENT else f"{TAG}{what}{len(entries)}-entries"
