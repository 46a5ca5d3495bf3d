"""``pillion version``: what runs here, and at which of its two speeds.

The data path's own modules exist once and run interpreted or compiled (mypyc); which of the two
is decided by what is installed, module by module, and said here. A kernel exists in C alone; where
it is not installed its reference runs.
"""

from __future__ import annotations

import importlib.metadata
import platform
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.resources import files
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Final

import click

from cli.output import Form, output_option, write
from proxy.wire.tls_library import AUTO, choose_library

CORE_ROOMS: Final = ("proxy.wire", "proxy.net", "proxy.http")
"""Rooms whose every module may be compiled."""
CORE_MODULES: Final = (
    "core.clock",
    "core.watch",
    "policy.check",
    "policy.checklist",
    "policy.decide",
    "policy.limit",
    "policy.match",
    "proxy.gateway.http",
    "proxy.inbound.http",
    "proxy.outbound.answered",
    "proxy.outbound.attempt",
    "proxy.outbound.authority",
    "proxy.outbound.backoff",
    "proxy.outbound.balancer",
    "proxy.outbound.breaker",
    "proxy.outbound.budget",
    "proxy.outbound.destination",
    "proxy.outbound.failfast",
    "proxy.outbound.forward",
    "proxy.outbound.http",
    "proxy.outbound.leg",
    "proxy.outbound.load",
    "proxy.outbound.member",
    "proxy.outbound.mirror",
    "proxy.outbound.pick",
    "proxy.outbound.retry",
    "proxy.outbound.roster",
    "proxy.outbound.route",
    "proxy.outbound.rule",
    "proxy.outbound.timeout",
    "proxy.outbound.way",
    "proxy.telemetry.classification",
    "proxy.telemetry.http",
    "proxy.telemetry.slot",
    "proxy.telemetry.transport",
)
"""Modules of other rooms that may be compiled."""
KERNELS: Final = (
    "proxy.net.native_socket",
    "proxy.wire.native_field",
    "proxy.wire.native_frame",
    "proxy.wire.native_hpack_decoder",
    "proxy.wire.native_hpack_encoder",
    "proxy.wire.native_http1",
    "proxy.wire.native_tls",
)
"""Modules that are compiled or not there."""


def core_modules() -> dict[str, bool]:
    """Return the core's modules by name, and whether each is compiled. Imports none of them."""
    names = [*CORE_MODULES]
    for room in CORE_ROOMS:
        spec = find_spec(room)
        places = spec.submodule_search_locations if spec is not None else None
        names += [f"{room}.{each.name}" for each in iter_modules(places or [])]
    found = {name: find_spec(name) for name in sorted({*names, *KERNELS})}
    return {
        name: spec is not None and (spec.origin or "").endswith(tuple(EXTENSION_SUFFIXES))
        for name, spec in found.items()
        if spec is not None or name in KERNELS
    }


def core_speed(modules: dict[str, bool]) -> str:
    """Say in a word how the core runs: compiled, interpreted, or a mixture."""
    if not any(modules.values()):
        return "interpreted"
    return "compiled" if all(modules.values()) else "mixed"


def commit() -> str:
    """Return the commit the wheel was made from; empty when it is not known."""
    return _left_by_the_build("COMMIT")


def why_interpreted() -> str:
    """Return what kept the build from compiling the core; empty when it did, or was none."""
    return _left_by_the_build("INTERPRETED")


def _left_by_the_build(name: str) -> str:
    place = files("cli").joinpath(name)
    return place.read_text().strip() if place.is_file() else ""


def _installed(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def installed_version() -> str:
    """Return the version that is installed; ``latest`` for a checkout that is not."""
    return _installed("pillion") or "latest"


def build_labels() -> tuple[tuple[str, str], ...]:
    """Return the labels of Linkerd's ``proxy_build_info``; a wheel does not know its date."""
    return (
        ("version", _installed("pillion")),
        ("git_sha", commit()),
        ("profile", core_speed(core_modules())),
        ("vendor", "pillion"),
        ("date", ""),
    )


@click.command()
@output_option
def command(form: Form) -> None:
    """Say which version runs, on what, and whether its core is compiled."""
    modules = core_modules()
    tls = choose_library(AUTO, resume=True, hybrid=False)
    facts = {
        "version": _installed("pillion"),
        "commit": commit(),
        "python": platform.python_version(),
        "openssl": tls.version,
        "tls": tls.name,
        "core": core_speed(modules),
        "reason": why_interpreted(),
    }
    speeds = {name: "compiled" if fast else "interpreted" for name, fast in modules.items()}
    told = {key: value for key, value in facts.items() if value or key != "reason"}
    rows = [*told.items(), *(("", f"{name}: {speed}") for name, speed in speeds.items())]
    write(
        form,
        {**facts, "modules": speeds},
        table=lambda: "\n".join(f"{key:<8} {value or 'unknown'}" for key, value in rows),
        short=lambda: facts["version"] or "unknown",
    )
