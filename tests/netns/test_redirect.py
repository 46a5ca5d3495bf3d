"""Capture rules in real network namespaces: what a sidecar's listeners see of them."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import pytest

from cli.demo.host import APP_UID, Host
from cli.demo.pods import Cluster, Rig
from core.errors import CaptureError
from discovery.model import Address
from proxy.net.address import plain_ip
from proxy.net.capture import RedirectCapture
from redirect.backend import Mode
from tests.support.sockets import (
    ENVIRONMENT,
    PILLION,
    connect_in,
    listener_in,
    socket_in,
)

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "iptables-legacy", "nft"),
    pytest.mark.needs("ip", "setpriv", "nsenter"),
    pytest.mark.slow,
]

every_family = pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
every_mode = pytest.mark.parametrize("mode", [each.value for each in Mode])


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A node without pods."""
    with Rig() as rig:
        yield rig.cluster("a")


@pytest.fixture
def alone() -> Iterator[Host]:
    """A host that is joined to nothing."""
    with Rig() as rig:
        yield rig.host("alone")


def redirect(host: Host, *arguments: str, uid: int | None = None) -> tuple[int, str, str]:
    """Run ``pillion redirect`` in ``host``; return exit status, stdout and stderr."""
    done = host.run([*PILLION, "redirect", *arguments], env=ENVIRONMENT, uid=uid)
    return done.returncode, done.stdout, done.stderr


def dual_listener_in(host: Host, port: int) -> socket.socket:
    """Return a socket that listens on all addresses of both families, as the sidecar's."""
    listener = socket_in(host, family=socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    listener.listen(16)
    return listener


def saved(host: Host) -> str:
    """Return all rules of every back end, without counters and time stamps."""
    text = host.must(["nft", "-s", "list", "ruleset"])
    for program in ("iptables-legacy-save", "ip6tables-legacy-save"):
        # Without -t only what exists is printed, and nothing made by looking.
        text += host.must([program])
    lines = (line.partition(" [")[0] for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))


def install(host: Host, mode: str, *options: str) -> None:
    """Install the rules with a back end."""
    status, _, talk = redirect(host, "install", "--iptables-mode", mode, *options)
    assert status == 0, talk


@every_mode
@every_family
def test_an_inbound_connection_reaches_4143_with_its_destination(
    cluster: Cluster, mode: str, family: int
) -> None:
    """A client of pod:8080 meets the sidecar's one listener, which learns of pod:8080."""
    client, server = cluster.pod("client"), cluster.pod("server")
    install(server.host, mode)
    target = server.ips[family]
    with (
        dual_listener_in(server.host, 4143) as listener,
        connect_in(client.host, target, 8080),
    ):
        far, peer = listener.accept()
        with far:
            assert RedirectCapture().original_destination(far) == Address(target, 8080)
            assert plain_ip(peer[0]) == client.ips[family]


@every_mode
def test_a_connection_to_4143_itself_keeps_that_destination(cluster: Cluster, mode: str) -> None:
    """By which the sidecar tells a direct connection; in either family."""
    client, server = cluster.pod("client"), cluster.pod("server")
    install(server.host, mode)
    with dual_listener_in(server.host, 4143) as listener:
        for ip in server.ips:
            with connect_in(client.host, ip, 4143):
                far, _ = listener.accept()
                with far:
                    assert RedirectCapture().original_destination(far) == Address(ip, 4143)


@every_mode
@every_family
def test_a_skipped_port_and_a_skipped_subnet_reach_the_app(
    cluster: Cluster, mode: str, family: int
) -> None:
    """What is skipped arrives where it was sent, sidecar or not."""
    client, other, server = (cluster.pod(name) for name in ("client", "other", "server"))
    subnets = f"{other.ip}/32,{other.ip6}/128"
    install(server.host, mode, "--skip-inbound-ports", "9000-9009", "--skip-subnets", subnets)
    ip = server.ips[family]
    for source, port in ((client, 9005), (other, 8080)):
        with listener_in(server.host, ip, port) as app, connect_in(source.host, ip, port):
            far, _ = app.accept()
            far.close()


@every_mode
@every_family
def test_an_outbound_connection_reaches_4140_with_its_destination(
    cluster: Cluster, mode: str, family: int
) -> None:
    """An app's connection meets the sidecar's listener on loopback, of its own family."""
    client, server = cluster.pod("client"), cluster.pod("server")
    install(client.host, mode)
    with (
        listener_in(client.host, ("127.0.0.1", "::1")[family], 4140) as listener,
        connect_in(client.host, server.ips[family], 8080),
    ):
        far, _ = listener.accept()
        with far:
            seen = RedirectCapture().original_destination(far)
            assert seen == Address(server.ips[family], 8080)


def test_without_rules_no_destination_is_known(cluster: Cluster) -> None:
    """In a namespace without rules the kernel knows nothing, and the connection is refused."""
    client, server = cluster.pod("client"), cluster.pod("server")
    for ip in server.ips:
        with (
            dual_listener_in(server.host, 4143) as listener,
            connect_in(client.host, ip, 4143),
        ):
            far, _ = listener.accept()
            with far, pytest.raises(CaptureError, match="no original destination"):
                RedirectCapture().original_destination(far)


@every_mode
def test_the_sidecar_own_connections_leave_the_pod(cluster: Cluster, mode: str) -> None:
    """Uid 2102 is not captured, another user is, and loopback never."""
    client, server = cluster.pod("client"), cluster.pod("server")
    install(client.host, mode)
    say = f"exec 3<>/dev/tcp/{server.ip}/8080; echo who >&3; cat <&3 >/dev/null"
    with (
        listener_in(client.host, "127.0.0.1", 4140) as sidecar,
        listener_in(client.host, "127.0.0.1", 8080) as beside,
        listener_in(server.host, "0.0.0.0", 8080) as app,
    ):
        for uid, listener in ((2102, app), (APP_UID, sidecar)):
            program = client.host.spawn(["bash", "-c", say], uid=uid)
            far, _ = listener.accept()
            with far:
                assert far.recv(16) == b"who\n"
            assert program.wait(10) == 0
        with socket_in(client.host) as near:
            near.connect(("127.0.0.1", 8080))
            far, _ = beside.accept()
            far.close()


@every_mode
def test_installing_twice_leaves_the_same_rules(alone: Host, mode: str) -> None:
    """The init container may run again: no rule and no jump is doubled, old options are gone."""
    install(alone, mode)
    first = saved(alone)
    # In the kernel's words; the programs of iptables also list their rules as comments.
    assert len(re.findall("skuid 2102|uid-owner 2102", first)) == (1 if mode == "nftables" else 2)
    install(alone, mode, "--skip-inbound-ports", "25")
    assert saved(alone) != first
    install(alone, mode)
    assert saved(alone) == first


@every_mode
def test_rules_of_somebody_else_survive(alone: Host, mode: str) -> None:
    """Install and remove touch our chains and jumps alone."""
    for program in ("iptables-nft", "ip6tables-legacy"):
        alone.must([program, "-t", "nat", "-A", "OUTPUT", "-p", "udp", "-j", "RETURN"])
    alone.must(["nft", "add table inet theirs; add chain inet theirs some"])
    install(alone, "legacy")
    redirect(alone, "remove")
    before = saved(alone)
    install(alone, mode)
    assert saved(alone).startswith(before.partition("}")[0])
    assert redirect(alone, "remove")[0] == 0
    assert saved(alone) == before


@pytest.mark.parametrize("before", [each.value for each in Mode])
@every_mode
def test_a_change_of_back_end_leaves_one_capture(alone: Host, before: str, mode: str) -> None:
    """What another back end captured goes when a new one has taken over."""
    install(alone, before)
    install(alone, mode)
    text = saved(alone)
    install(alone, mode)
    assert saved(alone) == text
    document = json.loads(redirect(alone, "show", "-o", "json")[1])
    assert document["installed"] is True
    expected = {
        "nftables": ["nft"],
        "legacy": ["iptables-legacy", "ip6tables-legacy"],
    }.get(mode, ["iptables-nft", "ip6tables-nft"])
    assert document["backends"] == expected


def test_rules_that_linkerd_left_are_replaced(alone: Host) -> None:
    """Chains of the same names, filled by another tool, become ours without a second jump."""
    for command in (
        "-N PROXY_INIT_REDIRECT",
        "-A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-port 9999",
        "-A PREROUTING -j PROXY_INIT_REDIRECT -m comment --comment proxy-init/install",
    ):
        alone.must(["iptables-nft", "-t", "nat", *command.split()])
    assert redirect(alone, "install")[0] == 0
    rules = saved(alone)
    assert "9999" not in rules
    assert rules.count("jump PROXY_INIT_REDIRECT") == 2  # IPv4 and IPv6


@every_mode
def test_removal_leaves_nothing(alone: Host, mode: str) -> None:
    """No chain, no rule, no table; removing again is no fault."""
    install(alone, mode, "--proxy-gid", "2102")
    status, _, talk = redirect(alone, "remove")
    assert status == 0
    assert talk.startswith(f"{7 if mode == 'nftables' else 18} capture rules removed")
    left = saved(alone).splitlines()
    # x_tables keeps the chains that its table was built with.
    assert [line for line in left if not line.startswith((":", "*", "COMMIT"))] == []
    assert "PROXY_INIT" not in "".join(left)
    assert (left == []) is (mode != "legacy")
    assert redirect(alone, "remove") == (0, "", "there were no capture rules\n")


def test_looking_makes_no_table(alone: Host) -> None:
    """Where nothing is captured, asking changes nothing about that."""
    for arguments in (["show"], ["remove"], ["install", "--dry-run"]):
        assert redirect(alone, *arguments)[0] == 0
        assert saved(alone) == ""


@every_mode
def test_show_reports_what_is_installed(alone: Host, mode: str) -> None:
    """First nothing, then every rule, for people and for programs."""
    assert json.loads(redirect(alone, "show", "-o", "json")[1])["installed"] is False
    install(alone, mode)
    document = json.loads(redirect(alone, "show", "-o", "json")[1])
    assert document["installed"] is True
    assert len(document["rules"]) == (6 if mode == "nftables" else 16)
    table = redirect(alone, "show")[1]
    if mode == "nftables":
        assert "nft, IPv4 and IPv6\n  inbound   inbound\n" in table
        assert "redirect to :4140" in table
    else:
        assert "inbound   PREROUTING → PROXY_INIT_REDIRECT" in table
        assert "REDIRECT --to-ports 4140" in table


@every_mode
def test_a_dry_run_changes_nothing(alone: Host, mode: str) -> None:
    """The text is a script: fed to a shell, it makes the same rules."""
    status, text, _ = redirect(alone, "install", "--dry-run", "--iptables-mode", mode)
    assert status == 0
    assert saved(alone) == ""
    alone.must(["sh", "-e"], given=text)
    by_hand = saved(alone)
    install(alone, mode)
    assert saved(alone) == by_hand


@every_mode
def test_ipv6_is_left_alone_where_asked(alone: Host, mode: str) -> None:
    """Installed for both families first: the second run takes IPv6 back."""
    install(alone, mode)
    install(alone, mode, "--no-ipv6", "--skip-subnets", "fd00::/8,10.0.0.0/8")
    document = json.loads(redirect(alone, "show", "-o", "json")[1])
    assert len(document["backends"]) == 1
    assert "fd00" not in saved(alone)
    assert "10.0.0.0/8" in saved(alone)


def test_without_rights_the_message_says_which_are_missing(alone: Host) -> None:
    """Exit 2, naming the user and the capability, and nothing changed."""
    limited = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"]
    done = alone.run([*limited, *PILLION, "redirect", "install"], env=ENVIRONMENT)
    assert done.returncode == 2
    assert "this process is uid 0 without the capability NET_ADMIN" in done.stderr
    assert "give the container the capabilities NET_ADMIN and NET_RAW" in done.stderr


def test_without_any_program_the_package_is_named(alone: Host) -> None:
    """Exit 2, naming the programs and what to install; seen with every program hidden."""
    hide = 'mount -t tmpfs none /usr/sbin && cd / && exec "$@"'
    hidden = ["unshare", "--mount", "--", "sh", "-c", hide, "sh"]
    done = alone.run([*hidden, *PILLION, "redirect", "install"], env=ENVIRONMENT)
    assert done.returncode == 2
    assert "none of iptables-nft-restore, iptables-restore, iptables-legacy-restore" in done.stderr
    assert "apt-get install iptables" in done.stderr
