"""The iptables back end: options in, one atomic ``iptables-restore`` input out. Pure.

Chains, order and comments are those of Linkerd's proxy-init, so that either tool recognises and
replaces the other's rules. One text serves ``iptables`` and, with the other family's subnets,
``ip6tables``, whichever kernel interface they use. Table ``nat``, TCP only:

- PREROUTING → PROXY_INIT_REDIRECT: skipped ports, skipped client subnets, else to inbound.
- OUTPUT → PROXY_INIT_OUTPUT: the sidecar's own user, loopback, skipped ports, else to outbound.

The user's rule is what keeps the sidecar from dialling itself for ever. A restore input is one
transaction: a pod never stands half captured, and running twice leaves the same rules.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Final

from redirect.options import CaptureOptions, PortRange
from redirect.rule import TAG, Family, Found, Rule, of_family

INBOUND_CHAIN: Final = "PROXY_INIT_REDIRECT"
OUTBOUND_CHAIN: Final = "PROXY_INIT_OUTPUT"
OWN_CHAINS: Final = (INBOUND_CHAIN, OUTBOUND_CHAIN)
_MULTIPORT_LIMIT: Final = 15
"""Port references that one multiport match takes; a range counts twice."""


def build_rules(options: CaptureOptions, family: Family = Family.IPV4) -> tuple[Rule, ...]:
    """Return one family's rules for ``options`` in the order in which they are added."""
    return (
        *_ignored_ports(INBOUND_CHAIN, options.skip_inbound),
        *(
            Rule(INBOUND_CHAIN, f"-s {subnet}", "RETURN", f"{TAG}ignore-subnet-{subnet}")
            for subnet in of_family(options.skip_subnets, family)
        ),
        Rule(
            INBOUND_CHAIN,
            "-p tcp",
            f"REDIRECT --to-ports {options.inbound_port}",
            f"{TAG}redirect-all-incoming-to-proxy-port",
        ),
        Rule("PREROUTING", "", INBOUND_CHAIN, f"{TAG}install-proxy-init-prerouting"),
        Rule(
            OUTBOUND_CHAIN,
            f"-m owner --uid-owner {options.proxy_uid}",
            "RETURN",
            f"{TAG}ignore-proxy-user-id",
        ),
        *_ignored_group(options.proxy_gid),
        Rule(OUTBOUND_CHAIN, "-o lo", "RETURN", f"{TAG}ignore-loopback"),
        *_ignored_ports(OUTBOUND_CHAIN, options.skip_outbound),
        Rule(
            OUTBOUND_CHAIN,
            "-p tcp",
            f"REDIRECT --to-ports {options.outbound_port}",
            f"{TAG}redirect-all-outgoing-to-proxy-port",
        ),
        Rule("OUTPUT", "", OUTBOUND_CHAIN, f"{TAG}install-proxy-init-output"),
    )


def render_install(options: CaptureOptions, found: Found, family: Family = Family.IPV4) -> str:
    """Return the restore input that makes our chains exactly those of ``options``.

    Naming a chain empties it when it exists; a jump that stands is kept where it is, a second
    one is taken away.
    """
    kept: set[tuple[str, str]] = set()
    surplus = []
    for jump in jumps_of(found):
        if (jump.chain, jump.target) in kept:
            surplus.append(f"-D {specification(jump)}")
        kept.add((jump.chain, jump.target))
    added = [
        f"-A {specification(rule)}"
        for rule in build_rules(options, family)
        if (rule.chain, rule.target) not in kept
    ]
    return _transaction([f":{chain} - [0:0]" for chain in OWN_CHAINS], surplus, added)


def render_remove(found: Found) -> str:
    """Return the restore input that takes away all that is ours; empty when nothing is."""
    if not found.chains:
        return ""
    return _transaction(
        [f"-D {specification(jump)}" for jump in jumps_of(found)],
        [f"-F {chain}" for chain in found.chains],
        [f"-X {chain}" for chain in found.chains],
    )


def parse_saved(text: str) -> Found:
    """Return what ``iptables-save -t nat`` printed, as far as it concerns us."""
    chains: list[str] = []
    rules: list[Rule] = []
    idle: list[str] = []
    for line in text.splitlines():
        if line.startswith(":"):
            name, policy = line[1:].split()[:2]
            if name in OWN_CHAINS:
                chains.append(name)
            if policy == "ACCEPT":
                idle.append(name)
        elif line.startswith("-A "):
            rule = _parse_rule(line)
            if rule.chain in OWN_CHAINS or rule.target in OWN_CHAINS:
                rules.append(rule)
            elif rule.chain in idle:
                idle.remove(rule.chain)
    captured = {rule.target for rule in rules if rule.target in OWN_CHAINS}
    return Found(tuple(chains), tuple(rules), captured == set(OWN_CHAINS), tuple(idle))


def specification(rule: Rule) -> str:
    """Return chain, match and target as they follow ``-A`` or ``-D``."""
    comment = f"-m comment --comment {_quoted(rule.comment)}" if rule.comment else ""
    parts = (rule.chain, rule.match, comment, f"-j {rule.target}")
    return " ".join(part for part in parts if part)


def jumps_of(found: Found) -> tuple[Rule, ...]:
    """Return the rules that send traffic into our chains."""
    return tuple(rule for rule in found.rules if rule.target in OWN_CHAINS)


def freed_by(found: Found) -> list[str]:
    """Return the base chains that hold nothing at all when our jumps are gone."""
    jumped = dict.fromkeys(jump.chain for jump in jumps_of(found))
    return [chain for chain in jumped if chain in found.idle]


def _parse_rule(line: str) -> Rule:
    words = shlex.split(line)[1:]
    chain, rest = words[0], words[1:]
    comment = ""
    if "--comment" in rest[:-1]:
        at = rest.index("--comment")
        comment = rest[at + 1]
        before = rest[: at - 2] if rest[at - 2 : at] == ["-m", "comment"] else rest[:at]
        rest = [*before, *rest[at + 2 :]]
    split = rest.index("-j") if "-j" in rest else len(rest)
    match, target = rest[:split], rest[split + 1 :]
    return Rule(
        chain,
        " ".join(_bare(word) for word in match),
        " ".join(_bare(word) for word in target),
        comment,
    )


def _bare(word: str) -> str:
    return _quoted(word) if not word or re.search(r'[\s"\\]', word) else word


def _quoted(text: str) -> str:
    # The restore parser knows double quotes and backslashes only.
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _ignored_group(gid: int | None) -> Iterator[Rule]:
    if gid is not None:
        match = f"-m owner --gid-owner {gid}"
        yield Rule(OUTBOUND_CHAIN, match, "RETURN", f"{TAG}ignore-proxy-group-id")


def _ignored_ports(chain: str, ranges: tuple[PortRange, ...]) -> Iterator[Rule]:
    for group in _groups(ranges):
        ports = ",".join(str(entry) for entry in group)
        match = f"-p tcp -m multiport --dports {ports}"
        yield Rule(chain, match, "RETURN", f"{TAG}ignore-port-{ports}")


def _groups(ranges: tuple[PortRange, ...]) -> Iterator[list[PortRange]]:
    group: list[PortRange] = []
    references = 0
    for entry in ranges:
        cost = 1 if entry.first == entry.last else 2
        if references + cost > _MULTIPORT_LIMIT:
            yield group
            group, references = [], 0
        group.append(entry)
        references += cost
    if group:
        yield group


def _transaction(*parts: Iterable[str]) -> str:
    lines = [line for part in parts for line in part]
    return "\n".join(["*nat", *lines, "COMMIT", ""])
