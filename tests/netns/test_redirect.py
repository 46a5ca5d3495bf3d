"""Capture rules in real network namespaces: what a sidecar's listeners see of them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cli.demo.host import APP_UID, Host
from cli.demo.pods import Cluster, Rig
from tests.support.sockets import (
    ENVIRONMENT,
    PILLION,
    listener_in,
    original_destination,
    socket_in,
)

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter"),
    pytest.mark.slow,
]


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


def saved(host: Host) -> str:
    """Return the rules without counters and time stamps."""
    lines = host.must(["iptables-nft-save", "-t", "nat"]).splitlines()
    return "\n".join(line.partition(" [")[0] for line in lines if not line.startswith("#"))


def test_an_inbound_connection_reaches_4143_with_its_destination(cluster: Cluster) -> None:
    """A client of pod:8080 meets the sidecar's listener, which learns of pod:8080."""
    client, server = cluster.pod("client"), cluster.pod("server")
    assert redirect(server.host, "install")[0] == 0
    with listener_in(server.host, "0.0.0.0", 4143) as listener, socket_in(client.host) as near:
        near.connect((server.ip, 8080))
        far, peer = listener.accept()
        with far:
            assert original_destination(far) == (server.ip, 8080)
            assert peer[0] == client.ip


def test_a_skipped_port_and_a_skipped_subnet_reach_the_app(cluster: Cluster) -> None:
    """What is skipped arrives where it was sent, sidecar or not."""
    client, other, server = (cluster.pod(name) for name in ("client", "other", "server"))
    status, _, _ = redirect(
        server.host,
        *("install", "--skip-inbound-ports", "9000-9009", "--skip-subnets", f"{other.ip}/32"),
    )
    assert status == 0
    for source, port in ((client, 9005), (other, 8080)):
        with listener_in(server.host, "0.0.0.0", port) as app, socket_in(source.host) as near:
            near.connect((server.ip, port))
            far, _ = app.accept()
            far.close()


def test_an_outbound_connection_reaches_4140_with_its_destination(cluster: Cluster) -> None:
    """An app's connection meets the sidecar's listener on loopback."""
    client, server = cluster.pod("client"), cluster.pod("server")
    assert redirect(client.host, "install")[0] == 0
    with listener_in(client.host, "127.0.0.1", 4140) as listener, socket_in(client.host) as near:
        near.connect((server.ip, 8080))
        far, _ = listener.accept()
        with far:
            assert original_destination(far) == (server.ip, 8080)


def test_the_sidecar_own_connections_leave_the_pod(cluster: Cluster) -> None:
    """Uid 2102 is not captured, another user is, and loopback never."""
    client, server = cluster.pod("client"), cluster.pod("server")
    assert redirect(client.host, "install")[0] == 0
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


def test_installing_twice_leaves_the_same_rules(alone: Host) -> None:
    """The init container may run again: no rule and no jump is doubled, old options are gone."""
    assert redirect(alone, "install")[0] == 0
    first = saved(alone)
    assert first.count("-j PROXY_INIT_REDIRECT") == first.count("-j PROXY_INIT_OUTPUT") == 1
    assert redirect(alone, "install", "--skip-inbound-ports", "25")[0] == 0
    assert saved(alone) != first
    assert redirect(alone, "install")[0] == 0
    assert saved(alone) == first


def test_rules_of_somebody_else_survive(alone: Host) -> None:
    """Install and remove touch our chains and jumps alone."""
    alone.must(["iptables-nft", "-t", "nat", "-A", "OUTPUT", "-d", "10.9.9.9", "-j", "RETURN"])
    before = saved(alone)
    assert redirect(alone, "install")[0] == 0
    assert "-A OUTPUT -d 10.9.9.9/32 -j RETURN" in saved(alone)
    assert redirect(alone, "remove")[0] == 0
    assert saved(alone) == before


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
    assert rules.count("-j PROXY_INIT_REDIRECT") == 1


def test_removal_leaves_nothing(alone: Host) -> None:
    """No chain, no rule; removing again is no fault."""
    assert redirect(alone, "install", "--proxy-gid", "2102")[0] == 0
    status, _, talk = redirect(alone, "remove")
    assert (status, talk) == (0, "9 capture rules removed\n")
    assert not [line for line in saved(alone).splitlines() if line.startswith("-A")]
    assert "PROXY_INIT" not in saved(alone)
    assert redirect(alone, "remove") == (0, "", "there were no capture rules\n")


def test_show_reports_what_is_installed(alone: Host) -> None:
    """First nothing, then every rule, for people and for programs."""
    assert json.loads(redirect(alone, "show", "-o", "json")[1])["installed"] is False
    assert redirect(alone, "install")[0] == 0
    document = json.loads(redirect(alone, "show", "-o", "json")[1])
    assert document["installed"] is True
    assert len(document["rules"]) == 8
    table = redirect(alone, "show")[1]
    assert "inbound   PREROUTING → PROXY_INIT_REDIRECT" in table
    assert "REDIRECT --to-ports 4140" in table


def test_a_dry_run_changes_nothing(alone: Host) -> None:
    """The text is the input of the named command: fed to it, it makes the same rules."""
    status, text, _ = redirect(alone, "install", "--dry-run")
    assert status == 0
    assert "-A" not in saved(alone)
    alone.must(["iptables-nft-restore", "--noflush"], given=text)
    by_hand = saved(alone)
    assert redirect(alone, "install")[0] == 0
    assert saved(alone) == by_hand


def test_without_rights_the_message_says_which_are_missing(alone: Host) -> None:
    """Exit 2, naming the user and the capability, and nothing changed."""
    limited = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"]
    done = alone.run([*limited, *PILLION, "redirect", "install"], env=ENVIRONMENT)
    assert done.returncode == 2
    assert "this process is uid 0 without the capability NET_ADMIN" in done.stderr
    assert "give the container the capabilities NET_ADMIN and NET_RAW" in done.stderr


def test_without_iptables_the_package_is_named(alone: Host) -> None:
    """Exit 2, naming the program and what to install; seen with every program hidden."""
    hide = 'mount -t tmpfs none /usr/sbin && cd / && exec "$@"'
    hidden = ["unshare", "--mount", "--", "sh", "-c", hide, "sh"]
    done = alone.run([*hidden, *PILLION, "redirect", "install"], env=ENVIRONMENT)
    assert done.returncode == 2
    assert "iptables-nft-save was not found" in done.stderr
    assert "apt-get install iptables" in done.stderr
