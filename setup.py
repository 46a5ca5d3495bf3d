"""What pyproject.toml cannot say: the compiled core, and the commit a wheel is made from.

Where there is a C compiler, Python's headers and mypy, the data path's own modules are compiled
with mypyc: the same files that run interpreted without it. ``PILLION_COMPILE=0`` leaves that out,
``PILLION_COMPILE=1`` insists on it. The kernels, which have a reference in Python each, are
compiled with it by Cython; ``PILLION_SANITIZE=address`` makes them alone, with AddressSanitizer
and the checks for undefined behavior in them, for tests. Every module keeps its source in the
wheel, for tracebacks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CCompilerError

ROOT: Final = Path(__file__).resolve().parent
CORE: Final = (
    "proxy/wire/*.py",
    "proxy/net/*.py",
    "proxy/http/*.py",
    "core/clock.py",
    "core/watch.py",
    "policy/check.py",
    "policy/checklist.py",
    "policy/decide.py",
    "policy/limit.py",
    "policy/match.py",
    "proxy/gateway/http.py",
    "proxy/inbound/http.py",
    "proxy/outbound/answered.py",
    "proxy/outbound/attempt.py",
    "proxy/outbound/authority.py",
    "proxy/outbound/backoff.py",
    "proxy/outbound/balancer.py",
    "proxy/outbound/breaker.py",
    "proxy/outbound/budget.py",
    "proxy/outbound/destination.py",
    "proxy/outbound/failfast.py",
    "proxy/outbound/forward.py",
    "proxy/outbound/http.py",
    "proxy/outbound/leg.py",
    "proxy/outbound/load.py",
    "proxy/outbound/member.py",
    "proxy/outbound/mirror.py",
    "proxy/outbound/pick.py",
    "proxy/outbound/retry.py",
    "proxy/outbound/roster.py",
    "proxy/outbound/route.py",
    "proxy/outbound/rule.py",
    "proxy/outbound/timeout.py",
    "proxy/outbound/way.py",
    "proxy/telemetry/classification.py",
    "proxy/telemetry/http.py",
    "proxy/telemetry/slot.py",
    "proxy/telemetry/transport.py",
)
"""The compiled rooms and modules."""
KERNELS: Final = "proxy/*/*.pyx"
"""What exists in C beside its reference."""
DIRECT: Final = ("-fvisibility=hidden", "-fno-semantic-interposition", "-fno-plt")
"""Functions of the core call each other, and Python's, without a look-up: nobody puts others in
their place."""


WISH: Final = os.environ.get("PILLION_COMPILE", "")
"""1: compile or fail; 0: do not; empty: where it can be done."""
SANITIZE: Final = os.environ.get("PILLION_SANITIZE", "")
"""A sanitizer for the kernels; nothing else is compiled then."""
COMPILED_BY: Final = frozenset({"bdist_wheel", "build", "build_ext", "install"})
"""Commands that leave code behind. Others ask for versions only, or follow the sources."""
PROBE: Final = "#include <Python.h>\n"
interpreted_because: list[str] = []
"""Why the core is not compiled, in a few words; empty: it is."""


class BuildWithFacts(build_py):
    """Leaves beside the code what ``pillion version`` tells of how it was built."""

    def run(self) -> None:
        """Copy the modules, then write commit and reason next to the command."""
        super().run()
        place = Path(self.build_lib) / "cli"
        _leave(place / "COMMIT", _commit())
        _leave(place / "INTERPRETED", "; ".join(interpreted_because))


class BuildCore(build_ext):
    """Compiles the core; where that breaks and nobody insisted, goes on without it."""

    def run(self) -> None:
        """Compile, or else take away what was compiled: half a core would not even import."""
        try:
            super().run()
        except CCompilerError:
            if WISH == "1":
                raise
            for each in self.get_outputs():
                Path(each).unlink(missing_ok=True)
            _interpreted("the compiler failed")
            _leave(Path(self.build_lib) / "cli" / "INTERPRETED", "; ".join(interpreted_because))


def _leave(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    if text:
        path.write_text(f"{text}\n")


def _interpreted(reason: str) -> None:
    """Say why the core is not compiled; ends the build where somebody insisted."""
    if WISH == "1":
        sys.exit(f"pillion: PILLION_COMPILE=1, but the core cannot be compiled: {reason}")
    interpreted_because.append(reason)
    print(f"pillion: the core stays interpreted: {reason}", file=sys.stderr)  # noqa: T201


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


def _obstacle() -> str:
    """Return what keeps the core from being compiled here; empty when nothing does."""
    for module, distribution in (("mypyc", "mypy"), ("Cython", "Cython")):
        if find_spec(module) is None:
            return f"{distribution} is not installed"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    if shutil.which(compiler[0]) is None:
        return f"there is no C compiler ({compiler[0]})"
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "probe.c"
        source.write_text(PROBE)
        include = sysconfig.get_path("include")
        probe = [*compiler, f"-I{include}", "-c", str(source), "-o", f"{source}.o"]
        try:
            done = subprocess.run(probe, capture_output=True, check=False, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return f"{compiler[0]} does not answer"
    if done.returncode == 0:
        return ""
    if not (Path(include) / "Python.h").exists():
        return f"Python's headers are not in {include} (Debian: python3-dev)"
    return f"{compiler[0]} cannot compile Python's headers"


def _core() -> list[Any]:
    """Return the core's extensions; none where they are not wanted or cannot be made."""
    if WISH not in {"", "0", "1"}:
        sys.exit(f"pillion: PILLION_COMPILE is {WISH!r}: 1 insists, 0 leaves it out")
    if WISH == "0":
        interpreted_because.append("PILLION_COMPILE=0")
        return []
    if not COMPILED_BY.intersection(sys.argv):
        return []
    obstacle = _obstacle()
    if obstacle:
        _interpreted(obstacle)
        return []
    if SANITIZE:
        return _kernels()
    from mypyc.build import mypycify  # noqa: PLC0415 - not everybody who builds has mypy

    modules = sorted(
        str(path.relative_to(ROOT))
        for pattern in CORE
        for path in ROOT.glob(pattern)
        if path.name != "__init__.py"
    )
    try:
        # A builder has what it needs to compile, not what the core imports from others at run time.
        core = mypycify(["--ignore-missing-imports", *modules], debug_level="0")
    except SystemExit:
        _interpreted("mypyc cannot translate it (its own words are above)")
        return []
    for each in core:
        each.extra_compile_args = [*each.extra_compile_args, *DIRECT]
    return [*core, *_kernels()]


def _kernels() -> list[Any]:
    """Return the kernels' extensions."""
    from Cython.Build import cythonize  # noqa: PLC0415 - as above

    flags = ["-O3", "-g0"]
    if SANITIZE:
        flags = ["-O1", "-g", f"-fsanitize={SANITIZE},undefined", "-fno-sanitize-recover=all"]
    kernels = [
        Extension(
            ".".join(path.relative_to(ROOT).with_suffix("").parts),
            [str(path.relative_to(ROOT))],
            extra_compile_args=flags,
            extra_link_args=flags,
        )
        for path in sorted(ROOT.glob(KERNELS))
    ]
    extensions: list[Any] = cythonize(  # type: ignore[no-untyped-call]
        kernels, build_dir="build/kernels", quiet=True
    )
    return extensions


setup(cmdclass={"build_py": BuildWithFacts, "build_ext": BuildCore}, ext_modules=_core())
