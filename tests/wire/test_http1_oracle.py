"""Ours against h11 on generated, mutated and re-cut streams."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.http1_body_cases import BODIES
from tests.wire.http1_case import Case
from tests.wire.http1_drive import cut, read_requests, read_responses
from tests.wire.http1_head_cases import HEADS
from tests.wire.http1_oracle import (
    LOOSER,
    STRICTER,
    difference,
    judge_requests,
    judge_response,
    looser,
)
from tests.wire.http1_response_cases import RESPONSES
from tests.wire.http1_traffic import mutated, requests, responses

STREAMS = st.lists(requests(), min_size=1, max_size=3).map(b"".join)
PLACES = st.lists(st.integers(0, 2_000), max_size=6)


@given(STREAMS, PLACES, st.booleans())
def test_valid_requests_mean_what_they_mean_to_h11(
    stream: bytes, places: list[int], eof: bool
) -> None:
    """And every one of them is taken."""
    ours = read_requests(cut(stream, places), eof=eof)
    assert ours.code == ""
    assert difference(stream, ours, judge_requests(stream, eof=eof)) == ""


@settings(max_examples=200)
@given(mutated(STREAMS), PLACES, st.booleans())
def test_broken_requests_are_taken_or_refused_as_by_h11(
    stream: bytes, places: list[int], eof: bool
) -> None:
    """Or a row says why not."""
    ours = read_requests(cut(stream, places), eof=eof)
    assert difference(stream, ours, judge_requests(stream, eof=eof)) == ""


@given(responses(), PLACES, st.sampled_from([b"GET", b"HEAD"]), st.booleans())
def test_valid_responses_mean_what_they_mean_to_h11(
    stream: bytes, places: list[int], method: bytes, eof: bool
) -> None:
    """Except that h11 follows a coding in HTTP/1.0."""
    ours = read_responses(cut(stream, places), [method], eof=eof)
    assert ours.code in {"", "http1-coding-version"}
    assert difference(stream, ours, judge_response(stream, method, eof=eof)) == ""


@settings(max_examples=200)
@given(mutated(responses()), PLACES, st.sampled_from([b"GET", b"HEAD"]), st.booleans())
def test_broken_responses_are_taken_or_refused_as_by_h11(
    stream: bytes, places: list[int], method: bytes, eof: bool
) -> None:
    """Or a row says why not."""
    ours = read_responses(cut(stream, places), [method], eof=eof)
    assert difference(stream, ours, judge_response(stream, method, eof=eof)) == ""


@pytest.mark.parametrize("case", HEADS + BODIES, ids=lambda case: f"{case.section} {case.name}")
def test_the_table_of_requests_agrees_with_h11(case: Case) -> None:
    """Row by row, or a row of differences."""
    ours = read_requests([case.data], eof=case.eof)
    assert difference(case.data, ours, judge_requests(case.data, eof=case.eof)) == ""


@pytest.mark.parametrize("case", RESPONSES, ids=lambda case: f"{case.section} {case.name}")
def test_the_table_of_responses_agrees_with_h11(case: Case) -> None:
    """Row by row, or a row of differences."""
    ours = read_responses([case.data], [case.method], eof=case.eof)
    assert difference(case.data, ours, judge_response(case.data, case.method, eof=case.eof)) == ""


def test_no_row_of_differences_is_idle() -> None:
    """Each is needed by at least one case of the tables, or it goes."""
    needed = set()
    loose = set()
    for case in HEADS + BODIES:
        refused = judge_requests(case.data, eof=case.eof).refused
        if case.code and not refused:
            needed.add(case.code)
        if refused and not case.code:
            loose.add(looser(case.data, read_requests([case.data], eof=case.eof)))
    for case in RESPONSES:
        if case.code and not judge_response(case.data, case.method, eof=case.eof).refused:
            needed.add(case.code)
    assert set(STRICTER) - needed == set()
    assert set(LOOSER) - loose == set()
