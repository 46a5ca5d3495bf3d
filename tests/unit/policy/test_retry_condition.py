"""Conditions of retries, as annotations and headers write them."""

from __future__ import annotations

import pytest

from policy.model import StatusRange
from policy.retry_condition import MAX_CONDITIONS, parse_grpc_codes, parse_statuses


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("5xx", ((500, 599),)),
        ("gateway-error", ((502, 504),)),
        ("429", ((429, 429),)),
        ("500-502", ((500, 502),)),
        ("100-599", ((100, 599),)),
        (" 5xx , 429,429 ", ((500, 599), (429, 429))),
    ],
)
def test_statuses_are_named_singly_or_in_ranges(text: str, ranges: tuple[tuple[int, int]]) -> None:
    """Twice is once, blanks are nothing."""
    assert parse_statuses(text) == tuple(StatusRange(low, high) for low, high in ranges)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5XX",
        "4xx",
        "99",
        "600",
        "502-500",
        "500-",
        "-500",
        "500-600",
        "5xx,",
        "\u0665\u0660\u0660",
    ],
)
def test_what_names_no_statuses_is_told(text: str) -> None:
    """With what may be written."""
    with pytest.raises(ValueError, match="names no statuses; write 5xx"):
        parse_statuses(text)


def test_grpc_statuses_are_named() -> None:
    """The five of Linkerd's."""
    text = "cancelled,deadline-exceeded,internal,resource-exhausted,unavailable"
    assert parse_grpc_codes(text) == {1, 4, 8, 13, 14}
    with pytest.raises(ValueError, match="did you mean unavailable"):
        parse_grpc_codes("unavailble")
    with pytest.raises(ValueError, match="known are cancelled"):
        parse_grpc_codes("ok")


def test_as_many_conditions_as_may_be_and_one_more() -> None:
    """A header is hostile."""
    assert len(parse_statuses(",".join(["500"] * MAX_CONDITIONS))) == 1
    with pytest.raises(ValueError, match="at most 100"):
        parse_statuses(",".join(["500"] * (MAX_CONDITIONS + 1)))
