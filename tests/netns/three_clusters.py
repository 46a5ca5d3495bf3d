"""Three clusters in a full mesh, on a flat network or behind gateways, captured for real.

``web`` in the east calls ``api``, which the west and the south have, and ``own``, which is its
neighbour; ``api`` of either calls ``own`` of the east and ``api`` of the other.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cli.demo.host import APP_UID, Host
from cli.demo.mesh import Event, Mesh, Sidecar
from cli.demo.pods import Cluster, Pod, Rig
from cli.demo.runtime import Runtime, find_runtime
from redirect.options import PROXY_UID
from tests.netns.polyglot import PORTS
from tests.support.clusters import (
    BY_GATEWAY,
    DIRECT,
    GATEWAY_ACCOUNT,
    MEMBER,
    link_of,
    mesh_of,
)
from tests.support.processes import wait_until
from tests.support.sockets import connect_in

ROOT: Final = Path(__file__).parents[2]
OPEN_LOOP: Final = ROOT / "tests" / "support" / "open_loop.py"
NETWORKS: Final = {"east": "10.11.0.0/24", "west": "10.12.0.0/24", "south": "10.13.0.0/24"}
WEB_PORT: Final = 8080
OWN: Final = "10.97.0.40"
API: Final = "10.97.0.20"
FEDERATED: Final = "10.97.0.30"
ADDRESSES: Final = {"east": "10.97.1.1", "west": "10.97.1.2", "south": "10.97.1.3"}
"""Cluster → the address of its Service in the others."""
EXPORTED: Final = {"east": "own", "west": "api", "south": "api"}
"""Cluster → the Service that it exports."""
CALLERS: Final = {"east": "web-0", "west": "api-0", "south": "api-0"}
"""Cluster → the pod that calls the others."""
IS_FLAT: Final = "flat"
HAS_GATEWAYS: Final = "gateways"


@dataclass
class Scene:
    """Three clusters, their sidecars by pod, and the servers that say in which cluster they are."""

    network: str
    meshes: dict[str, Mesh]
    nodes: dict[str, Host]
    runtime: Runtime
    sidecars: dict[str, Sidecar] = field(default_factory=dict)
    servers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def python(self) -> tuple[str, ...]:
        """What runs our own programs."""
        return (sys.executable,)

    @property
    def path(self) -> str:
        """How clusters are reached."""
        return "direct" if self.network == IS_FLAT else "gateway"

    @property
    def label(self) -> dict[str, str]:
        """What exports a Service that way."""
        return DIRECT if self.network == IS_FLAT else BY_GATEWAY

    def pod(self, cluster: str) -> Pod:
        """Return the pod that calls other clusters."""
        return self.meshes[cluster].pods[CALLERS[cluster]]

    def server(self, cluster: str) -> str:
        """Return the name of the pod behind a cluster's Service."""
        return f"{EXPORTED[cluster]}-0"

    def gateway(self, cluster: str) -> Sidecar:
        """Return a cluster's gateway."""
        return self.sidecars[f"{cluster}/gateway-0"]

    def load(
        self, address: str, count: int, rate: float, source: str = "east"
    ) -> subprocess.Popen[bytes]:
        """Begin to ask at a steady pace, whatever becomes of those before."""
        script = [sys.executable, str(OPEN_LOOP), address, "80", str(rate), str(count)]
        return self.pod(source).host.spawn(script, output=subprocess.PIPE)

    def run(self, source: str, *words: str) -> str:
        """Run a program beside a caller; return what it said."""
        done = self.pod(source).host.run(words, env={"PYTHONPATH": str(ROOT)}, timeout_s=40)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start_server(self, cluster: str) -> None:
        """Start the web server behind a cluster's Service, which says where it is."""
        pod = self.meshes[cluster].pods[self.server(cluster)]
        self.servers[cluster] = start_server(self.runtime, pod, cluster)

    def start(self, cluster: str, pod: str) -> None:
        """Start a pod's sidecar, or a gateway."""
        mesh = self.meshes[cluster]
        start = mesh.start_gateway if pod == "gateway-0" else mesh.start_sidecar
        self.sidecars[f"{cluster}/{pod}"] = start(pod)

    def kill(self, cluster: str, *, meanwhile: Callable[[], None] = lambda: None) -> list[str]:
        """Kill all that runs in a cluster, its gateway after ``meanwhile``; return the pods."""
        pods = [each for each in self.meshes[cluster].pods if f"{cluster}/{each}" in self.sidecars]
        self.servers[cluster].kill()
        for pod in sorted(pods):
            if pod == "gateway-0":
                meanwhile()
            self.sidecars[f"{cluster}/{pod}"].program.kill()
        return pods

    def troubles(self) -> list[Event]:
        """Return what the eastern caller's sidecar said last, besides of connections."""
        events = self.sidecars["east/web-0"].events()
        return [each for each in events if each.get("event") != "connection"][-40:]

    def packets_to_gateway(self, cluster: str) -> int:
        """Return what the kernel has counted of packets to a gateway's door, on a flat network."""
        said = self.nodes[cluster].must(["iptables-nft", "-nvxL", "FORWARD"])
        found = re.search(r"^\s*(\d+)\s.*dpt:4143", said, re.MULTILINE)
        assert found is not None, said
        return int(found.group(1))


def start_server(runtime: Runtime, pod: Pod, words: str) -> subprocess.Popen[bytes]:
    """Start a web server in ``pod`` that answers every GET with ``words``."""
    command = [runtime.interpreter, "-m", "cli.demo.web", "0.0.0.0", str(WEB_PORT), words]
    program = pod.host.spawn(command, uid=APP_UID, env=runtime.environment)
    await_listener(pod, WEB_PORT)
    return program


def start_polyglot(pod: Pod) -> None:
    """Start a server of every protocol in ``pod``, to be awaited."""
    words = [sys.executable, "-m", "tests.netns.polyglot", "serve"]
    pod.host.spawn(words, env={"PYTHONPATH": str(ROOT)})


def await_polyglot(pod: Pod) -> None:
    """Wait until it can be called."""
    for port in PORTS.values():
        await_listener(pod, port)


def await_listener(pod: Pod, port: int) -> None:
    """Wait until a program in ``pod`` listens."""

    def listens() -> bool:
        try:
            connect_in(pod.host, "127.0.0.1", port).close()
        except ConnectionError:
            return False
        return True

    wait_until(listens, seconds=15, what=f"port {port} is open")


def stopped(load: subprocess.Popen[bytes]) -> dict[str, Any]:
    """End a load now, which has to be still going on; return what came of it."""
    assert load.poll() is None
    load.terminate()
    return end_of(load)


def end_of(load: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Return what came of a load."""
    said, _ = load.communicate(timeout=180)
    found: dict[str, Any] = json.loads(said)
    return found


@contextmanager
def three_clusters(network: str) -> Iterator[Scene]:
    """Run all of it, each cluster linked to both others and with roots of its own."""
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        runtime = find_runtime(PROXY_UID, place)
        clusters = {each: rig.cluster(each, pods) for each, pods in NETWORKS.items()}
        meshes = {each: mesh_of(rig, cluster, runtime, place) for each, cluster in clusters.items()}
        nodes = {each: cluster.node for each, cluster in clusters.items()}
        scene = Scene(network, meshes, nodes, runtime)
        _write(scene, _join(rig, network, clusters))
        for cluster, mesh in meshes.items():
            scene.start_server(cluster)
            for pod in mesh.pods:
                if pod != "gateway-0":
                    mesh.capture(pod)
                # On a flat network one that has nothing to carry is enough.
                if pod != "gateway-0" or network == HAS_GATEWAYS or cluster == "west":
                    scene.start(cluster, pod)
        start_polyglot(meshes["west"].pods["api-0"])
        if network == IS_FLAT:
            door = meshes["west"].pods["gateway-0"].ip
            count = f"iptables-nft -w 5 -I FORWARD -d {door} -p tcp --dport 4143"
            nodes["west"].must(count.split())
        for sidecar in scene.sidecars.values():
            sidecar.await_ready()
        await_polyglot(meshes["west"].pods["api-0"])
        yield scene


def _join(rig: Rig, network: str, clusters: dict[str, Cluster]) -> dict[str, Pod | None]:
    """Join every cluster to every other; return where gateways are that are no ordinary pods."""
    doors: dict[str, Pod | None] = dict.fromkeys(clusters)
    for near, one in clusters.items():
        for far, other in clusters.items():
            if network == HAS_GATEWAYS and near != far:
                host, address = rig.join_by_gateway(one, other)
                doors[far] = Pod(host, (address,))
            elif near < far:
                rig.join_flat(one, other)
    return doors


def _write(scene: Scene, doors: dict[str, Pod | None]) -> None:
    """Write every cluster's manifests and start its issuer."""
    gateways = {}
    entry = {"config.linkerd.io/default-inbound-policy": "all-authenticated"}
    for cluster, mesh in scene.meshes.items():
        pods = {CALLERS[cluster], scene.server(cluster)}
        for pod in sorted(pods):
            mesh.workload(pod, pod.removesuffix("-0"))
        gateways[cluster] = mesh.workload(
            "gateway-0", GATEWAY_ACCOUNT, annotations=entry, pod=doors[cluster]
        )
        ports = {80: WEB_PORT, **{port: port for port in PORTS.values()}}
        service = EXPORTED[cluster]
        labels = {**scene.label, **(MEMBER if service == "api" else {})}
        address = API if service == "api" else OWN
        mesh.service(service, service, [address], ports, labels)
        # Written down for their addresses alone: clients of these tests have no DNS.
        for far in scene.meshes:
            if far != cluster:
                mesh.service(f"{EXPORTED[far]}-{far}", "", [ADDRESSES[far]], ports)
        mesh.service("api-federated", "", [FEDERATED], ports)
    federated = "gateway" if scene.path == "gateway" else "direct"
    for mesh in scene.meshes.values():
        for other in scene.meshes.values():
            if other is not mesh:
                link_of(mesh, other, gateways[other.cluster.name].ip, federated=federated)
        mesh.start_issuer()
        mesh.write()
