"""The sidecar's own user runs this program, from where it lies or from a copy."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.demo import runtime as module
from cli.demo.runtime import Runtime, blocked, find_runtime
from core.errors import ConfigError

UID = 2102

pytestmark = [pytest.mark.needs("root", "setpriv"), pytest.mark.slow]


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a directory that every user may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def private(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this look like an interpreter below somebody's home; returns that home."""
    home = place / "home"
    home.mkdir(mode=0o700)
    interpreter = home / "python"
    interpreter.symlink_to(Path(sys.executable).resolve())
    monkeypatch.setattr(sys, "executable", str(interpreter))
    return home


def say_version(runtime: Runtime) -> subprocess.CompletedProcess[str]:
    """Run ``pillion version`` as the sidecar's user."""
    user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--"]
    return subprocess.run(
        [*user, *runtime.pillion("version")],
        env=runtime.environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_everyone_can_run_is_left_where_it_is(place: Path) -> None:
    """No copy, no note, where the installation is open to all: as the copy of a closed one is."""
    everyones = find_runtime(UID, place / "staging")
    unused = place / "unused"
    ask = (
        "import pathlib, cli.demo.runtime\n"
        f"print(cli.demo.runtime.find_runtime({UID}, pathlib.Path({str(unused)!r})))"
    )
    done = subprocess.run(
        [everyones.interpreter, "-c", ask],
        env=everyones.environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    as_it_is = Runtime(everyones.interpreter, everyones.packages)
    assert done.stdout == f"{as_it_is}\n"
    assert not unused.exists()
    assert say_version(everyones).returncode == 0


def test_an_installation_below_a_closed_home_is_copied(private: Path, place: Path) -> None:
    """The copy runs by another interpreter of the same version, and the reason is told."""
    runtime = find_runtime(UID, place / "staging")
    assert f"uid 2102 cannot enter {private} (mode 0700)" in runtime.note
    assert runtime.packages == place / "staging" / "packages"
    assert not runtime.interpreter.startswith(str(private))
    assert {path.name for path in runtime.packages.iterdir()} >= {
        "cli",
        "proxy",
        "structlog",
        "yaml",
    }
    assert not (runtime.packages / "pytest").exists()
    done = say_version(runtime)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_another_interpreter_the_way_out_is_named(
    private: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No Python to be had: a configuration error with the package to install."""
    monkeypatch.setattr(module, "_interpreters", lambda: iter([sys.executable]))
    with pytest.raises(ConfigError, match=f"cannot enter {private}") as caught:
        find_runtime(UID, place / "staging")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"apt-get install python{version}" in caught.value.hint


def test_the_first_closed_step_is_named(tmp_path: Path) -> None:
    """Of a long path, the message names the step to open."""
    closed = tmp_path / "closed"
    (closed / "deep").mkdir(parents=True)
    (closed / "deep" / "program").touch(mode=0o755)
    closed.chmod(0o750)
    assert blocked(UID, [closed / "deep" / "program"]).startswith("cannot enter ")
    assert "mode 07" in blocked(UID, [closed / "deep" / "program"])
    assert "No such file" in blocked(UID, [Path("/bin/nothing-of-that-name")])
    assert blocked(UID, [Path("/bin/sh")]) == "cannot run /bin/sh with its packages"
