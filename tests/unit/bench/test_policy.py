"""The policy bench measures what it says, on a small mesh."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench import policy as bench


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn, few objects."""
    for name, value in (
        ("TURNS", 1),
        ("PODS", 6),
        ("SERVERS", 3),
        ("POLICIES", 15),
        ("ROUTES", 9),
        ("DECISIONS", 2_000),
    ):
        monkeypatch.setattr(bench, name, value)


def test_every_row_is_measured() -> None:
    """Decisions, routes, limits, growth and changes; only the yardstick has no unit of its own."""
    rows = bench.measure(with_directory=False)
    assert len({row.name for row in rows}) == len(rows) > 15
    assert all(row.value > 0 for row in rows if row.unit != "blocks")
    assert bench.render(rows).row_count == len(rows)


def test_the_directory_row_sees_a_change(tmp_path: Path) -> None:
    """Through the sidecar's own control, bounded at ten times what it must be."""
    row = asyncio.run(bench.directory_row(tmp_path))
    assert 0 < row.value < 10 * row.must


def test_a_row_past_its_target_does_not_hold() -> None:
    """At the target it does."""
    assert bench.Row("at", 1.5, "ratio", 1.5).holds
    assert not bench.Row("past", 1.51, "ratio", 1.5).holds
