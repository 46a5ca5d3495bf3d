"""Three clusters in a full mesh: one dies, or is cut off, and the others do not notice.

``web`` in the east calls ``api``, which the west and the south have, and ``own``, which is its
neighbour. GETs come at a steady pace whatever becomes of those before (an open loop).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.demo.host import APP_UID, Host
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Pod, Rig
from cli.demo.runtime import Runtime, find_runtime
from redirect.options import PROXY_UID
from tests.support.clusters import MEMBER, identity, link_of, mesh_of
from tests.support.processes import wait_until
from tests.support.sockets import connect_in

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

PORT = 8080
SCRIPT = Path(__file__).parents[1] / "support" / "open_loop.py"
API = "10.97.0.20"
FEDERATED = "10.97.0.30"
OWN = "10.97.0.40"
RATE = 500
COUNT = 20_000


@dataclass
class Scene:
    """Three clusters, their sidecars and apps by pod, and the eastern node."""

    meshes: dict[str, Mesh]
    sidecars: dict[str, Sidecar]
    apps: dict[str, subprocess.Popen[bytes]]
    node: Host
    runtime: Runtime

    @property
    def web(self) -> Host:
        """The client's host."""
        return self.meshes["east"].pods["web-0"].host

    def load(self, address: str, count: int = COUNT) -> subprocess.Popen[bytes]:
        """Begin to ask from the east."""
        script = [sys.executable, str(SCRIPT), address, "80", str(RATE), str(count)]
        return self.web.spawn(script, output=subprocess.PIPE)

    def start_app(self, cluster: str, pod: Pod) -> None:
        """Start the HTTP server of a pod, which says where it is."""
        words = ["-m", "cli.demo.web", "0.0.0.0", str(PORT), cluster]
        self.apps[cluster] = pod.host.spawn(
            [self.runtime.interpreter, *words], uid=APP_UID, env=self.runtime.environment
        )

        def listens() -> bool:
            try:
                connect_in(pod.host, "127.0.0.1", PORT).close()
            except ConnectionError:
                return False
            return True

        wait_until(listens, seconds=15, what="the app listens")


def end_of(load: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Return what came of a load."""
    said, _ = load.communicate(timeout=180)
    found: dict[str, Any] = json.loads(said)
    return found


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """All three, each linked to both others."""
    names = {"east": "10.11.0.0/24", "west": "10.12.0.0/24", "south": "10.13.0.0/24"}
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        runtime = find_runtime(PROXY_UID, place)
        clusters = {each: rig.cluster(each, pods) for each, pods in names.items()}
        for one, other in (("east", "west"), ("east", "south"), ("west", "south")):
            rig.join_flat(clusters[one], clusters[other])
        meshes = {each: mesh_of(rig, cluster, runtime, place) for each, cluster in clusters.items()}
        meshes["east"].workload("web-0", "web")
        meshes["east"].workload("own-0", "own")
        meshes["east"].service("own", "own", [OWN], {80: PORT})
        # Written down for its address alone: clients of this test have no DNS.
        meshes["east"].service("api-federated", "", [FEDERATED], {80: PORT})
        for each in ("west", "south"):
            meshes[each].workload("api-0", "api")
            meshes[each].service("api", "api", [API], {80: PORT}, MEMBER)
        for mesh in meshes.values():
            for far in meshes.values():
                if far is not mesh:
                    link_of(mesh, far)
        sidecars: dict[str, Sidecar] = {}
        for mesh in meshes.values():
            mesh.start_issuer()
            mesh.write()
        scene = Scene(meshes, sidecars, {}, clusters["east"].node, runtime)
        pods = (("east", "own-0"), ("west", "api-0"), ("south", "api-0"), ("east", "web-0"))
        for cluster, pod in pods:
            if pod != "web-0":
                scene.start_app(cluster, meshes[cluster].pods[pod])
            meshes[cluster].capture(pod)
            sidecars[f"{cluster}/{pod}"] = meshes[cluster].start_sidecar(pod)
        for sidecar in sidecars.values():
            sidecar.await_ready()
        yield scene


def test_a_cluster_dies(scene: Scene) -> None:
    """Everything in the west is killed: no GET fails, near or federated, and it comes back."""
    near, federated = scene.load(OWN), scene.load(FEDERATED)
    west = scene.meshes["west"]
    with pytest.raises(subprocess.TimeoutExpired):
        federated.wait(COUNT / RATE / 4)
    scene.sidecars["west/api-0"].program.kill()
    scene.apps["west"].kill()
    with pytest.raises(subprocess.TimeoutExpired):
        federated.wait(COUNT / RATE / 4)
    scene.start_app("west", west.pods["api-0"])
    scene.sidecars["west/api-0"] = west.start_sidecar("api-0")
    told = end_of(federated)
    assert told["outcomes"] == {"200": COUNT}, told
    assert set(told["answers"]) == {"west", "south"}
    assert end_of(near)["outcomes"] == {"200": COUNT}
    scene.sidecars["west/api-0"].await_ready()
    # It serves again, and knows who calls.
    again = end_of(scene.load(FEDERATED, 2 * RATE))
    assert set(again["answers"]) == {"west", "south"}, again
    seen = scene.sidecars["west/api-0"].find(10, event="connection", direction="inbound")
    assert seen is not None
    assert seen["client_identity"] == identity("web", "east")


def test_a_cluster_is_cut_off(scene: Scene) -> None:
    """The cable to the west swallows all packets, then does not: what can be asked again, is."""
    count = COUNT // 2
    near, federated = scene.load(OWN, count), scene.load(FEDERATED, count)
    with pytest.raises(subprocess.TimeoutExpired):
        federated.wait(count / RATE / 4)
    drop = ["iptables-nft", "-w", "5", "{}", "FORWARD", "-s", "10.12.0.0/24", "-j", "DROP"]
    scene.node.must([each.format("-I") for each in drop])
    with pytest.raises(subprocess.TimeoutExpired):
        federated.wait(count / RATE / 4)
    scene.node.must([each.format("-D") for each in drop])
    told = end_of(federated)
    assert told["outcomes"] == {"200": count}, told
    assert end_of(near)["outcomes"] == {"200": count}

    def is_back() -> bool:
        return set(end_of(scene.load(FEDERATED, RATE))["answers"]) == {"west", "south"}

    wait_until(is_back, seconds=90, what="the west serves again")
