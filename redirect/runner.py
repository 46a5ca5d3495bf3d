"""Runs the programs that read and change the rules, each for a bounded time.

Rules belong to the network namespace this process stands in.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from core.errors import ConfigError
from redirect.iptables import Found, Rule, parse_saved, render_install, render_remove
from redirect.options import CaptureOptions

BACKEND: Final = "iptables-nft"
RESTORE: Final = ("iptables-nft-restore", "-w", "5", "--noflush")
"""The command that takes a rendered input: waits up to 5 s for others, empties nothing unasked."""
_SAVE: Final = ("iptables-nft-save", "-t", "nat")
_TIDY: Final = ("iptables-nft", "-w", "5", "-t", "nat", "-X")
_TIMEOUT_S: Final = 15.0
_CAP_NET_ADMIN: Final = 12


def read_rules() -> Found:
    """Return what stands; raises ConfigError when the rules cannot be read."""
    return parse_saved(_run(_SAVE))


def install_rules(options: CaptureOptions) -> Found:
    """Make the rules those of ``options`` and return what stands then.

    Raises ConfigError, with nothing changed, when the rules cannot be set.
    """
    _run(RESTORE, render_install(options, read_rules()))
    return read_rules()


def remove_rules() -> tuple[Rule, ...]:
    """Take away our chains and jumps; return the rules that went.

    Where nothing else used the table, its empty base chains go too: with any of them left,
    the kernel would go on tracking every connection for nothing.

    Raises ConfigError, with nothing changed, when the rules cannot be taken away.
    """
    found = read_rules()
    if not found.chains:
        return ()
    _run(RESTORE, render_remove(found))
    if not found.foreign:
        _run(_TIDY)
    return found.rules


def _run(command: tuple[str, ...], given: str = "") -> str:
    program = command[0]
    path = shutil.which(program, path=_search_path())
    if path is None:
        raise ConfigError(
            f"{program} was not found on PATH ({os.environ.get('PATH', '')}); "
            "capture needs iptables with its nft back end",
            hint="install it: apt-get install iptables",
        )
    try:
        done = subprocess.run(
            [path, *command[1:]],
            input=given,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"{program} did not end within {_TIMEOUT_S:.0f} s; its rules may not be in place",
            hint="see whether another program holds the tables, then run this again",
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        raise _explain(program, done.returncode, done.stderr)
    return done.stdout


def _explain(program: str, status: int, talk: str) -> ConfigError:
    said = " / ".join(line for line in talk.splitlines() if line and not line.startswith("#"))
    said = said or f"exit status {status}"
    if re.search(r"permission denied|not permitted|must be root", said, re.IGNORECASE):
        return ConfigError(
            f"{program} may not touch the nat table: {said}; this process is uid {os.geteuid()} "
            f"{'with' if _has_net_admin() else 'without'} the capability NET_ADMIN",
            hint="run it as root, or give the container the capabilities NET_ADMIN and NET_RAW",
        )
    return ConfigError(
        f"{program} failed: {said}; the rules are unchanged",
        hint="`pillion redirect install --dry-run` shows the rules it was given",
    )


def _has_net_admin() -> bool:
    status = Path("/proc/self/status").read_text("ascii", "replace")
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> _CAP_NET_ADMIN & 1)


def _search_path() -> str:
    # An ordinary user's PATH often lacks the directories these programs are in.
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
