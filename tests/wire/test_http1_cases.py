"""The tables of HTTP/1 cases: whole, byte by byte, cut anywhere, with bytes behind them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import OUTCOMES
from proxy.wire.http_message import RequestHead, ResponseHead
from tests.wire.http1_body_cases import BODIES
from tests.wire.http1_case import Case
from tests.wire.http1_drive import Message, Seen, bytewise, cut, read_requests, read_responses
from tests.wire.http1_head_cases import HEADS
from tests.wire.http1_response_cases import RESPONSES

REQUESTS = HEADS + BODIES


def name_of(case: Case) -> str:
    """Return a row's section and name."""
    return f"{case.section} {case.name}"


def words_of(message: Message) -> str:
    """Say what was understood, as the tables do."""
    head = message.head
    body = message.body.decode("latin-1")
    if isinstance(head, RequestHead):
        return b" ".join((head.method, head.authority, head.path)).decode("latin-1") + " " + body
    return "".join(f"{status} " for status in message.interim) + f"{head.status} {body}"


def check(case: Case, seen: Seen) -> None:
    """Compare what was understood with the row."""
    assert seen.code == case.code
    if case.code:
        assert not [message for message in seen.messages if message.ended]
        return
    assert tuple(map(words_of, seen.messages)) == case.understood
    assert all(message.ended for message in seen.messages)
    assert seen.messages[0].trailers == case.trailers


def answers(case: Case, pieces: list[bytes]) -> Seen:
    """Read a row of ``RESPONSES``."""
    return read_responses(pieces, [case.method], eof=case.eof)


@pytest.mark.parametrize("case", REQUESTS, ids=name_of)
def test_a_request_means_the_same_however_it_is_cut(case: Case) -> None:
    """Whole, byte by byte, and cut in two at every place."""
    check(case, read_requests([case.data], eof=case.eof))
    check(case, read_requests(bytewise(case.data), eof=case.eof))
    for place in range(1, len(case.data)):
        check(case, read_requests(cut(case.data, [place]), eof=case.eof))


@pytest.mark.parametrize("case", RESPONSES, ids=name_of)
def test_a_response_means_the_same_however_it_is_cut(case: Case) -> None:
    """Whole, byte by byte, and cut in two at every place."""
    check(case, answers(case, [case.data]))
    check(case, answers(case, bytewise(case.data)))
    for place in range(1, len(case.data)):
        check(case, answers(case, cut(case.data, [place])))


@pytest.mark.parametrize("case", [row for row in REQUESTS if not row.eof], ids=name_of)
def test_bytes_behind_a_request_change_nothing_about_it(case: Case) -> None:
    """They are the beginning of the next one, which is not read before its time."""
    seen = read_requests([case.data + b"G"])
    check(case, seen)
    if not case.code:
        assert seen.rest == b"G"


@pytest.mark.parametrize("case", [row for row in RESPONSES if not row.eof], ids=name_of)
def test_bytes_behind_a_response_change_nothing_about_it(case: Case) -> None:
    """What they mean is the next request's question, and then they are refused."""
    seen = answers(case, [case.data + b"H"])
    check(case, seen)
    if not case.code:
        assert seen.rest == b"H"
        again = read_responses([case.data + b"H"], [case.method, b"GET"])
        assert again.code == "http1-unsolicited"


@given(st.data())
def test_any_cut_is_as_good_as_none(data: st.DataObject) -> None:
    """Several rows in a row, cut at several places."""
    good = [row for row in REQUESTS if not row.code and not row.eof]
    rows = data.draw(st.lists(st.sampled_from(good), min_size=1, max_size=4))
    last = data.draw(st.sampled_from(REQUESTS))
    stream = b"".join(row.data for row in rows) + last.data
    whole = read_requests([stream])
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    assert read_requests(cut(stream, places)) == whole
    assert whole.code == (last.code if not last.eof else "")


def test_every_section_about_messages_has_rows() -> None:
    """RFC 9112, all but what speaks of intermediaries, media types and registries."""
    sections = {row.section for row in REQUESTS}
    assert sections >= {
        *("2.1", "2.2", "2.3", "3", "3.1", "3.2", "3.2.1", "3.2.2", "3.2.3", "3.2.4"),
        *("5", "5.1", "5.2", "6.1", "6.2", "6.3", "7.1", "7.1.1", "7.1.2", "8"),
    }
    assert {row.section for row in RESPONSES} >= {"4", "6.1", "6.2", "6.3", "7.1", "8"}


@pytest.mark.parametrize("case", [row for row in REQUESTS if row.code], ids=name_of)
def test_every_refusal_has_a_status_and_closes(case: Case) -> None:
    """Where a message's end is in doubt, nothing more is read from that connection."""
    outcome = OUTCOMES[case.code]
    assert outcome.http in {400, 414, 431, 501, 505}
    assert outcome.close


def test_a_response_head_says_nothing_about_requests() -> None:
    """The two kinds are told apart by type."""
    head = read_responses([b"HTTP/1.1 204 a\r\n\r\n"], [b"GET"]).messages[0].head
    assert isinstance(head, ResponseHead)
    assert head.reason == b"a"
