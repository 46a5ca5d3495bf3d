"""``pillion identity rotate`` as an operator meets it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from cli import rotate as rotate_module
from cli.identity import command
from core.errors import IdentityError
from identity.ledger import Entry, append_entry
from tests.authority import Mesh, mk_mesh


@pytest.fixture
def own(tmp_path: Path) -> Mesh:
    """An authority to rotate."""
    return mk_mesh(tmp_path / "authority")


def _run(mesh: Mesh, *arguments: str) -> Result:
    result = CliRunner().invoke(
        command, ["rotate", *arguments, "--authority", str(mesh.authority.directory)]
    )
    assert result.exit_code == 0, result.output
    return result


def _fails(mesh: Mesh, step: str) -> str:
    result = CliRunner().invoke(
        command, ["rotate", step, "--authority", str(mesh.authority.directory)]
    )
    assert isinstance(result.exception, IdentityError), result.output
    return str(result.exception)


def _status(mesh: Mesh) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_run(mesh, "status", "-o", "json").stdout)
    return found


def test_the_steps_are_listed_in_their_order() -> None:
    """Help is the recipe."""
    result = CliRunner().invoke(command, ["rotate", "--help"])
    places = [result.output.index(f"  {name} ") for name in ("status", "start", "switch", "finish")]
    assert places == sorted(places)


def test_a_rotation_is_walked_through(own: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step says what comes next; a step out of its turn says what is in its way."""
    now = time.time()
    append_entry(
        own.authority.ledger, Entry("1", "web", own.authority.load_issuer().fingerprint, now + 100)
    )
    assert _status(own)["nextStep"] == "start"
    assert "`start` makes one" in _fails(own, "switch")
    started = _run(own, "start")
    assert started.stdout == ""
    assert "next: `switch`, once every workload" in started.stderr
    assert "the next step is `switch`" in _fails(own, "finish")
    assert "under way" in _fails(own, "start")
    assert "not yet: 1 leaf of the old issuer" in _run(own, "switch").stderr
    assert "may be in use until" in _fails(own, "finish")
    monkeypatch.setattr(rotate_module, "_now", lambda: now + 100)
    finished = _run(own, "finish")
    assert "trusted from now on" in finished.stderr
    assert "retired" in finished.stderr
    assert len(own.anchors.roots["cluster.local"]) == 1


def test_status_says_everything_in_every_form(own: Mesh) -> None:
    """For people, for scripts, and in one line."""
    _run(own, "start")
    _run(own, "switch")
    issuer = own.authority.load_issuer().fingerprint
    append_entry(own.authority.ledger, Entry("1", "web", "e" * 64, time.time() + 1000))
    data = _status(own)
    assert data["phase"] == "switched"
    assert data["nextStep"] == "finish"
    assert "unknown issuer" in data["obstacles"][0]
    assert [(root["old"], root["new"], root["issues"]) for root in data["roots"]] == [
        (True, False, False),
        (False, True, True),
    ]
    assert {each["fingerprint"]: each["leaves"] for each in data["issuers"]} == {
        issuer: 0,
        "e" * 64: 1,
    }
    assert yaml.safe_load(_run(own, "status", "-o", "yaml").stdout)["phase"] == "switched"
    assert _run(own, "status", "-o", "short").stdout == "switched finish blocked\n"
    table = _run(own, "status").stdout
    for words in ("both are trusted", "not yet: 1 leaf", "new, issues", issuer[:16], "unknown"):
        assert words in table


def test_status_is_free_when_nothing_is_in_the_way(own: Mesh) -> None:
    """What a script waits for."""
    assert _run(own, "status", "-o", "short").stdout == "idle start free\n"
    _run(own, "start")
    _run(own, "switch")
    assert _run(own, "status", "-o", "short").stdout == "switched finish free\n"


def test_broken_ledger_lines_are_mentioned(own: Mesh) -> None:
    """On stderr; they block nothing."""
    own.authority.ledger.write_text("half a li\n")
    assert "1 lines of the ledger" in _run(own, "status", "-o", "json").stderr


def test_the_issuer_alone(own: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one step, with the root's key from where it is kept; a root near its end is mentioned."""
    before = own.authority.load_issuer().fingerprint
    key = tmp_path / "safe.key"
    own.authority.root_key.rename(key)
    assert "cannot read" in _fails(own, "issuer")
    said = _run(own, "issuer", "--root-key", str(key)).stderr
    after = own.authority.load_issuer().fingerprint
    assert after != before
    assert after[:16] in said
    assert "rotate the root" not in said
    monkeypatch.setattr(rotate_module, "_now", lambda: time.time() + 3600 * 86_400)
    assert "rotate the root as well" in _run(own, "issuer", "--root-key", str(key)).stderr
