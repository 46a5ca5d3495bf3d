"""Pod manifests, run for real by ``podman kube play`` in a network namespace that is the node.

What this podman (4.3) cannot take of an injected Pod is replaced before it is played, by
``substitute`` and nothing else; ``SUBSTITUTIONS`` lists it all.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.demo.host import Host
from tests.support.processes import wait_until

CONFIGURATION = Path(__file__).with_name("containers.conf")
SUBSTITUTIONS = {
    "annotations": "left out where they have more than 63 characters: podman takes no others",
    "kind": "a Job's or Deployment's pod is made of its template, as their controllers do",
    "restartPolicy": "Never: podman restarts init containers that have ended",
    "ports": "left out: podman publishes each on the node, the kubelet none",
    "probes": "left out: podman asks systemd to make them; the tests ask /live and /ready",
    "lifecycle": "left out: podman knows no hooks; the tests run `pillion ready`",
    "env": "fields of namespace, service account and addresses, and $(NAME), are written out",
    "projected": "volumes are directories of the node with the files that they stand for",
}
"""What is replaced, and why."""
_MAX_ANNOTATION = 63
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_NAME = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


def substitute(
    item: dict[str, Any], ip: str, directories: Mapping[str, Path]
) -> tuple[dict[str, Any], set[str]]:
    """Return a pod that podman takes, and which SUBSTITUTIONS it took.

    ``directories`` has the node's directory of each projected volume.
    """
    pod: dict[str, Any] = copy.deepcopy(item)
    used = {"restartPolicy"}
    if pod["kind"] != "Pod":
        used.add("kind")
        template = pod["spec"]["template"]
        meta = {**template.get("metadata", {}), "name": pod["metadata"]["name"]}
        meta["namespace"] = pod["metadata"]["namespace"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
    annotations = pod["metadata"]["annotations"]
    for name in [name for name, text in annotations.items() if len(text) > _MAX_ANNOTATION]:
        used.add("annotations")
        del annotations[name]
    spec = pod["spec"]
    spec["restartPolicy"] = "Never"
    fields = {
        "metadata.name": pod["metadata"]["name"],
        "metadata.namespace": pod["metadata"]["namespace"],
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": ip,
        "status.podIPs": ip,
    }
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        used |= {each for each in ("ports", "lifecycle") if container.pop(each, None)}
        used |= {"probes" for each in _PROBES if container.pop(each, None)}
        if container.get("env"):
            used.add("env")
            container["env"] = written_out(container["env"], fields)
    for volume in spec.get("volumes", ()):
        if volume.pop("projected", None):
            used.add("projected")
            path = str(directories[volume["name"]])
            volume["hostPath"] = {"path": path, "type": "Directory"}
    return pod, used


def written_out(variables: list[dict[str, Any]], fields: Mapping[str, str]) -> list[Any]:
    """Return variables as the kubelet writes them out: fields of the pod, and earlier ones."""
    known: dict[str, str] = {}
    for each in variables:
        source = each.get("valueFrom", {}).get("fieldRef")
        text = fields[source["fieldPath"]] if source else each.get("value", "")
        known[each["name"]] = _NAME.sub(lambda found: known.get(found[1], found[0]), text)
    return [{"name": name, "value": value} for name, value in known.items()]


def podman(
    *arguments: str, before: Sequence[str] = (), timeout_s: float = 60, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run podman; a command with a network only behind ``before``, on a node."""
    done = subprocess.run(
        [*before, "podman", *arguments],
        env={**os.environ, "CONTAINERS_CONF": str(CONFIGURATION)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if check:
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
    return done


@dataclass
class Node:
    """Where pods run: a namespace with podman's bridge in it."""

    host: Host
    mark: str
    subnet: str
    place: Path
    pods: list[str] = field(default_factory=list)
    others: set[str] = field(default_factory=set)
    """Volumes that were there before."""

    def podman(
        self, *arguments: str, timeout_s: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run podman on the node: elsewhere it would write its rules into the machine's own."""
        inside = ("nsenter", f"--net={self.host.path}")
        return podman(*arguments, before=inside, timeout_s=timeout_s, check=check)

    def open(self) -> None:
        """Make the pods' network."""
        self.others = self._volumes()
        self.host.must(["ip", "link", "set", "lo", "up"])
        self.podman("network", "create", "--disable-dns", "--subnet", self.subnet, self.mark)

    def close(self) -> None:
        """Remove pods, network and volumes."""
        if self.pods:
            self.podman("pod", "rm", "--force", "--time", "0", *self.pods, check=False)
        self.podman("network", "rm", "--force", self.mark, check=False)
        for volume in self._volumes() - self.others:
            self.podman("volume", "rm", "--force", volume, check=False)

    def play(self, ip: str, *items: dict[str, Any]) -> None:
        """Run a pod, given last, with the ConfigMaps it mounts."""
        path = self.place / f"{items[-1]['metadata']['name']}.yaml"
        path.write_text("".join(f"---\n{json.dumps(item)}\n" for item in items))
        self.pods.append(items[-1]["metadata"]["name"])
        self.podman("kube", "play", "--network", self.mark, "--ip", ip, str(path))

    def _volumes(self) -> set[str]:
        return {*self.podman("volume", "ls", "--quiet").stdout.split()}

    def state(self, container: str) -> dict[str, Any]:
        """Return what podman knows of a container's process."""
        found: list[dict[str, Any]] = json.loads(self.podman("inspect", container).stdout)
        return {**found[0]["State"], "HostConfig": found[0]["HostConfig"]}

    def run_in(
        self, container: str, *command: str, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container."""
        return self.podman("exec", container, *command, timeout_s=timeout_s, check=False)

    def get(self, url: str) -> tuple[str, str]:
        """Ask from the node, as the kubelet does; return status (000: none) and body."""
        command = ["curl", "-sS", "-m", "5", "-w", "\n%{http_code}", url]
        body, _, status = self.host.run(command).stdout.rpartition("\n")
        return status, body

    def await_ready(self, ip: str) -> None:
        """Wait until a pod's sidecar is ready."""
        answers = [("", "")]

        def is_ready() -> bool:
            answers.append(self.get(f"http://{ip}:4191/ready"))
            return answers[-1][0] == "200"

        try:
            wait_until(is_ready, seconds=60, what="the sidecar is ready")
        except AssertionError:
            raise AssertionError(f"{answers[-1]}; {self.logs()}") from None

    def logs(self) -> str:
        """Return the ends of what all containers said."""
        names = self.podman("ps", "--all", "--format", "{{.Names}}").stdout.split()
        said = {name: self.podman("logs", "--tail", "8", name, check=False) for name in names}
        return "\n".join(f"{name}: {each.stdout}{each.stderr}" for name, each in said.items())

    def ended(self, containers: Sequence[str]) -> list[int]:
        """Wait until these containers have ended; return their statuses."""
        wait_until(
            lambda: not any(self.state(each)["Running"] for each in containers),
            seconds=60,
            what=f"{', '.join(containers)} end",
        )
        return [int(self.state(each)["ExitCode"]) for each in containers]
