"""Two clusters on a flat network: pods call pods of the other, and are known there by name.

Each cluster has an issuer and roots of its own; nothing between them but a Link and a route.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.demo.host import Host
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Pod, Rig
from cli.demo.runtime import Runtime, find_runtime
from redirect.options import PROXY_UID
from tests.netns.talk import ask, closed, echo, served
from tests.netns.three_clusters import OPEN_LOOP, WEB_PORT, end_of, start_server, stopped
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
from tests.support.sockets import connect_in

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

PORT = 9000
"""Not one that is declared opaque: bytes of a client that speaks first."""
GATEWAYS = ("gateway-0", "gateway-1")
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
    runtime: Runtime

    @property
    def gateways(self) -> list[Sidecar]:
        """The west's."""
        return [self.sidecars[f"west/{each}"] for each in GATEWAYS]


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
        start_server(runtime, west.pods["api-0"], "west")
        doors = [west.workload(each, GATEWAY_ACCOUNT) for each in GATEWAYS]
        for mesh, address in ((east, API_EAST), (west, API_EAST)):
            labels = {**DIRECT, **MEMBER}
            mesh.service("api", "api", [address], {PORT: PORT, 80: WEB_PORT}, labels)
        # Written down for their addresses alone: clients of this test have no DNS.
        east.service("api-west", "", [API_WEST], {PORT: PORT, 80: WEB_PORT})
        east.service("api-federated", "", [FEDERATED], {PORT: PORT})
        link_of(east, west, ",".join(each.ip for each in doors))
        callers = [identity("web", "east"), identity(GATEWAY_ACCOUNT, "west")]
        admit(west, "api", PORT, callers)
        west.trust(east)
        for mesh in (east, west):
            mesh.start_issuer()
            mesh.write()
        sidecars = {f"west/{each}": west.start_gateway(each) for each in GATEWAYS}
        for mesh, pods in ((east, ("web-0", "cron-0", "api-0")), (west, ("api-0",))):
            for pod in pods:
                mesh.capture(pod)
                sidecars[f"{mesh.cluster.name}/{pod}"] = mesh.start_sidecar(pod)
        for sidecar in sidecars.values():
            sidecar.await_ready()
        yield Scene(clusters[0].node, east, west, sidecars, runtime)


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
    """They stand there all along, and have carried nothing."""
    with answering(scene.west.pods["api-0"], PORT, b"heard "):
        for _ in range(20):
            said = ask(scene.east.pods["web-0"], API_WEST, PORT, b"some words")
            assert said == b"heard some words"
    assert carried(scene) == 0
    events = [each for gateway in scene.gateways for each in gateway.events()]
    assert not [each for each in events if each.get("direction") == "gateway"]


def test_the_other_label_changes_the_way_and_drops_nothing(scene: Scene) -> None:
    """To the gateway and back while connections and requests go on, none of which fails."""
    count, rate = 15_000, 150
    script = [sys.executable, str(OPEN_LOOP), API_WEST, "80", str(rate), str(count)]
    load = scene.east.pods["web-0"].host.spawn(script, output=subprocess.PIPE)
    web = scene.sidecars["east/web-0"]

    def call_until(path: str) -> None:
        calls = 0
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            said = ask(scene.east.pods["web-0"], API_WEST, PORT, str(calls).encode())
            assert said == b"heard %d" % calls
            calls += 1
            last = web.find(0, event="connection", path=("direct", "gateway"))
            if last is not None and last["path"] == path and calls > 10:
                return
        pytest.fail(f"no call went by {path}")

    with answering(scene.west.pods["api-0"], PORT, b"heard "), ExitStack() as stack:
        lasting = []
        for labels, path in ((BY_GATEWAY, "gateway"), (DIRECT, "direct")):
            near = connect_in(scene.east.pods["web-0"].host, API_WEST, PORT, wait_s=30)
            lasting.append(stack.enter_context(near))
            near.sendall(b"all along")
            scene.west.label("api", **labels, **MEMBER)
            scene.west.write()
            call_until(path)
        for near in lasting:
            near.shutdown(socket.SHUT_WR)
            assert near.recv(64) == b"heard all along"
        told = stopped(load)
        assert set(told["outcomes"]) == {"200"}, told
        http = {"event": "connection", "target": "api.shop.svc.cluster.local:80"}
        assert any(each.find(0, **http) for each in scene.gateways)
        before = carried(scene)
        assert before > 0
        for _ in range(10):
            ask(scene.east.pods["web-0"], API_WEST, PORT, b"more" * 1_000)
        # A connection that is kept for a while is pinged, and carries nothing else.
        assert carried(scene) - before < 1_000


def test_one_gateway_of_two_dies(scene: Scene) -> None:
    """No request fails: it is made again by way of the other."""
    scene.west.label("api", **BY_GATEWAY, **MEMBER)
    scene.west.write()
    web, count, rate = scene.east.pods["web-0"], 600, 200
    before = carried(scene)

    def is_carried() -> bool:
        status_of_one(web)
        return carried(scene) > before

    wait_until(is_carried, seconds=20, what="requests go through a gateway")
    script = [sys.executable, str(OPEN_LOOP), API_WEST, "80", str(rate), str(count)]
    load = web.host.spawn(script, output=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        load.wait(1)
    busy = max(GATEWAYS, key=lambda each: bytes_carried(scene.sidecars[f"west/{each}"]))
    scene.sidecars[f"west/{busy}"].program.kill()
    told = end_of(load)
    again = scene.sidecars[f"west/{busy}"] = scene.west.start_gateway(busy)
    scene.west.label("api", **DIRECT, **MEMBER)
    scene.west.write()
    again.await_ready()
    assert told["outcomes"] == {"200": count}, told


def status_of_one(pod: Pod) -> bytes:
    """Ask once, on a connection for that alone."""
    with connect_in(pod.host, API_WEST, 80) as near:
        return status_of(near)


def carried(scene: Scene) -> int:
    """Return how many bytes the gateways have had from their clients."""
    return sum(bytes_carried(each) for each in scene.gateways)


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


def remove(folder: Path) -> None:
    """Take a directory away with all that is in it, at one stroke."""
    folder.rename(folder.with_name("gone"))


def corrupt(folder: Path) -> None:
    """Fill every file with what is no manifest."""
    for each in folder.iterdir():
        each.write_bytes(b"\0\xff: [")


def close_folder(folder: Path) -> None:
    """Let nobody but root in."""
    folder.chmod(0o700)


def close_contents(folder: Path) -> None:
    """Let others see names, and nothing of what is behind them."""
    folder.chmod(0o744)


def close_files(folder: Path) -> None:
    """Let nobody but root read what is in it."""
    for each in folder.iterdir():
        each.chmod(0o600)


def fail_to_read(folder: Path) -> None:
    """Let what matters most fail as on a disk that breaks: nobody's memory begins at 0, EIO."""
    draft = folder / ".draft"
    draft.symlink_to("/proc/self/mem")
    draft.rename(folder / "services.yaml")


@pytest.mark.parametrize(
    "harm", [remove, corrupt, close_folder, close_contents, close_files, fail_to_read]
)
def test_the_remote_directory_breaks(scene: Scene, harm: Callable[[Path], None]) -> None:
    """Traffic goes on with what is known, log and ``check`` say so, and we stay ready."""
    folder = scene.west.directory
    whole = folder.with_name("whole")
    shutil.copytree(folder, whole)
    sidecar = scene.sidecars["east/web-0"]
    before = len(sidecar.events())

    def reported() -> bool:
        events = sidecar.events()[before:]
        return any(str(folder) in str(each.get("problems")) for each in events)

    try:
        harm(folder)
        wait_until(reported, seconds=30, what="the loss is reported")
        if harm is not corrupt:
            assert "stays in force" in str(sidecar.events()[before:])
        with served(scene.west.pods["api-0"], PORT, echo):
            assert ask(scene.east.pods["web-0"], API_WEST, PORT, b"me") == b"you said: me"
        sidecar.await_ready()
        words = ("multicluster", "check", "--mesh", str(scene.east.directory))
        checked = sidecar.pod.host.run(
            scene.runtime.pillion(*words), uid=PROXY_UID, env=scene.runtime.environment
        )
        assert checked.returncode == 1
        assert str(folder) in checked.stdout
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder.with_name("gone"), ignore_errors=True)
        whole.rename(folder)
    last = next(each for each in reversed(sidecar.events()) if "problems" in each)

    def is_over() -> bool:
        events = [each for each in sidecar.events() if "problems" in each]
        return events[-1] is not last and str(folder) not in str(events[-1]["problems"])

    wait_until(is_over, seconds=30, what="it is whole again")


def test_an_export_that_is_taken_back(scene: Scene) -> None:
    """Nothing new comes through; what is open is between the two pods, and ends by itself."""
    web = scene.east.pods["web-0"]
    with answering(scene.west.pods["api-0"], PORT, b"heard "):
        # A gateway cuts what is open, and the label of the test before may not be known yet.
        wait_until(lambda: goes_directly(scene), seconds=20, what="it is there, and direct")
        try:
            with (
                connect_in(web.host, API_WEST, PORT, wait_s=30) as near,
                connect_in(web.host, API_WEST, 80, wait_s=30) as requests,
            ):
                near.sendall(b"before")
                assert status_of(requests) == b"200"
                scene.west.label("api")
                scene.west.write()
                wait_until(lambda: not said(web, API_WEST), seconds=20, what="it is gone")
                near.sendall(b" and after")
                near.shutdown(socket.SHUT_WR)
                assert near.recv(64) == b"heard before and after"
                assert status_of(requests) == b"503"
        finally:
            scene.west.label("api", **DIRECT, **MEMBER)
            scene.west.write()
        wait_until(lambda: said(web, API_WEST) == b"heard far", seconds=20, what="it is back")


def goes_directly(scene: Scene) -> bool:
    """Ask the other cluster's API; tell whether it answered, and without a gateway on the way."""
    if said(scene.east.pods["web-0"], API_WEST) != b"heard far":
        return False
    target = f"{API_WEST}:{PORT}"
    last = scene.sidecars["east/web-0"].find(10, event="connection", target=target)
    return last is not None and last["path"] == "direct"


def status_of(near: socket.socket) -> bytes:
    """Ask once on a connection that is kept; return the status."""
    near.sendall(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
    return near.recv(65_536)[9:12]


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
