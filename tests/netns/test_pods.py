"""The rig itself: pods reach what they should and nothing else, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from cli.demo.host import APP_UID
from cli.demo.pods import Pod, Rig
from core.errors import ConfigError
from tests.support.processes import processes_marked, wait_until
from tests.support.sockets import ENVIRONMENT, listener_in, socket_in

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter"),
    pytest.mark.slow,
]


def reach(client: Pod, address: str, port: int, server: Pod, target: int) -> str:
    """Connect to ``address`` from ``client``; return whom ``server`` sees."""
    with listener_in(server.host, "0.0.0.0", target) as listener, socket_in(client.host) as near:
        near.connect((address, port))
        far, (peer, _) = listener.accept()
        far.close()
    return str(peer)


def names(mark: str) -> list[str]:
    """Return what the processes of a mark are called, which changes until they run."""
    paths = (Path(f"/proc/{pid}/comm") for pid in processes_marked(mark))
    return [path.read_text().strip() for path in paths if path.exists()]


def test_pods_of_a_cluster_reach_each_other_and_services() -> None:
    """Pod addresses, a Service of two endpoints in turn, and a pod's own Service."""
    with Rig() as rig:
        cluster = rig.cluster("a")
        one, other = cluster.pod("one"), cluster.pod("other")
        assert cluster.pod("one") is one
        assert reach(one, other.ip, 8080, other, 8080) == one.ip
        cluster.service("10.96.0.10", 80, [(other.ip, 8080)])
        assert reach(one, "10.96.0.10", 80, other, 8080) == one.ip
        cluster.service("10.96.0.11", 80, [(one.ip, 8080)])
        assert reach(one, "10.96.0.11", 80, one, 8080) == cluster.gateway
        cluster.service("10.96.0.12", 80, [(one.ip, 8080), (other.ip, 8081)])
        with (
            listener_in(one.host, "0.0.0.0", 8080) as first,
            listener_in(other.host, "0.0.0.0", 8081) as second,
            socket_in(one.host) as near,
            socket_in(one.host) as again,
        ):
            near.connect(("10.96.0.12", 80))
            again.connect(("10.96.0.12", 80))
            for listener in (first, second):
                listener.accept()[0].close()


def test_flat_clusters_reach_each_others_pods() -> None:
    """With routes between the nodes a pod is dialled by its own address."""
    with Rig() as rig:
        east, west = rig.cluster("east"), rig.cluster("west", "10.12.0.0/24")
        one, far = east.pod("one"), west.pod("one")
        with pytest.raises(OSError, match="unreachable"):
            reach(one, far.ip, 8080, far, 8080)
        rig.join_flat(east, west)
        assert reach(one, far.ip, 8080, far, 8080) == one.ip
        assert reach(far, one.ip, 8080, one, 8080) == far.ip


def test_a_gateway_is_the_only_way_across() -> None:
    """The gateway hears the near cluster and dials the far cluster's pods; no pod dials a pod."""
    with Rig() as rig:
        east, west = rig.cluster("east"), rig.cluster("west", "10.12.0.0/24")
        one, far = east.pod("one"), west.pod("one")
        gateway, address = rig.join_by_gateway(east, west)
        with pytest.raises(OSError, match="unreachable"):
            reach(one, far.ip, 8080, far, 8080)
        with listener_in(gateway, address, 4143) as door, socket_in(one.host) as near:
            near.connect((address, 4143))
            door.accept()[0].close()
        with listener_in(far.host, far.ip, 8080) as app, socket_in(gateway) as onward:
            onward.connect((far.ip, 8080))
            app.accept()[0].close()


def test_apps_run_without_capabilities() -> None:
    """What is started under a uid has that uid and not one capability."""
    with Rig() as rig:
        script = "id -u; id -G; grep -E '^Cap(Prm|Eff|Bnd|Amb)' /proc/self/status"
        words = rig.host("h").run(["sh", "-c", script], uid=APP_UID).stdout.split()
        assert words[:2] == ["65534", "65534"]
        assert set(words[3::2]) == {"0000000000000000"}


def test_closing_ends_everything_that_was_started() -> None:
    """Programs that ignore SIGTERM, and children that left their group, end too."""
    mark = f"RIG_TEST={uuid.uuid4()}"
    env = dict([mark.split("=")])
    with Rig() as rig:
        host = rig.host("h")
        stubborn = "trap '' TERM; setsid sleep 60 & while :; do sleep 1; done"
        host.spawn(["bash", "-c", stubborn], env=env, uid=APP_UID)
        host.spawn(["sleep", "60"], env=env)
        wait_until(lambda: len(processes_marked(mark)) >= 3, seconds=10, what="programs start")
    assert processes_marked(mark) == []
    rig.close()


def test_a_killed_run_leaves_no_process() -> None:
    """Even kill -9 of the owner, which nobody can handle, takes its programs along."""
    mark = f"RIG_TEST={uuid.uuid4()}"
    script = (
        "import sys, time\n"
        "from cli.demo.pods import Rig\n"
        "rig = Rig()\n"
        f"rig.host('h').spawn(['sleep', '60'], env=dict([{mark!r}.split('=')]), uid=65534)\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, **ENVIRONMENT}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment
    ) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"up\n"
            wait_until(lambda: "sleep" in names(mark), seconds=10, what="program starts")
        finally:
            owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not processes_marked(mark), seconds=10, what="program is killed")


def test_a_command_that_fails_is_named() -> None:
    """A step of the set-up that cannot be made says where, what and why."""
    with Rig() as rig, pytest.raises(ConfigError, match=r"h: ip link set nowhere up: .*nowhere"):
        rig.host("h").must(["ip", "link", "set", "nowhere", "up"])
