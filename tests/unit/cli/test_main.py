"""cli.main: verbs are found, and mistakes are told by status and words."""

from __future__ import annotations

import importlib
import re

import click
import pytest
from click.testing import CliRunner

from cli import main
from cli.main import VERBS, pillion
from core.errors import ConfigError, UnreachableError


def test_help_lists_every_verb_without_loading_it() -> None:
    """One line each."""
    result = CliRunner().invoke(pillion, ["--help"])
    assert result.exit_code == 0
    assert all(verb in result.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    """Each row of the table leads to a command with help."""
    assert isinstance(importlib.import_module(VERBS[verb][0]).command, click.Command)
    result = CliRunner().invoke(pillion, [verb, "--help"])
    assert (result.exit_code, result.stderr) == (0, "")


def test_version_and_commit_by_an_option() -> None:
    """As images are asked what they hold."""
    result = CliRunner().invoke(pillion, ["--version"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(r"pillion \S+ \(.+\)\n", result.stdout)


def test_an_unknown_verb_is_a_usage_error() -> None:
    """Exit 2."""
    result = CliRunner().invoke(pillion, ["fly"])
    assert result.exit_code == 2
    assert "fly" in result.stderr


def test_configuration_errors_exit_2_and_name_every_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each problem is a line of its own, the advice follows."""

    def fail(*_: object, **__: object) -> None:
        raise ConfigError(["port 0", "no name"], hint="see --help")

    monkeypatch.setattr(main.pillion, "main", fail)
    with pytest.raises(SystemExit, match="2"):
        main.main([])
    assert capsys.readouterr().err == ("pillion: port 0\npillion: no name\npillion: see --help\n")


def test_other_errors_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad outcome is not bad usage."""

    def fail(*_: object, **__: object) -> None:
        raise UnreachableError("nothing answers on 127.0.0.1:1")

    monkeypatch.setattr(main.pillion, "main", fail)
    with pytest.raises(SystemExit, match="1"):
        main.main([])
    assert capsys.readouterr().err == "pillion: nothing answers on 127.0.0.1:1\n"
