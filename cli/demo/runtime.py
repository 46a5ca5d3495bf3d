"""How other users run this program: its interpreter and packages, as they are or as a copy.

The sidecar runs under a user of its own, which cannot enter a home directory of mode 0700. Where
interpreter or packages lie below one, the packages of this installation are copied to a
directory everyone can read, and an interpreter of the same version is looked for elsewhere.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, final

import cli
from core.errors import ConfigError
from core.record import dataclass

_PROBE: Final = (
    "import sysconfig, cli.main, cryptography.x509, structlog, yaml\n"
    "print(sysconfig.get_config_var('SOABI'))"
)
_PROBE_S: Final = 30.0
_DISTRIBUTION: Final = "pillion"


@final
@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs this program for any user."""

    interpreter: str
    packages: Path
    """The directory that goes first on Python's path."""
    note: str = ""
    """What had to be done, in one line; empty: nothing."""

    def pillion(self, *arguments: str) -> list[str]:
        """Return the command line of ``pillion`` with these arguments."""
        return [self.interpreter, "-c", "from cli.start import main; main()", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """What the command line needs in its environment."""
        return {
            "PYTHONPATH": str(self.packages),
            "PYTHONNOUSERSITE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def own_runtime() -> Runtime:
    """Return what runs this program as the user that we are."""
    return Runtime(sys.executable, Path(cli.__file__).resolve().parents[1])


def find_runtime(uid: int, staging: Path) -> Runtime:
    """Return what ``uid`` can run; a copy, if one is needed, goes below ``staging``.

    Raises ConfigError when nothing can be run.
    """
    here = Path(cli.__file__).resolve().parents[1]
    as_is = Runtime(sys.executable, here)
    if runs(as_is, uid):
        return as_is
    why = blocked(uid, [Path(sys.executable), Path(sys.executable).resolve(), here])
    copy = staging / "packages"
    _copy_packages(here, copy)
    for interpreter in _interpreters():
        note = f"uid {uid} {why}: its programs run from a copy in {copy} by {interpreter}"
        staged = Runtime(interpreter, copy, note)
        if runs(staged, uid):
            return staged
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    raise ConfigError(
        f"uid {uid}, as which the sidecars run, {why}, and found no other Python {version}",
        hint=f"install one (apt-get install python{version}), or put the virtual environment and "
        "its interpreter where every user may go, such as /opt",
    )


def blocked(uid: int, paths: Sequence[Path]) -> str:
    """Say what keeps a user without groups from ``paths``: the first step that is closed."""
    for path in paths:
        for step in [*reversed(path.absolute().parents), path.absolute()]:
            try:
                found = step.stat()
            except OSError as error:
                return f"cannot use {path} ({error.strerror})"
            # The owner's bits count for the owner even where they say less than the others'.
            needed = 0o100 if found.st_uid == uid else 0o001
            if step.is_dir() and not found.st_mode & needed:
                return f"cannot enter {step} (mode {found.st_mode & 0o7777:04o})"
    return f"cannot run {paths[0]} with its packages"


def runs(runtime: Runtime, uid: int) -> bool:
    """Whether ``uid`` can run this program; asked as root."""
    user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
    # By way of a shell: setpriv itself still finds programs where only root may look.
    shell = ["/bin/sh", "-c", 'exec "$0" "$@"']
    try:
        done = subprocess.run(
            [*user, *shell, runtime.interpreter, "-c", _PROBE],
            env={"PATH": os.defpath, **runtime.environment},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == sysconfig.get_config_var("SOABI")


def _interpreters() -> Iterator[str]:
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    directories = ["/usr/bin", "/usr/local/bin", *os.environ.get("PATH", "").split(os.pathsep)]
    found = (os.path.join(each, name) for each in directories if each)  # noqa: PTH118
    yield from dict.fromkeys(
        [sys.executable, *(path for path in found if os.access(path, os.X_OK))]
    )


def _copy_packages(here: Path, copy: Path) -> None:
    """Copy this program and what it depends on, and nothing else of the installation."""
    for source, relative in _files(here):
        target = copy / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
    for directory in [copy, *(each for each in copy.rglob("*") if each.is_dir())]:
        directory.chmod(0o755)


def _files(here: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the files to copy and where they go."""
    try:
        ours = importlib.metadata.distribution(_DISTRIBUTION)
        wanted = list(ours.requires or [])
    except importlib.metadata.PackageNotFoundError:
        ours = None
        with (here / "pyproject.toml").open("rb") as file:
            wanted = tomllib.load(file)["project"]["dependencies"]
    if ours is None or not Path(str(ours.locate_file("cli"))).resolve().is_relative_to(here):
        # A checkout, installed or not, is copied as it stands.
        yield from _checkout_files(here)
    else:
        yield from _distribution_files(ours)
    for distribution in _closure(wanted):
        yield from _distribution_files(distribution)


def _checkout_files(here: Path) -> Iterator[tuple[Path, Path]]:
    for package in sorted(path.parent for path in here.glob("*/__init__.py")):
        if package.name not in {"tests", "bench", "tools"}:
            for source in package.rglob("*"):
                if source.is_file():
                    yield source, source.relative_to(here)
    for source in here.glob("*.so"):
        yield source, source.relative_to(here)


def _distribution_files(
    distribution: importlib.metadata.Distribution,
) -> Iterator[tuple[Path, Path]]:
    for entry in distribution.files or []:
        source = Path(str(distribution.locate_file(entry)))
        # Scripts lie outside of the packages' directory and are not needed.
        if ".." not in entry.parts and not entry.is_absolute() and source.is_file():
            yield source, Path(*entry.parts)


def _closure(wanted: Sequence[str]) -> Iterator[importlib.metadata.Distribution]:
    """Yield the installed distributions that ``wanted`` requirements lead to, each once."""
    seen: set[str] = set()
    queue = list(wanted)
    while queue:
        requirement = queue.pop()
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name is None or "extra ==" in requirement or name[0].lower() in seen:
            continue
        seen.add(name[0].lower())
        try:
            distribution = importlib.metadata.distribution(name[0])
        except importlib.metadata.PackageNotFoundError:
            continue  # a requirement of another platform or Python
        yield distribution
        queue += distribution.requires or []
