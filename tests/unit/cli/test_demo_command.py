"""``pillion demo`` before and after the story: what it asks for, and how it reports."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from cli.demo.command import look_around, report
from cli.demo.story import Scenario
from cli.output import Form
from core.errors import ConfigError

SCENARIOS = [
    Scenario(
        name="http", ok=True, client_identity="web.shop", latency_ms=1.23456, seen=("allowed",)
    ),
    Scenario(name="stranger-denied", ok=False, seen=("answered [200]",)),
]


def test_everything_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No root and no programs: each with its reason, and one line of what to do."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    there = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name: None if name in {"tcpdump", "redis-cli"} else there("sh")
    )
    with pytest.raises(ConfigError) as caught:
        look_around(is_captured=True)
    assert len(caught.value.problems) == 3
    assert "runs as root, and this is uid 1000: its pods are network" in caught.value.problems[0]
    assert "redis-cli is not installed" in caught.value.problems
    expected = "run it with sudo, or with --mode explicit, apt-get install redis-tools tcpdump"
    assert caught.value.hint == expected
    with pytest.raises(ConfigError) as caught:
        look_around(is_captured=False)
    assert caught.value.problems == ["redis-cli is not installed"]


def test_nothing_missing_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """As root with every program the demo begins."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    look_around(is_captured=True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    look_around(is_captured=False)


def test_the_json_has_exactly_the_agreed_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """Other programs read it: nothing more, nothing less, absent values as null."""
    report(Form.JSON, SCENARIOS)
    assert json.loads(capsys.readouterr().out) == {
        "scenarios": [
            {
                "name": "http",
                "ok": True,
                "path": "local",
                "client_identity": "web.shop",
                "latency_ms": 1.235,
            },
            {
                "name": "stranger-denied",
                "ok": False,
                "path": "local",
                "client_identity": None,
                "latency_ms": None,
            },
        ]
    }


def test_the_table_says_what_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """A mark, the client's identity and, word for word, the evidence."""
    report(Form.TABLE, SCENARIOS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["SCENARIO", "PATH", "LATENCY"]
    assert lines[1].split() == ["√", "http", "local", "1.2", "ms", "web.shop"]
    assert lines[2].strip() == "allowed"
    assert lines[3].startswith("×")
    assert lines[4].strip() == "answered [200]"
    report(Form.SHORT, SCENARIOS)
    assert capsys.readouterr().out == "ok http\nfailed stranger-denied\n"
