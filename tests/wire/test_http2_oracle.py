"""Ours against h2: on the tables, and on generated requests whose fields are mutated.

Streams of mutated frames are the fuzz targets' part.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.http2_case import Row
from tests.wire.http2_client_cases import CLIENT_ROWS
from tests.wire.http2_oracle import LOOSER, STRICTER, difference, looser
from tests.wire.http2_talk import GET, OK, Pairs, block, continuation, data, headers, raw
from tests.wire.test_http2_cases import SERVER_ROWS


def name_of(row: Row) -> str:
    """Return a row's section and name."""
    return f"{row.section} {row.name}"


@pytest.mark.parametrize("row", SERVER_ROWS, ids=name_of)
def test_the_server_s_table_agrees_with_h2(row: Row) -> None:
    """Row by row, or a row of differences."""
    assert difference(b"".join(row.steps), is_server=True)[0] == ""


@pytest.mark.parametrize("row", CLIENT_ROWS, ids=name_of)
def test_the_client_s_table_agrees_with_h2(row: Row) -> None:
    """Row by row, or a row of differences."""
    assert difference(b"".join(row.steps), is_server=False)[0] == ""


_OCTETS = st.sampled_from(
    [
        b"",
        b" ",
        b"\t",
        b"\0",
        b"\r\n",
        b"A",
        b"a",
        b":",
        b"@",
        b"/",
        b"#",
        b"\x7f",
        b"\xff",
        b",",
        b"9",
    ]
)
_NAMES = st.sampled_from(
    [
        *(b":method", b":scheme", b":path", b":authority", b":status", b":protocol", b":x"),
        *(b"host", b"content-length", b"te", b"connection", b"transfer-encoding", b"cookie", b"x"),
    ]
)
_VALUES = st.sampled_from(
    [b"GET", b"http", b"/", b"a", b"200", b"trailers", b"0", b"1", b"CONNECT", b"a:1", b"*", b""]
)


@st.composite
def mutated(draw: st.DrawFn, fields: Pairs) -> Pairs:
    """Draw fields with one to three changes: added, dropped, doubled, moved, octets inside."""
    mutant = list(fields)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(mutant) - 1)))
        kind = draw(st.integers(0, 4))
        if kind == 0 or not mutant:
            mutant.insert(at, (draw(_NAMES), draw(_VALUES)))
        elif kind == 1:
            del mutant[at]
        elif kind == 2:
            mutant.insert(draw(st.integers(0, len(mutant))), mutant[at])
        else:
            name, value = mutant[at]
            if draw(st.booleans()):
                cut = draw(st.integers(0, len(value)))
                value = value[:cut] + draw(_OCTETS) + value[cut:]
            else:
                cut = draw(st.integers(0, len(name)))
                name = name[:cut] + draw(_OCTETS) + name[cut:]
            mutant[at] = (name, value)
    return mutant


_MORE: Pairs = ((b"te", b"trailers"), (b"content-length", b"1"), (b"host", b"a"), (b"x", b"y"))


@settings(max_examples=300)
@given(mutated((*GET, *_MORE)), st.integers(0, 2))
def test_mutated_requests_are_taken_or_refused_as_by_h2(fields: Pairs, cut: int) -> None:
    """Or a row says why not; with content, with trailers, in one frame or in two."""
    text = block(fields)
    if cut:
        begin = raw(0x1, 0, 1, text[: len(text) // 2]) + continuation(1, text[len(text) // 2 :])
    else:
        begin = raw(0x1, 0x4, 1, text)
    for rest in (data(1), data(1, b"", ends=True), headers(1, [(b"x", b"y")])):
        assert difference(begin + rest, is_server=True)[0] == ""


@settings(max_examples=300)
@given(mutated((*OK, (b"content-length", b"1"), (b"x", b"y"))))
def test_mutated_responses_are_taken_or_refused_as_by_h2(fields: Pairs) -> None:
    """Or a row says why not."""
    begin = raw(0x1, 0x4, 1, block(fields))
    for rest in (data(1), headers(1, [(b"x", b"y")])):
        assert difference(begin + rest, is_server=False)[0] == ""


def test_no_row_of_differences_is_idle() -> None:
    """Each is needed by the tables, or stands here with what needs it."""
    needed = set()
    for rows, is_server in ((SERVER_ROWS, True), (CLIENT_ROWS, False)):
        for row in rows:
            needed.add(difference(b"".join(row.steps), is_server=is_server)[1])
    assert set(STRICTER) - needed == set()
    examples = {
        "host": headers(1, [*GET, (b"host", b"A")]),
        "connect setting": raw(0x4, 0, 0, b"\x00\x08\x00\x00\x00\x02"),
        "reserved bit": raw(0x8, 0, 0, b"\x80\x00\x00\x01"),
        "closed stream": raw(0x8, 0, 1, bytes(4)),
        "padding alone": raw(0x1, 0x8, 1, b"\x01\x00"),
        "extension": raw(0xA, 0, 0, b"\x00"),
    }
    assert {name: looser(frame) for name, frame in examples.items()} == {
        name: name for name in LOOSER
    }
    for name, frame in examples.items():
        before = headers(1) + raw(0x3, 0, 1, bytes(4)) if name == "closed stream" else b""
        assert difference(before + frame, is_server=True) == ("", "refused")
