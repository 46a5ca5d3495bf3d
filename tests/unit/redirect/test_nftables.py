"""The nft back end: golden rulesets, and what is read back of them."""

from __future__ import annotations

import pytest

from redirect.nftables import (
    build_rules,
    is_empty,
    parse_listed,
    parse_tables,
    render_install,
    render_remove,
)
from redirect.options import parse_options
from redirect.rule import Found, Rule

DEFAULT_INSTALL = """\
table inet pillion
delete table inet pillion
table ip pillion
delete table ip pillion
table inet pillion {
	chain inbound {
		type nat hook prerouting priority -100; policy accept;
		tcp dport { 4190-4191, 4567-4568 } return \
comment "proxy-init/ignore-port-4190-4191,4567-4568"
		meta l4proto tcp redirect to :4143 comment "proxy-init/redirect-all-incoming-to-proxy-port"
	}
	chain outbound {
		type nat hook output priority -100; policy accept;
		meta skuid 2102 return comment "proxy-init/ignore-proxy-user-id"
		oifname "lo" return comment "proxy-init/ignore-loopback"
		tcp dport { 4567-4568 } return comment "proxy-init/ignore-port-4567-4568"
		meta l4proto tcp redirect to :4140 comment "proxy-init/redirect-all-outgoing-to-proxy-port"
	}
}
"""

LISTED = """\
table inet pillion {
	chain inbound {
		type nat hook prerouting priority dstnat; policy accept;
		tcp dport { 1, 3, 5, 7,
			9, 4190-4191 } return comment "proxy-init/ignore-port-1"
		ip6 saddr { fd00::/8 } return
		meta l4proto tcp redirect to :4143 comment "proxy-init/in"
	}

	chain outbound {
		type nat hook output priority dstnat; policy accept;
		oifname "lo" return comment "proxy-init/ignore-loopback"
		meta l4proto tcp redirect to :4140
	}
}
"""


def test_the_default_ruleset_word_for_word() -> None:
    """One transaction: what stood goes, both families come, in proxy-init's order."""
    assert render_install(parse_options()) == DEFAULT_INSTALL


@pytest.mark.parametrize(
    ("given", "chain", "expected"),
    [
        (
            {"proxy_uid": "77", "proxy_gid": "78", "outbound_port": "5140"},
            "outbound",
            [
                "meta skuid 77 → return",
                "meta skgid 78 → return",
                'oifname "lo" → return',
                "tcp dport { 4567-4568 } → return",
                "meta l4proto tcp → redirect to :5140",
            ],
        ),
        (
            {"skip_outbound_ports": ""},
            "outbound",
            [
                "meta skuid 2102 → return",
                'oifname "lo" → return',
                "meta l4proto tcp → redirect to :4140",
            ],
        ),
        (
            # Sets take no overlaps: ports and subnets are joined first.
            {
                "skip_inbound_ports": "30,10-20,15-25,26,65535",
                "skip_subnets": "10.0.0.0/9,10.128.0.0/9,fd00::/8,fd00:9::/32,10.1.0.0/16",
            },
            "inbound",
            [
                "tcp dport { 10-26, 30, 4190-4191, 65535 } → return",
                "ip saddr { 10.0.0.0/8 } → return",
                "ip6 saddr { fd00::/8 } → return",
                "meta l4proto tcp → redirect to :4143",
            ],
        ),
    ],
)
def test_options_become_rules(given: dict[str, str], chain: str, expected: list[str]) -> None:
    """Each option shows in its chain, in the order of the other back ends."""
    rules = build_rules(parse_options(**given))
    assert [f"{rule.match} → {rule.target}" for rule in rules if rule.chain == chain] == expected


def test_without_ipv6_the_table_is_of_the_other_family() -> None:
    """IPv6 is then neither captured nor named."""
    text = render_install(parse_options(skip_subnets="fd00::/8").without_ipv6())
    assert "\ntable ip pillion {\n" in text
    assert "table inet pillion {" not in text
    assert "saddr" not in text


def test_comments_keep_within_the_kernels_bound() -> None:
    """128 bytes; a longer list is counted."""
    ports = ",".join(str(port) for port in range(1, 1000, 2))
    rules = build_rules(parse_options(skip_outbound_ports=ports))
    assert max(len(rule.comment) for rule in rules) <= 120
    assert "proxy-init/ignore-port-500-entries" in [rule.comment for rule in rules]


def test_a_listed_table_is_read_back() -> None:
    """Sets over several lines, rules without comments, and both directions."""
    found = parse_listed(["inet pillion"], LISTED)
    assert found.installed
    assert found.chains == ("inet pillion",)
    assert found.rules == (
        Rule(
            "inbound",
            "tcp dport { 1, 3, 5, 7, 9, 4190-4191 }",
            "return",
            "proxy-init/ignore-port-1",
        ),
        Rule("inbound", "ip6 saddr { fd00::/8 }", "return", ""),
        Rule("inbound", "meta l4proto tcp", "redirect to :4143", "proxy-init/in"),
        Rule("outbound", 'oifname "lo"', "return", "proxy-init/ignore-loopback"),
        Rule("outbound", "meta l4proto tcp", "redirect to :4140", ""),
    )


def test_half_a_table_is_not_installed() -> None:
    """One direction without its redirection."""
    half = LISTED.replace("\t\tmeta l4proto tcp redirect to :4140\n", "")
    assert not parse_listed(["inet pillion"], half).installed


def test_only_our_own_tables_are_ours() -> None:
    """Others' tables, and tables of our name in other families, are left alone."""
    text = "table ip nat\ntable inet pillion\ntable inet pillion2\ntable ip6 pillion\n"
    assert parse_tables(text) == ("inet pillion",)
    assert render_remove(Found(("inet pillion", "ip pillion"))) == (
        "delete table inet pillion\ndelete table ip pillion\n"
    )
    assert render_remove(Found()) == ""


@pytest.mark.parametrize(
    ("text", "empty"),
    [
        ("table ip nat {\n}\n", True),
        ("table ip nat {\n\tchain OUTPUT {\n\t}\n}\n", False),
        ("table ip nat {\n\tset s {\n\t\ttype ipv4_addr\n\t}\n}\n", False),
    ],
)
def test_a_table_with_anything_in_it_is_not_empty(text: str, *, empty: bool) -> None:
    """A chain or a set of somebody's keeps the table."""
    assert is_empty(text) is empty
