"""Capture options: what is taken, and how every mistake is named at once."""

from __future__ import annotations

import pytest

from core.errors import ConfigError
from redirect.options import MAX_ENTRIES, CaptureOptions, PortRange, parse_options
from redirect.rule import Family


def test_defaults_are_those_of_linkerd() -> None:
    """Nothing said: uid 2102, ports 4143 and 4140, and Linkerd's skipped ports."""
    options = parse_options()
    assert options == CaptureOptions(
        proxy_uid=2102,
        proxy_gid=None,
        inbound_port=4143,
        outbound_port=4140,
        skip_inbound=tuple(PortRange(port, port) for port in (4190, 4191, 4567, 4568)),
        skip_outbound=(PortRange(4567, 4567), PortRange(4568, 4568)),
        skip_subnets=(),
        families=(Family.IPV4, Family.IPV6),
    )
    assert parse_options().without_ipv6().families == (Family.IPV4,)


def test_lists_take_blanks_ranges_and_repeats() -> None:
    """A list is read as a person writes it, each entry once."""
    options = parse_options(
        skip_inbound_ports=" 25, 7000-7009,7000:7009,25,",
        skip_outbound_ports="",
        skip_subnets="10.0.0.0/8, fd00::/8 ,192.168.1.7",
    )
    assert [str(entry) for entry in options.skip_inbound] == ["4190", "4191", "25", "7000:7009"]
    assert options.skip_outbound == ()
    assert [str(net) for net in options.skip_subnets] == [
        "10.0.0.0/8",
        "fd00::/8",
        "192.168.1.7/32",
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"proxy_uid": "0"}, "--proxy-uid is 0, which is root"),
        ({"proxy_uid": "-1"}, "--proxy-uid is '-1'; wanted a number from 1 to 4294967294"),
        ({"proxy_uid": "4294967295"}, "--proxy-uid is '4294967295'"),
        ({"proxy_uid": "x"}, "--proxy-uid is 'x'"),
        ({"proxy_uid": ""}, "--proxy-uid is ''"),
        ({"proxy_gid": "0"}, "--proxy-gid is 0, which is root"),
        ({"proxy_gid": "1.5"}, "--proxy-gid is '1.5'"),
        ({"inbound_port": "0"}, "--inbound-port is '0'; wanted a port from 1 to 65535"),
        ({"inbound_port": "65536"}, "--inbound-port is '65536'"),
        ({"outbound_port": "9" * 400}, "--outbound-port is"),
        ({"inbound_port": "4140"}, "both 4140; they must differ"),
        ({"skip_inbound_ports": "80,http"}, "--skip-inbound-ports has 'http'"),
        ({"skip_inbound_ports": "0"}, "--skip-inbound-ports has '0'"),
        ({"skip_outbound_ports": "90-80"}, "--skip-outbound-ports has '90-80'"),
        ({"skip_outbound_ports": "1-70000"}, "--skip-outbound-ports has '1-70000'"),
        ({"skip_outbound_ports": "1-2-3"}, "--skip-outbound-ports has '1-2-3'"),
        ({"skip_subnets": "10.0.0.1/8"}, "wanted 10.0.0.0/8: bits right of the mask must be 0"),
        ({"skip_subnets": "everyone"}, "wanted a subnet such as 10.0.0.0/8"),
    ],
)
def test_a_mistake_is_named_with_what_was_wanted(given: dict[str, str], said: str) -> None:
    """One wrong text: one problem, naming the flag, what was seen and what was wanted."""
    with pytest.raises(ConfigError) as caught:
        parse_options(**given)
    assert len(caught.value.problems) == 1
    assert said in caught.value.problems[0]


def test_all_mistakes_are_reported_at_once() -> None:
    """Nobody has to run the command five times to find five mistakes."""
    with pytest.raises(ConfigError) as caught:
        parse_options(
            proxy_uid="0",
            inbound_port="x",
            outbound_port="y",
            skip_inbound_ports="a,b",
            skip_subnets="c",
        )
    assert len(caught.value.problems) == 6


def test_lists_are_bounded() -> None:
    """As many entries as the bound are taken, one more is refused."""
    ports = [str(port) for port in range(1, MAX_ENTRIES + 1)]
    assert len(parse_options(skip_outbound_ports=",".join(ports)).skip_outbound) == MAX_ENTRIES
    with pytest.raises(ConfigError, match=f"has {MAX_ENTRIES + 1} entries; at most {MAX_ENTRIES}"):
        parse_options(skip_outbound_ports=",".join([*ports, "9999"]))
