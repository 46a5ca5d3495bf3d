"""Checks of the machine and of this network namespace: capture, ports, clock, bounds, user."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cli
from cli.check.finding import Check, Finding, bad, good, warning
from cli.check.holder import listening_ports
from cli.check.subject import Subject
from cli.demo.runtime import Runtime, blocked, runs
from proxy.config import affordable_connections
from redirect.options import PROXY_UID
from redirect.runner import read_rules

ENOUGH: Final = 1_000
"""Connections below which a bound is worth a word."""
_INSTALL: Final = "pillion redirect install"
_UNSYNCED: Final = 0x40
"""STA_UNSYNC of adjtimex(2)."""


def capture_checks(subject: Subject) -> Iterator[Check]:
    """Yield checks of the rules in this network namespace."""

    def installed() -> Finding:
        if os.geteuid() != 0:
            return warning(
                f"they can only be read by root, and this is uid {os.geteuid()}",
                remedy="run this check as root, in the pod's network namespace",
            )
        standing = read_rules()
        whole = [each for each in standing if each.found.installed]
        if not standing:
            return bad(
                "there are none in this network namespace",
                remedy=f"{_INSTALL}, if this is the pod's, and never in the machine's own",
            )
        if not whole:
            return bad("one direction has no jump to its chain", remedy=f"{_INSTALL} repairs them")
        families = sorted({str(family) for each in whole for family in each.families})
        return good(f"by {whole[0].backend}, for {' and '.join(families)}")

    def fitting() -> Finding:
        rules = [rule for each in read_rules() for rule in each.found.rules]
        ports = {
            int(found[1])
            for rule in rules
            if (found := re.search(r"(?:--to-ports |redirect to :)(\d+)", rule.target))
        }
        users = {
            int(found[1])
            for rule in rules
            if (found := re.search(r"(?:--uid-owner |skuid )(\d+)", rule.match))
        }
        wrong = []
        wanted = {subject.inbound_port, subject.outbound_port}
        if ports != wanted:
            wrong.append(f"they lead to {_list(ports)}; the sidecar listens on {_list(wanted)}")
        if PROXY_UID not in users:
            wrong.append(f"they exempt uid {_list(users)}; the sidecar runs as {PROXY_UID}")
        if wrong:
            options = f"--inbound-port {subject.inbound_port}"
            options += f" --outbound-port {subject.outbound_port} --proxy-uid {PROXY_UID}"
            return bad(*wrong, remedy=f"{_INSTALL} {options}")
        return good()

    yield Check("capture-rules", "the capture rules are installed", installed)
    if os.geteuid() == 0 and read_rules():
        yield Check("capture-fits", "they lead to the sidecar and exempt its user", fitting)


def port_checks(subject: Subject) -> Iterator[Check]:
    """Yield checks of the sidecar's ports: free before it starts, its own afterwards."""
    ports = sorted({subject.inbound_port, subject.outbound_port, subject.admin.port})

    def listeners() -> dict[int, str]:
        return listening_ports(at=subject.own_ip)

    def free() -> Finding:
        held = {port: who for port, who in listeners().items() if port in ports}
        if held:
            return bad(
                *(f"{port}: {who}" for port, who in held.items()),
                remedy="end these programs, or set PILLION_…_LISTEN_ADDR to other ports",
            )
        return good(_list(ports))

    def open_() -> Finding:
        held = listeners()
        missing = [port for port in ports if port not in held]
        if missing:
            return bad(
                f"nobody listens on {_list(missing)} in this network namespace",
                remedy="start the sidecar: pillion proxy, or pillion run",
            )
        return good(*(f"{port}: {held[port]}" for port in ports))

    if subject.is_before:
        yield Check("ports-free", "the sidecar's ports are free", free)
    else:
        yield Check("ports-open", "the sidecar's ports are open", open_)


def machine_checks() -> Iterator[Check]:
    """Yield checks of what the machine gives to a sidecar."""
    yield Check("clock", "the clock is kept in step", _clock)
    yield Check("descriptors", f"descriptors and memory allow {ENOUGH} connections", _descriptors)
    yield Check("sidecar-user", f"uid {PROXY_UID}, the sidecar's, can run this program", _user)


def _clock() -> Finding:
    status = clock_status()
    if status is None:
        return warning(
            "the kernel does not say", remedy="see that NTP runs: certificates begin and end"
        )
    if status & _UNSYNCED:
        return warning(
            "the kernel's clock is not synchronized: a machine that is off by more than 20 s "
            "takes fresh certificates for not yet valid",
            remedy="see that NTP runs: timedatectl, or chronyc tracking",
        )
    return good()


def clock_status() -> int | None:
    """Return the kernel's clock status bits (adjtimex(2)); None where it does not say."""
    # struct timex: modes, padding, four longs, then the status; 208 bytes on 64-bit Linux.
    buffer = ctypes.create_string_buffer(512)
    if ctypes.CDLL(None, use_errno=True).adjtimex(buffer) < 0:
        return None
    return ctypes.c_int.from_buffer(buffer, 8 + 4 * ctypes.sizeof(ctypes.c_long)).value


def _descriptors() -> Finding:
    count = affordable_connections()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    seen = f"{count} connections at once; {soft} descriptors, {hard} at most"
    if count < ENOUGH:
        return warning(seen, remedy=f"ulimit -n {min(hard, 65_536)}, or more memory")
    return good(seen)


def _user() -> Finding:
    here = Path(cli.__file__).resolve().parents[1]
    paths = [Path(sys.executable), Path(sys.executable).resolve(), here]
    why = blocked(PROXY_UID, paths)
    can = (
        runs(Runtime(sys.executable, here), PROXY_UID) if os.geteuid() == 0 else "enter" not in why
    )
    if not can:
        return warning(
            f"it {why}",
            remedy="put interpreter and packages where every user may go, such as /opt",
        )
    return good(sys.executable)


def _list(numbers: set[int] | list[int]) -> str:
    return ", ".join(str(each) for each in sorted(numbers)) or "nothing"
