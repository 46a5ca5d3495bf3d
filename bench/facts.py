"""Which programs on which machine: a figure without them says nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import ssl
import subprocess
import sysconfig
import tomllib
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

import core
from bench.nginx import nginx_build
from cli.version import commit, core_modules, core_speed
from proxy.wire.tls_library import AUTO, choose_library

ROOT: Final = Path(__file__).resolve().parents[1]
CODE: Final = (":!bench/results", ".")
BUILT_WITH: Final = ("CONFIG_ARGS", "CFLAGS_NODIST", "LDFLAGS_NODIST", "PY_CFLAGS")
"""What sysconfig tells of the interpreter's own build; the last -O of the last of them counts."""
UNKNOWN: Final = ""
"""For what is not there, or does not say."""


def versions() -> dict[str, str]:
    """Return the versions of everything that is measured or measures; empty where absent."""
    return {
        "pillion": _project_version(),
        "pillion_core": core_speed(core_modules()),
        **commits(),
        "python": platform.python_version(),
        "python_compiler": platform.python_compiler(),
        **interpreter_build(
            {name: str(sysconfig.get_config_var(name) or "") for name in BUILT_WITH}
        ),
        "python_openssl": ssl.OPENSSL_VERSION,
        "pillion_openssl": choose_library(AUTO, resume=True, hybrid=False).version,
        "uvloop": _package("uvloop"),
        "cryptography": _package("cryptography"),
        **haproxy_versions(_if_there("haproxy", lambda: _said(["haproxy", "-vv"]))),
        **nginx_versions(_if_there("nginx", nginx_build)),
        **stunnel_versions(_if_there("stunnel", stunnel_build)),
        "gcc": _said(["gcc", "-dumpfullversion"]).strip(),
    }


def commits() -> dict[str, str]:
    """Return the commit of the checkout, and that of the code which is measured.

    They differ when a compiled core was built from another one. ``+`` behind a name: files differ
    from it; results of earlier runs do not count as such.
    """
    where = ["git", "-C", str(ROOT)]
    named = _said([*where, "rev-parse", "--short", "HEAD"]).strip()
    changed = _said([*where, "status", "--porcelain", "--untracked-files=no", "--", *CODE])
    checkout = f"{named}+" if changed.strip() else named
    is_checkout = Path(core.__path__[0]).parent == ROOT
    return {"commit": checkout, "core_commit": checkout if is_checkout else commit()}


def interpreter_build(variables: Mapping[str, str]) -> dict[str, str]:
    """Read from BUILT_WITH, as sysconfig has them, how the interpreter was built.

    Some distributions optimize by profile and at link time by their own means, and leave no word
    of it there: nothing said is not no.
    """
    words = [word.strip("'") for text in variables.values() for word in text.split()]
    profiled = any(word.startswith(("--enable-optimizations", "-fprofile-use")) for word in words)
    linked = any(word.startswith(("--with-lto", "-flto")) for word in words)
    levels = [word for word in words if re.fullmatch(r"-O(\d|s|fast)", word)]
    return {
        "python_is_profiled": "true" if profiled else UNKNOWN,
        "python_is_link_time_optimized": "true" if linked else UNKNOWN,
        "python_optimization": levels[-1] if levels else UNKNOWN,
    }


def stunnel_build() -> str:
    """Return what stunnel says of itself."""
    asked = ["stunnel", "-version"]
    return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False).stderr


def stunnel_versions(said: str) -> dict[str, str]:
    """Read what ``stunnel -version`` says."""
    running = _found(r"^Running\s+with (OpenSSL .+)$", said)
    return {
        "stunnel": _found(r"^stunnel (\S+) on", said),
        "stunnel_openssl": running or _found(r"^Compiled/running with (OpenSSL .+)$", said),
    }


def haproxy_versions(said: str) -> dict[str, str]:
    """Read what ``haproxy -vv`` says."""
    return {
        "haproxy": _found(r"^HAProxy version (\S+)", said),
        "haproxy_openssl": _found(r"^Running on OpenSSL version : (.+)$", said),
    }


def nginx_versions(said: str) -> dict[str, str]:
    """Read what ``nginx -V`` says."""
    running = _found(r"running with (OpenSSL [^)\n]+)", said)
    return {
        "nginx": _found(r"^nginx version: nginx/(\S+)", said),
        "nginx_openssl": running or _found(r"^built with (OpenSSL .+)$", said),
    }


def machine(usable: int) -> dict[str, str | int]:
    """Return the kernel, the processor, and how many cores the run may use."""
    processor = Path("/proc/cpuinfo").read_text()
    memory = _found(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": _found(r"^model name\s*: (.+)$", processor) or platform.processor(),
        "cpus": os.cpu_count() or 0,
        "usable_cpus": usable,
        "memory_mib": int(memory or 0) // 1024,
    }


def _project_version() -> str:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def _if_there(program: str, ask: Callable[[], str]) -> str:
    return ask() if shutil.which(program) else UNKNOWN


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return UNKNOWN
    return done.stdout if done.returncode == 0 else UNKNOWN


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else UNKNOWN
