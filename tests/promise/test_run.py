"""The promise: an application runs with its sidecar as one command, and both end as one.

In pods of network namespaces with real capture rules; client and server are both started by
``pillion run``, and share nothing but the mesh directory and the authority.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cli.demo.host import APP_UID
from cli.demo.mesh import Mesh
from cli.demo.pods import Pod, Rig
from cli.demo.runtime import find_runtime
from redirect.options import PROXY_UID
from tests.support.processes import processes_marked, wait_until
from tests.support.sockets import ENVIRONMENT, PILLION

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

SERVICE = "10.96.0.10"
PORT = 8000
SERVER = (
    "import http.server, sys\n"
    "class Page(http.server.BaseHTTPRequestHandler):\n"
    "    protocol_version = 'HTTP/1.0'\n"
    "    def do_GET(self):\n"
    "        self.send_response(200); self.end_headers(); self.wfile.write(b'hello')\n"
    "    def log_message(self, *_): pass\n"
    f"http.server.HTTPServer(('0.0.0.0', {PORT}), Page).serve_forever()\n"
)


@dataclass
class Scene:
    """A mesh directory, pods with capture rules, and a place for files."""

    mesh: Mesh
    place: Path
    mark: str = field(default_factory=lambda: f"run-test-{os.urandom(8).hex()}")

    @property
    def environment(self) -> dict[str, str]:
        """What every run gets, with a mark that tells ours."""
        return {**os.environ, **ENVIRONMENT, "MARK": self.mark}

    def words(
        self, pod: str, *command: str, options: tuple[str, ...] = (), uid: int | None = None
    ) -> list[str]:
        """Return the command line that runs ``command`` in ``pod``."""
        if "--log" not in options:
            self.log(pod).unlink(missing_ok=True)
        words = (
            *(*PILLION, "run", "--mesh", str(self.mesh.directory), "--as", f"shop/{pod}"),
            *("--authority", str(self.place / "authority"), "--log", str(self.log(pod)), *options),
        )
        return self.mesh.pods[pod].host.command([*words, "--", *command], uid=uid)

    def start(
        self, pod: str, *command: str, options: tuple[str, ...] = (), uid: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Run ``command`` in ``pod`` by ``pillion run``."""
        return subprocess.Popen(
            self.words(pod, *command, options=options, uid=uid),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def finish(
        self, pod: str, *command: str, options: tuple[str, ...] = (), uid: int | None = None
    ) -> tuple[int, str, str]:
        """Run to the end; return exit status, stdout and stderr."""
        running = self.start(pod, *command, options=options, uid=uid)
        with running:
            try:
                out, err = running.communicate(timeout=60)
            finally:
                running.kill()
        return running.returncode, out.decode(), err.decode()

    def log(self, pod: str) -> Path:
        """The sidecar's log."""
        return self.place / f"{pod}.log"

    def events(self, pod: str, name: str) -> list[dict[str, Any]]:
        """Return the sidecar's events of this name."""
        found = []
        for line in self.log(pod).read_text().splitlines():
            if line.startswith("{"):
                event = json.loads(line)
                if event["event"] == name:
                    found.append(event)
        return found

    def until_ready(self, pod: str) -> None:
        """Wait until the application of a run has been started."""
        wait_until(
            lambda: self.log(pod).exists() and bool(self.events(pod, "serving")),
            seconds=30,
            what=f"{pod} serves",
        )


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Pods with capture rules, and nothing running in them."""
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        mesh = Mesh(rig, rig.cluster("a"), find_runtime(PROXY_UID, place), place)
        mesh.workload("api-0", "api", ports={"http": PORT})
        mesh.workload("web-0", "web")
        bare = mesh.workload("bare-0", "bare")
        mesh.workload("plain-0", "plain", meshed=False)
        mesh.service("api", "api", [SERVICE], {PORT: PORT})
        mesh.write()
        for pod in ("api-0", "web-0"):
            mesh.capture(pod)
        found = Scene(mesh, place)
        yield found
        assert isinstance(bare, Pod)
        wait_until(
            lambda: not processes_marked(found.mark), seconds=10, what="nothing is left running"
        )


@contextmanager
def api(scene: Scene) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server."""
    running = scene.start("api-0", "/usr/bin/python3", "-c", SERVER)
    try:
        scene.until_ready("api-0")
        yield running
    finally:
        if running.poll() is None:
            running.terminate()
        running.communicate(timeout=60)


def test_a_job_calls_a_server_and_ends_with_its_sidecar(scene: Scene) -> None:
    """Its output and status are the command's; its sidecar drained; the server saw who called."""
    with api(scene) as server:
        ask = ("curl", "-sS", "--retry", "5", "--retry-all-errors", f"http://{SERVICE}:{PORT}/")
        status, out, err = scene.finish("web-0", *ask)
        assert (status, out) == (0, "hello"), err
        assert err == ""
        (drained,) = scene.events("web-0", "drained")
        assert drained["seconds"] < 10
        seen = scene.events("api-0", "connection")
        assert {each["client_identity"] for each in seen} == {
            "web.shop.serviceaccount.identity.linkerd.cluster.local"
        }
        assert server.poll() is None
        server.terminate()
        assert server.wait(30) == 128 + signal.SIGTERM


def test_the_issuer_ends_with_its_run_and_is_started_by_another(scene: Scene) -> None:
    """Two runs share one authority; whichever is left keeps issuing."""
    with api(scene) as first:
        second = scene.start("web-0", "sleep", "60")
        try:
            scene.until_ready("web-0")
            first.terminate()
            first.communicate(timeout=30)
            third = ("curl", "-s", "http://127.0.0.1:4191/ready")
            deadline = time.monotonic() + 30
            # A run that comes now finds an issuer, the second's or its own.
            status, out, err = scene.finish("api-0", *third)
            assert (status, out) == (0, "ready\n"), err
            assert time.monotonic() < deadline
            assert second.poll() is None
        finally:
            second.terminate()
            second.communicate(timeout=30)


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 7", 7), ("kill -KILL $$", 128 + signal.SIGKILL)],
)
def test_the_application_s_status_is_the_command_s(scene: Scene, script: str, status: int) -> None:
    """A Job succeeds or fails as its work does; the sidecar's own end is in order."""
    assert scene.finish("web-0", "sh", "-c", script)[0] == status
    assert len(scene.events("web-0", "drained")) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_application(scene: Scene, number: signal.Signals) -> None:
    """It decides what to make of them; the sidecar is asked to end only after it."""
    script = f"trap 'echo heard; exit 5' {number.name[3:]}; echo up; while :; do sleep 0.1; done"
    running = scene.start("web-0", "sh", "-c", script)
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    os.kill(running.pid, number)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (5, b"heard\n"), err
    assert [each["signal"] for each in scene.events("web-0", "asked to end")] == ["SIGTERM"]


def _typed(keyboard: int) -> bytes:
    """Return what a terminal shows next; OSError once nobody has it open."""
    ready, _, _ = select.select([keyboard], [], [], 30)
    assert ready, "the terminal stays silent"
    return os.read(keyboard, 1_000)


def test_ctrl_c_at_a_terminal_reaches_the_application_once(scene: Scene) -> None:
    """The terminal has sent it to the application itself; the sidecar is spared."""
    keyboard, terminal = os.openpty()
    script = "trap 'echo heard' INT; trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done"
    # A session of its own, with the terminal as its controlling one.
    take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    take += "os.execvp(sys.argv[1], sys.argv[1:])"
    words = scene.words("web-0", "sh", "-c", script)
    running = subprocess.Popen(
        [sys.executable, "-c", take, *words],
        env=scene.environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    seen = b""
    try:
        while b"up" not in seen:
            seen += _typed(keyboard)
        os.write(keyboard, b"\x03")
        while b"heard" not in seen:
            seen += _typed(keyboard)
        time.sleep(0.5)
        os.kill(running.pid, signal.SIGTERM)
        assert running.wait(30) == 5
        while True:
            seen += _typed(keyboard)
    except OSError:
        # The other side of the terminal is closed: that was all.
        assert seen.count(b"heard") == 1, seen
    finally:
        running.kill()
        running.wait(30)
        os.close(keyboard)


def test_the_end_of_the_sidecar_is_seen(scene: Scene) -> None:
    """The application is asked to end, and the command fails and says why."""
    running = scene.start("web-0", "sh", "-c", "echo up; exec sleep 60")
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    (sidecar,) = [
        pid
        for pid in processes_marked(scene.mark)
        if b"\0proxy\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(sidecar, signal.SIGKILL)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 1
    assert b"the sidecar ended with status 137 while the application ran" in err
    assert b"its log " in err


def test_an_application_without_a_ready_sidecar_is_not_started(scene: Scene) -> None:
    """Its reason is the message; what was started is ended."""
    broken = scene.mesh.directory / "broken.yaml"
    broken.write_text("kind: {")
    try:
        status, out, err = scene.finish("web-0", "echo", "started", options=("--wait", "3s"))
    finally:
        broken.unlink()
    assert (status, out) == (1, "")
    assert "the sidecar was not ready within 3 s: not ready: the mesh directory was broken" in err
    assert "broken.yaml" in err.splitlines()[0]


def test_a_second_sidecar_in_one_pod_is_refused(scene: Scene) -> None:
    """Whoever answers on the port is not taken for our own sidecar."""
    with api(scene):
        status, out, err = scene.finish("api-0", "echo", "started", options=("--log", "/dev/null"))
        assert (status, out) == (2, "")
        assert "something answers on 127.0.0.1:4191 already" in err


def test_everything_that_is_missing_is_said_at_once(scene: Scene) -> None:
    """Before anything is started, with what helps."""
    status, out, err = scene.finish("bare-0", "echo", "started")
    assert (status, out) == (2, "")
    assert "there are no capture rules in this network namespace" in err
    status, out, err = scene.finish("plain-0", "echo", "started")
    assert (status, out) == (2, "")
    assert "the pod shop/plain-0 is not meshed" in err
    assert "linkerd.io/inject: enabled" in err


def test_a_mistyped_setting_ends_it_before_anything_starts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sidecar's settings are read by the command itself."""
    monkeypatch.setenv("PILLION_LGO", "debug")
    status, out, err = scene.finish("web-0", "echo", "started")
    assert (status, out) == (2, "")
    assert "did you mean PILLION_LOG?" in err


def test_who_is_asked_to_end_before_the_application_starts_fails(scene: Scene) -> None:
    """The application has not run, so its work is not done; nothing is left."""
    broken = scene.mesh.directory / "broken.yaml"
    broken.write_text("kind: {")
    try:
        running = scene.start("web-0", "echo", "started")
        scene.until_ready("web-0")
        running.terminate()
        out, err = running.communicate(timeout=30)
    finally:
        broken.unlink()
    assert (running.returncode, out) == (1, b"")
    assert b"SIGTERM came before the application was started" in err


def test_a_user_who_may_not_is_told_so(scene: Scene) -> None:
    """Without root there is no capture by rules."""
    runtime = find_runtime(APP_UID, scene.place)
    done = subprocess.run(
        scene.mesh.pods["bare-0"].host.command(
            [
                *runtime.pillion("run", "--mesh", str(scene.mesh.directory)),
                *("--as", "shop/bare-0", "--capture", "redirect", "--", "/bin/true"),
            ],
            uid=APP_UID,
        ),
        env={"PATH": os.defpath, **runtime.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert f"this is uid {APP_UID}, and only root can start the sidecar" in done.stderr
