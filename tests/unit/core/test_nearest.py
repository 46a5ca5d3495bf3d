"""core.nearest: the name that was probably meant."""

from __future__ import annotations

import pytest

from core.nearest import nearest_name

NAMES = ("orders", "payments", "web")


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("order", "orders"),
        ("paymnets", "payments"),
        ("web", "web"),
        ("database", None),
        ("", None),
    ],
)
def test_only_a_near_name_is_offered(wrong: str, meant: str | None) -> None:
    """Advice that is far off is worse than none."""
    assert nearest_name(wrong, NAMES) == meant


def test_without_names_nothing_is_near() -> None:
    """An empty mesh has no advice to give."""
    assert nearest_name("web", []) is None
