#!/usr/bin/env python3
"""Resolve the dependency groups of pyproject.toml into requirements/*.lock.

Every lock holds exact versions with hashes, and no index, host or path. A release counts from
its eighth day on: a broken or hijacked one is mostly found within its first week.

    tools/lock.py           resolve anew, moving to the newest versions allowed
    tools/lock.py --keep    keep what is locked and still allowed
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
COOLDOWN: Final = timedelta(days=7)
LOCKS: Final[dict[str, tuple[bool, tuple[str, ...]]]] = {
    "runtime": (True, ("build",)),
    "dev": (True, ("build", "compile", "test", "lint", "type", "bench")),
    "compile": (False, ("build", "compile", "type")),
    "tools": (False, ("tools",)),
}
"""Lock → (does it hold the project's own dependencies?, which groups)."""


def requirements_of(lock: str) -> list[str]:
    """Return what pyproject.toml asks for on behalf of ``lock``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    has_project, groups = LOCKS[lock]
    wanted: list[str] = list(project["project"]["dependencies"]) if has_project else []
    for group in groups:
        wanted += project["dependency-groups"][group]
    return wanted


def resolve(lock: str, *, keep: bool) -> None:
    """Write ``requirements/<lock>.lock``; later locks agree with the earlier ones."""
    target = ROOT / "requirements" / f"{lock}.lock"
    if not keep:
        target.unlink(missing_ok=True)
    before = list(LOCKS)[: list(LOCKS).index(lock)]
    # The constraints are relative, so that no path of this machine gets into a comment.
    constraints = [f"--constraint=requirements/{each}.lock" for each in before]
    newest = (datetime.now(UTC) - COOLDOWN).strftime("%Y-%m-%dT00:00:00Z")
    command = [
        *(sys.executable, "-m", "piptools", "compile", "--quiet"),
        *("--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-header"),
        *("--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"),
        *("--no-emit-options", "--resolver=backtracking", f"--uploaded-prior-to={newest}"),
        *(*constraints, f"--output-file=requirements/{lock}.lock", "-"),
    ]
    subprocess.run(
        command,
        input="\n".join(requirements_of(lock)) + "\n",
        text=True,
        cwd=ROOT,
        env={**os.environ, "PIP_FIND_LINKS": ""},
        check=True,
        timeout=600,
    )
    text = target.read_text().replace("-r -\n", "pyproject.toml\n")
    target.write_text(f"# Made by `make lock` from pyproject.toml.\n{text}")


def main() -> None:
    """Resolve every lock, or none of them when one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the locked versions")
    keep: bool = parser.parse_args().keep
    for lock in LOCKS:
        print(f"lock: requirements/{lock}.lock", file=sys.stderr)
        resolve(lock, keep=keep)


if __name__ == "__main__":
    main()
