"""The tables of HTTP/2 cases, at both ends: whole, byte by byte, cut, with frames behind them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.wire.http2_reason import REASONS
from tests.wire.http2_case import Row
from tests.wire.http2_client_cases import CLIENT_ROWS
from tests.wire.http2_end import Client, Server
from tests.wire.http2_event import ConnectionEnded, StreamReset
from tests.wire.http2_frame_cases import FRAME_ROWS
from tests.wire.http2_message_cases import HPACK_ROWS, MESSAGE_ROWS
from tests.wire.http2_stream_cases import STREAM_ROWS
from tests.wire.http2_talk import (
    ACK,
    GET,
    POST,
    PREFACE,
    Talk,
    call,
    headers,
    ping,
    serve,
    settings,
)

SERVER_ROWS = STREAM_ROWS + FRAME_ROWS + MESSAGE_ROWS + HPACK_ROWS

H2SPEC = {
    "generic": "1:1 2:5 3.1:3 3.2:3 3.3:5 3.4:1 3.5:1 3.7:1 3.8:1 3.9:2 3.10:2 4:4 5:15",
    "http2": (
        "3.5:2 4.1:3 4.2:3 4.3:3 5.1:13 5.1.1:2 5.1.2:1 5.3.1:2 5.4.1:2 5.5:2 6.1:3 6.2:4 6.3:2"
        " 6.4:3 6.5:3 6.5.2:5 6.5.3:2 6.7:4 6.8:1 6.9:3 6.9.1:3 6.9.2:3 6.10:6 7:2 8.1:1 8.1.2:1"
        " 8.1.2.1:4 8.1.2.2:2 8.1.2.3:7 8.1.2.6:2 8.2:1"
    ),
    "hpack": "2.3.3:1 4.2:1 5.2:3 6.1:1 6.3:1",
}
"""The suite's cases for servers, group by group: section and how many; 146 in all."""

CLIENT_H2SPEC = (
    "1:1 4.1:3 4.2:3 4.3:1 5.1:10 5.1.1:1 5.4.1:2 5.5:1 6.1:3 6.2:3 6.3:2 6.4:3 6.5:3 6.5.2:4"
    " 6.5.3:1 6.7:4 6.8:1 6.9:3 6.9.1:2 6.10:6"
)
"""Its cases for clients; 57 in all."""

ELSEWHERE = {
    "http2/3.5/2": "test_another_preface_ends_the_connection",
    "http2/5.1.2/1": "test_streams_past_the_announced_number_are_refused",
}
"""Cases that a test of its own covers, because a row cannot say them."""


def name_of(row: Row) -> str:
    """Return a row's section and name."""
    return f"{row.section} {row.name}"


def check(row: Row, talk: Talk) -> None:
    """Compare what came of a conversation with the row."""
    codes = {REASONS[row.reason].error} if row.reason else set()
    if row.reason and row.stream == 0:
        assert talk.codec.is_ended
        assert talk.goaway in codes
        assert talk.reasons[-1] == row.reason
        assert isinstance(talk.events[-1], ConnectionEnded)
        return
    assert not talk.codec.is_ended
    assert talk.goaway is None
    if row.reason:
        assert talk.reasons == [row.reason]
        assert [stream for stream, code in talk.resets if code in codes] == [row.stream]
    else:
        assert talk.reasons == []
        assert talk.resets == []
    given_up = [each for each in talk.events if isinstance(each, StreamReset) and not each.reason]
    assert set(row.given_up) <= {each.stream_id for each in given_up}
    assert tuple(stream for stream in talk.answered if stream % 2) == row.answered
    assert tuple(talk.pongs) == row.pongs
    if row.sizes is not None:
        assert tuple(talk.sizes) == row.sizes


def converse(talk: Talk, row: Row, *, bytewise: bool) -> Talk:
    """Let the peer say its part."""
    for step in row.steps:
        talk.say(step, bytewise=bytewise)
    return talk


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("row", SERVER_ROWS, ids=name_of)
def test_a_server_keeps_to_the_table(row: Row, bytewise: bool) -> None:
    """Events, answers, RST_STREAM and GOAWAY with their codes."""
    if bytewise and sum(map(len, row.steps)) > 4_000:
        return
    check(row, converse(serve(), row, bytewise=bytewise))


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("row", CLIENT_ROWS, ids=name_of)
def test_a_client_keeps_to_the_table(row: Row, bytewise: bool) -> None:
    """Events, answers, RST_STREAM and GOAWAY with their codes."""
    if bytewise and sum(map(len, row.steps)) > 4_000:
        return
    has_content = (b":method", b"POST") in row.fields
    talk = call(fields=row.fields, ends=not has_content)
    talk.frames.clear()
    check(row, converse(talk, row, bytewise=bytewise))
    if not row.reason:
        assert tuple(talk.statuses) == row.statuses
        assert talk.received(1) == row.content


@pytest.mark.parametrize("row", SERVER_ROWS, ids=name_of)
def test_what_follows_changes_nothing_about_it(row: Row) -> None:
    """A connection that ended reads no further; one that lives answers what comes next."""
    talk = converse(serve(), row, bytewise=False)
    before = list(talk.events)
    talk.say(ping(b"and then") + headers(99))
    if talk.codec.is_ended:
        assert talk.events == before
        assert talk.pongs == list(row.pongs)
    else:
        assert talk.pongs == [*row.pongs, b"and then"]


def test_every_case_of_the_public_suite_is_covered() -> None:
    """All 146 for servers, all 57 for clients."""
    wanted = {
        f"{group}/{section}/{number}"
        for group, text in H2SPEC.items()
        for section, count in (part.split(":") for part in text.split())
        for number in range(1, int(count) + 1)
    }
    assert len(wanted) == 146
    covered = {case for row in SERVER_ROWS for case in row.h2spec} | set(ELSEWHERE)
    assert covered == wanted
    assert all(name in globals() for name in ELSEWHERE.values())
    client = {
        f"client/{section}/{number}"
        for section, count in (part.split(":") for part in CLIENT_H2SPEC.split())
        for number in range(1, int(count) + 1)
    }
    assert len(client) == 57
    assert {case for row in CLIENT_ROWS for case in row.h2spec} == client


def test_every_reason_is_met_by_a_row_or_a_test_of_its_bound() -> None:
    """A reason that nothing can bring about is no reason."""
    met = {row.reason for row in SERVER_ROWS + CLIENT_ROWS if row.reason}
    bounds = {
        *("http2-preface", "http2-window-exceeded", "http2-header-bomb", "http2-noise"),
        *("http2-resets", "http2-replies", "http2-too-many-streams", "http2-draining"),
        *("http2-stalled", "http2-header-list"),
    }
    assert met | bounds == set(REASONS)


@pytest.mark.parametrize("name", REASONS)
def test_every_reason_names_its_section(name: str) -> None:
    """Of RFC 9113, with words for a person."""
    reason = REASONS[name]
    assert re.fullmatch(r"http2-[a-z0-9-]+", name)
    assert re.fullmatch(r"[3-9][0-9.]*|10\.5(\.1)?", reason.section)
    assert reason.words


@pytest.mark.parametrize(
    "first",
    [
        b"INVALID CONNECTION PREFACE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\n\r",
        b"\x16\x03\x01",
        PREFACE + headers(1),
        PREFACE + ping(),
        PREFACE + settings(flags=ACK),
    ],
)
def test_another_preface_ends_the_connection(first: bytes) -> None:
    """RFC 9113 §3.4: the octets, then SETTINGS."""
    for bytewise in (False, True):
        talk = Talk(Server())
        talk.say(first, bytewise=bytewise)
        assert talk.reasons == ["http2-preface"]
        assert talk.goaway == 1


def test_a_server_that_does_not_begin_with_settings_is_left() -> None:
    """RFC 9113 §3.4."""
    for first in (headers(1, ((b":status", b"200"),)), ping(), settings(flags=ACK)):
        talk = Talk(Client())
        talk.say(first)
        assert talk.reasons == ["http2-preface"]


def test_streams_past_the_announced_number_are_refused() -> None:
    """RFC 9113 §5.1.2: with a code that says it may be tried again."""
    server = Server()
    talk = Talk(server, answers=False)
    talk.say(PREFACE + settings())
    most = talk.announced[3]
    assert most == 4_096
    for number in range(most):
        talk.say(headers(2 * number + 1, POST, ends=False))
    assert talk.resets == []
    assert server.active == most
    talk.say(headers(2 * most + 1, POST, ends=False))
    assert talk.resets == [(2 * most + 1, 7)]
    assert talk.reasons == ["http2-too-many-streams"]
    talk.answer(1)
    talk.say(headers(2 * most + 3, GET))
    assert talk.reasons == ["http2-too-many-streams"] * 2


def test_the_page_about_http2_lists_every_reason() -> None:
    """What a metric or a GOAWAY shows can be looked up."""
    page = (Path(__file__).parents[2] / "docs/http2.md").read_text()
    row = re.compile(r"\| `(http2-[a-z0-9-]+)` \| (.+) \| [A-Z_]+ \| ([0-9.]+) \|")
    rows = [found.groups() for line in page.splitlines() if (found := row.fullmatch(line))]
    assert rows == [(name, row.words, row.section) for name, row in REASONS.items()]
