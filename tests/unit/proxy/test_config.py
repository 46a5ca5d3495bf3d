"""Settings: every mistake has its message, all at once; the page says what the table says."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from core.errors import ConfigError
from discovery.model import Address
from proxy.config import TABLE, affordable_connections
from proxy.config import read_config as read
from proxy.elsewhere import ELSEWHERE
from tools.pages import PAGES, ROOT

GOOD = {"PILLION_POD": "shop/web-0", "PILLION_MESH_DIR": "/mesh", "PILLION_IDENTITY_DIR": "/id"}
LINKERD = {
    "LINKERD2_PROXY_POLICY_WORKLOAD": '{"ns":"shop","pod":"web-0"}',
    "PILLION_MESH_DIR": "/mesh",
    "LINKERD2_PROXY_IDENTITY_DIR": "/id",
}

MISTAKES: dict[str, tuple[Mapping[str, str | None], str]] = {
    "no pod": ({"PILLION_POD": None}, "PILLION_POD is not set, and has no default"),
    "no mesh directory": ({"PILLION_MESH_DIR": None}, "PILLION_MESH_DIR is not set"),
    "a controller, which there is not yet": (
        {"PILLION_CONTROLLER_ADDR": "controller.linkerd.svc"},
        "PILLION_CONTROLLER_ADDR is 'controller.linkerd.svc': there is no controller yet",
    ),
    "anchors that are none": (
        {"PILLION_IDENTITY_TRUST_ANCHORS": "roots"},
        "PILLION_IDENTITY_TRUST_ANCHORS: no certificate in PEM is in it",
    ),
    "half an anchor": (
        {"LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS": "-----BEGIN CERTIFICATE-----\nAAAA"},
        "the bundle: 1 PEM blocks cannot be decoded",
    ),
    "no identity directory": ({"PILLION_IDENTITY_DIR": None}, "PILLION_IDENTITY_DIR is not set"),
    "an empty value is none": ({"PILLION_POD": ""}, "PILLION_POD is not set"),
    "a pod without namespace": ({"PILLION_POD": "web-0"}, "names no pod; write NAMESPACE/POD"),
    "a pod without name": ({"PILLION_POD": "shop/"}, "'shop/' names no pod"),
    "a pod with one part too many": ({"PILLION_POD": "a/b/c"}, "'a/b/c' names no pod"),
    "a pod in capitals": ({"PILLION_POD": "shop/Web"}, "'shop/Web' names no pod"),
    "a pod with a line end": ({"PILLION_POD": "shop/web-0\n"}, r"'shop/web-0\n' names no pod"),
    "a pod's name past its length": ({"PILLION_POD": "a/" + "b" * 254}, "names no pod"),
    "a pod in half a JSON": ({"PILLION_POD": '{"ns":"shop"'}, "names no pod"),
    "a pod in JSON that nests": ({"PILLION_POD": '{"a":' * 9_000}, "names no pod"),
    "a pod in JSON of another type": ({"PILLION_POD": '{"ns":1,"pod":"a"}'}, "names no pod"),
    "a pod in JSON without its name": ({"PILLION_POD": '{"ns":"shop"}'}, "names no pod"),
    "a name for an address": ({"PILLION_POD_IPS": "web"}, "'web' is no IP address"),
    "an address with a prefix": ({"PILLION_POD_IPS": "10.0.0.1/24"}, "is no IP address"),
    "an address of every host": ({"PILLION_POD_IPS": "0.0.0.0"}, "0.0.0.0 is no pod's address"),
    "an address of many hosts": ({"PILLION_POD_IPS": "224.0.0.1"}, "is no pod's address"),
    "an address with a zone": ({"PILLION_POD_IPS": "fe80::1%eth0"}, "has a zone"),
    "an IPv4 address in disguise": ({"PILLION_POD_IPS": "::ffff:10.0.0.1"}, "write 10.0.0.1"),
    "a path with a blank": ({"PILLION_MESH_DIR": "/mesh "}, "begins or ends with a blank"),
    "a socket without a token": ({"PILLION_IDENTITY_SOCKET": "/s"}, "the issuer's socket asks for"),
    "an identity that is none": ({"PILLION_IDENTITY_NAME": "web."}, "'web.' is no identity"),
    "a server name that is a URI": (
        {"PILLION_IDENTITY_SERVER_NAME": "spiffe://a/b"},
        "'spiffe://a/b' is no server name",
    ),
    "a server name that is an address": (
        {"PILLION_IDENTITY_SERVER_NAME": "10.0.0.1"},
        "'10.0.0.1' is no server name; write a DNS name",
    ),
    "a URI for identity and no server name": (
        {"PILLION_IDENTITY_NAME": "spiffe://cluster.local/web"},
        "PILLION_IDENTITY_SERVER_NAME is not set: spiffe://cluster.local/web is no server name",
    ),
    "a listener without port": ({"PILLION_INBOUND_LISTEN_ADDR": "10.0.0.1"}, "write IP:PORT"),
    "a listener without address": ({"PILLION_INBOUND_LISTEN_ADDR": ":4143"}, "write IP:PORT"),
    "a listener by name": ({"PILLION_ADMIN_LISTEN_ADDR": "localhost:1"}, "names are not resolved"),
    "a port of 0": ({"PILLION_ADMIN_LISTEN_ADDR": "10.0.0.1:0"}, "not from 1 to 65535"),
    "a port past the last": ({"PILLION_ADMIN_LISTEN_ADDR": "10.0.0.1:65536"}, "not from 1 to"),
    "a port of many digits": ({"PILLION_ADMIN_LISTEN_ADDR": "1.1.1.1:" + "9" * 5000}, "not from"),
    "a port in other digits": ({"PILLION_ADMIN_LISTEN_ADDR": "1.1.1.1:٤"}, "write IP:PORT"),
    "IPv6 without brackets": ({"PILLION_INBOUND_LISTEN_ADDR": "::1:4143"}, "[IP]:PORT for IPv6"),
    "IPv4 in brackets": ({"PILLION_INBOUND_LISTEN_ADDR": "[1.1.1.1]:1"}, "no address to listen on"),
    "two listeners on one port": (
        {"PILLION_INBOUND_LISTEN_ADDR": "0.0.0.0:4191"},
        "PILLION_INBOUND_LISTEN_ADDR and PILLION_ADMIN_LISTEN_ADDR have the same port, 4191",
    ),
    "a duration without unit": ({"PILLION_INBOUND_DETECT_TIMEOUT": "10"}, "is not a duration"),
    "a duration in words": ({"PILLION_INBOUND_DETECT_TIMEOUT": "ten s"}, "is not a duration"),
    "a fraction": ({"PILLION_OUTBOUND_CONNECT_TIMEOUT": "1.5s"}, "'1.5s' is not a duration"),
    "a negative duration": ({"PILLION_OUTBOUND_CONNECT_TIMEOUT": "-1s"}, "is not a duration"),
    "no time at all": ({"PILLION_OUTBOUND_CONNECT_TIMEOUT": "0"}, "'0' is not from 1ms to 365d"),
    "a time past all bounds": ({"PILLION_SHUTDOWN_GRACE_PERIOD": "366d"}, "not from 0 to 365d"),
    "a keepalive in fractions": ({"PILLION_TCP_KEEPALIVE": "1500ms"}, "no whole number of seconds"),
    "a keepalive past the kernel's": ({"PILLION_TCP_KEEPALIVE": "10h"}, "is not from 0 to 9h"),
    "an unacknowledged day": ({"PILLION_TCP_USER_TIMEOUT": "2d"}, "is not from 0 to 1d"),
    "a renewal without pause": ({"PILLION_IDENTITY_MIN_REFRESH": "0"}, "is not from 100ms to 1d"),
    "a least above the most": (
        {"PILLION_IDENTITY_MIN_REFRESH": "2m", "PILLION_IDENTITY_MAX_REFRESH": "1m"},
        "PILLION_IDENTITY_MIN_REFRESH is 120 s, more than the 60 s of PILLION_IDENTITY_MAX_REFRESH",
    ),
    "a count in words": ({"PILLION_MAX_CONNECTIONS": "many"}, "no integer from 0 to 999999"),
    "a negative count": ({"PILLION_MAX_CONNECTIONS": "-1"}, "no integer from 0 to 999999"),
    "a count past its bound": ({"PILLION_MAX_CONNECTIONS": "1000000"}, "no integer from 0 to 999"),
    "neither true nor false": ({"PILLION_TLS_RESUME": "yes"}, "'yes' is neither true nor false"),
    "a level that is none": ({"PILLION_LOG": "loud"}, "'loud' is no log level; one of debug, info"),
    "a filter without our level": ({"PILLION_LOG": "hickory=error"}, "says nothing of this proxy"),
    "an access log that is none": (
        {"LINKERD2_PROXY_ACCESS_LOG": "Apache"},
        "'Apache' is none of json, apache",
    ),
    "a format that is none": ({"PILLION_LOG_FORMAT": "xml"}, "'xml' is none of auto, json, pretty"),
    "a development issuer of nothing": ({"PILLION_DEV_ISSUER": "1"}, "needs an authority"),
    "two issuers": (
        {
            "PILLION_DEV_ISSUER": "true",
            "PILLION_DEV_AUTHORITY": "/a",
            "PILLION_IDENTITY_SOCKET": "/s",
            "PILLION_IDENTITY_TOKEN_FILE": "/t",
        },
        "PILLION_DEV_ISSUER and PILLION_IDENTITY_SOCKET are both set: a leaf has one issuer",
    ),
    "a name with a letter swapped": ({"PILLION_MEHS_DIR": "/m"}, "did you mean PILLION_MESH_DIR?"),
    "a name like no other": ({"PILLION_QQQQ": "1"}, "'PILLION_QQQQ' is no setting; see docs/conf"),
    "the prefix alone": ({"PILLION_": "1"}, "'PILLION_' is no setting"),
    "a name of ours in Linkerd's words": (
        {"PILLION_INBOUND_IPS": "10.0.0.1"},
        "'PILLION_INBOUND_IPS' is no setting; did you mean PILLION_POD_IPS?",
    ),
    "an alias that cannot be read": (
        {"LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT": "fast"},
        "LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT: 'fast' is not a duration",
    ),
    "an alias for the pod that names none": (
        {"PILLION_POD": None, "LINKERD2_PROXY_POLICY_WORKLOAD": '{"pod":"web-0"}'},
        "LINKERD2_PROXY_POLICY_WORKLOAD: ",
    ),
    "Linkerd without identity": (
        {"LINKERD2_PROXY_IDENTITY_DISABLED": "true"},
        "LINKERD2_PROXY_IDENTITY_DISABLED is set: there is no mesh without identity",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_has_its_message(name: str) -> None:
    """One line, which says what was seen and what was wanted, and is not longer than a screen."""
    given, said = MISTAKES[name]
    environment = {**GOOD, **given}
    with pytest.raises(ConfigError) as caught:
        read({key: value for key, value in environment.items() if value is not None})
    (problem,) = caught.value.problems
    assert said in problem
    assert "\n" not in problem
    assert len(problem) < 300


_LINKS = {
    "PILLION_API_SERVICE_HOST": "10.96.0.10",
    "PILLION_API_SERVICE_PORT": "80",
    "PILLION_API_SERVICE_PORT_HTTP_ADMIN": "80",
    "PILLION_API_PORT": "tcp://10.96.0.10:80",
    "PILLION_API_PORT_80_TCP": "tcp://10.96.0.10:80",
    "PILLION_API_PORT_80_TCP_PROTO": "tcp",
    "PILLION_API_PORT_80_TCP_PORT": "80",
    "PILLION_API_PORT_80_TCP_ADDR": "10.96.0.10",
    "PILLION_API_PORT_53_UDP": "udp://10.96.0.10:53",
    "PILLION_SERVICE_HOST": "10.96.0.11",
    "PILLION_PORT": "tcp://10.96.0.11:80",
}


def test_a_service_called_like_us_is_no_mistake() -> None:
    """Kubernetes tells every pod of it by variables that begin with its name."""
    assert read({**GOOD, **_LINKS}) == read(GOOD)
    for name in ("PILLION_API_PORT", "PILLION_API_SERVICE_PORT", "PILLION_API_SERVICE_HOTS"):
        with pytest.raises(ConfigError, match="is no setting"):
            read({**GOOD, name: "x"})


def test_all_mistakes_are_reported_at_once() -> None:
    """Nobody has to start it forty times."""
    assert len(MISTAKES) >= 40
    together = {}
    for given, _ in MISTAKES.values():
        together.update({key: value for key, value in given.items() if value})
    with pytest.raises(ConfigError) as caught:
        read({**together, "PILLION_POD": ""})
    assert len(caught.value.problems) >= 20
    assert len(set(caught.value.problems)) == len(caught.value.problems)


def test_what_is_required_is_enough() -> None:
    """Everything else has a default that serves."""
    config = read(GOOD)
    assert (config.pod_namespace, config.pod_name) == ("shop", "web-0")
    assert config.inbound_listen == Address("::", 4143)
    assert config.outbound_listens == (Address("127.0.0.1", 4140), Address("::1", 4140))
    assert config.admin_listen == Address("::", 4191)
    assert config.grace_period_s == 120
    assert config.max_connections >= 16
    assert not config.shutdown_endpoint
    assert config.ignored == ()


def test_linkerd_s_names_are_taken_and_ours_win() -> None:
    """A pod that Linkerd's injector prepared needs no second set of names."""
    given = {
        **LINKERD,
        "LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT": "100ms",
        "LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT": "1000ms",
        "PILLION_OUTBOUND_CONNECT_TIMEOUT": "2s",
        "LINKERD2_PROXY_LOG": "warn,linkerd=debug,hickory=error,[{headers}]=off",
        "LINKERD2_PROXY_INBOUND_IPS": "10.0.0.7, fd00::7",
    }
    config = read(given)
    assert (config.pod_namespace, config.pod_name) == ("shop", "web-0")
    assert config.inbound_connect_timeout_s == 0.1
    assert config.outbound_connect_timeout_s == 2
    assert config.log_level == "debug"
    assert config.pod_ips == ("10.0.0.7", "fd00::7")


def test_names_of_linkerd_s_without_meaning_here_are_told_and_harmless() -> None:
    """With what counts instead, where it matters."""
    config = read(
        {
            **GOOD,
            "LINKERD2_PROXY_CORES": "1",
            "LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_IDENTITY": "",
            "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY": "deny",
        }
    )
    assert config.ignored[0] == "LINKERD2_PROXY_CORES"
    assert "defaultInboundPolicy" in config.ignored[1]
    assert not set(ELSEWHERE) & {alias for row in TABLE for alias in row.aliases}


@pytest.mark.parametrize(
    ("text", "ip"),
    [("[::]:4143", "::"), ("[::1]:4143", "::1"), ("127.0.0.1:4143", "127.0.0.1")],
)
def test_listeners_of_both_families(text: str, ip: str) -> None:
    """IPv6 stands in brackets, as in a URL."""
    config = read({**GOOD, "PILLION_INBOUND_LISTEN_ADDR": text})
    assert config.inbound_listen == Address(ip, 4143)


@pytest.mark.parametrize(
    ("given", "colors"),
    [
        ({}, None),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, None),
        ({"FORCE_COLOR": "1"}, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colors_by_the_names_that_everybody_knows(
    given: Mapping[str, str], colors: bool | None
) -> None:
    """Who asks for none gets none."""
    assert read({**GOOD, **given}).log_colors is colors


@pytest.mark.parametrize(
    ("descriptors", "memory", "connections"),
    [
        (1024, 1 << 40, 464),
        (1 << 20, 64 << 20, 481),
        (0, 0, 16),
        (102, 1 << 40, 18),
        (-1, 64 << 20, 481),
    ],
)
def test_admission_follows_descriptors_and_memory(
    descriptors: int, memory: int, connections: int
) -> None:
    """Two descriptors a connection and a pipe, half of the memory, at least 16; -1: no limit."""
    assert affordable_connections(descriptors, memory) == connections


def test_every_default_can_be_read_and_every_row_says_why() -> None:
    """The table is what the page is made from."""
    for row in TABLE:
        if row.default:
            row.form.parse(row.default)
        assert row.reason.endswith(".")
        assert re.fullmatch(r"[A-Z][A-Z0-9_]+", row.name)
    names = [row.name for row in TABLE]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_what_its_table_says(page: str) -> None:
    """``make docs`` has been run since the table changed."""
    assert (ROOT / page).read_text() == PAGES[page]()


def test_nothing_else_reads_the_environment() -> None:
    """A setting that is not in the table would be on no page; ``cli`` hands the environment in."""
    reads = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "proxy").rglob("*.py")
        if re.search(r"os\.environ|getenv", path.read_text())
    }
    assert reads == set()
