"""Real sidecars in network namespaces for HTTP: three servers behind a Service, and one who calls.

The caller opens requests at a steady pace, whatever becomes of those before, and prints what it
saw; each server notes every request that reached it, by the request's own number.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from cli.demo.host import APP_UID
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Rig
from cli.demo.runtime import find_runtime
from redirect.options import PROXY_UID

IP: Final = "10.96.0.40"
PORT: Final = 80
APP_PORT: Final = 8080
SERVERS: Final = ("api-0", "api-1", "api-2")
PER_SECOND: Final = 500
PYTHON: Final = "/usr/bin/python3"

SERVER: Final = f"""
import asyncio, os, sys, time
status, delay = int(sys.argv[1]), float(sys.argv[2])
noted = open(sys.argv[3], "ab", buffering=0)
phrase = "OK" if status < 400 else "No"
answer = f"HTTP/1.1 {{status}} {{phrase}}\\r\\ncontent-length: 2\\r\\n\\r\\nok".encode()
class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""
    def data_received(self, data):
        self.data += data
        while True:
            head, end, rest = self.data.partition(b"\\r\\n\\r\\n")
            if not end:
                return
            length = 0
            for line in head.split(b"\\r\\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if len(rest) < length:
                return
            self.data = rest[length:]
            noted.write(head.split(b" ", 2)[1] + b"\\n")
            if delay:
                loop.call_later(delay, self.answer)
            else:
                self.answer()
    def answer(self):
        if not self.transport.is_closing():
            self.transport.write(answer)
async def main():
    global loop
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "", {APP_PORT}, backlog=1024, reuse_address=True)
    await server.serve_forever()
asyncio.run(main())
"""

CALLER: Final = """
import asyncio, json, sys, time
seconds, rate, posts, patience = (float(each) for each in sys.argv[1:5])
first = int(sys.argv[5])
address = (sys.argv[6], int(sys.argv[7]))
total, every = int(seconds * rate), int(posts)
idle, results = [], []
class Client(asyncio.Protocol):
    waiter = None
    def connection_made(self, transport):
        self.transport, self.data = transport, b""
    def ask(self, request):
        self.data = b""
        self.waiter = loop.create_future()
        self.transport.write(request)
        return self.waiter
    def data_received(self, data):
        self.data += data
        head, end, rest = self.data.partition(b"\\r\\n\\r\\n")
        if not end or self.waiter is None or self.waiter.done():
            return
        length = 0
        for line in head.lower().split(b"\\r\\n")[1:]:
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        if len(rest) >= length:
            self.waiter.set_result((head, b"connection: close" in head.lower()))
    def connection_lost(self, error):
        if self in idle:
            idle.remove(self)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(ConnectionError(repr(error)))
async def call(number, due):
    post = every and number % every == 0
    method = "POST" if post else "GET"
    body = "content-length: 4\\r\\n\\r\\nbody" if post else "\\r\\n"
    request = f"{method} /{number} HTTP/1.1\\r\\nhost: api\\r\\n{body}".encode()
    try:
        async with asyncio.timeout(patience):
            while idle:
                client = idle.pop()
                if not client.transport.is_closing():
                    break
            else:
                _, client = await loop.create_connection(Client, *address)
            head, closes = await client.ask(request)
        if closes:
            client.transport.close()
        else:
            idle.append(client)
        status = int(head.split(b" ")[1])
        what = "" if status < 400 else head.decode("latin-1")[:300]
    except Exception as error:
        status, what = 0, repr(error)
    results.append((number, method, status, loop.time() - due, due - start, what))
async def main():
    global loop, start
    loop = asyncio.get_running_loop()
    start = due = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for number in range(first, first + total):
            tasks.create_task(call(number, due))
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - loop.time()))
asyncio.run(main())
times = sorted(each[3] for each in results)
rest = [each for each in times if each < 1.0]
counts = {}
for each in results:
    key = f"{each[1]} {each[2]}"
    counts[key] = counts.get(key, 0) + 1
print(json.dumps({
    "calls": len(results), "counts": counts,
    "p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100], "max": times[-1],
    "slow": len(times) - len(rest), "p99_of_rest": rest[len(rest) * 99 // 100] if rest else 0,
    "failed": [each for each in results if each[2] == 0 or each[2] >= 500][:50],
    "failed_posts": [each[0] for each in results if each[1] == "POST" and each[2] != 200],
}))
"""


def seconds(ordinary: float, per_second: int = PER_SECOND) -> float:
    """Return for how long to call: with ``PILLION_FULL_LENGTH`` set, 20,000 requests' worth."""
    if os.environ.get("PILLION_FULL_LENGTH"):
        return max(ordinary, 20_000 / per_second)
    return ordinary


@final
@dataclass(frozen=True)
class Seen:
    """What the caller saw."""

    calls: int
    counts: Counter[str]
    """Method and status, 0 for none → how often."""
    p50: float
    p99: float
    longest: float
    slow: int
    """How many took a second or more."""
    p99_of_rest: float
    failed: list[list[Any]]
    """The first of those that got no answer or 5xx: number, method, status, seconds, when, what."""
    failed_posts: list[int]

    @property
    def errors(self) -> int:
        """How many got no answer, or 5xx."""
        return sum(
            many for what, many in self.counts.items() if not 0 < int(what.split(" ")[1]) < 500
        )

    def failed_of(self, method: str) -> int:
        """Return how many requests of one method got anything but 200."""
        return sum(
            many
            for what, many in self.counts.items()
            if what.startswith(method + " ") and not what.endswith(" 200")
        )


@final
@dataclass
class Scene:
    """A running mesh."""

    mesh: Mesh
    place: Path
    annotations: dict[str, str]
    sidecars: dict[str, Sidecar] = field(default_factory=dict)
    apps: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ready: tuple[str, ...] = SERVERS
    settings: dict[str, str] = field(default_factory=dict)

    def announce(self, *servers: str) -> None:
        """Make these the Service's endpoints."""
        self.ready = servers
        documents: list[dict[str, Any]] = [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {
                    "name": "api",
                    "namespace": "shop",
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                    "annotations": self.annotations,
                },
                "spec": {
                    "clusterIP": IP,
                    "clusterIPs": [IP],
                    "ports": [{"name": "http", "port": PORT, "targetPort": APP_PORT}],
                },
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": "api-1",
                    "namespace": "shop",
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                    "labels": {"kubernetes.io/service-name": "api"},
                },
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": APP_PORT, "protocol": "TCP"}],
                "endpoints": [
                    {
                        "addresses": [self.mesh.pods[name].ip],
                        "conditions": {"ready": True},
                        "targetRef": {"kind": "Pod", "name": name, "namespace": "shop"},
                    }
                    for name in servers
                ],
            },
        ]
        self.mesh.add("api.yaml", "---\n".join(json.dumps(each) + "\n" for each in documents))
        self.mesh.write()

    def start_app(self, name: str, status: int = 200, delay_s: float = 0.0) -> None:
        """Start a server."""
        noted = self.place / f"{name}.noted"
        noted.touch()
        noted.chmod(0o666)
        self.start_program(name, [PYTHON, "-c", SERVER, str(status), str(delay_s), str(noted)])

    def start_program(self, name: str, arguments: Sequence[str], uid: int | None = APP_UID) -> None:
        """Start something else as a pod's server, and wait until it can be reached."""
        host = self.mesh.pods[name].host
        self.apps[name] = host.spawn(arguments, uid=uid)
        deadline = time.monotonic() + 15
        look = ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{APP_PORT}"]
        while host.run(look).returncode:
            assert time.monotonic() < deadline, f"{name}'s server does not listen"
            time.sleep(0.05)

    def start_sidecar(self, name: str) -> None:
        """Start a sidecar and wait until it is ready."""
        self.sidecars[name] = self.mesh.start_sidecar(name, **self.settings)
        self.sidecars[name].await_ready()

    def kill_app(self, name: str) -> None:
        """Kill a server."""
        os.kill(self.apps[name].pid, signal.SIGKILL)
        self.apps[name].wait(10)

    def kill_sidecar(self, name: str) -> None:
        """Kill a sidecar."""
        os.kill(self.sidecars[name].program.pid, signal.SIGKILL)
        self.sidecars[name].program.wait(10)

    def drop(self, name: str) -> None:
        """Let a pod's packets vanish."""
        for chain in ("INPUT", "OUTPUT"):
            self.mesh.pods[name].host.must(["iptables-nft", "-I", chain, "-j", "DROP"])

    def call(
        self,
        seconds: float,
        *,
        rate: int = PER_SECOND,
        posts: int = 0,
        patience: float = 10.0,
        first: int = 0,
        to: tuple[str, int] = (IP, PORT),
    ) -> Caller:
        """Begin to call: ``rate`` requests a second; every ``posts``-th, if any, is a POST.

        ``first`` is the number of the first; ``to`` whom they go.
        """
        arguments = [PYTHON, "-c", CALLER, str(seconds), str(rate), str(posts)]
        program = self.mesh.pods["web-0"].host.spawn(
            [*arguments, str(patience), str(first), to[0], str(to[1])],
            uid=APP_UID,
            output=subprocess.PIPE,
        )
        return Caller(program, seconds + patience + 20)

    def noted(self, server: str = "*") -> Counter[int]:
        """Return how often each request reached a server, or this one."""
        found: Counter[int] = Counter()
        for each in self.place.glob(f"{server}.noted"):
            found.update(int(line[1:]) for line in each.read_bytes().splitlines())
        return found

    def metric(self, name: str, pod: str = "web-0", **labels: str) -> float:
        """Return the sum of a family's samples with these labels, from a sidecar's ``/metrics``."""
        host = self.mesh.pods[pod].host
        page = host.must(
            ["curl", "-sS", "-m", "5", f"http://{self.mesh.pods[pod].ip}:4191/metrics"]
        )
        return sum(
            float(line.rpartition(" ")[2])
            for line in page.splitlines()
            if line.startswith((name + "{", name + " "))
            and all(f'{key}="{value}"' in line for key, value in labels.items())
        )


@final
@dataclass
class Caller:
    """A caller at work."""

    program: subprocess.Popen[bytes]
    patience: float

    def result(self) -> Seen:
        """Wait for its end and return what it saw."""
        printed, _ = self.program.communicate(timeout=self.patience)
        found = json.loads(printed)
        return Seen(
            calls=found["calls"],
            counts=Counter(found["counts"]),
            p50=found["p50"],
            p99=found["p99"],
            longest=found["max"],
            slow=found["slow"],
            p99_of_rest=found["p99_of_rest"],
            failed=found["failed"],
            failed_posts=found["failed_posts"],
        )


@contextlib.contextmanager
def run_scene(
    annotations: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    *,
    starts_apps: bool = True,
) -> Iterator[Scene]:
    """Run the mesh; everything ends with the block."""
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        mesh = Mesh(rig, rig.cluster("a"), find_runtime(PROXY_UID, place), place)
        mesh.workload("web-0", "web")
        for server in SERVERS:
            mesh.workload(server, "api", ports={"http": APP_PORT})
        scene = Scene(mesh, place, dict(annotations or {}), settings=dict(settings or {}))
        scene.announce(*SERVERS)
        mesh.start_issuer()
        for pod in ("web-0", *SERVERS):
            mesh.capture(pod)
            scene.sidecars[pod] = mesh.start_sidecar(pod, **scene.settings)
        for sidecar in scene.sidecars.values():
            sidecar.await_ready()
        if starts_apps:
            for server in SERVERS:
                scene.start_app(server)
        yield scene
