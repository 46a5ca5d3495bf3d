"""Expressions from users: bounded in size and time."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ResourceError
from resources.regex import MAX_PATTERN, MAX_TEXT, Regex, literal_prefix


@pytest.mark.parametrize(
    "pattern",
    ["[", "a{2,1}", "(?=a)b", r"(a)\1", "x" * (MAX_PATTERN + 1), "(?:a{100}){11}", ".{300}"],
)
def test_what_cannot_be_used_is_refused_with_a_hint(pattern: str) -> None:
    """Bad syntax, look-around, length and compiled size all raise, saying what to do."""
    with pytest.raises(ResourceError) as caught:
        Regex(pattern)
    assert caught.value.hint


def test_the_bounds_themselves_are_usable() -> None:
    """A pattern and a value at the bound work; a value past it matches nothing."""
    assert Regex("a" * 900).matches(b"a" * 900)
    assert Regex(".*").matches(b"x" * MAX_TEXT)
    assert not Regex(".*").matches(b"x" * (MAX_TEXT + 1))


@pytest.mark.parametrize(
    "pattern", [r"(?:[ab]*a[ab]{480})*c", r"(?:(?:[ab]{0,30}a){0,12})*c", "(a*)*b", "(.*)(.*)(.*)x"]
)
def test_a_hostile_expression_cannot_stall(pattern: str) -> None:
    """Linear time: at the bound of the text a match takes 30 ms at the very worst."""
    text = "".join(random.Random(7).choices("ab", k=MAX_TEXT)).encode()
    regex = Regex(pattern)
    start = time.monotonic()
    assert not regex.matches(text)
    assert time.monotonic() - start < 0.3


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [
        ("/api/v1/.*", "/api/v1/"),
        ("^/api", "/api"),
        ("/ab*", "/a"),
        ("/ab?c", "/a"),
        ("/ab{2}", "/a"),
        ("/ab+", "/ab"),
        (r"/v1\.0/\d+", "/v1.0/"),
        (r"/v1\.?", "/v1"),
        (r"/a\b", "/a"),
        ("/a|/b", ""),
        ("(?i)/a", ""),
        ("[ab]", ""),
        ("/a$", "/a"),
        ("/a\\", "/a"),
    ],
)
def test_literal_prefix(pattern: str, prefix: str) -> None:
    """Only what every match is sure to start with."""
    assert literal_prefix(pattern) == prefix


@given(st.text("ab/.*+?|(){}[]\\^$1", max_size=8), st.text("ab/.1", max_size=6))
def test_every_match_starts_with_the_literal_prefix(pattern: str, text: str) -> None:
    """The prefix may be shorter than it could be, never wrong."""
    try:
        regex = Regex(pattern)
    except ResourceError:
        return
    if regex.matches(text.encode()):
        assert text.startswith(literal_prefix(pattern))
