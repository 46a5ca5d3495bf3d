"""bench.growth, bench.axis: costs along what may grow, judged and drawn; in a short run."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from bench import axis, growth
from bench.axis import Axis, Line
from bench.target import Verdict


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn of each."""
    monkeypatch.setattr(axis, "TURNS", 1)
    monkeypatch.setattr(axis, "EVENTS", 4)


MADE = [
    axis.policies((1, 2)),
    axis.routes((1, 3)),
    axis.endpoints((1, 3)),
    axis.connections((1, 3)),
    axis.headers((1, 3)),
    axis.bodies((1, 200_000)),
]


@pytest.mark.parametrize("found", MADE, ids=lambda found: found.key)
def test_each_axis_has_a_cost_for_each_count(found: Axis) -> None:
    """Every one of them a real decision, request or event: it costs something."""
    for line in found.lines:
        assert len(line.microseconds) == len(found.counts), line.title
        assert min(line.microseconds) > 0, line.title


def test_what_must_not_grow_is_policies_routes_and_endpoints() -> None:
    """The others are told, not judged."""
    assert [each.key for each in MADE if each.is_bounded] == ["policies", "routes", "endpoints"]


@pytest.mark.parametrize(
    ("dearest", "expected"),
    [(1.1, Verdict.STRETCH), (1.2, Verdict.HOLDS), (1.5, Verdict.HOLDS), (1.51, Verdict.MISSES)],
)
def test_a_cost_is_judged_by_the_dearest_count(dearest: float, expected: Verdict) -> None:
    """Wherever on the axis it is; limits hold."""
    assert growth.verdict(Line("cost", (1.0, dearest, 1.0))) is expected


def test_the_table_has_a_line_for_each_cost() -> None:
    """And a verdict only where there is a limit."""
    out = StringIO()
    bounded = Axis("a", "things", (1, 1_000), (Line("cost", (1.0, 2.0)),), is_bounded=True)
    free = Axis("b", "others", (1, 1_000), (Line("price", (1.0, 2.0)),))
    Console(file=out, width=120).print(growth.render([bounded, free], "interpreted"))
    cost, price = (line for line in out.getvalue().splitlines() if "2.00" in line)
    assert cost.split() == ["cost", "1.00", "2.00", "2.00", "misses"]
    assert price.split() == ["price", "1.00", "2.00", "2.00"]


def test_a_run_brings_a_json_and_a_picture(tmp_path: Path) -> None:
    """With versions, whatever the verdict."""
    arguments = ["--only", "headers", "--output", str(tmp_path)]
    said = CliRunner().invoke(growth.main, arguments)
    assert said.exit_code == 0, said.output
    (file,) = tmp_path.glob("*-growth.json")
    data: Any = json.loads(file.read_text())
    assert data["axes"][0]["key"] == "headers"
    assert data["missed"] == []
    assert data["versions"]["pillion_core"]
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
