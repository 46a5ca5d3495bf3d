"""``python -m bench.clusters``: the way to another cluster beside the way to a neighbour.

A client in one cluster asks the same application three ways, one request after the other on one
connection: in its own cluster, directly in another, and through that one's gateway. Ratios are
taken within a round, so that a slow minute meets all three. Needs root (network namespaces).
Exit status: 0 every target holds, 1 one does not.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, final

import click
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from rich.console import Console
from rich.table import Table

from cli.demo.host import APP_UID
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Rig
from cli.demo.runtime import Runtime, find_runtime
from redirect.options import PROXY_UID

WAYS: Final = ("local", "direct", "gateway")
DIRECT_TARGET: Final = 1.15
"""Direct p50 over local at most."""
GATEWAY_TARGET: Final = 2.0
"""Gateway p50 over direct at most."""
WARM: Final = 300
"""Requests before those that are timed."""
PORT: Final = 8080
_API: Final = "10.97.0.20"
_GATED: Final = "10.97.0.21"
_CLIENT: Final = """
import json, socket, sys, time
near = socket.create_connection((sys.argv[1], 80))
near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
def ask():
    near.sendall(b"GET / HTTP/1.1\\r\\nhost: api\\r\\n\\r\\n")
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        data += near.recv(65536)
    head, _, body = data.partition(b"\\r\\n\\r\\n")
    assert b" 200 " in head, head
    length = int(head.lower().partition(b"content-length:")[2].split(b"\\r\\n")[0])
    while len(body) < length:
        body += near.recv(65536)
for _ in range(int(sys.argv[2])):
    ask()
times = []
for _ in range(int(sys.argv[3])):
    began = time.perf_counter()
    ask()
    times.append(time.perf_counter() - began)
print(json.dumps(sorted(times)))
"""


@final
@dataclass(frozen=True, slots=True)
class Figure:
    """One way in one round."""

    way: str
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU time of all sidecars and the gateway, per request."""
    gateway_bytes: int
    """What the gateway had from clients meanwhile, without TLS."""


@final
class Scene:
    """Two clusters on a flat network, with a gateway that direct traffic has no use for."""

    def __init__(self, rig: Rig, runtime: Runtime, place: Path) -> None:
        clusters = rig.cluster("east"), rig.cluster("west", "10.12.0.0/24")
        rig.join_flat(*clusters)
        meshes = []
        for cluster in clusters:
            home = place / cluster.name
            home.mkdir(mode=0o755)
            meshes.append(Mesh(rig, cluster, runtime, home, f"{cluster.name}.example"))
        self._east, self._west = meshes
        self._runtime: Final = runtime
        self._sidecars: Final[list[Sidecar]] = []
        self.addresses: Final[dict[str, str]] = {"local": _API}

    def start(self) -> None:
        """Start everything. Raises ConfigError when something does not come up."""
        east, west = self._east, self._west
        east.workload("web-0", "web")
        for mesh in (east, west):
            mesh.workload("api-0", "api")
            mesh.service("api", "api", [_API], {80: PORT})
        west.service("gated", "api", [_GATED], {80: PORT})
        west.label("api", **{"mirror.linkerd.io/exported": "remote-discovery"})
        west.label("gated", **{"mirror.linkerd.io/exported": "true"})
        door = west.workload("gateway-0", "gateway")
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
        self.gateway = west.start_gateway("gateway-0")
        self._sidecars.append(self.gateway)
        for mesh, pod in ((east, "web-0"), (east, "api-0"), (west, "api-0")):
            if pod == "api-0":
                words = ["-m", "cli.demo.web", "0.0.0.0", str(PORT), "hello"]  # of its pod
                mesh.pods[pod].host.spawn(
                    [self._runtime.interpreter, *words],
                    uid=APP_UID,
                    env=self._runtime.environment,
                )
            mesh.capture(pod)
            self._sidecars.append(mesh.start_sidecar(pod))
        for sidecar in self._sidecars:
            sidecar.await_ready()
        said = east.pillion("multicluster", "check", "--mesh", str(east.directory), "-o", "json")
        found = {each["name"]: each["addresses"][0] for each in json.loads(said)["services"]}
        self.addresses.update(direct=found["api-west"], gateway=found["gated-west"])

    def measure(self, way: str, requests: int) -> Figure:
        """Ask so many times, after some that are not timed."""
        before, carried = self._cpu_s(), self._carried()
        script = [sys.executable, "-c", _CLIENT, self.addresses[way], str(WARM), str(requests)]
        done = self._east.pods["web-0"].host.run(script, timeout_s=300)
        if done.returncode != 0:
            raise RuntimeError(f"{way}: {done.stderr.strip()[-300:]}")
        times = json.loads(done.stdout)
        return Figure(
            way,
            times[len(times) // 2] * 1000,
            times[int(len(times) * 0.99)] * 1000,
            (self._cpu_s() - before) / (requests + WARM) * 1e6,
            self._carried() - carried,
        )

    def _cpu_s(self) -> float:
        used = 0
        for sidecar in self._sidecars:
            text = Path(f"/proc/{sidecar.program.pid}/stat").read_text()
            fields = text.rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
        return used / os.sysconf("SC_CLK_TCK")

    def _carried(self) -> int:
        url = f"http://{self.gateway.pod.ip}:4191/metrics"
        page = self.gateway.pod.host.run(["curl", "-sS", url]).stdout
        pattern = r'^tcp_read_bytes_total\{[^}]*direction="inbound"[^}]*\} (\d+)$'
        return sum(int(each) for each in re.findall(pattern, page, re.MULTILINE))


def ratios(rounds: Sequence[Sequence[Figure]], way: str, basis: str) -> list[float]:
    """Return one way's p50 over another's, round by round."""
    found = []
    for figures in rounds:
        by_way = {each.way: each.p50_ms for each in figures}
        found.append(by_way[way] / by_way[basis])
    return found


def render(rounds: Sequence[Sequence[Figure]]) -> Table:
    """Return the medians over all rounds as a table."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("WAY", "p50", "p99", "CPU A REQUEST", "BYTES THROUGH THE GATEWAY"):
        table.add_column(heading)
    for place, way in enumerate(WAYS):
        seen = [figures[place] for figures in rounds]
        table.add_row(
            way,
            f"{statistics.median(each.p50_ms for each in seen):.2f} ms",
            f"{statistics.median(each.p99_ms for each in seen):.2f} ms",
            f"{statistics.median(each.cpu_us for each in seen):.0f} µs",
            str(round(statistics.median(each.gateway_bytes for each in seen))),
        )
    return table


def draw(rounds: Sequence[Sequence[Figure]], file: Path) -> None:
    """Write p50 and CPU of each way as a picture, with every round as a dot."""
    picture = Canvas(figsize=(8.0, 3.2), layout="constrained")
    FigureCanvasAgg(picture)
    for place, (title, name) in enumerate((("p50, ms", "p50_ms"), ("CPU a request, µs", "cpu_us"))):
        axes = picture.add_subplot(1, 2, place + 1)
        seen = [[float(getattr(figures[way], name)) for figures in rounds] for way in range(3)]
        axes.bar(WAYS, [statistics.median(each) for each in seen], color="#4477aa")
        for way, each in enumerate(seen):
            axes.plot([way] * len(each), each, "o", color="#222222", markersize=3)
        axes.set_title(title, loc="left")
    picture.savefig(file, dpi=110)


@click.command()
@click.option("--requests", default=2_000, show_default=True)
@click.option("--rounds", "count", default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Every round, as JSON.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="A PNG to write.")
def main(requests: int, count: int, as_json: bool, plot: Path | None) -> None:  # noqa: FBT001 - click's own
    """Measure the three ways."""
    with tempfile.TemporaryDirectory(prefix="pillion-bench-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        scene = Scene(rig, find_runtime(PROXY_UID, place), place)
        scene.start()
        rounds = []
        for number in range(count):
            order = WAYS if number % 2 == 0 else WAYS[::-1]
            found = {way: scene.measure(way, requests) for way in order}
            rounds.append([found[way] for way in WAYS])
    if plot is not None:
        draw(rounds, plot)
    direct = statistics.median(ratios(rounds, "direct", "local"))
    gateway = statistics.median(ratios(rounds, "gateway", "direct"))
    holds = direct <= DIRECT_TARGET and gateway <= GATEWAY_TARGET
    if as_json:
        data = {
            "rounds": [[asdict(each) for each in figures] for figures in rounds],
            "direct_over_local": direct,
            "gateway_over_direct": gateway,
            "holds": holds,
        }
        click.echo(json.dumps(data, indent=2))
    else:
        Console(width=120).print(render(rounds))
        click.echo(f"direct / local: {direct:.2f} (must be {DIRECT_TARGET} at most)")
        click.echo(f"gateway / direct: {gateway:.2f} (must be {GATEWAY_TARGET} at most)")
    raise SystemExit(0 if holds else 1)


if __name__ == "__main__":
    main()
