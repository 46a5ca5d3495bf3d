"""What pyproject.toml cannot say: the compiled core, and the commit a wheel is made from.

``PILLION_COMPILE=1`` compiles the data path's own modules with mypyc, the same files that run
interpreted without it. Every module keeps its source in the wheel, for tracebacks.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Final

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT: Final = Path(__file__).resolve().parent
CORE: Final = (
    "proxy/wire/*.py",
    "proxy/net/*.py",
    "proxy/http/*.py",
    "policy/check.py",
    "policy/checklist.py",
    "policy/decide.py",
    "policy/limit.py",
    "policy/match.py",
    "proxy/gateway/http.py",
    "proxy/inbound/http.py",
    "proxy/outbound/answered.py",
    "proxy/outbound/attempt.py",
    "proxy/outbound/backoff.py",
    "proxy/outbound/balancer.py",
    "proxy/outbound/breaker.py",
    "proxy/outbound/budget.py",
    "proxy/outbound/failfast.py",
    "proxy/outbound/forward.py",
    "proxy/outbound/http.py",
    "proxy/outbound/load.py",
    "proxy/outbound/member.py",
    "proxy/outbound/mirror.py",
    "proxy/outbound/pick.py",
    "proxy/outbound/retry.py",
    "proxy/outbound/roster.py",
    "proxy/outbound/route.py",
    "proxy/outbound/rule.py",
    "proxy/outbound/timeout.py",
    "proxy/telemetry/classification.py",
    "proxy/telemetry/http.py",
    "proxy/telemetry/slot.py",
)
"""The compiled rooms and modules."""


class BuildWithCommit(build_py):
    """Leaves the commit beside the code, for ``pillion version``."""

    def run(self) -> None:
        """Copy the modules, then write the commit next to the command."""
        super().run()
        commit = _commit()
        if commit:
            (Path(self.build_lib) / "cli" / "COMMIT").write_text(f"{commit}\n")


def _commit() -> str:
    """Return the commit's short name, ``+`` behind it when files differ; empty when unknown."""
    named = os.environ.get("PILLION_COMMIT", "")
    if named or not (ROOT / ".git").exists():
        return named
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--match="],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return described.stdout.strip()


def _core() -> list[Any]:
    """Return the core's extensions; none unless ``PILLION_COMPILE`` is 1."""
    if os.environ.get("PILLION_COMPILE", "0") != "1":
        return []
    from mypyc.build import mypycify  # noqa: PLC0415 - only a compiled build has mypy at hand

    modules = sorted(
        str(path.relative_to(ROOT))
        for pattern in CORE
        for path in ROOT.glob(pattern)
        if path.name != "__init__.py"
    )
    # A builder has what it needs to compile, not what the core imports from others at run time.
    return mypycify(["--ignore-missing-imports", *modules]) if modules else []


setup(cmdclass={"build_py": BuildWithCommit}, ext_modules=_core())
