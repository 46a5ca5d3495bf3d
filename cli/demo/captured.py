"""The stage for root: pods are network namespaces, captured by rules, watched by tcpdump."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, final

from cli.demo.mesh import Mesh
from cli.demo.pods import Pod, Rig
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
from cli.demo.witness import Flow, read_capture
from core.errors import ConfigError

WEB_ADDRESS: Final = "10.96.0.10"
REDIS_ADDRESS: Final = "10.96.0.11"
_CANARY_ADDRESS: Final = "10.96.0.12"
_CATALOG_ADDRESS: Final = "10.96.0.13"
_WATCH: Final = ("-U", "--immediate-mode", "-Z", "root")
"""Write each packet at once, and as root: the directory is root's."""
_SEEN_S: Final = 10.0
_POLL_S: Final = 0.05


@final
class CapturedStage:
    """Three pods of network namespaces."""

    witness: Final = "tcpdump on store-0's cable"

    def __init__(self, rig: Rig, runtime: Runtime, place: Path) -> None:
        self._cluster: Final = rig.cluster("demo")
        self._capture: Final = place / "cable.pcap"
        self._program: subprocess.Popen[bytes] | None = None
        mesh = self.mesh = Mesh(rig, self._cluster, runtime, place)
        mesh.workload("web-0", "web")
        ports = {"api": HTTP_PORT, "canary": CANARY_PORT, "redis": REDIS_PORT}
        self._store: Final = mesh.workload("store-0", "store", ports=ports)
        mesh.workload("stranger-0", "stranger", meshed=False)

    def write(self, **settings: str) -> None:
        """Write the manifests, with these settings of the whole mesh."""
        self.mesh.service("api", "store", [WEB_ADDRESS], {HTTP_SERVICE_PORT: HTTP_PORT})
        self.mesh.service("canary", "store", [_CANARY_ADDRESS], {HTTP_SERVICE_PORT: CANARY_PORT})
        self.mesh.service("catalog", "store", [_CATALOG_ADDRESS], {HTTP_SERVICE_PORT: HTTP_PORT})
        self.mesh.add("routes.yaml", ROUTES)
        self.mesh.service("redis", "store", [REDIS_ADDRESS], {REDIS_PORT: REDIS_PORT})
        self.mesh.write(**settings)

    def app(self, port: int) -> tuple[str, int]:
        """Return where an application listens: everywhere in its pod."""
        return "0.0.0.0", port  # noqa: S104  # all addresses of its pod, which is all it can see

    def settings(self, pod: str) -> Mapping[str, str]:
        """Return what a pod's sidecar is told besides: nothing."""
        del pod
        return {}

    def lead_connections(self, talk: Talk) -> None:
        """Install the capture rules."""
        with talk.step("install capture rules in web-0 and store-0") as step:
            self.mesh.capture("web-0")
            self.mesh.capture("store-0")
            step.note = "as `pillion redirect install` does in an init container"

    def curl(self, pod: Pod) -> Sequence[str]:
        """Return curl's arguments: the Service's address, by everybody."""
        del pod
        return [f"http://{WEB_ADDRESS}/"]

    def curl_routed(self) -> Sequence[str]:
        """Return curl's arguments: the routed Service's address."""
        return [f"http://{_CATALOG_ADDRESS}"]

    def redis(self) -> Sequence[str]:
        """Return redis-cli's arguments: the Service's address."""
        return ["-h", REDIS_ADDRESS]

    def watch(self) -> None:
        """Start tcpdump on store-0's cable and wait until it listens."""
        said = self._capture.with_suffix(".log")
        with said.open("wb") as errors:
            program = self._cluster.node.spawn(
                ["tcpdump", "-i", self._store.cable, *_WATCH, "-w", str(self._capture), "tcp"],
                errors=errors,
            )
        deadline = time.monotonic() + START_S
        while b"listening on" not in said.read_bytes():
            if program.poll() is not None or time.monotonic() > deadline:
                words = said.read_text(errors="replace").strip()
                raise ConfigError(f"tcpdump does not listen: {words}")
            time.sleep(_POLL_S)
        self._program = program

    def seen(self, word: bytes) -> list[Flow]:
        """Wait until the word has been written down, and return all that was."""
        deadline = time.monotonic() + _SEEN_S
        while word not in self._capture.read_bytes() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        if self._program is not None:
            self._program.send_signal(signal.SIGTERM)
            self._program.wait(START_S)
        return read_capture(self._capture)
