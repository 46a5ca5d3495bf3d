"""``pillion redirect`` as the user meets it where nothing can be changed."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import cli.redirect
from cli.redirect import command
from core.errors import ConfigError
from redirect.backend import Mode, Tables
from redirect.rule import Family, Found, Rule
from redirect.runner import Standing


def _unreadable() -> tuple[Standing, ...]:
    raise ConfigError("no rights here")


def test_a_dry_run_shows_the_rules_without_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text is what would be fed in; the reason for assuming a fresh pod goes to stderr."""
    monkeypatch.setattr(cli.redirect, "read_rules", _unreadable)
    result = CliRunner().invoke(command, ["install", "--dry-run", "--skip-subnets", "10.0.0.0/8"])
    assert result.exit_code == 0
    assert result.stdout.startswith("iptables-nft-restore -w 5 --noflush <<'END'\n*nat\n")
    assert "\nip6tables-nft-restore -w 5 --noflush <<'END'\n*nat\n" in result.stdout
    assert "-s 10.0.0.0/8" in result.stdout
    assert "no rights here" in result.stderr


def test_a_dry_run_speaks_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, for programs."""
    monkeypatch.setattr(cli.redirect, "read_rules", tuple)
    result = CliRunner().invoke(command, ["install", "--dry-run", "--no-ipv6", "-o", "json"])
    (step,) = json.loads(result.stdout)["steps"]
    assert step["command"] == ["iptables-nft-restore", "-w", "5", "--noflush"]
    assert step["rules"][0]["chain"] == "PROXY_INIT_REDIRECT"
    assert step["input"].endswith("COMMIT\n")


def test_a_wrong_option_reaches_the_user_as_a_configuration_error() -> None:
    """The frame turns it into exit status 2."""
    result = CliRunner().invoke(command, ["install", "--dry-run", "--inbound-port", "x"])
    assert isinstance(result.exception, ConfigError)


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        ((), "no capture rules here"),
        (
            (
                Standing(
                    Tables(Mode.NFT, Family.IPV6),
                    Found(("PROXY_INIT_OUTPUT",), (Rule("OUTPUT", "", "PROXY_INIT_OUTPUT", ""),)),
                ),
            ),
            "the rules of ip6tables-nft are incomplete: one direction is not captured",
        ),
        (
            (Standing(None, Found(("inet pillion",))),),
            "the rules of nft are incomplete",
        ),
    ],
)
def test_show_says_what_is_wrong_with_the_rules(
    monkeypatch: pytest.MonkeyPatch, standing: tuple[Standing, ...], said: str
) -> None:
    """No rules and half the rules each get their sentence and the command that helps."""
    monkeypatch.setattr(cli.redirect, "read_rules", lambda: standing)
    result = CliRunner().invoke(command, ["show"])
    assert result.exit_code == 0
    assert said in result.stderr
    assert "pillion redirect install" in result.stderr
