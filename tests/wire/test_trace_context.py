"""Trace ids: W3C Trace Context §3.2 and B3, by tables; what is malformed says nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.http_field import Fields
from proxy.wire.trace_context import MAX_REQUEST_ID, trace_id_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
ZERO = "0" * 32


def _parent(text: str) -> Fields:
    return ((b"traceparent", text.encode("latin-1")),)


def _b3(text: str) -> Fields:
    return ((b"b3", text.encode("latin-1")),)


@pytest.mark.parametrize(
    ("fields", "trace_id"),
    [
        pytest.param(_parent(f"00-{TRACE}-{SPAN}-01"), TRACE, id="version 00"),
        pytest.param(_parent(f"cc-{TRACE}-{SPAN}-00"), TRACE, id="a later version"),
        pytest.param(_parent(f"cc-{TRACE}-{SPAN}-00-more"), TRACE, id="that says more"),
        pytest.param(_parent(f"cc-{TRACE}-{SPAN}-00.more"), "", id="but not behind a dash"),
        pytest.param(_parent(f"00-{TRACE}-{SPAN}-01-more"), "", id="which 00 may not"),
        pytest.param(_parent(f"ff-{TRACE}-{SPAN}-01"), "", id="the version that is none"),
        pytest.param(_parent(f"00-{ZERO}-{SPAN}-01"), "", id="trace id of zeros"),
        pytest.param(_parent(f"00-{TRACE}-{'0' * 16}-01"), "", id="parent id of zeros"),
        pytest.param(_parent(f"00-{TRACE.upper()}-{SPAN}-01"), "", id="upper case"),
        pytest.param(_parent(f"00-{TRACE[1:]}-{SPAN}-01"), "", id="a digit short"),
        pytest.param(_parent(f"00-{TRACE}-{SPAN}"), "", id="without flags"),
        pytest.param(_parent(f"00-{TRACE}-{SPAN}-01\n"), "", id="a line end behind"),
        pytest.param(_parent(""), "", id="empty"),
        pytest.param(_parent("00-" + "9" * 100_000), "", id="without end"),
        pytest.param(_b3(f"{TRACE}-{SPAN}-1-{SPAN}"), TRACE, id="b3"),
        pytest.param(_b3(f"{TRACE}-{SPAN}-d"), TRACE, id="b3 debug"),
        pytest.param(_b3(f"{TRACE[:16]}-{SPAN}"), TRACE[:16], id="b3 of 64 bits"),
        pytest.param(_b3(f"{'0' * 16}{TRACE[:16]}-{SPAN}"), "0" * 16 + TRACE[:16], id="b3 padded"),
        pytest.param(_b3("0"), "", id="b3 that only says no"),
        pytest.param(_b3(f"{ZERO}-{SPAN}"), "", id="b3 of zeros"),
        pytest.param(_b3(f"{TRACE}-{SPAN}-2"), "", id="b3 sampled oddly"),
        pytest.param(((b"x-b3-traceid", TRACE.upper().encode()),), TRACE, id="b3 in several"),
        pytest.param(((b"x-b3-traceid", b"0" * 16),), "", id="b3 in several, zeros"),
        pytest.param(((b"x-b3-traceid", b"0" * 17),), "", id="b3 in several, of no length"),
        pytest.param(((b"x-request-id", b"abc-1"),), "abc-1", id="a request's id"),
        pytest.param(((b"x-amzn-trace-id", b"Root=1-2"),), "Root=1-2", id="Amazon's"),
        pytest.param(((b"x-request-id", b'a" b'),), "", id="with a blank"),
        pytest.param(((b"x-request-id", "é".encode()),), "", id="not ASCII"),
        pytest.param(((b"accept", b"*/*"),), "", id="none"),
        pytest.param((), "", id="no fields"),
    ],
)
def test_a_header_says_the_trace_or_nothing(fields: Fields, trace_id: str) -> None:
    """Row by row."""
    assert trace_id_of(fields) == trace_id


def test_a_request_id_of_the_bound_is_taken_and_a_longer_one_not() -> None:
    """It has no form that would bound it."""
    assert trace_id_of(((b"x-request-id", b"a" * MAX_REQUEST_ID),)) == "a" * MAX_REQUEST_ID
    assert trace_id_of(((b"x-request-id", b"a" * (MAX_REQUEST_ID + 1)),)) == ""


def test_traceparent_counts_before_b3_and_that_before_ids_of_requests() -> None:
    """A malformed one leaves the word to the next; of two equal headers the first counts."""
    other = "a" * 32
    fields: Fields = (
        (b"x-request-id", b"mine"),
        (b"x-b3-traceid", b"b" * 32),
        (b"b3", f"{other}-{SPAN}".encode()),
        (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode()),
        (b"traceparent", f"00-{other}-{SPAN}-01".encode()),
    )
    assert trace_id_of(fields) == TRACE
    assert trace_id_of(fields[:3]) == other
    assert trace_id_of(fields[:2]) == "b" * 32
    assert trace_id_of(fields[:1]) == "mine"
    assert trace_id_of(((b"traceparent", b"00-"), *fields[:3])) == other


@given(st.sampled_from([b"traceparent", b"b3", b"x-b3-traceid", b"x-request-id"]), st.binary())
def test_whatever_stands_there_the_id_is_visible_and_short(name: bytes, value: bytes) -> None:
    """It goes into a log line."""
    found = trace_id_of(((name, value),))
    assert len(found) <= MAX_REQUEST_ID
    assert all("!" <= each <= "~" for each in found)
