"""The demo's story: two workloads behind their sidecars, a stranger, and real traffic.

``web`` calls ``store`` over HTTP and over redis, both through their sidecars; a stranger without
one is refused. Each scenario is judged by what the server's own sidecar logged.
"""

from __future__ import annotations

import secrets
import signal
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from cli.demo.host import APP_UID
from cli.demo.mesh import Mesh
from cli.demo.pods import Pod, Rig
from cli.demo.runtime import Runtime
from cli.demo.talk import Talk
from cli.demo.witness import judge, read_capture
from core.errors import ConfigError

WEB_ADDRESS: Final = "10.96.0.10"
REDIS_ADDRESS: Final = "10.96.0.11"
_HTTP_PORT: Final = 8080
_REDIS_PORT: Final = 6379
_REQUESTS: Final = 20
_WATCH: Final = ("-U", "--immediate-mode", "-Z", "root")
"""Write each packet at once, and as root: the directory is root's."""
_START_S: Final = 15.0
_EVENT_S: Final = 10.0
_POLL_S: Final = 0.05


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One thing that was shown, or was not."""

    name: str
    ok: bool
    client_identity: str = ""
    """As the server's sidecar saw it; empty: the client has none."""
    latency_ms: float | None = None
    path: str = "local"
    seen: tuple[str, ...] = ()
    """For a person: what was seen, line by line."""


@final
class Story:
    """Sets the scene on a rig, then plays the scenarios."""

    def __init__(self, rig: Rig, runtime: Runtime, place: Path, talk: Talk) -> None:
        self._rig: Final = rig
        self._runtime: Final = runtime
        self._place: Final = place
        self._talk: Final = talk
        self._marker: Final = f"pillion-demo-{secrets.token_hex(8)}"
        """What the apps say to each other, to be looked for on the cable."""

    def tell(self) -> list[Scenario]:
        """Play everything. Raises MeshError when the scene cannot be set."""
        self._set_scene()
        self._start_apps()
        self._start_mesh()
        capture = self._place / "cable.pcap"
        watch = self._watch(capture)
        played = [self._play_http(), self._play_redis(), self._play_stranger()]
        self._await_word(capture)
        watch.send_signal(signal.SIGTERM)
        watch.wait(_START_S)
        return [*played, self._play_witness(capture, played[0])]

    def _set_scene(self) -> None:
        with self._talk.step("make three pods of network namespaces") as step:
            self._cluster = self._rig.cluster("demo")
            self._mesh = Mesh(self._rig, self._cluster, self._runtime, self._place)
            ports = {"api": _HTTP_PORT, "redis": _REDIS_PORT}
            self._web = self._mesh.workload("web-0", "web")
            self._store = self._mesh.workload("store-0", "store", ports=ports)
            self._stranger = self._mesh.workload("stranger-0", "stranger", meshed=False)
            step.note = ", ".join(f"{name} {pod.ip}" for name, pod in self._mesh.pods.items())
        with self._talk.step("write the manifests that are the mesh") as step:
            self._mesh.service("api", "store", [WEB_ADDRESS], {80: _HTTP_PORT})
            self._mesh.service("redis", "store", [REDIS_ADDRESS], {_REDIS_PORT: _REDIS_PORT})
            self._mesh.write(defaultInboundPolicy="all-authenticated")
            step.note = f"default inbound policy all-authenticated, in {self._mesh.directory}"

    def _start_apps(self) -> None:
        with self._talk.step("start an HTTP server and redis in store-0") as step:
            host = self._store.host
            host.spawn(
                [self._runtime.interpreter, "-m", "cli.demo.web", str(_HTTP_PORT), self._marker],
                uid=APP_UID,
                env=self._runtime.environment,
            )
            host.spawn(
                [
                    "redis-server",
                    "--port",
                    str(_REDIS_PORT),
                    "--save",
                    "",
                    "--protected-mode",
                    "no",
                ],
                uid=APP_UID,
            )
            self._await_port(_HTTP_PORT)
            self._await_port(_REDIS_PORT)
            step.note = f"ports {_HTTP_PORT} and {_REDIS_PORT}, as uid {APP_UID}"

    def _await_port(self, port: int) -> None:
        deadline = time.monotonic() + _START_S
        probe = ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"]
        while self._store.host.run(probe).returncode != 0:
            if time.monotonic() > deadline:
                raise ConfigError(f"nothing listens on port {port} of store-0 yet")
            time.sleep(_POLL_S)

    def _start_mesh(self) -> None:
        with self._talk.step("make a root and an issuer, and start issuing"):
            self._mesh.start_issuer()
        with self._talk.step("install capture rules in web-0 and store-0") as step:
            self._mesh.capture("web-0")
            self._mesh.capture("store-0")
            step.note = "as `pillion redirect install` does in an init container"
        with self._talk.step("start their sidecars") as step:
            client = self._mesh.start_sidecar("web-0")
            self._server = self._mesh.start_sidecar("store-0")
            for sidecar in (client, self._server):
                sidecar.await_ready()
            step.note = "both ready, as uid 2102 without capabilities"

    def _watch(self, capture: Path) -> subprocess.Popen[bytes]:
        """Start tcpdump on store-0's cable and wait until it listens."""
        said = capture.with_suffix(".log")
        with said.open("wb") as errors:
            program = self._cluster.node.spawn(
                ["tcpdump", "-i", self._store.cable, *_WATCH, "-w", str(capture), "tcp"],
                errors=errors,
            )
        deadline = time.monotonic() + _START_S
        while b"listening on" not in said.read_bytes():
            if program.poll() is not None or time.monotonic() > deadline:
                words = said.read_text(errors="replace").strip()
                raise ConfigError(f"tcpdump does not listen: {words}")
            time.sleep(_POLL_S)
        return program

    def _play_http(self) -> Scenario:
        with self._talk.step(f"web-0: curl http://{WEB_ADDRESS}/ ({_REQUESTS} times)") as step:
            times = []
            answers = set()
            for _ in range(_REQUESTS):
                done = _curl(self._web)
                body, _, took = done.stdout.rpartition(" ")
                answers.add(body.strip() if done.returncode == 0 else done.stderr.strip())
                times.append(float(took or 0) * 1000)
            step.note = " / ".join(answers)
            good = answers == {self._marker}
            latency = statistics.median(times)
            return self._judge("http", self._web, _HTTP_PORT, good=good, latency_ms=latency)

    def _play_redis(self) -> Scenario:
        with self._talk.step(f"web-0: redis-cli -h {REDIS_ADDRESS} SET, GET") as step:
            said = [
                self._redis("SET", "word", self._marker).strip(),
                self._redis("GET", "word").strip(),
            ]
            # The least, mean and most in milliseconds, and how many: over some 0.3 s.
            measured = self._redis("--raw", "--latency", "-i", "0.3").split()
            step.note = ", ".join(said)
            latency = float(measured[2]) if len(measured) == 4 else None
            good = said == ["OK", self._marker]
            return self._judge("redis", self._web, _REDIS_PORT, good=good, latency_ms=latency)

    def _redis(self, *words: str) -> str:
        done = self._web.host.run(["redis-cli", "-h", REDIS_ADDRESS, *words], uid=APP_UID)
        return done.stdout or done.stderr

    def _judge(
        self, name: str, client: Pod, port: int, *, good: bool, latency_ms: float | None
    ) -> Scenario:
        """Judge an exchange by what the server's sidecar logged of its connection."""
        event = self._server.find(
            _EVENT_S,
            event="connection",
            direction="inbound",
            client_ip=client.ip,
            target=f"{self._store.ip}:{port}",
        )
        if event is None:
            return Scenario(name=name, ok=False, seen=("store-0's sidecar logged no connection",))
        identity = str(event.get("client_identity", ""))
        return Scenario(
            name=name,
            ok=good and identity.startswith("web.shop.") and event.get("tls") == "mesh",
            client_identity=identity,
            latency_ms=latency_ms,
            seen=(f"allowed by {event.get('authorization')}",),
        )

    def _play_stranger(self) -> Scenario:
        with self._talk.step(f"stranger-0: curl http://{WEB_ADDRESS}/") as step:
            began = time.monotonic()
            done = _curl(self._stranger, "-H", f"X-Word: {self._marker}")
            latency = (time.monotonic() - began) * 1000
            step.note = done.stderr.strip() or f"answered: {done.stdout.strip()}"
            event = self._server.find(
                _EVENT_S,
                event="connection denied",
                direction="inbound",
                client_ip=self._stranger.ip,
            )
            reason = str(event.get("reason", "")) if event else "store-0's sidecar denied nothing"
            return Scenario(
                name="stranger-denied",
                ok=done.returncode != 0 and self._marker not in done.stdout and bool(event),
                client_identity=str(event.get("client_identity", "")) if event else "",
                latency_ms=latency,
                seen=(f"denied: {reason}",),
            )

    def _play_witness(self, capture: Path, requests: Scenario) -> Scenario:
        with self._talk.step("look at what tcpdump saw on store-0's cable") as step:
            flows = read_capture(capture)
            word = self._marker.encode()
            meshed = judge([flow for flow in flows if flow.client[0] == self._web.ip], word)
            # The same look at the stranger's request shows that the word would be found.
            plain = judge([flow for flow in flows if flow.client[0] == self._stranger.ip], word)
            step.note = f"{capture.stat().st_size} bytes, {len(flows)} connections"
            return Scenario(
                name="encrypted",
                ok=0 < meshed.connections == meshed.tls
                and not meshed.marked
                and plain.marked == plain.connections > 0,
                client_identity=requests.client_identity,
                latency_ms=requests.latency_ms,
                seen=(
                    (
                        f"{meshed.tls} of {meshed.connections} connections are TLS: "
                        f"{meshed.records} records, {meshed.size_bytes} bytes"
                    ),
                    f"hello for {', '.join(meshed.server_names) or 'nobody'}",
                    (
                        f"the word can be read in {meshed.marked} of them, in {plain.marked} of "
                        f"{plain.connections} of the stranger's"
                    ),
                ),
            )

    def _await_word(self, capture: Path) -> None:
        """Wait until the stranger's request, the last of all, has been written down."""
        deadline = time.monotonic() + _EVENT_S
        while self._marker.encode() not in capture.read_bytes() and time.monotonic() < deadline:
            time.sleep(_POLL_S)


def _curl(pod: Pod, *options: str) -> subprocess.CompletedProcess[str]:
    return pod.host.run(
        ["curl", "-sS", "-m", "10", "-w", " %{time_total}", *options, f"http://{WEB_ADDRESS}/"],
        uid=APP_UID,
    )
