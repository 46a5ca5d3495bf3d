"""Fields: lists, what speaks of one connection, trailers, cookies."""

from __future__ import annotations

import pytest

from proxy.wire.http_field import (
    Fields,
    has_any,
    is_value,
    list_members,
    may_be_trailer,
    safe_value,
    value_of,
    with_one_cookie,
    without_fields,
    without_hop_by_hop,
)

PLAIN: Fields = ((b"host", b"a"), (b"x", b"1"), (b"te", b"trailers"))


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", []),
        (b" ", []),
        (b"A", [b"a"]),
        (b"a, B ,,c,", [b"a", b"b", b"c"]),
        (b",", []),
        (b"a\t,\tb", [b"a", b"b"]),
    ],
)
def test_a_list_has_its_members_and_no_empty_ones(value: bytes, members: list[bytes]) -> None:
    """RFC 9110 §5.6.1."""
    assert list_members(value) == members


def test_the_first_value_counts() -> None:
    """None stands for a field that is not there."""
    assert value_of((*PLAIN, (b"x", b"2")), b"x") == b"1"
    assert value_of(PLAIN, b"y") is None


@pytest.mark.parametrize(
    ("extra", "gone"),
    [
        ([], []),
        ([(b"connection", b"close")], [b"connection"]),
        ([(b"connection", b"")], [b"connection"]),
        (
            [(b"keep-alive", b"3"), (b"proxy-connection", b"x")],
            [b"keep-alive", b"proxy-connection"],
        ),
        ([(b"upgrade", b"h2c")], [b"upgrade"]),
        ([(b"connection", b"X, y"), (b"y", b"2")], [b"connection", b"x", b"y"]),
        ([(b"connection", b"a"), (b"a", b""), (b"connection", b"x")], [b"connection", b"a", b"x"]),
        ([(b"connection", b"te")], [b"connection", b"te"]),
    ],
)
def test_what_speaks_of_one_connection_stays_on_it(
    extra: list[tuple[bytes, bytes]], gone: list[bytes]
) -> None:
    """RFC 9110 §7.6.1: what connection names goes too."""
    fields = (*PLAIN, *extra)
    assert without_hop_by_hop(fields) == tuple(field for field in fields if field[0] not in gone)


def test_a_name_is_there_or_not() -> None:
    """One of several names suffices."""
    assert has_any(PLAIN, frozenset((b"x", b"y")))
    assert not has_any(PLAIN, frozenset((b"y",)))
    assert not has_any((), frozenset((b"x",)))


def test_fields_without_anything_to_drop_are_not_copied() -> None:
    """The common case costs a look."""
    assert without_hop_by_hop(PLAIN) is PLAIN
    assert without_fields(PLAIN, frozenset((b"y",))) is PLAIN


@pytest.mark.parametrize(
    "name",
    [b"host", b"content-length", b"transfer-encoding", b"l5d-client-id", b"forwarded"],
)
def test_connection_cannot_take_away_what_a_message_means(name: bytes) -> None:
    """A client would have us forward a body without its length, or not say who it is."""
    fields: Fields = ((name, b"1"), (b"connection", name + b", x"), (b"x", b"1"))
    assert without_hop_by_hop(fields) == ((name, b"1"),)


@pytest.mark.parametrize(
    "name", [b"content-length", b"transfer-encoding", b"host", b"te", b"upgrade"]
)
def test_framing_and_routing_are_no_trailers(name: bytes) -> None:
    """RFC 9110 §6.5.1."""
    assert not may_be_trailer(name)
    assert may_be_trailer(b"grpc-status")


def test_cookie_crumbs_become_one_field_where_the_first_was() -> None:
    """RFC 9113 §8.2.3."""
    fields: Fields = ((b"a", b"1"), (b"cookie", b"x=1"), (b"b", b"2"), (b"cookie", b"y=2"))
    assert with_one_cookie(fields) == ((b"a", b"1"), (b"cookie", b"x=1; y=2"), (b"b", b"2"))
    assert with_one_cookie(fields[:3]) is fields[:3] or with_one_cookie(fields[:3]) == fields[:3]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", b"plain"),
        ("a\r\nSet-Cookie: x", b"a Set-Cookie: x"),
        (" \0\x7f ", b""),
        ("ä", "ä".encode()),
        ("\udcff", b"?"),
    ],
)
def test_an_error_s_words_are_made_a_value(text: str, value: bytes) -> None:
    """They may quote a peer."""
    assert safe_value(text) == value
    assert is_value(value)


@pytest.mark.parametrize("value", [b" a", b"a ", b"\ta", b"a\n", b"a\0b", b"\r"])
def test_what_may_not_stand_in_a_field_is_known(value: bytes) -> None:
    """Blanks at the ends, controls anywhere."""
    assert not is_value(value)
