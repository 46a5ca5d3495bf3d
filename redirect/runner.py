"""Runs the programs that read and change the rules, each for a bounded time.

Rules belong to the network namespace this process stands in. Whatever back end installs, the
rules of every other one are read and taken away too: a connection is captured once.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

from core.errors import ConfigError
from core.record import dataclass
from redirect import iptables, nftables
from redirect.backend import Mode, Tables, choose_tables
from redirect.options import CaptureOptions
from redirect.rule import Family, Found, Rule

_NFT: Final = ("nft", "-f", "-")
_TIMEOUT_S: Final = 15.0
_CAP_NET_ADMIN: Final = 12
_LOADED: Final = {Family.IPV4: "ip_tables_names", Family.IPV6: "ip6_tables_names"}


@final
@dataclass(frozen=True, slots=True)
class Step:
    """One command, what it is given, and the rules that this makes."""

    command: tuple[str, ...]
    given: str
    rules: tuple[Rule, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Standing:
    """What stands in one back end."""

    tables: Tables | None
    """None: the tables of our own, which nft keeps."""
    found: Found

    @property
    def backend(self) -> str:
        """The program that keeps these rules."""
        return "nft" if self.tables is None else self.tables.program

    @property
    def families(self) -> tuple[Family, ...]:
        """Which addresses these rules are for."""
        if self.tables is not None:
            return (self.tables.family,)
        both = nftables.OWN_TABLES[0] in self.found.chains
        return (Family.IPV4, Family.IPV6) if both else (Family.IPV4,)


def read_rules() -> tuple[Standing, ...]:
    """Return what stands of ours, in every back end that is here.

    Raises ConfigError when the rules cannot be read.
    """
    return tuple(each for each in _read_all() if each.found.chains)


def plan_install(
    options: CaptureOptions, mode: Mode, standing: tuple[Standing, ...]
) -> tuple[Step, ...]:
    """Return what has to be run for ``options``, in order, beginning with the new rules.

    Raises ConfigError when there is nothing to run it with.
    """
    if mode is Mode.NFTABLES and _exists("nft"):
        steps = [Step(_NFT, nftables.render_install(options), nftables.build_rules(options))]
        others = [each for each in standing if each.tables is not None]
        return (*steps, *(_removal(each) for each in others))
    steps = []
    chosen = [choose_tables(mode, family, _exists) for family in options.families]
    kept = []
    for tables in chosen:
        same = [each for each in standing if each.tables and _same(each.tables, tables)]
        kept += same
        found = same[0].found if same else Found()
        text = iptables.render_install(options, found, tables.family)
        steps.append(Step(tables.restore, text, iptables.build_rules(options, tables.family)))
    return (*steps, *(_removal(each) for each in standing if each not in kept))


def plan_remove(standing: tuple[Standing, ...]) -> tuple[Step, ...]:
    """Return what takes ``standing`` away."""
    return tuple(_removal(each) for each in standing)


def install_rules(options: CaptureOptions, mode: Mode) -> tuple[Standing, ...]:
    """Make the rules those of ``options`` and return what stands then.

    Raises ConfigError when the rules cannot be set; each family's change is one transaction.
    """
    before = read_rules()
    for step in plan_install(options, mode, before):
        _run(step.command, step.given)
    after = read_rules()
    backends = {each.backend for each in after}
    for each in before:
        if each.backend not in backends:
            _tidy(each)
    return after


def remove_rules() -> tuple[Standing, ...]:
    """Take away our chains, jumps and tables; return what went.

    Base chains that hold nothing else go too, and the table with the last of them: with any left,
    the kernel would go on tracking every connection for nothing. x_tables keeps the chains that it
    was built with; they end with the network namespace.

    Raises ConfigError when the rules cannot be taken away.
    """
    standing = read_rules()
    for step in plan_remove(standing):
        _run(step.command, step.given)
    for each in standing:
        _tidy(each)
    return standing


def _read_all() -> Iterator[Standing]:
    found_any = False
    for family in Family:
        seen: list[Tables] = []
        for mode in (Mode.NFT, Mode.LEGACY, Mode.PLAIN):
            tables = Tables(mode, family)
            if tables.is_there(_exists) and not any(_same(tables, each) for each in seen):
                found_any = True
                seen.append(tables)
                if _is_loaded(tables):
                    yield Standing(tables, iptables.parse_saved(_run(tables.save)))
    if _exists("nft"):
        found_any = True
        names = nftables.parse_tables(_run(("nft", "list", "tables")))
        text = "".join(_run(("nft", "list", "table", *name.split())) for name in names)
        yield Standing(None, nftables.parse_listed(names, text))
    if not found_any:
        choose_tables(Mode.NFT, Family.IPV4, _exists)


def _removal(standing: Standing) -> Step:
    if standing.tables is None:
        return Step(_NFT, nftables.render_remove(standing.found))
    return Step(standing.tables.restore, iptables.render_remove(standing.found))


def _tidy(standing: Standing) -> None:
    """Take away what an emptied table of iptables leaves behind."""
    tables = standing.tables
    if tables is None or _is_legacy(tables):
        return
    for chain in iptables.freed_by(standing.found):
        _run(tables.drop(chain))
    if _exists("nft"):
        table = tables.nft_table
        if f"table {table}" in _run(("nft", "list", "tables")).splitlines():
            text = _run(("nft", "list", "table", *table.split()))
            if nftables.is_empty(text):
                _run(_NFT, f"delete table {table}\n")


def _same(one: Tables, other: Tables) -> bool:
    """Whether two sets of programs keep the same table."""
    if one.family is not other.family:
        return False
    return one.mode is other.mode or _is_legacy(one) is _is_legacy(other)


def _is_legacy(tables: Tables) -> bool:
    if tables.mode is not Mode.PLAIN:
        return tables.mode is Mode.LEGACY
    return "nf_tables" not in _run((tables.program, "--version"))


def _is_loaded(tables: Tables) -> bool:
    """Whether the table exists; to look into one of x_tables that does not would make it."""
    if not _is_legacy(tables):
        return True
    try:
        return "nat" in Path("/proc/net", _LOADED[tables.family]).read_text("ascii").split()
    except FileNotFoundError:
        return False
    except OSError:
        # Whoever may not read this may not read the table either, and hears why.
        return True


def _exists(program: str) -> bool:
    return shutil.which(program, path=_search_path()) is not None


def _run(command: tuple[str, ...], given: str = "") -> str:
    program = command[0]
    path = shutil.which(program, path=_search_path())
    if path is None:
        raise ConfigError(
            f"{program} was not found on PATH ({os.environ.get('PATH', '')})",
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
    other = " (or --no-ipv6, where the kernel has none)" if program.startswith("ip6") else ""
    return ConfigError(
        f"{program} failed: {said}; its rules are unchanged",
        hint="`pillion redirect install --dry-run` shows what it was given; another "
        f"--iptables-mode may suit this kernel{other}",
    )


def _has_net_admin() -> bool:
    status = Path("/proc/self/status").read_text("ascii", "replace")
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> _CAP_NET_ADMIN & 1)


def _search_path() -> str:
    # An ordinary user's PATH often lacks the directories these programs are in.
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
