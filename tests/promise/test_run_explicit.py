"""The promise: the same without one privilege, on this machine's loopback addresses.

The application listens on 127.0.0.1, its sidecar holds the pod's address, and programs go out by
the proxy that their environment names.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cli.demo.host import APP_UID
from cli.demo.loopback import NETWORKS, LoopbackRig, free_port
from cli.demo.mesh import Mesh
from cli.demo.runtime import Runtime, find_runtime, own_runtime
from tests.support.processes import processes_marked, wait_until

pytestmark = [pytest.mark.needs("setpriv", "curl"), pytest.mark.slow]

PAGE = "a page of the api"
WEB = "web.shop.serviceaccount.identity.linkerd.cluster.local"


@dataclass
class Scene:
    """A mesh directory, in which nothing runs yet; and who we are."""

    place: Path
    mesh: Mesh
    runtime: Runtime
    port: int
    """The api's own, and its pod's."""
    user: list[str]
    """What makes us an ordinary user, where we are root."""
    mark: str = field(default_factory=lambda: f"run-test-{os.urandom(8).hex()}")

    def words(self, pod: str, *command: str) -> list[str]:
        """Return the command line that runs ``command`` as ``pod``."""
        home = self.place / "home"
        # As root its own places are the machine's.
        places = ("--authority", str(home / "authority"), "--log", str(home / f"{pod}.log"))
        given: tuple[str, ...] = ("--mesh", str(self.mesh.directory), "--as", f"shop/{pod}")
        given += () if self.user else (*places, "--capture", "explicit")
        return [*self.user, *self.runtime.pillion("run", *given, "--", *command)]

    @property
    def environment(self) -> dict[str, str]:
        """What every run gets, with a proxy that must not win."""
        home = str(self.place / "home")
        own = {"HOME": home, "XDG_RUNTIME_DIR": home, "MARK": self.mark}
        return {**self.runtime.environment, "PATH": os.environ["PATH"], **own} | {
            "http_proxy": "http://127.0.0.1:9"
        }

    def finish(self, pod: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        return subprocess.run(
            self.words(pod, *command),
            env=self.environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def log(self, pod: str) -> str:
        """Return what a pod's sidecar has logged."""
        found = (self.place / "home").rglob(f"*{pod}.log")
        return "".join(each.read_text() for each in found)


@pytest.fixture(params=["ordinary", "root"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A mesh of two pods; as an ordinary user, and as who we are where that is root."""
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        home = place / "home"
        home.mkdir()
        user, runtime = [], own_runtime()
        if is_root and request.param == "ordinary":
            user = ["setpriv", f"--reuid={APP_UID}", f"--regid={APP_UID}", "--clear-groups", "--"]
            runtime = find_runtime(APP_UID, place)
            os.chown(home, APP_UID, APP_UID)
        elif request.param == "root" and not is_root:
            pytest.skip("this is not root")
        with LoopbackRig() as rig:
            mesh = Mesh(rig, rig.cluster("a"), runtime, place)
            port = free_port()
            mesh.workload("api-0", "api", ports={"http": port})
            mesh.workload("web-0", "web")
            mesh.service("api", "api", ["10.96.0.10"], {80: port})
            mesh.write(clusterNetworks=NETWORKS, defaultInboundPolicy="all-authenticated")
        found = Scene(place, mesh, runtime, port, user)
        yield found
        wait_until(
            lambda: not processes_marked(found.mark), seconds=15, what="nothing is left running"
        )


@contextmanager
def api(scene: Scene) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server."""
    www = scene.place / "www"
    www.mkdir(exist_ok=True)
    (www / "page").write_text(PAGE)
    server = [sys.executable, "-m", "http.server", "-b", "127.0.0.1", "-d", str(www)]
    if scene.user:
        server[0] = shutil.which("python3", path=os.defpath) or server[0]
    with subprocess.Popen(
        scene.words("api-0", *server, str(scene.port)),
        env=scene.environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        try:
            yield running
        finally:
            running.terminate()
            running.wait(60)


def test_a_job_calls_a_server_by_the_proxy_that_it_is_told(scene: Scene) -> None:
    """By the Service's name; the server's sidecar sees who calls; both end as one."""
    with api(scene) as server:
        ask = ("curl", "-sS", "--retry", "20", "--retry-all-errors", "--retry-delay", "1")
        done = scene.finish("web-0", *ask, "http://api.shop/page")
        assert (done.returncode, done.stdout) == (0, PAGE), done.stderr
        assert server.poll() is None
        server.terminate()
        assert server.wait(30) == 128 + signal.SIGTERM
    assert WEB in scene.log("api-0")
    assert '"drained"' in scene.log("web-0")


def test_what_an_application_is_told(scene: Scene) -> None:
    """Its sidecar's address in both spellings, loopback left alone, other proxies unset."""
    done = scene.finish("web-0", "env")
    assert done.returncode == 0, done.stderr
    told = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    entry = f"{scene.mesh.pods['web-0'].ip}:4140"
    for name in ("ALL_PROXY", "all_proxy"):
        assert told[name] == f"socks5h://{entry}"
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        assert told[name] == f"http://{entry}"
    for name in ("NO_PROXY", "no_proxy"):
        assert told[name] == "localhost,127.0.0.1,::1"
    assert told["ftp_proxy"] == told["FTP_PROXY"] == ""


def test_an_address_of_elsewhere_is_said_before_anything_starts(scene: Scene) -> None:
    """With what helps."""
    scene.mesh.write(clusterNetworks=NETWORKS)
    for path in scene.mesh.directory.rglob("*"):
        if path.is_file():
            text = path.read_text().replace(scene.mesh.pods["web-0"].ip, "192.0.2.7")
            path.write_text(text)
    done = scene.finish("web-0", "echo", "started")
    assert (done.returncode, done.stdout) == (2, "")
    assert "192.0.2.7, the pod's own, is on no interface here" in done.stderr
    assert "any of 127.0.0.0/8 will do" in done.stderr


def test_the_check_beside_it_looks_at_no_rules(scene: Scene) -> None:
    """It asks the sidecar at the pod's address, while other pods' sidecars run beside it."""
    check = [
        *scene.runtime.pillion("check", "--mesh", str(scene.mesh.directory)),
        *("--as", "shop/web-0", "--capture", "explicit", "-o", "json"),
    ]
    with api(scene):
        wait_until(lambda: '"serving"' in scene.log("api-0"), seconds=30, what="the api serves")
        done = scene.finish("web-0", *check)
    assert done.returncode == 0, done.stdout
    assert '"capture-rules"' not in done.stdout
    assert '"ports-open"' in done.stdout
    assert f"a sidecar answers on {scene.mesh.pods['web-0'].ip}:4191" in done.stdout
