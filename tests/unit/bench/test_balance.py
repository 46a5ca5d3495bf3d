"""The balance bench measures what it says, in a short run."""

from __future__ import annotations

import pytest

from bench import balance as bench


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few runs of a few requests."""
    for name, value in (("_TURNS", 1), ("COUNTS", (1, 8)), ("REQUESTS", 2_000)):
        monkeypatch.setattr(bench, name, value)


def test_a_request_costs_something() -> None:
    """Over one endpoint and over several."""
    assert all(cost > 0 for cost in bench.costs().values())


def test_the_slow_endpoint_s_share_is_told_for_both_rules() -> None:
    """Neither leaves it out altogether: it has to be tried to be known."""
    assert 0 < bench.ewma_share(1) < bench.MAX_SHARE
    assert 0 < bench.least_share(1) < 1 / 3


def test_a_missed_target_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name, and by the exit status."""
    monkeypatch.setattr(bench, "MAX_RATIO", 0.0)
    assert bench.main() == 1
    assert "missed: the cost over 8 endpoints" in capsys.readouterr().out
