"""The bench of ways to other clusters: its ratios, table and picture."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench.clusters import WAYS, Figure, draw, ratios, render

ROUNDS = [
    [
        Figure(way, p50 * slow, p50 * slow * 3, 400.0, carried)
        for way, p50, carried in zip(WAYS, (1.0, 1.1, 2.2), (0, 0, 500), strict=True)
    ]
    for slow in (1.0, 4.0, 1.0)
]


def test_ratios_are_of_one_round() -> None:
    """A slow round meets both sides."""
    assert ratios(ROUNDS, "direct", "local") == [pytest.approx(1.1)] * 3
    assert ratios(ROUNDS, "gateway", "direct") == [pytest.approx(2.0)] * 3


def test_the_table_has_every_way() -> None:
    """With medians, and what went through the gateway."""
    out = StringIO()
    Console(file=out, width=120).print(render(ROUNDS))
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(WAYS)
    assert "1.10 ms" in lines[2]
    assert lines[3].rstrip().endswith("500")


def test_the_picture(tmp_path: Path) -> None:
    """A PNG."""
    draw(ROUNDS, tmp_path / "ways.png")
    assert (tmp_path / "ways.png").read_bytes().startswith(b"\x89PNG")
