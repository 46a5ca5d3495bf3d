"""Two clusters on a flat network: pods call pods of the other, and are known there by name.

Each cluster has an issuer and roots of its own; nothing between them but a Link and a route.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.demo.host import Host
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Pod, Rig
from cli.demo.runtime import find_runtime
from redirect.options import PROXY_UID
from tests.netns.talk import ask, closed, echo, served
from tests.support.clusters import (
    BY_GATEWAY,
    DIRECT,
    GATEWAY_ACCOUNT,
    MEMBER,
    admit,
    answering,
    bytes_carried,
    identity,
    link_of,
    mesh_of,
)
from tests.support.processes import wait_until

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

PORT = 9000
"""Not one that is declared opaque: bytes of a client that speaks first."""
API_EAST = "10.97.0.20"
API_WEST = "10.97.0.21"
FEDERATED = "10.97.0.22"


@dataclass(frozen=True)
class Scene:
    """Both clusters and their sidecars, by pod."""

    node: Host
    """The east's."""
    east: Mesh
    west: Mesh
    sidecars: dict[str, Sidecar]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Two linked clusters; the eastern manifests give names of the west addresses to dial."""
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        runtime = find_runtime(PROXY_UID, place)
        clusters = rig.cluster("east"), rig.cluster("west", "10.12.0.0/24")
        rig.join_flat(*clusters)
        east, west = (mesh_of(rig, each, runtime, place) for each in clusters)
        for pod, account in (("web-0", "web"), ("cron-0", "cron"), ("api-0", "api")):
            east.workload(pod, account)
        west.workload("api-0", "api")
        door = west.workload("gateway-0", GATEWAY_ACCOUNT)
        for mesh, address in ((east, API_EAST), (west, API_EAST)):
            labels = {**DIRECT, **MEMBER}
            mesh.service("api", "api", [address], {PORT: PORT}, labels)
        # Written down for their addresses alone: clients of this test have no DNS.
        east.service("api-west", "", [API_WEST], {PORT: PORT})
        east.service("api-federated", "", [FEDERATED], {PORT: PORT})
        link_of(east, west, door.ip)
        callers = [identity("web", "east"), identity(GATEWAY_ACCOUNT, "west")]
        admit(west, "api", PORT, callers)
        west.trust(east)
        for mesh in (east, west):
            mesh.start_issuer()
            mesh.write()
        sidecars = {"west/gateway-0": west.start_gateway("gateway-0")}
        for mesh, pods in ((east, ("web-0", "cron-0", "api-0")), (west, ("api-0",))):
            for pod in pods:
                mesh.capture(pod)
                sidecars[f"{mesh.cluster.name}/{pod}"] = mesh.start_sidecar(pod)
        for sidecar in sidecars.values():
            sidecar.await_ready()
        yield Scene(clusters[0].node, east, west, sidecars)


def test_the_far_sidecar_knows_the_caller(scene: Scene) -> None:
    """Mutual TLS from pod to pod, whose roots are two clusters'; both ends say how it went."""
    far = scene.west.pods["api-0"]
    with served(far, PORT, echo):
        assert ask(scene.east.pods["web-0"], API_WEST, PORT, b"hello") == b"you said: hello"
    seen = scene.sidecars["west/api-0"].find(
        10, event="connection", direction="inbound", target=f"{far.ip}:{PORT}"
    )
    assert seen is not None
    assert (seen["client_identity"], seen["tls"]) == (identity("web", "east"), "mesh")
    assert seen["client_ip"] == scene.east.pods["web-0"].ip
    told = scene.sidecars["east/web-0"].find(10, event="connection", direction="outbound")
    assert told is not None
    assert (told["path"], told["server_identity"]) == ("direct", identity("api", "west"))
    assert told["endpoint"] == f"{far.ip}:{PORT}"


def test_a_policy_tells_callers_of_one_cluster_apart(scene: Scene) -> None:
    """One service account of the other cluster is admitted, its neighbour is not."""
    with served(scene.west.pods["api-0"], PORT, echo):
        assert closed(scene.east.pods["cron-0"], API_WEST, PORT) < 10
        seen = scene.sidecars["west/api-0"].find(
            10, event="connection denied", client_identity=identity("cron", "east")
        )
        assert seen is not None
        # The one connection that is served is the one that was admitted.
        assert ask(scene.east.pods["web-0"], API_WEST, PORT, b"me") == b"you said: me"


def test_no_byte_passes_the_gateway(scene: Scene) -> None:
    """It stands there all along, and has carried nothing."""
    gateway = scene.sidecars["west/gateway-0"]
    with answering(scene.west.pods["api-0"], PORT, b"heard "):
        for _ in range(20):
            said = ask(scene.east.pods["web-0"], API_WEST, PORT, b"some words")
            assert said == b"heard some words"
    assert bytes_carried(gateway) == 0
    assert not [each for each in gateway.events() if each.get("direction") == "gateway"]


def test_the_other_label_changes_the_way_and_drops_nothing(scene: Scene) -> None:
    """To the gateway and back while calls go on, none of which fails."""
    web, gateway = scene.sidecars["east/web-0"], scene.sidecars["west/gateway-0"]

    def call_until(path: str) -> None:
        calls = 0
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            said = ask(scene.east.pods["web-0"], API_WEST, PORT, str(calls).encode())
            assert said == b"heard %d" % calls
            calls += 1
            last = web.find(0, event="connection", direction="outbound")
            if last is not None and last["path"] == path and calls > 10:
                return
        pytest.fail(f"no call went by {path}")

    with answering(scene.west.pods["api-0"], PORT, b"heard "):
        for labels, path in ((BY_GATEWAY, "gateway"), (DIRECT, "direct")):
            scene.west.label("api", **labels, **MEMBER)
            scene.west.write()
            call_until(path)
        before = bytes_carried(gateway)
        assert before > 0
        for _ in range(10):
            ask(scene.east.pods["web-0"], API_WEST, PORT, b"more")
        assert bytes_carried(gateway) == before


def test_federated_is_near_while_near_is_there(scene: Scene) -> None:
    """Our own pod first; when its sidecar ends the other cluster serves, and back again."""
    near, far = scene.east.pods["api-0"], scene.west.pods["api-0"]
    web = scene.east.pods["web-0"]
    with served(near, PORT, lambda each: each.sendall(b"near")):
        assert ask(web, FEDERATED, PORT, b"") == b"near"
    sidecar = scene.sidecars["east/api-0"].program
    sidecar.terminate()
    sidecar.wait(20)
    with served(far, PORT, lambda each: each.sendall(b"far")):
        assert ask(web, FEDERATED, PORT, b"") == b"far"
    again = scene.sidecars["east/api-0"] = scene.east.start_sidecar("api-0")
    again.await_ready()
    with served(near, PORT, lambda each: each.sendall(b"near")):
        assert ask(web, FEDERATED, PORT, b"") == b"near"


def test_the_remote_directory_may_vanish(scene: Scene) -> None:
    """Traffic goes on with what is known, the log says so, and we stay ready."""
    gone = scene.west.directory.with_name("gone")
    shutil.copytree(scene.west.directory, gone)
    sidecar = scene.sidecars["east/web-0"]
    before = len(sidecar.events())
    for each in scene.west.directory.iterdir():
        each.unlink()
    scene.west.directory.rmdir()

    def reported() -> bool:
        events = sidecar.events()[before:]
        return any("stays in force" in str(each.get("problems")) for each in events)

    try:
        wait_until(reported, seconds=30, what="the loss is reported")
        with served(scene.west.pods["api-0"], PORT, echo):
            assert ask(scene.east.pods["web-0"], API_WEST, PORT, b"me") == b"you said: me"
        sidecar.await_ready()
    finally:
        gone.rename(scene.west.directory)


def test_partition_and_heal(scene: Scene) -> None:
    """Ten times cut and joined: traffic within goes on, and afterwards across as before."""
    web, near = scene.east.pods["web-0"], scene.east.pods["api-0"]
    for _ in range(10):
        scene.node.must(["ip", "link", "set", "c0", "down"])
        assert closed(web, API_WEST, PORT) < 20
        with served(near, PORT, echo):
            assert ask(web, API_EAST, PORT, b"near") == b"you said: near"
        with served(near, PORT, echo):
            assert ask(web, FEDERATED, PORT, b"fed") == b"you said: fed"
        scene.node.must(["ip", "link", "set", "c0", "up"])
        scene.node.must(
            ["ip", "route", "replace", "10.12.0.0/24", "dev", "c0", "via", "10.200.0.2"]
        )
        with answering(scene.west.pods["api-0"], PORT, b"heard "):
            wait_until(lambda: said(web, API_WEST) == b"heard far", seconds=20, what="it heals")


def said(pod: Pod, address: str) -> bytes:
    """Return what is answered; nothing where the way is not there yet."""
    try:
        return ask(pod, address, PORT, b"far")
    except OSError:
        return b""
