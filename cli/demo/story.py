"""The demo's story: two workloads behind their sidecars, a stranger, and real traffic.

``web`` calls ``store`` over HTTP and over redis, both through their sidecars; a stranger without
one is refused. Each scenario is judged by what the server's own sidecar logged.
"""

from __future__ import annotations

import secrets
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, final

from cli.demo.host import APP_UID
from cli.demo.pods import Pod
from cli.demo.runtime import Runtime
from cli.demo.stage import CANARY_PORT, CANARY_SHARE, HTTP_PORT, REDIS_PORT, START_S, Stage
from cli.demo.talk import Talk
from cli.demo.witness import judge
from core.errors import ConfigError
from core.record import dataclass

_REQUESTS: Final = 20
_ROUTED: Final = 50
"""Requests of each kind to the routed Service."""
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
    """Sets the scene on a stage, then plays the scenarios."""

    def __init__(self, stage: Stage, runtime: Runtime, talk: Talk) -> None:
        self._stage: Final = stage
        self._mesh: Final = stage.mesh
        self._runtime: Final = runtime
        self._talk: Final = talk
        self._web: Final = stage.mesh.pods["web-0"]
        self._store: Final = stage.mesh.pods["store-0"]
        self._stranger: Final = stage.mesh.pods["stranger-0"]
        self._marker: Final = f"pillion-demo-{secrets.token_hex(8)}"
        """The word that the apps say to each other, to be looked for between the sidecars."""

        self._canary: Final = f"{self._marker}-canary"
        """What the other HTTP server says."""

    def tell(self) -> list[Scenario]:
        """Play everything. Raises MeshError when the scene cannot be set."""
        with self._talk.step("write the manifests that are the mesh") as step:
            self._stage.write(defaultInboundPolicy="all-authenticated")
            pods = ", ".join(f"{name} {pod.ip}" for name, pod in self._mesh.pods.items())
            where = self._mesh.directory
            step.note = f"default inbound policy all-authenticated, {pods}, in {where}"
        self._start_apps()
        self._start_mesh()
        self._stage.watch()
        played = [
            self._play_http(),
            self._play_redis(),
            *self._play_routes(),
            self._play_stranger(),
        ]
        return [*played, self._play_witness(played[0])]

    def _start_apps(self) -> None:
        with self._talk.step("start two HTTP servers and redis in store-0") as step:
            host = self._store.host
            ports = []
            for number, words in ((CANARY_PORT, self._canary), (HTTP_PORT, self._marker)):
                address, port = self._stage.app(number)
                web = ["-m", "cli.demo.web", address, str(port), words]
                host.spawn(
                    [self._runtime.interpreter, *web], uid=APP_UID, env=self._runtime.environment
                )
                self._await_port(port)
                ports.append(str(port))
            address, redis = self._stage.app(REDIS_PORT)
            options = ["--bind", address, "--save", "", "--protected-mode", "no"]
            host.spawn(["redis-server", "--port", str(redis), *options], uid=APP_UID)
            self._await_port(redis)
            ports.append(str(redis))
            step.note = f"ports {', '.join(ports)}; every answer is the word {self._marker}"

    def _await_port(self, port: int) -> None:
        deadline = time.monotonic() + START_S
        probe = ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"]
        while self._store.host.run(probe).returncode != 0:
            if time.monotonic() > deadline:
                raise ConfigError(f"nothing listens on port {port} of store-0 yet")
            time.sleep(_POLL_S)

    def _start_mesh(self) -> None:
        with self._talk.step("make a root and an issuer, and start issuing"):
            self._mesh.start_issuer()
        self._stage.lead_connections(self._talk)
        with self._talk.step("start the sidecars of web-0 and store-0") as step:
            client = self._mesh.start_sidecar("web-0", **self._stage.settings("web-0"))
            self._server = self._mesh.start_sidecar("store-0", **self._stage.settings("store-0"))
            for sidecar in (client, self._server):
                sidecar.await_ready()
            step.note = "both ready, without capabilities"

    def _play_http(self) -> Scenario:
        words = self._stage.curl(self._web)
        with self._talk.step(f"web-0: curl {' '.join(words)} ({_REQUESTS} times)") as step:
            times = []
            answers = set()
            for _ in range(_REQUESTS):
                done = self._curl(self._web)
                body, _, took = done.stdout.rpartition(" ")
                answers.add(body.strip() if done.returncode == 0 else done.stderr.strip())
                times.append(float(took or 0) * 1000)
            step.note = " / ".join(answers)
            good = answers == {self._marker}
            latency = statistics.median(times)
            return self._judge("http", self._web, HTTP_PORT, good=good, latency_ms=latency)

    def _play_redis(self) -> Scenario:
        words = " ".join(self._stage.redis())
        with self._talk.step(f"web-0: redis-cli {words} SET, GET") as step:
            said = [
                self._redis("SET", "word", self._marker).strip(),
                self._redis("GET", "word").strip(),
            ]
            # The least, mean and most in milliseconds, and how many: over some 0.3 s.
            measured = self._redis("--raw", "--latency", "-i", "0.3").split()
            step.note = ", ".join(said)
            latency = float(measured[2]) if len(measured) == 4 else None
            good = said == ["OK", self._marker]
            return self._judge("redis", self._web, REDIS_PORT, good=good, latency_ms=latency)

    def _play_routes(self) -> Iterator[Scenario]:
        """Ask a Service whose route splits requests, and sends those with a header elsewhere."""
        first, canary = f"{100 - CANARY_SHARE} to {CANARY_SHARE}", self._canary
        for name, options, share in (
            ("canary-split", (), CANARY_SHARE),
            ("header-route", ("-H", "x-canary: yes"), 100),
        ):
            *words, url = self._stage.curl_routed()
            asked = [*options, *words, f"{url}/[1-{_ROUTED}]"]
            with self._talk.step(f"web-0: curl {' '.join(asked)}") as step:
                done = self._web.host.run(["curl", "-sS", "-m", "20", *asked], uid=APP_UID)
                # Between the answers to a range curl says which is which.
                answers = [each for each in done.stdout.split() if self._marker in each]
                got = answers.count(canary)
                wanted = _ROUTED * share // 100
                step.note = done.stderr.strip() or f"{got} of {len(answers)} by the canary"
                port = CANARY_PORT
                good = len(answers) == _ROUTED == got + answers.count(self._marker)
                judged = self._judge(
                    name,
                    self._web,
                    port,
                    good=good and abs(got - wanted) <= (0 if share == 100 else 2),
                    latency_ms=None,
                )
                said = f"{got} of {len(answers)} answers are the canary's"
                split = f"the route says {first}" if name == "canary-split" else "all wanted there"
                yield replace(judged, seen=(f"{said}: {split}", *judged.seen))

    def _redis(self, *words: str) -> str:
        done = self._web.host.run(["redis-cli", *self._stage.redis(), *words], uid=APP_UID)
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
            seen=(f"allowed by {event.get('authorization') or event.get('server')}",),
        )

    def _play_stranger(self) -> Scenario:
        words = " ".join(self._stage.curl(self._stranger))
        with self._talk.step(f"stranger-0: curl {words}") as step:
            began = time.monotonic()
            done = self._curl(self._stranger, "-H", f"X-Word: {self._marker}")
            latency = (time.monotonic() - began) * 1000
            event = self._server.find(
                _EVENT_S,
                event="request denied",
                direction="inbound",
                client_ip=self._stranger.ip,
            )
            said = done.stderr.strip() or (event or {}).get("code", "")
            is_refused = self._marker not in done.stdout and event is not None
            step.note = f"{'refused, as it should be' if is_refused else 'NOT refused'} ({said})"
            reason = str(event.get("reason", "")) if event else "store-0's sidecar denied nothing"
            return Scenario(
                name="stranger-denied",
                ok=is_refused,
                client_identity=str(event.get("client_identity", "")) if event else "",
                latency_ms=latency,
                seen=(f"denied: {reason}",),
            )

    def _play_witness(self, requests: Scenario) -> Scenario:
        with self._talk.step(f"look at what was seen by {self._stage.witness}") as step:
            word = self._marker.encode()
            flows = self._stage.seen(word)
            meshed = judge([flow for flow in flows if flow.client[0] == self._web.ip], word)
            # The same look at the stranger's request shows that the word would be found.
            plain = judge([flow for flow in flows if flow.client[0] == self._stranger.ip], word)
            step.note = f"{len(flows)} connections"
            return Scenario(
                name="encrypted",
                ok=0 < meshed.connections == meshed.tls
                and not meshed.marked
                and plain.marked == plain.connections > 0,
                client_identity=requests.client_identity,
                seen=(
                    (
                        f"{meshed.tls} of {meshed.connections} connections are TLS: "
                        f"{meshed.records} records, {meshed.size_bytes} bytes"
                    ),
                    f"hello for {', '.join(meshed.server_names) or 'nobody'}",
                    (
                        f"the word {self._marker} can be read in {meshed.marked} of them, and in "
                        f"{plain.marked} of {plain.connections} of the stranger's, who sent it too"
                    ),
                    f"seen by {self._stage.witness}",
                ),
            )

    def _curl(self, pod: Pod, *options: str) -> subprocess.CompletedProcess[str]:
        command = ["curl", "-sS", "-m", "10", "-w", " %{time_total}", *options]
        return pod.host.run([*command, *self._stage.curl(pod)], uid=APP_UID)
