"""The demo keeps its promise: it shows the mesh at work, and leaves the machine as it was."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from cli.demo.host import APP_UID
from cli.demo.runtime import find_runtime
from tests.support.processes import wait_until
from tests.support.sockets import ENVIRONMENT, PILLION

pytestmark = [
    pytest.mark.needs("curl", "redis-cli", "redis-server", "setpriv"),
    pytest.mark.slow,
]
captured = pytest.mark.needs("root", "ip", "iptables-nft", "nsenter", "tcpdump", "unshare")

WEB = "web.shop.serviceaccount.identity.linkerd.cluster.local"
SECONDS = 120
Process = tuple[int, str]
"""Its id and when it started, which no two processes share."""


def start_demo(*arguments: str) -> subprocess.Popen[str]:
    """Start the demo as a user would."""
    return subprocess.Popen(
        [*PILLION, "demo", *arguments],
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def descendants(root: int) -> set[Process]:
    """Return the processes that ``root`` started, itself and by others."""
    children: dict[int, list[Process]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append((int(entry.name), fields[19]))
    found: set[Process] = set()
    queue = [root]
    while queue:
        for process in children.get(queue.pop(), []):
            found.add(process)
            queue.append(process[0])
    return found


def alive(process: Process) -> bool:
    """Whether a process is there and no zombie."""
    with suppress(OSError):
        fields = Path(f"/proc/{process[0]}/stat").read_text().rpartition(")")[2].split()
        return fields[19] == process[1] and fields[0] != "Z"
    return False


def assert_nothing_left(place: Path | None, started: set[Process]) -> None:
    """No process, no directory; with them gone, the namespaces that only they held are too."""
    wait_until(lambda: not any(map(alive, started)), seconds=10, what="its processes end")
    assert place is not None
    assert not place.exists()


def place_in(talk: str) -> Path | None:
    """Return the directory of the run, as the demo told it."""
    found = re.search(r"(/tmp/pillion-demo-\w+)/", talk)
    return Path(found[1]) if found else None


def cables() -> set[str]:
    """Return the network interfaces of this machine that are called like the demo's."""
    found = (path.name for path in Path("/sys/class/net").iterdir())
    return {name for name in found if re.fullmatch(r"[cv]\d+", name)}


def namespaces_of(processes: set[Process]) -> set[int]:
    """Return the network namespaces that they live in."""
    found = set()
    for number, _ in processes:
        with suppress(OSError):
            found.add(Path(f"/proc/{number}/ns/net").stat().st_ino)
    return found


def named_namespaces() -> set[int]:
    """Return the network namespaces that have a name on this machine."""
    found = set()
    for path in Path("/run/netns").glob("*"):
        with suppress(OSError):
            found.add(path.stat().st_ino)
    return found


@pytest.mark.parametrize("mode", [pytest.param("redirect", marks=captured), "explicit"])
def test_the_demo_shows_the_mesh_and_leaves_nothing(mode: str) -> None:
    """Every scenario is good, its JSON has the agreed shape, and the machine is as before."""
    links = cables()
    started: set[Process] = set()
    lived_in: set[int] = set()
    ours = {Path("/proc/self/ns/net").stat().st_ino}
    with start_demo("--mode", mode, "-o", "json") as demo:
        try:
            deadline = time.monotonic() + SECONDS
            while demo.poll() is None and time.monotonic() < deadline:
                names, present = named_namespaces(), descendants(demo.pid)
                started |= present
                lived_in |= namespaces_of(present)
                assert not names & namespaces_of(present) - ours
                time.sleep(0.1)
        finally:
            demo.kill()
        assert demo.stdout is not None
        assert demo.stderr is not None
        data, talk = demo.stdout.read(), demo.stderr.read()
    assert demo.returncode == 0, talk
    document = json.loads(data)
    assert set(document) == {"scenarios"}
    keys = {"name", "ok", "path", "client_identity", "latency_ms"}
    scenarios = {each["name"]: each for each in document["scenarios"]}
    assert all(set(each) == keys for each in document["scenarios"])
    local = ("http", "redis", "canary-split", "header-route", "stranger-denied", "encrypted")
    paths = dict.fromkeys(local, "local")
    if mode == "redirect":
        paths |= {
            "direct": "direct",
            "direct-denied": "direct",
            "gateway": "gateway",
            "cluster-death": "direct",
        }
        seen = [scenarios[name]["client_identity"] for name in list(paths)[len(local) :]]
        assert [str(each).split(".")[0] for each in seen] == ["web", "cron", "gateway", "web"]
    assert {name: each["path"] for name, each in scenarios.items()} == paths
    assert all(each["ok"] is True for each in scenarios.values())
    for name in ("http", "redis", "canary-split", "header-route"):
        assert scenarios[name]["client_identity"] == WEB
    for name in ("http", "redis"):
        assert 0 < scenarios[name]["latency_ms"] < 1000
    assert scenarios["stranger-denied"]["client_identity"] is None
    assert scenarios["encrypted"]["latency_ms"] is None
    assert "refused, as it should be" in talk
    assert f"{len(paths)} of {len(paths)} scenarios as they should be" in talk.splitlines()[-1]
    assert len(started) > 5
    assert_nothing_left(place_in(talk), started)
    # Nameless, they are gone with the processes; what others do meanwhile is theirs.
    assert bool(lived_in - ours) == (mode == "redirect")
    assert cables() <= links


@pytest.mark.needs("root")
def test_an_ordinary_user_sees_it_too() -> None:
    """With a home of its own and no privilege: on loopback addresses, without being asked."""
    place = Path(tempfile.mkdtemp(prefix="pillion-test-", dir="/tmp"))
    try:
        place.chmod(0o755)
        runtime = find_runtime(APP_UID, place)
        home = place / "home"
        home.mkdir()
        os.chown(home, APP_UID, APP_UID)
        user = [f"--reuid={APP_UID}", f"--regid={APP_UID}", "--clear-groups", "--"]
        done = subprocess.run(
            ["setpriv", *user, *runtime.pillion("demo", "-o", "short")],
            env={"PATH": os.defpath, "HOME": str(home), **runtime.environment},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    finally:
        shutil.rmtree(place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:6] == [
        *("ok http", "ok redis", "ok canary-split", "ok header-route", "ok stranger-denied"),
        "ok encrypted",
    ]
    assert "a recording relay in front of store-0" in done.stderr


@pytest.mark.parametrize(
    ("mode", "number"),
    [
        pytest.param("redirect", signal.SIGINT, marks=captured),
        pytest.param("redirect", signal.SIGTERM, marks=captured),
        pytest.param("redirect", signal.SIGHUP, marks=captured),
        ("explicit", signal.SIGINT),
    ],
)
@pytest.mark.parametrize("moment", ["start two HTTP servers", "start the sidecars"])
def test_an_interrupted_demo_cleans_up(mode: str, number: signal.Signals, moment: str) -> None:
    """A signal with apps or sidecars running: exit 1, after everything is removed."""
    with start_demo("--mode", mode) as demo:
        try:
            assert demo.stderr is not None
            talk = ""
            while moment not in talk:
                line = demo.stderr.readline()
                assert line, f"ended early: {talk}"
                talk += line
            started = descendants(demo.pid)
            demo.send_signal(number)
            # A second one, of impatience, does not keep it from cleaning up.
            demo.send_signal(number)
            talk += demo.stderr.read()
            assert demo.wait(SECONDS) == 1
        finally:
            demo.kill()
    assert started
    assert "everything that was started is ended and removed" in talk
    assert_nothing_left(place_in(talk), started)


@pytest.mark.parametrize("delay_s", [0.0, 0.005, 0.02, 0.05, 0.1, 0.2])
def test_an_interruption_at_the_very_start_ends_it_in_peace(delay_s: float) -> None:
    """While modules are loading too: no traceback is shown to who changed their mind."""
    script = (
        "import cli.start, sys\n"
        "def hear(event, words):\n"
        "    event == 'import' and words[0] == 'cli.main' and print('up', flush=True)\n"
        "sys.addaudithook(hear)\n"
        "cli.start.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, "demo", "--mode", "explicit"],
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        try:
            assert demo.stdout is not None
            assert demo.stdout.readline() == "up\n"
            time.sleep(delay_s)
            demo.send_signal(signal.SIGINT)
            _, said = demo.communicate(timeout=SECONDS)
        finally:
            demo.kill()
    assert demo.returncode in {1, -signal.SIGINT}
    assert "Traceback" not in said


@captured
def test_a_killed_demo_takes_its_programs_along() -> None:
    """Kill -9 leaves a directory of files, and no process and no namespace."""
    with start_demo() as demo:
        try:
            assert demo.stderr is not None
            talk = ""
            while "start the sidecars" not in talk:
                line = demo.stderr.readline()
                assert line, f"ended early: {talk}"
                talk += line
            started = descendants(demo.pid)
        finally:
            demo.kill()
    assert len(started) > 3
    wait_until(lambda: not any(map(alive, started)), seconds=10, what="its processes end")
    place = place_in(talk)
    assert place is not None
    shutil.rmtree(place)
