"""The promise: an injected Pod runs, with the sidecar under 1 CPU and 64 MiB, without a capability.

Real images, made by ``make image``, and ``podman kube play`` in a network namespace: the init
container sets the rules, an application talks through its sidecar to another Pod over mutual TLS,
a sidecar that is killed and started again serves again, a Job's pod completes. What podman cannot
take of a Pod is replaced by ``tests.support.kube.substitute``; nothing else is.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.demo.pods import Rig
from inject.document import read_manifest
from redirect.options import PROXY_UID
from tests.conftest import IS_CI, ROOT
from tests.support.kube import SUBSTITUTIONS, Node, podman, substitute
from tests.support.sockets import ENVIRONMENT, PILLION

pytestmark = [
    pytest.mark.needs(
        "root", "podman", "runc", "catatonit", "nsenter", "ip", "curl", "iptables-nft"
    ),
    pytest.mark.slow,
]

BASE = "docker.io/library/python:3.11-slim-bookworm"
SUBNET = "10.21.0.0/24"
CLIENT, WEB, JOB, BARE, GATEWAY = (f"10.21.0.{number}" for number in range(11, 16))
IPS = {"client": CLIENT, "web": WEB, "job": JOB, "bare": BARE, "linkerd-gateway": GATEWAY}
DOMAIN = "cluster.local"
DEPLOY = ROOT / "deploy/gateway"
MIB = 1 << 20
SIZES_MIB = {"pillion": 48, "pillion-init": 12}
"""The most that each image adds to the one below it."""
CLIENT_NAME = "client.shop.serviceaccount.identity.linkerd.cluster.local"

SERVER = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = b'hello from the pod'
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server((sys.argv[1], 8080), Page).serve_forever()
"""
CALL = """
import sys, urllib.request as u
print(u.urlopen(f'http://{sys.argv[1]}:8080/', timeout=10).read())
"""
WORK = f"""
import time, urllib.request as u
for attempt in range(300):
    try:
        u.urlopen('http://localhost:4191/ready', timeout=2)
        break
    except OSError:
        time.sleep(0.1)
assert u.urlopen('http://{WEB}:8080/', timeout=10).read() == b'hello from the pod'
u.urlopen(u.Request('http://localhost:4191/shutdown', method='POST'), timeout=5)
"""
LIMITS = {
    "config.linkerd.io/proxy-cpu-limit": "1",
    "config.linkerd.io/proxy-memory-request": "32Mi",
    "config.linkerd.io/proxy-memory-limit": "64Mi",
}
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsUser": 1000,
    "runAsNonRoot": True,
}


def manifest(
    name: str, script: str, *arguments: str, kind: str = "Pod", **annotations: str
) -> dict[str, Any]:
    """Return a workload as its author writes it."""
    container: dict[str, Any] = {
        "name": "app",
        "image": BASE,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", script.strip(), *arguments],
        "securityContext": RESTRICTED,
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": "http"}},
    }
    meta = {"name": name, "namespace": "shop", "labels": {"app": name}}
    marks = {**LIMITS, "pillion.dev/identity-secret": f"{name}-tls", **annotations}
    spec = {"serviceAccountName": name, "restartPolicy": "OnFailure", "containers": [container]}
    if kind == "Pod":
        return {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {**meta, "annotations": marks},
            "spec": {**spec, "restartPolicy": "Always"},
        }
    template = {"metadata": {"labels": {"app": name}, "annotations": marks}, "spec": spec}
    return {
        "apiVersion": "batch/v1",
        "kind": kind,
        "metadata": meta,
        "spec": {"template": template},
    }


@dataclass
class Scene:
    """A node with two injected Pods, and a third for a Job."""

    node: Node
    place: Path
    injected: dict[str, dict[str, Any]]
    config_map: dict[str, Any]

    def play(self, name: str, ip: str) -> set[str]:
        """Run an injected pod; return what had to be substituted."""
        directories = {"pillion-identity": self.place / "identity" / name}
        pod, used = substitute(self.injected[name], ip, directories)
        self.node.play(ip, self.config_map, pod)
        return used

    def call(self, ip: str = WEB) -> subprocess.CompletedProcess[str]:
        """Let the client's application call another one."""
        return self.node.run_in("client-app", "python3", "-c", CALL, ip)

    def clients_of(self, ip: str) -> str:
        """Return the identities of whom a sidecar has let in."""
        _, metrics = self.node.get(f"http://{ip}:4191/metrics")
        lines = [line for line in metrics.splitlines() if line.startswith("tcp_open_total")]
        return "\n".join(lines)


def pillion(*arguments: str, given: str = "", **environment: str) -> str:
    """Run the command that has to succeed."""
    done = subprocess.run(
        [*PILLION, *arguments],
        input=given,
        env={**os.environ, **ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def who(item: dict[str, Any]) -> str:
    """Return whose pod it is, as NAMESPACE/SERVICE-ACCOUNT."""
    template = item if item["kind"] == "Pod" else item["spec"]["template"]
    return f"{item['metadata']['namespace']}/{template['spec']['serviceAccountName']}"


def give_identity(place: Path, name: str, item: dict[str, Any]) -> None:
    """Lay out a pod's Secret and anchors as the projected volume has them."""
    out = place / "identity" / name
    arguments = ["identity", "issue", who(item), "--authority", str(place / "authority")]
    pillion(*arguments, "--out", str(out), PILLION_DEV_ISSUER="1")
    for path in (out, *out.rglob("*")):
        os.chown(path, PROXY_UID, PROXY_UID)


def inject(written: list[dict[str, Any]], *options: str) -> dict[str, dict[str, Any]]:
    """Return what the command makes of workloads, by name."""
    images = ["--image", "localhost/pillion", "--init-image", "localhost/pillion-init"]
    text = pillion(
        *("inject", "--no-native-sidecar", *images, "--image-version", "latest", *options),
        given=yaml.safe_dump_all(written),
    )
    values: list[Any] = [each.value for each in read_manifest("injected", text.encode())]
    return {each["metadata"]["name"]: each for each in values if each}


def gateway() -> dict[str, Any]:
    """Return the gateway's Deployment as it is shipped, but for the namespace and image."""
    found = list(yaml.safe_load_all((DEPLOY / "gateway.yaml").read_text()))
    item: dict[str, Any] = found[-1]
    item["metadata"]["namespace"] = "linkerd-multicluster"
    (container,) = item["spec"]["template"]["spec"]["containers"]
    container["image"] = "localhost/pillion:latest"
    return item


def mesh_of(injected: dict[str, dict[str, Any]], ips: dict[str, str]) -> dict[str, Any]:
    """Return the ConfigMap that holds the mesh: what ``kubectl get`` would say of it."""
    config = {"defaultInboundPolicy": "all-authenticated"}
    items: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "pillion-config", "namespace": "linkerd"},
            "data": config,
        },
        *yaml.safe_load_all((DEPLOY / "policy.yaml").read_text()),
    ]
    for name, item in injected.items():
        template = item if item["kind"] == "Pod" else item["spec"]["template"]
        meta = {**template["metadata"], "name": name, "namespace": item["metadata"]["namespace"]}
        status = {"phase": "Running", "podIP": ips[name], "podIPs": [{"ip": ips[name]}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
        items.append({**pod, "status": status})
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "pillion-mesh"},
        "data": {"mesh.yaml": yaml.safe_dump_all(items)},
    }


@pytest.fixture(scope="module")
def _images() -> None:
    """Both images are there, made of these very sources."""
    if subprocess.run([ROOT / "tools/image", "current"], check=False, timeout=60).returncode:
        reason = "there are no images of these sources; `make image` builds them"
        if IS_CI:
            pytest.fail(f"{reason}: compulsory in CI", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def scene(_images: None) -> Iterator[Scene]:
    """Inject workloads with the command, and play all but the Job; with them a gateway."""
    written = [
        manifest("client", "import time; time.sleep(3600)"),
        manifest("web", SERVER, "0.0.0.0"),
        manifest("job", WORK, kind="Job", **{"config.linkerd.io/proxy-admin-shutdown": "enabled"}),
    ]
    bare = manifest("bare", SERVER, "127.0.0.1", **{"pillion.dev/capture": "explicit"})
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        authority = place / "authority"
        pillion("identity", "init", "--authority", str(authority), "--trust-domain", DOMAIN)
        anchors = str(authority / "anchors" / f"{DOMAIN}.pem")
        injected = {**inject(written), **inject([bare], "--trust-anchors", anchors)}
        injected["linkerd-gateway"] = gateway()
        for pod, item in injected.items():
            give_identity(place, pod, item)
        # Its anchors are in its environment alone.
        shutil.rmtree(place / "identity/bare/anchors")
        node = Node(rig.host("node"), f"pillion-{os.getpid()}", SUBNET, place)
        found = Scene(node, place, injected, mesh_of(injected, IPS))
        try:
            node.open()
            playing = [pod for pod in IPS if pod != "job"]
            for pod in playing:
                found.play(pod, IPS[pod])
            for pod in playing:
                node.await_ready(IPS[pod])
            yield found
        finally:
            node.close()


@pytest.mark.usefixtures("_images")
def test_images() -> None:
    """Small, without an installer, run by anybody, and they say what they are."""

    def inside(image: str, *command: str) -> str:
        alone = ("--rm", "--network=none", "--read-only", "--cap-drop=all", "--user=7777")
        return podman("run", *alone, image, *command).stdout

    below = BASE
    for name, most in SIZES_MIB.items():
        added = size_of(f"localhost/{name}") - size_of(below)
        print(f"{name}: {added / MIB:.1f} MiB more than {below}")
        assert 0 < added <= most * MIB
        below = f"localhost/{name}"
    config = inspected("localhost/pillion")["Config"]
    assert config["User"] == f"{PROXY_UID}:{PROXY_UID}"
    commit = config["Labels"]["org.opencontainers.image.revision"]
    said = inside("localhost/pillion", "--version")
    assert said.startswith("pillion ")
    assert commit
    assert commit in said
    version = json.loads(inside("localhost/pillion", "version", "-o", "json"))
    assert version["core"] == "compiled"
    assert set(version["modules"].values()) == {"compiled"}
    for module in ("pip", "ensurepip", "setuptools"):
        script = f"import importlib.util as u; print(u.find_spec({module!r}))"
        for python in ("/opt/pillion/bin/python", "/usr/local/bin/python"):
            assert inside(f"--entrypoint={python}", "localhost/pillion", "-c", script) == "None\n"
    script = "import glob; print(glob.glob('/usr/**/pip-*', recursive=True))"
    found = inside("--entrypoint=/usr/local/bin/python", "localhost/pillion", "-c", script)
    assert found == "[]\n"
    backends = inside("localhost/pillion-init", "redirect", "install", "--dry-run", "-o", "json")
    assert "iptables-nft-restore" in backends


def size_of(image: str) -> int:
    """Return an image's size in bytes."""
    return int(inspected(image)["Size"])


def inspected(image: str) -> dict[str, Any]:
    """Return what podman knows of an image."""
    found: list[dict[str, Any]] = json.loads(podman("image", "inspect", image).stdout)
    return found[0]


def test_only_what_is_listed_is_substituted(scene: Scene) -> None:
    """Each substitution is needed, and what it touches is all that differs."""
    directories = {"pillion-identity": Path("/secrets")}
    needed: set[str] = set()
    for name, item in scene.injected.items():
        pod, used = substitute(item, "10.21.0.99", directories)
        needed |= used
        template = item if item["kind"] == "Pod" else item["spec"]["template"]
        for kind in ("initContainers", "containers"):
            if kind not in template["spec"]:
                continue
            pairs = zip(template["spec"][kind], pod["spec"][kind], strict=True)
            for before, after in pairs:
                changed = {key for key in before if before[key] != after.get(key)}
                assert changed <= {"ports", "lifecycle", "env", "livenessProbe", "readinessProbe"}
                assert {*after} <= {*before}
                env = {each["name"] for each in before.get("env", ())}
                assert {each["name"] for each in after.get("env", ())} == env
                assert not any("$(" in each["value"] for each in after.get("env", ()))
        volumes = zip(template["spec"]["volumes"], pod["spec"]["volumes"], strict=True)
        assert [one["name"] for one, other in volumes if one != other] == ["pillion-identity"]
        rest = {*template["spec"]} - {"containers", "initContainers", "volumes", "restartPolicy"}
        assert all(template["spec"][key] == pod["spec"][key] for key in rest)
        meta = pod["metadata"]
        assert (meta["name"], meta["labels"]) == (name, template["metadata"]["labels"])
        gone = {*template["metadata"]["annotations"]} - {*meta["annotations"]}
        assert gone <= {"pillion.dev/injected"}
    assert needed == {*SUBSTITUTIONS}


def test_an_app_reaches_another_pod_over_mutual_tls(scene: Scene) -> None:
    """Through both sidecars; who is outside the mesh is refused."""
    done = scene.call()
    assert done.stdout == "b'hello from the pod'\n", f"{done.stderr}\n{scene.node.logs()}"
    assert f'client_id="{CLIENT_NAME}"' in scene.clients_of(WEB)
    status, _ = scene.node.get(f"http://{WEB}:8080/")
    assert status == "000" or status.startswith("4")
    for ip in (WEB, CLIENT):
        assert scene.node.get(f"http://{ip}:4191/live")[0] == "200"
    for name in ("web", "client"):
        hook = scene.injected[name]["spec"]["containers"][0]["lifecycle"]["postStart"]
        done = scene.node.run_in(f"{name}-linkerd-proxy", *hook["exec"]["command"])
        assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_sidecar_has_no_privilege(scene: Scene) -> None:
    """As the kernel has it: user, capabilities, limits, a read-only root file system."""
    for name in ("web", "client", "bare", "linkerd-gateway"):
        container = f"{name}-linkerd-proxy"
        state = scene.node.state(container)
        lines = Path(f"/proc/{state['Pid']}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert status["Uid"].split() == [str(PROXY_UID)] * 4
        assert status["Gid"].split() == [str(PROXY_UID)] * 4
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[kind], 16) == 0, kind
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        limits = state["HostConfig"]
        assert limits["ReadonlyRootfs"] is True
        if name != "linkerd-gateway":
            assert limits["Memory"] == 64 * MIB
            assert limits["CpuQuota"] == limits["CpuPeriod"] > 0
        done = scene.node.run_in(container, "/opt/pillion/bin/python", "-c", "open('/x', 'w')")
        assert "Read-only file system" in done.stderr
        print(f"{container}: {int(status['VmRSS'].split()[0]) / 1024:.1f} MiB resident")
        pod = f"--net=/proc/{state['Pid']}/ns/net"
        rules = ["nsenter", pod, "iptables-nft-save", "-t", "nat"]
        saved = subprocess.run(rules, capture_output=True, text=True, timeout=10, check=True)
        is_captured = name in ("web", "client")
        assert ("--to-ports 4143" in saved.stdout) is is_captured
        assert (f"--uid-owner {PROXY_UID} " in saved.stdout) is is_captured


def test_limits_are_enough_for_work(scene: Scene) -> None:
    """Calls one after the other and at once: nothing is killed for memory, nothing fails."""
    script = f"""
import concurrent.futures as f, urllib.request as u
def call(number): return u.urlopen('http://{WEB}:8080/', timeout=30).read()
with f.ThreadPoolExecutor(20) as pool: print(len(set(pool.map(call, range(500)))))
"""
    done = scene.node.run_in("client-app", "python3", "-c", script, timeout_s=120)
    assert done.stdout == "1\n", f"{done.stderr}\n{scene.node.logs()}"
    for name in ("web", "client"):
        state = scene.node.state(f"{name}-linkerd-proxy")
        assert (state["Running"], state["OOMKilled"]) == (True, False)
        lines = Path(f"/proc/{state['Pid']}/status").read_text().splitlines()
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        print(f"{name}-linkerd-proxy: {peak / 1024:.1f} MiB at most")


def test_a_pod_without_init_container_is_reached_the_same_way(scene: Scene) -> None:
    """Explicit capture: no rule, no capability, the application on loopback, its way out told."""
    assert "initContainers" not in scene.injected["bare"]["spec"]
    done = scene.call(BARE)
    assert done.stdout == "b'hello from the pod'\n", f"{done.stderr}\n{scene.node.logs()}"
    assert f'client_id="{CLIENT_NAME}"' in scene.clients_of(BARE)
    status, _ = scene.node.get(f"http://{BARE}:8080/")
    assert status == "000" or status.startswith("4")
    told = scene.node.run_in(
        "bare-app", "python3", "-c", "import os; print(os.environ['ALL_PROXY'])"
    )
    assert told.stdout == f"socks5h://{BARE}:4140\n"
    _, ready = scene.node.get(f"http://{BARE}:4191/ready")
    assert "trust anchors" in ready
    assert "the anchors in force stay" in ready


def test_the_gateway_that_is_shipped_serves(scene: Scene) -> None:
    """Its manifest has all that it needs; who has no identity does not get in."""
    _, log = scene.node.get(f"http://{GATEWAY}:4191/policy")
    assert scene.node.get(f"http://{GATEWAY}:4191/ready") == ("200", "ready\n"), log
    assert scene.node.get(f"http://{GATEWAY}:4143/")[0] == "000"


def test_a_killed_sidecar_that_is_started_again_serves_again(scene: Scene) -> None:
    """Both sides, one after the other, with rules that stayed."""
    for name, ip in (("client", CLIENT), ("web", WEB)):
        container = f"{name}-linkerd-proxy"
        os.kill(scene.node.state(container)["Pid"], signal.SIGKILL)
        assert scene.node.ended([container]) == [128 + signal.SIGKILL]
        assert scene.call().returncode != 0
        scene.node.podman("start", container)
        scene.node.await_ready(ip)
        done = scene.call()
        assert done.stdout == "b'hello from the pod'\n", done.stderr
        assert scene.node.state(container)["OOMKilled"] is False


def test_a_job_s_pod_completes(scene: Scene) -> None:
    """Its last step asks the sidecar to end; both have ended well."""
    used = scene.play("job", JOB)
    assert "kind" in used
    containers = ["job-app", "job-linkerd-proxy"]
    assert scene.node.ended(containers) == [0, 0], scene.node.logs()
