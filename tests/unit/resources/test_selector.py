"""Selectors as kubectl takes them in one line."""

from __future__ import annotations

import pytest

from resources.selector import Requirement, selector_of


def labels(text: str) -> dict[str, str]:
    """Return labels written as ``a=1 b=2``."""
    return dict(each.split("=") for each in text.split())


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [
        ("a=1", "a=1 b=2", "a=2"),
        ("a==1", "a=1", ""),
        ("a!=1", "a=2", "a=1"),
        ("a!=1", "", "a=1"),
        ("a", "a=", "b=1"),
        ("!a", "b=1", "a=1"),
        ("a in (1, 2)", "a=2", "a=3"),
        ("a notin (1,2)", "a=3", "a=1"),
        ("x.example/a=1, b in (2,3),c", "x.example/a=1 b=3 c=4", "x.example/a=1 b=3"),
        ("inside=1", "inside=1", "side=1"),
        ("a=", "a=", "a=1"),
    ],
)
def test_what_is_selected(text: str, matching: str, other: str) -> None:
    """Every requirement has to hold."""
    selector = selector_of(text)
    assert selector.matches(labels(matching))
    assert not selector.matches(labels(other))


def test_an_empty_selector_has_no_requirement() -> None:
    """Commas alone say nothing."""
    assert selector_of(" , ").requirements == ()
    assert selector_of("a").requirements == (Requirement("a", "Exists"),)


@pytest.mark.parametrize(
    "text", ["a=(1", "a in 1)", "!a=1", "a b", "a>1", "=1", "ä=1", "a in (1)2"]
)
def test_what_is_no_selector(text: str) -> None:
    """Told with what was seen."""
    with pytest.raises(ValueError, match="is no requirement"):
        selector_of(text)
