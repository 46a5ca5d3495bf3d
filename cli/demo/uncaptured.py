"""The stage for everybody: pods at loopback addresses, sidecars without privileges.

The manifests give for ``store-0`` the address of a relay, which passes everything on to it and
writes it down: the witness, where packets can be captured by root alone.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, final

from cli.demo.loopback import NETWORKS, LoopbackRig, free_port
from cli.demo.manifest import NAMESPACE
from cli.demo.mesh import Mesh
from cli.demo.pods import Pod
from cli.demo.recorder import read_record
from cli.demo.runtime import Runtime
from cli.demo.stage import (
    CANARY_PORT,
    HTTP_PORT,
    HTTP_SERVICE_PORT,
    REDIS_PORT,
    ROUTES,
    START_S,
)
from cli.demo.talk import Talk
from cli.demo.witness import Flow
from core.errors import ConfigError

_WEB_ADDRESS: Final = "10.96.0.10"
_REDIS_ADDRESS: Final = "10.96.0.11"
_CANARY_ADDRESS: Final = "10.96.0.12"
_CATALOG_ADDRESS: Final = "10.96.0.13"
_DIRECT_PORT: Final = 4143
_SOCKS_PORT: Final = 4140
_POLL_S: Final = 0.05


@final
class UncapturedStage:
    """Three pods at addresses of 127/8."""

    witness: Final = "a recording relay in front of store-0 (only root may capture packets)"

    def __init__(self, rig: LoopbackRig, runtime: Runtime, place: Path) -> None:
        cluster = rig.cluster("demo")
        self._runtime: Final = runtime
        self._record: Final = place / "relay.jsonl"
        self._relay_ip: Final = cluster.address()
        self._relay: subprocess.Popen[bytes] | None = None
        self._inner: Final = {port: free_port() for port in (HTTP_PORT, CANARY_PORT, REDIS_PORT)}
        self._tunnel: Final = free_port()
        mesh = self.mesh = Mesh(rig, cluster, runtime, place)
        self._web: Final = mesh.workload("web-0", "web")
        ports = {"api": HTTP_PORT, "canary": CANARY_PORT, "redis": REDIS_PORT}
        self._store: Final = mesh.workload(
            "store-0", "store", ports=ports, published=[self._relay_ip]
        )
        mesh.workload("stranger-0", "stranger", meshed=False)

    def write(self, **settings: str) -> None:
        """Write the manifests, with these settings of the whole mesh."""
        self.mesh.service("api", "store", [_WEB_ADDRESS], {HTTP_SERVICE_PORT: HTTP_PORT})
        self.mesh.service("canary", "store", [_CANARY_ADDRESS], {HTTP_SERVICE_PORT: CANARY_PORT})
        self.mesh.service("catalog", "store", [_CATALOG_ADDRESS], {HTTP_SERVICE_PORT: HTTP_PORT})
        self.mesh.add("routes.yaml", ROUTES)
        self.mesh.service("redis", "store", [_REDIS_ADDRESS], {REDIS_PORT: REDIS_PORT})
        self.mesh.write(clusterNetworks=NETWORKS, **settings)

    def app(self, port: int) -> tuple[str, int]:
        """Return where an application listens: at a port of its own on 127.0.0.1."""
        return "127.0.0.1", self._inner[port]

    def settings(self, pod: str) -> Mapping[str, str]:
        """Return what a pod's sidecar is told besides."""
        settings = {"CAPTURE": "explicit"}
        if pod == "store-0":
            settings["POD_IPS"] = self._store.ip
            settings["APP_PORTS"] = ",".join(f"{port}:{at}" for port, at in self._inner.items())
        return settings

    def lead_connections(self, talk: Talk) -> None:
        """Open a local port for redis-cli, which knows nothing of SOCKS."""
        with talk.step("open a local port that leads to redis by web-0's sidecar") as step:
            self._web.host.spawn(
                [
                    *(sys.executable, "-m", "cli.demo.tunnel", str(self._tunnel)),
                    *(self._web.ip, f"redis.{NAMESPACE}", str(REDIS_PORT)),
                ],
                env=self._runtime.environment,
            )
            step.note = f"127.0.0.1:{self._tunnel}; curl speaks SOCKS by itself"

    def curl(self, pod: Pod) -> Sequence[str]:
        """Return curl's arguments: by the sidecar, or from a pod that has none straight on."""
        if pod == self._web:
            proxy = f"socks5h://{pod.ip}:{_SOCKS_PORT}"
            return ["--proxy", proxy, f"http://api.{NAMESPACE}/"]
        return ["--interface", pod.ip, f"http://{self._relay_ip}:{HTTP_PORT}/"]

    def curl_routed(self) -> Sequence[str]:
        """Return curl's arguments: the routed Service's name, by the sidecar."""
        return ["--proxy", f"socks5h://{self._web.ip}:{_SOCKS_PORT}", f"http://catalog.{NAMESPACE}"]

    def redis(self) -> Sequence[str]:
        """Return redis-cli's arguments: the local port."""
        return ["-h", "127.0.0.1", "-p", str(self._tunnel)]

    def watch(self) -> None:
        """Start the relay and wait until it listens."""
        ready = self._record.with_suffix(".up")
        ports = [str(port) for port in (_DIRECT_PORT, HTTP_PORT, REDIS_PORT)]
        where = [str(self._record), self._relay_ip, self._store.ip, *ports]
        self._relay = self._store.host.spawn(
            [sys.executable, "-m", "cli.demo.recorder", *where], env=self._runtime.environment
        )
        deadline = time.monotonic() + START_S
        while not ready.exists():
            if self._relay.poll() is not None or time.monotonic() > deadline:
                raise ConfigError(f"the recording relay does not listen at {self._relay_ip}")
            time.sleep(_POLL_S)

    def seen(self, word: bytes) -> list[Flow]:
        """End the relay and return what it wrote down."""
        del word
        if self._relay is None:
            return []
        self._relay.terminate()
        self._relay.wait(START_S)
        return read_record(self._record)
