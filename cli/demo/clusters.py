"""The demo's second act: three clusters that trust each other's names, and nothing more.

``web`` and ``cron`` in the east call ``api``, which the west and the south have: straight at the
far pod, through the west's gateway, and as one federated Service that outlives the west. Every
link, export and address comes from the commands that a user types.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

import yaml

from cli.demo.host import APP_UID
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Pod, Rig
from cli.demo.runtime import Runtime
from cli.demo.stage import HTTP_PORT, HTTP_SERVICE_PORT, START_S
from cli.demo.story import Scenario
from cli.demo.talk import Talk
from core.errors import ConfigError

_API: Final = "10.96.0.20"
_REQUESTS: Final = 20
_AFTER_DEATH: Final = 40
_EVENT_S: Final = 10.0
_POLL_S: Final = 0.05
_NETWORKS: Final = {"east": "10.21.0.0/24", "west": "10.22.0.0/24", "south": "10.23.0.0/24"}


@final
class ClustersStory:
    """Sets three clusters up, then plays the scenarios between them."""

    def __init__(self, rig: Rig, runtime: Runtime, place: Path, talk: Talk) -> None:
        self._runtime: Final = runtime
        self._talk: Final = talk
        clusters = {name: rig.cluster(name, pods) for name, pods in _NETWORKS.items()}
        self._meshes: Final[dict[str, Mesh]] = {}
        for name, cluster in clusters.items():
            home = place / name
            home.mkdir(mode=0o755)
            self._meshes[name] = Mesh(rig, cluster, runtime, home, f"{name}.example")
        rig.join_flat(clusters["east"], clusters["west"])
        rig.join_flat(clusters["east"], clusters["south"])
        self._sidecars: Final[dict[str, Sidecar]] = {}

    def tell(self) -> list[Scenario]:
        """Play everything. Raises MeshError when the scene cannot be set."""
        east, west, south = (self._meshes[name] for name in ("east", "west", "south"))
        with self._talk.step("make three clusters, each with a root and an issuer of its own"):
            for account in ("web", "cron"):
                east.workload(f"{account}-0", account)
            for mesh in (west, south):
                mesh.workload("api-0", "api", ports={"api": HTTP_PORT})
                mesh.service("api", "api", [_API], {HTTP_SERVICE_PORT: HTTP_PORT})
            policy = {"config.linkerd.io/default-inbound-policy": "all-authenticated"}
            west.workload("gateway-0", "gateway", annotations=policy)
            for mesh in self._meshes.values():
                mesh.write()
                mesh.start_issuer()
        self._link()
        self._start()
        played = [self._play_direct(), self._play_denied(), self._play_gateway()]
        return [*played, self._play_death()]

    def _link(self) -> None:
        east, west, south = (self._meshes[name] for name in ("east", "west", "south"))
        door = west.pods["gateway-0"].ip
        with self._talk.step(
            "pillion multicluster link, export (in the east, of the others)"
        ) as step:
            for far, options in (
                (west, ("--gateway", door, "--gateway-identity", _who("gateway", "west"))),
                (south, ()),
            ):
                link = ("multicluster", "link", "--source", str(far.directory))
                manifest = east.pillion(*link, "--mesh", str(east.directory), *options)
                east.add(f"link-{far.cluster.name}.yaml", manifest)
                east.trust(far)
                far.trust(east)
                far.label("api", **_labels("federated"))
            west.label("api", **_labels("direct", "federated"))
            west.add("policy.yaml", _policy([_who("web", "east"), _who("gateway", "west")]))
            for mesh in self._meshes.values():
                mesh.write()
            step.note = "west's policy admits web of the east, and its own gateway; not cron"

    def _start(self) -> None:
        with self._talk.step(
            "start api in the west and the south, a gateway, five sidecars"
        ) as step:
            for name in ("west", "south"):
                pod = self._meshes[name].pods["api-0"]
                web = ["-m", "cli.demo.web", "0.0.0.0", str(HTTP_PORT), f"api of the {name}"]  # noqa: S104  # of its pod
                pod.host.spawn(
                    [self._runtime.interpreter, *web], uid=APP_UID, env=self._runtime.environment
                )
                _await_port(pod, HTTP_PORT)
            pods = {"east": ("web-0", "cron-0"), "west": ("api-0",), "south": ("api-0",)}
            for name, names in pods.items():
                for pod_name in names:
                    self._meshes[name].capture(pod_name)
                    sidecar = self._meshes[name].start_sidecar(pod_name)
                    self._sidecars[f"{name}/{pod_name}"] = sidecar
            self._sidecars["west/gateway-0"] = self._meshes["west"].start_gateway("gateway-0")
            for sidecar in self._sidecars.values():
                sidecar.await_ready()
            step.note = "all ready"
        with self._talk.step("pillion multicluster check (in the east)") as step:
            step.note = ", ".join(f"{name} {ip}" for name, ip in sorted(self._addresses().items()))

    def _addresses(self) -> dict[str, str]:
        """Return where Services of other clusters are dialled, as the command says it."""
        east = self._meshes["east"]
        said = east.pillion("multicluster", "check", "--mesh", str(east.directory), "-o", "json")
        services = json.loads(said)["services"]
        return {str(each["name"]): str(each["addresses"][0]) for each in services}

    def _play_direct(self) -> Scenario:
        address = self._addresses()["api-west"]
        with self._talk.step(f"east/web-0: curl http://{address}/, which is api-west") as step:
            answers, latency = self._ask("web-0", address, _REQUESTS)
            step.note = " / ".join(sorted(answers))
            return self._judge("direct", "direct", _who("web", "east"), answers, latency)

    def _play_denied(self) -> Scenario:
        address = self._addresses()["api-west"]
        with self._talk.step(f"east/cron-0: curl http://{address}/") as step:
            answers, latency = self._ask("cron-0", address, 1)
            cron = _who("cron", "east")
            event = self._sidecars["west/api-0"].find(
                _EVENT_S, event=("connection denied", "request denied"), client_identity=cron
            )
            is_refused = event is not None and "api of the west" not in answers
            step.note = f"{'refused, as it should be' if is_refused else 'NOT refused'}"
            return Scenario(
                name="direct-denied",
                ok=is_refused,
                path="direct",
                client_identity=str(event.get("client_identity", "")) if event else "",
                latency_ms=latency,
                seen=(f"denied: {event.get('reason')}" if event else "nothing was denied",),
            )

    def _play_gateway(self) -> Scenario:
        address = self._addresses()["api-west"]
        west = self._meshes["west"]
        with self._talk.step(f"export api --as gateway, and again curl http://{address}/") as step:
            west.label("api", **_labels("gateway", "federated"))
            west.write()
            deadline = time.monotonic() + _EVENT_S
            gateway = self._sidecars["west/gateway-0"]
            carried = None
            while carried is None and time.monotonic() < deadline:
                # Whichever way it is sent meanwhile, it is answered.
                self._ask("web-0", address, 1)
                carried = gateway.find(0.0, event="connection", direction="gateway")
            answers, latency = self._ask("web-0", address, _REQUESTS)
            step.note = " / ".join(sorted(answers))
            scenario = self._judge("gateway", "gateway", _who("gateway", "west"), answers, latency)
            who = carried.get("client_identity") if carried else "nobody"
            return Scenario(
                name=scenario.name,
                ok=scenario.ok and who == _who("web", "east"),
                path="gateway",
                client_identity=scenario.client_identity,
                latency_ms=latency,
                seen=(*scenario.seen, f"the gateway carried it for {who}"),
            )

    def _play_death(self) -> Scenario:
        address = self._addresses()["api-federated"]
        with self._talk.step(
            f"kill everything in the west while http://{address}/ is called"
        ) as step:
            before, _ = self._ask("web-0", address, _REQUESTS)
            for sidecar in (self._sidecars["west/gateway-0"], self._sidecars["west/api-0"]):
                sidecar.program.kill()
                sidecar.program.wait(START_S)
            self._meshes["west"].pods["api-0"].host.close(time.monotonic())
            after, latency = self._ask("web-0", address, _AFTER_DEATH)
            step.note = f"before: {', '.join(sorted(before))}; after: {', '.join(sorted(after))}"
            event = self._sidecars["south/api-0"].find(
                _EVENT_S, event="connection", direction="inbound"
            )
            identity = str(event.get("client_identity", "")) if event else ""
            return Scenario(
                name="cluster-death",
                ok=after == {"api of the south"} and before <= {"api of the west", *after},
                path="direct",
                client_identity=identity,
                latency_ms=latency,
                seen=(f"{_AFTER_DEATH} of {_AFTER_DEATH} calls after it were answered",)
                if after == {"api of the south"}
                else (f"said: {', '.join(sorted(after))}",),
            )

    def _judge(self, name: str, path: str, who: str, answers: set[str], latency: float) -> Scenario:
        """Judge calls by whom the west's sidecar saw: the caller itself, or the gateway."""
        seen = self._sidecars["west/api-0"].find(
            _EVENT_S, event="connection", direction="inbound", client_identity=who
        )
        return Scenario(
            name=name,
            ok=answers == {"api of the west"} and seen is not None and seen.get("tls") == "mesh",
            path=path,
            client_identity=str(seen.get("client_identity", "")) if seen else "",
            latency_ms=latency,
            seen=(f"said: {', '.join(sorted(answers))}",),
        )

    def _ask(self, name: str, address: str, count: int) -> tuple[set[str], float]:
        """Return what calls were answered, each once, and the median of how long they took."""
        pod = self._meshes["east"].pods[name]
        answers: set[str] = set()
        times = []
        for _ in range(count):
            words = ["curl", "-sS", "-m", "10", "-w", " %{time_total}", f"http://{address}/"]
            done = pod.host.run(words, uid=APP_UID)
            body, _, took = done.stdout.rpartition(" ")
            answers.add(body.strip() or done.stderr.strip() or "nothing")
            times.append(float(took or 0) * 1000)
        return answers, statistics.median(times)


def _who(account: str, cluster: str) -> str:
    return f"{account}.shop.serviceaccount.identity.linkerd.{cluster}.example"


def _labels(*ways: str) -> dict[str, str]:
    labels = {
        "direct": ("mirror.linkerd.io/exported", "remote-discovery"),
        "gateway": ("mirror.linkerd.io/exported", "true"),
        "federated": ("mirror.linkerd.io/federated", "member"),
    }
    return dict(labels[way] for way in ways)


def _policy(identities: Sequence[str]) -> str:
    """Return manifests that admit these identities to api, and nobody else."""
    group = "policy.linkerd.io"
    place = {"name": "api", "namespace": "shop"}
    selector = {"podSelector": {"matchLabels": {"app": "api"}}, "port": HTTP_PORT}
    target = {"group": group, "kind": "Server", "name": "api"}
    means = [{"group": group, "kind": "MeshTLSAuthentication", "name": "api"}]
    specs = (
        ("v1beta3", "Server", selector),
        ("v1alpha1", "MeshTLSAuthentication", {"identities": list(identities)}),
        (
            "v1alpha1",
            "AuthorizationPolicy",
            {"targetRef": target, "requiredAuthenticationRefs": means},
        ),
    )
    documents = [
        {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": place, "spec": spec}
        for version, kind, spec in specs
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


def _await_port(pod: Pod, port: int) -> None:
    deadline = time.monotonic() + START_S
    probe = ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"]
    while pod.host.run(probe).returncode != 0:
        if time.monotonic() > deadline:
            raise ConfigError(f"{pod.host.name}: nothing listens on port {port} yet")
        time.sleep(_POLL_S)
