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
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Final

from bench.nginx import nginx_build
from cli.version import core_modules, core_speed

ROOT: Final = Path(__file__).parents[1]
UNKNOWN: Final = ""
"""For what is not there, or does not say."""


def versions() -> dict[str, str]:
    """Return the versions of everything that is measured or measures; empty where absent."""
    return {
        "pillion": _project_version(),
        "pillion_core": core_speed(core_modules()),
        "commit": _said(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]).strip(),
        "python": platform.python_version(),
        "python_compiler": platform.python_compiler(),
        "python_is_optimized": str(
            "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
        ).lower(),
        "python_openssl": ssl.OPENSSL_VERSION,
        "uvloop": _package("uvloop"),
        "cryptography": _package("cryptography"),
        **haproxy_versions(_if_there("haproxy", lambda: _said(["haproxy", "-vv"]))),
        **nginx_versions(_if_there("nginx", nginx_build)),
        "gcc": _said(["gcc", "-dumpfullversion"]).strip(),
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
