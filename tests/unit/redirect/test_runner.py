"""The runner without rights or without programs: it says what was seen and what to do."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from core.errors import ConfigError
from redirect import runner
from redirect.backend import Mode, Tables
from redirect.options import parse_options
from redirect.rule import Family, Found


def _program(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    if name.endswith("-save"):
        _program(directory, name.replace("-save", "-restore"), "exit 9")


@pytest.fixture
def bin_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing of the machine's on it."""
    monkeypatch.setattr(runner, "_search_path", lambda: str(tmp_path))
    return tmp_path


def test_a_missing_program_is_named_with_its_package(bin_directory: Path) -> None:
    """No iptables: the message names the program, and the advice the package."""
    with pytest.raises(ConfigError, match="none of iptables-nft-restore, iptables-") as caught:
        runner.read_rules()
    assert "apt-get install iptables" in caught.value.hint


def test_missing_rights_are_told_from_other_failures(bin_directory: Path) -> None:
    """A permission that is denied leads to advice on capabilities."""
    _program(
        bin_directory, "iptables-nft-save", "echo 'Permission denied (must be root)' >&2; exit 4"
    )
    with pytest.raises(ConfigError, match=f"this process is uid {os.geteuid()} with") as caught:
        runner.read_rules()
    assert "NET_ADMIN and NET_RAW" in caught.value.hint


def test_another_failure_says_what_the_program_said(bin_directory: Path) -> None:
    """A kernel without the table: its own words, without the comment lines."""
    _program(
        bin_directory,
        "iptables-nft-save",
        "echo '# Warning: noise' >&2; echo 'table nat: no such table' >&2; exit 3",
    )
    with pytest.raises(ConfigError) as caught:
        runner.read_rules()
    assert caught.value.problems == [
        "iptables-nft-save failed: table nat: no such table; its rules are unchanged"
    ]


def test_a_program_that_hangs_is_given_up(
    bin_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every wait has a bound, that for the rules too."""
    monkeypatch.setattr(runner, "_TIMEOUT_S", 0.05)
    _program(bin_directory, "iptables-nft-save", "exec /bin/sleep 5")
    with pytest.raises(ConfigError, match="did not end within"):
        runner.read_rules()


def test_a_file_that_is_no_program_is_named(bin_directory: Path) -> None:
    """An executable the kernel cannot run is a configuration error, not a crash."""
    _program(bin_directory, "iptables-nft-save", "")
    (bin_directory / "iptables-nft-save").write_bytes(b"\x00\x01")
    with pytest.raises(ConfigError, match="cannot be run"):
        runner.read_rules()


def test_an_older_table_that_does_not_exist_is_not_made_by_looking(
    bin_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x_tables makes a table for whoever asks for it, and then tracks every connection."""
    _program(bin_directory, "iptables-legacy-save", "exit 7")
    monkeypatch.setattr(runner, "_LOADED", dict.fromkeys(Family, "no-such-file"))
    assert runner.read_rules() == ()


def test_rules_elsewhere_are_taken_away_after_the_new_ones_stand(bin_directory: Path) -> None:
    """Another back end's rules go last: at no moment is the pod without capture."""
    for program in ("iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "nft"):
        _program(bin_directory, program, "")
    old = Found(chains=("PROXY_INIT_OUTPUT",))
    standing = (
        runner.Standing(Tables(Mode.LEGACY, Family.IPV4), old),
        runner.Standing(Tables(Mode.NFT, Family.IPV6), old),
        runner.Standing(None, Found(chains=("inet pillion",))),
    )

    def names(mode: Mode, *, ipv6: bool = True) -> list[str]:
        options = parse_options() if ipv6 else parse_options().without_ipv6()
        return [step.command[0] for step in runner.plan_install(options, mode, standing)]

    iptables, ip6tables = "iptables-nft-restore", "ip6tables-nft-restore"
    legacy = "iptables-legacy-restore"
    assert names(Mode.NFT) == [iptables, ip6tables, legacy, "nft"]
    assert names(Mode.NFT, ipv6=False) == [iptables, legacy, ip6tables, "nft"]
    assert names(Mode.LEGACY) == [legacy, ip6tables, "nft"]
    assert names(Mode.NFTABLES) == ["nft", legacy, ip6tables]
