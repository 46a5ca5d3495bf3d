"""``pip install .``: compiles where it can, says why where it cannot, obeys PILLION_COMPILE.

The real build of a small part of the tree: all that matters here is one module of the core.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
TREE: Final = (
    *("setup.py", "pyproject.toml", "README.md", "LICENSE"),
    *("core/__init__.py", "core/errors.py", "cli/__init__.py"),
    *("policy/__init__.py", "policy/limit.py"),
)
COMPILER: Final = str(sysconfig.get_config_var("CC") or "cc").split()[0]
BROKEN: Final = """\
#!/bin/sh
case "$*" in *probe.c*) exec {compiler} "$@" ;; esac
exit 1
"""
"""A compiler that does for the small, and not for the large."""
SECONDS: Final = 300

needs_compiler = pytest.mark.skipif(
    shutil.which(COMPILER) is None
    or not (Path(sysconfig.get_path("include")) / "Python.h").exists(),
    reason="no C compiler with Python's headers (Debian: gcc, python3-dev)",
)


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Path:
    for name in TREE:
        place = tmp_path / "source" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place)
    return tmp_path / "source"


def build(tree: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Make the wheel as pip does, with nothing from the network."""
    environment = {name: text for name, text in os.environ.items() if name != "PILLION_COMPILE"}
    return subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--verbose", "--disable-pip-version-check", "wheel"),
            *("--no-deps", "--no-build-isolation", "--wheel-dir", "wheel", "."),
        ],
        cwd=tree,
        env={**environment, "PYTHONSAFEPATH": "", **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def contents(tree: Path) -> dict[str, str]:
    """Return the text of each file in the wheel; of what is compiled, nothing."""
    (wheel,) = (tree / "wheel").glob("pillion-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: "" if name.endswith(".so") else archive.read(name).decode()
            for name in archive.namelist()
        }


def is_compiled(files: dict[str, str]) -> bool:
    """Whether there is anything compiled."""
    return any(name.endswith(".so") for name in files)


@needs_compiler
def test_with_a_compiler_the_core_is_compiled(tree: Path) -> None:
    """Without being asked; the source stays beside it."""
    done = build(tree)
    assert done.returncode == 0, done.stdout[-2000:]
    files = contents(tree)
    assert any(name.startswith("policy/limit.") and name.endswith(".so") for name in files)
    assert "policy/limit.py" in files
    assert "cli/INTERPRETED" not in files


def test_without_a_compiler_it_stays_interpreted_and_says_so(tree: Path) -> None:
    """In the build's output, and in the wheel for ``pillion version``."""
    done = build(tree, CC="no-such-compiler")
    assert done.returncode == 0, done.stdout[-2000:]
    reason = "there is no C compiler (no-such-compiler)"
    assert f"pillion: the core stays interpreted: {reason}\n" in done.stdout
    files = contents(tree)
    assert not is_compiled(files)
    assert files["cli/INTERPRETED"] == f"{reason}\n"


def test_who_insists_gets_no_other(tree: Path) -> None:
    """With PILLION_COMPILE=1 there is a compiled core or none."""
    done = build(tree, CC="no-such-compiler", PILLION_COMPILE="1")
    assert done.returncode != 0
    assert "PILLION_COMPILE=1, but the core cannot be compiled: there is no C" in done.stdout
    assert not (tree / "wheel").exists() or not list((tree / "wheel").iterdir())


def test_who_wants_none_gets_none(tree: Path) -> None:
    """PILLION_COMPILE=0 asks for no compiler; its wheel is for every machine."""
    done = build(tree, PILLION_COMPILE="0")
    assert done.returncode == 0, done.stdout[-2000:]
    files = contents(tree)
    assert not is_compiled(files)
    assert files["cli/INTERPRETED"] == "PILLION_COMPILE=0\n"
    (wheel,) = (tree / "wheel").iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")


def test_a_wish_that_cannot_be_read_ends_the_build(tree: Path) -> None:
    """Rather than being taken for the opposite."""
    done = build(tree, PILLION_COMPILE="yes")
    assert done.returncode != 0
    assert "PILLION_COMPILE is 'yes': 1 insists, 0 leaves it out" in done.stdout


@needs_compiler
def test_where_the_compiler_fails_nothing_compiled_is_left(tree: Path, tmp_path: Path) -> None:
    """Half a core would not import; whole in plain Python it does."""
    compiler = tmp_path / "compiler"
    compiler.write_text(BROKEN.format(compiler=COMPILER))
    compiler.chmod(0o755)
    done = build(tree, CC=str(compiler))
    assert done.returncode == 0, done.stdout[-2000:]
    assert "pillion: the core stays interpreted: the compiler failed\n" in done.stdout
    files = contents(tree)
    assert not is_compiled(files)
    assert files["cli/INTERPRETED"] == "the compiler failed\n"
    assert "policy/limit.py" in files
