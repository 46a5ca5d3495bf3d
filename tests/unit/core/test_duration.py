"""core.duration: Linkerd's form of a duration."""

from __future__ import annotations

import pytest

from core.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("1ms", 0.001),
        ("1500ms", 1.5),
        ("10s", 10.0),
        ("5m", 300.0),
        ("2h", 7_200.0),
        ("1d", 86_400.0),
        ("999999999999ms", 999_999_999.999),
    ],
)
def test_an_integer_with_its_unit_is_a_duration(text: str, seconds: float) -> None:
    """Bare zero is the only form without a unit."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "s", "1", "-1s", "+1s", "1.5s", "1 s", " 1s", "1s ", "1s\n", "1S", "1us", "1w"),
        *("1m30s", "1e3s", "0x1s", "٣s", "1000000000000ms"),
    ],
)
def test_anything_else_is_refused_with_advice(text: str) -> None:
    """Fractions, signs, blanks, other units, other digits, one digit too many."""
    with pytest.raises(ValueError, match="write an integer and ms, s, m, h or d"):
        parse_duration(text)
