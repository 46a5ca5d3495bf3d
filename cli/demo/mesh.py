"""A running mesh on a cluster of the rig: issuer, capture rules and sidecars, as users have them.

Everything is started by the same commands that a user types; nothing is reached into.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Final, TypeVar, final

from cli.demo.host import Host
from cli.demo.manifest import NAMESPACE, Service, Workload, write_manifests
from cli.demo.pods import Hosts, Network, Pod
from cli.demo.runtime import Runtime
from core.errors import ConfigError
from redirect.options import PROXY_UID

T = TypeVar("T")

TRUST_DOMAIN: Final = "cluster.local"
_READY_S: Final = 30.0
_POLL_S: Final = 0.05
_LAST_LINES: Final = 5
_MAX_LOG_BYTES: Final = 32 * 1024 * 1024

Event = Mapping[str, object]
"""One line of a sidecar's log."""


@final
class Sidecar:
    """A sidecar beside a pod's app, and its log."""

    def __init__(self, pod: Pod, program: subprocess.Popen[bytes], log: Path) -> None:
        self.pod: Final = pod
        self.program: Final = program
        self._log: Final = log

    def events(self) -> list[Event]:
        """Return what it has logged so far."""
        found: list[Event] = []
        with self._log.open("rb") as file:
            for line in file.read(_MAX_LOG_BYTES).splitlines():
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if isinstance(event, dict):
                    found.append(event)
        return found

    def find(self, seconds: float, **fields: object) -> Event | None:
        """Wait for the newest log line with these fields; None when none came.

        A tuple stands for any of its values.
        """

        def look() -> Event | None:
            for event in reversed(self.events()):
                if all(_fits(event.get(name), value) for name, value in fields.items()):
                    return event
            return None

        return self._await(look, seconds)

    def await_ready(self) -> None:
        """Wait until its admin server says that it is ready. Raises ConfigError with the reason."""
        url = f"http://{self.pod.ip}:4191/ready"
        request = ["curl", "-sS", "-m", "2", "-w", "\n%{http_code}", url]
        answer = ""

        def look() -> bool | None:
            nonlocal answer
            done = self.pod.host.run(request)
            answer = (done.stdout + done.stderr).strip()
            return True if done.stdout.endswith("\n200") else None

        if self._await(look, _READY_S) is None:
            raise ConfigError(
                f"{self.pod.host.name}: the sidecar was not ready within {_READY_S:.0f} s: "
                f"{answer or 'no answer'}; {self.last_words()}"
            )

    def last_words(self) -> str:
        """Return the end of its log, for a message."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "its log ends with: " + " / ".join(lines[-_LAST_LINES:] or ["nothing"])

    def _await(self, look: Callable[[], T | None], seconds: float) -> T | None:
        deadline = time.monotonic() + seconds
        while True:
            found = look()
            if found is not None or time.monotonic() > deadline:
                return found
            try:
                status = self.program.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                continue
            raise ConfigError(
                f"{self.pod.host.name}: the sidecar ended with status {status}; {self.last_words()}"
            )


def _fits(value: object, wanted: object) -> bool:
    return value in wanted if isinstance(wanted, tuple) else value == wanted


@final
class Mesh:
    """One cluster's mesh."""

    def __init__(
        self,
        rig: Hosts,
        cluster: Network,
        runtime: Runtime,
        place: Path,
        trust_domain: str = TRUST_DOMAIN,
    ) -> None:
        """Prepare a mesh whose files go below ``place``, which every user may read."""
        self.cluster: Final = cluster
        self.trust_domain: Final = trust_domain
        self.directory: Final = place / "manifests"
        self.pods: Final[dict[str, Pod]] = {}
        self._runtime: Final = runtime
        self._place: Final = place
        self._workloads: list[Workload] = []
        self._services: list[Service] = []
        self._settings: dict[str, str] = {
            "clusterName": cluster.name,
            "trustDomain": trust_domain,
        }
        self._others: dict[str, str] = {}
        self._trusted: list[Path] = []
        # The issuer needs no network at all, and gets none.
        self._issuer_host: Final[Host] = rig.host(f"{cluster.name}/issuer")
        self._issuer: Final = place / "issuer"
        self._socket: Final = place / "run" / "issuer.sock"
        place.mkdir(exist_ok=True)
        self.directory.mkdir()
        self._socket.parent.mkdir()

    def workload(
        self,
        name: str,
        account: str,
        *,
        ports: Mapping[str, int] | None = None,
        meshed: bool = True,
        annotations: Mapping[str, str] | None = None,
        published: Sequence[str] = (),
        pod: Pod | None = None,
    ) -> Pod:
        """Add a pod, to the cluster and to the manifests.

        ``published``: the addresses that the manifests give for it instead of its own. ``pod``:
        where it is, if that is no ordinary pod of the cluster.
        """
        pod = self.pods[name] = pod or self.cluster.pod(name)
        self._workloads.append(
            Workload(
                name=name,
                service_account=account,
                ips=published or pod.ips,
                ports=ports or {},
                meshed=meshed,
                annotations=annotations or {},
            )
        )
        return pod

    def service(
        self,
        name: str,
        app: str,
        addresses: Sequence[str],
        ports: Mapping[int, int],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Add a Service over the pods of ``app`` that exist; ``ports`` are port → pods' port.

        It has an address of each family that it is to be reached by.
        """
        self._services.append(
            Service(name=name, app=app, cluster_ips=addresses, ports=ports, labels=labels or {})
        )
        pods = [each for each in self._workloads if each.app == app]
        for address, (port, target) in product(addresses, ports.items()):
            ips = [each for pod in pods for each in pod.ips if (":" in each) is (":" in address)]
            self.cluster.service(address, port, [(ip, target) for ip in ips])

    def label(self, service: str, **labels: str) -> None:
        """Give a Service other labels; ``write`` puts them in force."""
        self._services = [
            replace(each, labels=labels) if each.name == service else each
            for each in self._services
        ]

    def add(self, file: str, text: str) -> None:
        """Add a file to the manifests, or replace it; ``write`` puts it there."""
        self._others[file] = text

    def trust(self, other: Mesh) -> None:
        """Trust another mesh's roots for its names; before the sidecars start."""
        self._trusted.append(other.anchors)

    @property
    def anchors(self) -> Path:
        """The mesh's own roots."""
        return self._issuer / "anchors" / f"{self.trust_domain}.pem"

    def write(self, **settings: str) -> None:
        """Write the manifests, with these settings of the whole mesh."""
        self._settings.update(settings)
        write_manifests(
            self.directory, self._workloads, self._services, self._settings, self._others
        )

    def start_issuer(self) -> None:
        """Make the mesh's root and issuer, and start what issues certificates."""
        authority = ("--authority", str(self._issuer))
        self.pillion("identity", "init", *authority, "--trust-domain", self.trust_domain)
        log = self._place / "issuer.log"
        with log.open("wb") as errors:
            program = self._issuer_host.spawn(
                self._runtime.pillion(
                    "identity", "serve", *authority, "--socket", str(self._socket)
                ),
                env=self._runtime.environment,
                errors=errors,
            )
        deadline = time.monotonic() + _READY_S
        while not self._socket.is_socket():
            try:
                program.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
            words = log.read_text(errors="replace").strip() or "it said nothing"
            raise ConfigError(f"the issuer opened no socket within {_READY_S:.0f} s: {words}")

    def capture(self, name: str, *options: str) -> str:
        """Install the capture rules in a pod, as its init container would; return its words."""
        return self.pillion("redirect", "install", *options, host=self.pods[name].host)

    def start_gateway(self, name: str, **settings: str) -> Sidecar:
        """Start the cluster's gateway in a pod of its own, which has no app."""
        return self._start(name, "gateway", settings)

    def start_sidecar(self, name: str, **settings: str) -> Sidecar:
        """Start a pod's sidecar as its user; ``settings`` are names without ``PILLION_``."""
        return self._start(name, "proxy", settings)

    def _start(self, name: str, verb: str, settings: Mapping[str, str]) -> Sidecar:
        workload = next(each for each in self._workloads if each.name == name)
        home = self._credentials(workload)
        log = self._place / f"{name}.log"
        with log.open("wb") as errors:
            program = self.pods[name].host.spawn(
                self._runtime.pillion(verb),
                uid=PROXY_UID,
                env={
                    **self._runtime.environment,
                    "PILLION_POD": f"{NAMESPACE}/{name}",
                    "PILLION_MESH_DIR": str(self.directory),
                    "PILLION_IDENTITY_DIR": str(home),
                    "PILLION_IDENTITY_SOCKET": str(self._socket),
                    "PILLION_IDENTITY_TOKEN_FILE": str(home / "token"),
                    "PILLION_LOG_FORMAT": "json",
                    **{f"PILLION_{key}": value for key, value in settings.items()},
                },
                errors=errors,
            )
        return Sidecar(self.pods[name], program, log)

    def _credentials(self, workload: Workload) -> Path:
        """Make what a sidecar needs to be given an identity, for its user's eyes only."""
        home = self._place / "identity" / workload.name
        if not home.exists():
            account = f"{NAMESPACE}/{workload.service_account}"
            authority = ("--authority", str(self._issuer))
            token = self.pillion("identity", "issue", "--token", account, *authority)
            home.mkdir(parents=True)
            shutil.copytree(self._issuer / "anchors", home / "anchors")
            for path in self._trusted:
                shutil.copy(path, home / "anchors")
            (home / "token").write_text(token)
            (home / "token").chmod(0o400)
            home.chmod(0o700)
            for path in (home, *home.rglob("*")):
                if not self.pods[workload.name].host.is_shared:
                    os.chown(path, PROXY_UID, PROXY_UID)
        return home

    def pillion(self, *arguments: str, host: Host | None = None) -> str:
        """Run a command of ours that has to succeed, in ``host`` or where the issuer is."""
        where = host or self._issuer_host
        done = where.run(
            self._runtime.pillion(*arguments), env=self._runtime.environment, timeout_s=_READY_S
        )
        if done.returncode != 0:
            raise ConfigError(f"{where.name}: pillion {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout
