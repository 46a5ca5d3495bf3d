"""The bench of ways to other clusters: ratios, verdicts, table, JSON and picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench.spread import Spread
from bench.ways import (
    BARE,
    DIRECT,
    GATEWAY,
    LOCAL,
    WAYS,
    Carried,
    Report,
    Sample,
    Settings,
    Verdict,
    added_ms,
    beyond_delay,
    to_json,
    verdicts,
)
from bench.ways_plot import draw
from bench.ways_table import WIDTH, render

TIMES = {BARE: 0.1, LOCAL: 1.0, DIRECT: 1.1, GATEWAY: 2.2}
"""p50 in ms without delay, of a round that is not slow."""
SLOW = (1.0, 4.0, 1.0)
ASKED = 100


def sample(p50_ms: float, carried: Carried | None = None) -> Sample:
    """Return a sample with this p50."""
    cpu = {"client": 100.0, "gateway": 50.5}
    return Sample(ASKED, p50_ms, p50_ms * 3, cpu, carried or Carried(0, 0, 900))


def report(times: Mapping[str, float] = TIMES) -> Report:
    """Return a run of three rounds, the second of them slow; 5 ms were set and 5.1 added."""
    carried = {GATEWAY: Carried(110, 25_000, 90_000)}
    cells = {
        (delay, way): [
            sample(
                times[way] * slow + (delay and way != LOCAL and delay + 0.1),
                carried.get(way),
            )
            for slow in SLOW
        ]
        for delay in (0.0, 5.0)
        for way in WAYS
    }
    return Report(
        taken="2026-01-01T00:00:00+00:00",
        settings=Settings(3, 1.0, 0.25, 100, 8, (0.0, 5.0), has_precedence=True),
        versions={"pillion": "0.1.0", "commit": "abc", "pillion_core": "mixed", "python": "3"},
        machine={"cpu": "one", "kernel": "6"},
        cells=cells,
        steal_percent=Spread(1, 0, 2),
        others_percent=Spread(10, 0, 40),
    )


def verdict_on(what: str, seen: Report) -> Verdict:
    """Return the verdict whose claim has these words."""
    (found,) = (each for each in verdicts(seen.cells) if what in each.claim)
    return found


def test_what_a_delay_added_is_what_bare_connections_took_longer() -> None:
    """Round by round, so that a slow minute counts on both sides."""
    cells = report().cells
    assert added_ms(cells, 5.0) == pytest.approx((5.1,) * 3)
    assert beyond_delay(cells, 5.0, DIRECT) == pytest.approx((1.1, 4.4, 1.1))
    assert beyond_delay(cells, 5.0, LOCAL) == pytest.approx((1.0, 4.0, 1.0))


def test_ratios_are_of_one_round() -> None:
    """A slow round meets both sides."""
    for what in ("direct without delay", "direct with 5 ms"):
        found = verdict_on(what, report())
        assert found.ratio is not None
        assert (found.ratio.minimum, found.ratio.maximum) == pytest.approx((1.1, 1.1))
        assert found.holds
    gateway = verdict_on("gateway without delay", report())
    assert gateway.ratio is not None
    assert gateway.ratio.median == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("way", "p50_ms", "failing"),
    [
        (DIRECT, 1.149, []),
        (DIRECT, 1.16, ["direct without delay", "direct with 5 ms"]),
        (GATEWAY, 2.199, []),
        (GATEWAY, 2.21, ["gateway without delay"]),
    ],
)
def test_what_is_a_little_too_slow_fails(way: str, p50_ms: float, failing: list[str]) -> None:
    """At the limit, and beyond it."""
    seen = verdicts(report({**TIMES, way: p50_ms}).cells)
    failed = [each.claim for each in seen if not each.holds]
    assert [each.partition(" more")[0].partition(":")[0] for each in failed] == failing


def test_a_delay_that_was_more_than_set_is_said() -> None:
    """Both what it was, and what the ratio would be by what was set."""
    said = verdict_on("direct with 5 ms", report()).seen
    assert said == "1.10 (1.10-1.10); it was 5.10 ms, by those that were set 1.20"


@pytest.mark.parametrize(
    ("way", "carried", "holds"),
    [
        (DIRECT, Carried(0, 34, 2_000), True),
        (DIRECT, Carried(1, 0, 0), False),
        (LOCAL, Carried(0, ASKED * 6, 0), False),
        (GATEWAY, Carried(ASKED - 1, 20_000, 90_000), False),
        (GATEWAY, Carried(ASKED, 20_000, 90_000), True),
    ],
)
def test_only_what_is_sent_by_the_gateway_may_pass_it(
    way: str, carried: Carried, holds: bool
) -> None:
    """A ping now and then is no request; a request less than were answered is one too few."""
    seen = report()
    cells = {key: list(rounds) for key, rounds in seen.cells.items()}
    for delay in (0.0, 5.0):
        cells[delay, way] = [replace(each, carried=carried) for each in cells[delay, way]]
    found = verdict_on("through the gateway", replace(seen, cells=cells))
    assert found.holds is holds


def test_the_table_has_every_way_and_every_verdict() -> None:
    """With medians, ratios and what went through the gateway."""
    out = StringIO()
    Console(file=out, width=WIDTH).print(render(report()))
    lines = [line.split() for line in out.getvalue().splitlines()]
    rows = [line for line in lines if line[1:2] == ["ms"]]
    assert [line[2] for line in rows] == [*WAYS, *WAYS]
    shown = "0 ms direct 1.10 (1.10-4.40) 3.30 1.10 (1.10-1.10) - 150 0"
    assert " ".join(rows[2]) == shown
    assert rows[7][-2:] == ["150", "227"]
    assert [line[0] for line in lines if line[:1] in (["holds"], ["FAILS"])] == ["holds"] * 4
    assert "did not keep the pace" not in out.getvalue()
    assert "took up to 40 %" in out.getvalue()


def test_who_falls_behind_is_named() -> None:
    """Its times are those of a queue."""
    seen = report()
    cells = {**seen.cells, (0.0, LOCAL): [replace(sample(1.0), requests=94)] * 3}
    out = StringIO()
    Console(file=out, width=WIDTH).print(render(replace(seen, cells=cells)))
    assert "local with 0 ms did not keep the pace" in out.getvalue()


def test_the_json_holds_every_round() -> None:
    """And each verdict with its ratio and limit."""
    data = json.loads(json.dumps(to_json(report())))
    cell = next(each for each in data["cells"] if (each["delay_ms"], each["way"]) == (5.0, GATEWAY))
    assert [each["carried"]["content_bytes"] for each in cell["rounds"]] == [25_000] * 3
    assert cell["p50_ms"]["median"] == pytest.approx(7.3)
    assert data["added_ms"]["5"]["median"] == pytest.approx(5.1)
    assert [each["limit"] for each in data["verdicts"]] == [1.15, 1.15, 2.0, None]
    assert data["schema"] == 1


def test_the_picture(tmp_path: Path) -> None:
    """A PNG."""
    draw(report(), tmp_path / "ways.png")
    assert (tmp_path / "ways.png").read_bytes().startswith(b"\x89PNG")
