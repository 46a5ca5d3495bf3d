"""Two clusters on a flat network with a gateway, and cables between them that take their time.

Pods are network namespaces. The client's sidecar and the gateway run on the hops' core; the
applications with their sidecars, the load tool and the cables on the load's. A pod without a
sidecar in each cluster tells what the network takes by itself.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, final

from bench.loadtool import SLACK_S, Lines, PacedRequests, compile_tool, run_tool
from bench.measure import Disturbance, disturbance
from bench.place import Cores, pin_to
from bench.process import Processes, core_time, family_cpu_ns
from bench.ways import BARE, DIRECT, GATEWAY, LOCAL, NO_DELAY, Carried, Sample, Settings
from cli.demo.host import APP_UID, Host
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Pod, Rig
from cli.demo.runtime import Runtime
from core.errors import UnreachableError
from discovery.model import Address

PORT: Final = 8080
SETTLE_S: Final = 1.1
"""Between a load and what the gateway counts: it brings its bytes up to date once a second."""
_API: Final = "10.97.0.20"
_GATED: Final = "10.97.0.21"
_NETWORKS: Final = {"east": "10.11.0.0/24", "west": "10.12.0.0/24"}
_OUTBOUND: Final = r'\{[^}]*direction="outbound"[^}]*\} (\d+)$'
_REQUESTS: Final = re.compile("^request_total" + _OUTBOUND, re.MULTILINE)
_BYTES: Final = re.compile("^tcp_(?:read|write)_bytes_total" + _OUTBOUND, re.MULTILINE)


@final
class Scene:
    """Two clusters; the east's ``web`` calls ``api``, which both of them have."""

    def __init__(
        self, rig: Rig, runtime: Runtime, place: Path, processes: Processes, cores: Cores
    ) -> None:
        """Make the network; ``place`` is a directory that every user may enter."""
        clusters = {name: rig.cluster(name, pods) for name, pods in _NETWORKS.items()}
        self._east_cluster, self._west_cluster = clusters["east"], clusters["west"]
        rig.join_flat(self._east_cluster, self._west_cluster)
        meshes = []
        for name, cluster in clusters.items():
            home = place / name
            home.mkdir(mode=0o755)
            meshes.append(Mesh(rig, cluster, runtime, home, f"{name}.example"))
        self._east, self._west = meshes
        self._processes: Final = processes
        self._cores: Final = cores
        self._sidecars: Final[dict[str, Sidecar]] = {}
        self._seen = Carried(0, 0, 0)
        self._targets: Final[dict[str, Address]] = {LOCAL: Address(_API, 80)}
        self._routes: Final[dict[float, tuple[str, str]]] = {NO_DELAY: self._routes_now()}

    def start(self, delays_ms: Sequence[float]) -> None:
        """Start everything, with a cable for each delay. Raises MeshError when something fails."""
        east, west = self._east, self._west
        web = east.workload("web-0", "web")
        for mesh in (east, west):
            mesh.workload("api-0", "api")
            mesh.service("api", "api", [_API], {80: PORT})
        west.service("gated", "api", [_GATED], {80: PORT})
        west.label("api", **{"mirror.linkerd.io/exported": "remote-discovery"})
        west.label("gated", **{"mirror.linkerd.io/exported": "true"})
        door = west.workload("gateway-0", "gateway")
        self._clients = {BARE: self._east_cluster.pod("bare").host, "": web.host}
        bare = self._west_cluster.pod("bare")
        for pod in (east.pods["api-0"], west.pods["api-0"], bare):
            self._start_app(pod)
        self._targets[BARE] = Address(bare.ip, PORT)
        self._start_meshes(door)
        said = east.pillion("multicluster", "check", "--mesh", str(east.directory), "-o", "json")
        found = {each["name"]: each["addresses"][0] for each in json.loads(said)["services"]}
        self._targets[DIRECT] = Address(found["api-west"], 80)
        self._targets[GATEWAY] = Address(found["gated-west"], 80)
        for delay in delays_ms:
            if delay != NO_DELAY:
                self._routes[delay] = self._start_cable(f"d{len(self._routes)}", delay)

    def delay(self, milliseconds: float) -> None:
        """Lead what goes between the clusters over the cable of this delay, of a round trip."""
        for cluster, route in zip(
            (self._east_cluster, self._west_cluster), self._routes[milliseconds], strict=True
        ):
            cluster.node.must(["ip", "route", "replace", *route.split()])

    def measure(self, way: str, settings: Settings) -> tuple[Sample, Disturbance]:
        """Ask by one way. Raises UnreachableError when nothing comes back."""
        load = PacedRequests(settings.connections, settings.rate)
        milliseconds = round(settings.warm_seconds * 1000), round(settings.seconds * 1000)
        words = [*load.tool(), *load.arguments(self._targets[way], *milliseconds)]
        client = self._clients.get(way, self._clients[""])
        before = self._used(), core_time(self._cores.hops)

        def at_window() -> None:
            nonlocal before
            before = self._used(), core_time(self._cores.hops)

        result = run_tool(
            *(self._processes, self._cores.load, client.command(words)),
            *(settings.warm_seconds, settings.seconds, at_window),
        )
        after = self._used(), core_time(self._cores.hops)
        carried = self._carried(way)
        used = {name: after[0][name] - before[0][name] for name in after[0]}
        sample = Sample(
            requests=result.operations,
            p50_ms=result.p50_us / 1000,
            p99_ms=result.p99_us / 1000,
            cpu_us={name: each / 1000 / result.operations for name, each in used.items()},
            carried=carried,
        )
        return sample, disturbance(before[1], after[1], used["client"] + used["gateway"])

    def _start_app(self, pod: Pod) -> None:
        words = [str(compile_tool("backend")), pod.ip, str(PORT)]
        name = pod.host.name.replace("/", "-")
        self._processes.start(name, pod.host.command(words, uid=APP_UID), self._cores.load)

    def _start_meshes(self, door: Pod) -> None:
        east, west = self._east, self._west
        for mesh in (east, west):
            mesh.write()
            mesh.start_issuer()
        who = "gateway.shop.serviceaccount.identity.linkerd.west.example"
        link = ("multicluster", "link", "--mesh", str(east.directory))
        options = ("--source", str(west.directory), "--gateway", door.ip)
        east.add("link.yaml", east.pillion(*link, *options, "--gateway-identity", who))
        east.trust(west)
        west.trust(east)
        east.write()
        # What is started, and its children, stays on the core that we are on.
        pin_to(self._cores.hops)
        self._sidecars["gateway"] = west.start_gateway("gateway-0")
        for name, mesh, pod in (
            ("client", east, "web-0"),
            ("local server", east, "api-0"),
            ("far server", west, "api-0"),
        ):
            mesh.capture(pod)
            pin_to(self._cores.hops if name == "client" else self._cores.load)
            self._sidecars[name] = mesh.start_sidecar(pod)
        pin_to(self._cores.load)
        for sidecar in self._sidecars.values():
            sidecar.await_ready()

    def _start_cable(self, device: str, delay_ms: float) -> tuple[str, str]:
        """Start a cable; return both nodes' routes over it."""
        nodes = self._east_cluster.node, self._west_cluster.node
        ends = [part for node in nodes for part in (node.path, device)]
        one_way_us = str(round(delay_ms * 1000 / 2))
        command = [str(compile_tool("cable")), *ends, one_way_us]
        child = self._processes.start(f"cable-{device}", command, self._cores.load)
        with closing(Lines(child)) as lines:
            lines.next(SLACK_S)
        for node in nodes:
            node.must(["ip", "link", "set", device, "up"])
        return (
            f"{self._west_cluster.network} dev {device}",
            f"{self._east_cluster.network} dev {device}",
        )

    def _routes_now(self) -> tuple[str, str]:
        return (
            _route(self._east_cluster.node, str(self._west_cluster.network)),
            _route(self._west_cluster.node, str(self._east_cluster.network)),
        )

    def _used(self) -> dict[str, int]:
        return {name: family_cpu_ns(each.program.pid) for name, each in self._sidecars.items()}

    def _carried(self, way: str) -> Carried:
        """Return what the gateway has done since this was last asked."""
        if way in {DIRECT, GATEWAY}:
            time.sleep(SETTLE_S)
        gateway = self._sidecars["gateway"].pod
        url = f"http://{gateway.ip}:4191/metrics"
        page = gateway.host.run(["curl", "-sS", "-m", "5", url]).stdout
        if "tcp_open_total" not in page:
            raise UnreachableError(f"{url} did not give the gateway's metrics: {page[:80]!r}")
        said = self._west_cluster.node.must(["ip", "-s", "-j", "link", "show", gateway.cable])
        counts = json.loads(said)[0]["stats64"]
        carried = Carried(
            sum(int(each) for each in _REQUESTS.findall(page)),
            sum(int(each) for each in _BYTES.findall(page)),
            int(counts["rx"]["bytes"]) + int(counts["tx"]["bytes"]),
        )
        before, self._seen = self._seen, carried
        return carried - before


def _route(node: Host, network: str) -> str:
    return node.must(["ip", "route", "show", network]).strip()
