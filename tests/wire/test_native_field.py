"""The walks over fields and the writers that run against their references."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import http1_writer, http_field, native, orig_proto_field
from proxy.wire.http_field import PER_CONNECTION, Fields
from proxy.wire.orig_proto_field import MARK, NOT_RIDING, RESPONSE_TAKEN_OFF, TAKEN_OFF

_POOL = (
    *sorted(NOT_RIDING),
    *(
        b"host",
        b"cookie",
        b"content-length",
        b"x",
        b"",
        b"l5d-orig-prot0",
        b"hos",
        b"http2-setting",
    ),
    *(b"n" * 62, b"n" * 63, b"n" * 64, b"n" * 200, b"x-a", b"x-b", b"transfer-encodinG"),
)
NAMES = st.sampled_from(_POOL)
VALUES = st.one_of(
    st.sampled_from(
        [
            *(
                b"trailers",
                b"deflate, trailers",
                b"close, x-a",
                b"host, x",
                b"chunked",
                b"HTTP/1.1",
            ),
            *(b"HTTP/1.0", b"HTTP/1.1; absolute-form", b""),
        ]
    ),
    st.binary(max_size=12),
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=12).map(tuple)
SETS = st.one_of(
    st.sampled_from(
        [PER_CONNECTION, NOT_RIDING, TAKEN_OFF, RESPONSE_TAKEN_OFF, frozenset[bytes]()]
    ),
    st.frozensets(NAMES, max_size=20),
    st.frozensets(st.binary(max_size=3), min_size=15, max_size=40),
)
MARKS: tuple[Fields, ...] = (((MARK, b"HTTP/1.1"),), ((MARK, b"HTTP/1.0; absolute-form"),))


def same(one: Fields, other: Fields, given_fields: Fields) -> None:
    """Two walks came to the same fields, and both or neither to the very object given."""
    assert one == other
    assert (one is given_fields) == (other is given_fields)


def test_the_kernel_runs_where_it_is_expected() -> None:
    """With EXPECT_COMPILED=1 or EXPECT_KERNELS=1; elsewhere as it was built."""
    expected = "1" in (os.environ.get("EXPECT_COMPILED"), os.environ.get("EXPECT_KERNELS"))
    assert not expected or native.value_of is not http_field.value_of


@given(FIELDS, NAMES, SETS)
def test_walks_come_to_the_same(fields: Fields, name: bytes, names: frozenset[bytes]) -> None:
    """Whatever stands there, and whatever is looked for."""
    assert native.value_of(fields, name) == http_field.value_of(fields, name)
    assert native.has_any(fields, names) is http_field.has_any(fields, names)
    same(native.without_fields(fields, names), http_field.without_fields(fields, names), fields)
    same(native.without_hop_by_hop(fields), http_field.without_hop_by_hop(fields), fields)


@given(FIELDS, SETS, st.sampled_from(MARKS))
def test_rides_come_to_the_same(fields: Fields, names: frozenset[bytes], mark: Fields) -> None:
    """There and back, with any fields."""
    for method, scheme in ((b"GET", b"http"), (b"GETS", b"https"), (b"", b"")):
        found = native.ride(method, scheme, b"a", b"/b", fields, mark)
        assert found == orig_proto_field.ride(method, scheme, b"a", b"/b", fields, mark)
    assert native.ride_back(fields, mark) == orig_proto_field.ride_back(fields, mark)
    for gone in (names, TAKEN_OFF, RESPONSE_TAKEN_OFF):
        landed, wanted = native.land(fields, gone), orig_proto_field.land(fields, gone)
        assert landed == wanted
        same(landed[0], wanted[0], fields)


@given(FIELDS, st.binary(max_size=9), st.binary(max_size=9), st.sampled_from([10, 11]))
def test_heads_are_written_the_same(
    fields: Fields, method: bytes, target: bytes, version: int
) -> None:
    """Octet by octet."""
    written = native.write_request_head(method, target, fields, version)
    assert written == http1_writer.write_request_head(method, target, fields, version)
    assert native.write_last_chunk(fields) == http1_writer.write_last_chunk(fields)
    for status in (0, 99, 100, 200, 418, 999, 1_000, 123_456):
        written = native.write_response_head(status, target, fields, version)
        assert written == http1_writer.write_response_head(status, target, fields, version)


@pytest.mark.parametrize("size", [0, 1, 9, 10, 15, 16, 17, 255, 256, 4_095, 4_096, 65_535, 65_536])
def test_chunks_are_written_the_same(size: int) -> None:
    """Of every number of digits; nothing is no chunk."""
    data = bytes(range(256)) * (size // 256 + 1)
    assert native.write_chunk(data[:size]) == http1_writer.write_chunk(data[:size])


def test_sets_that_come_and_go_are_told_apart() -> None:
    """Also where one lies in memory where another did."""
    fields = tuple((b"x" * size, b"") for size in range(80))
    for size in range(80):
        for more in range(20):
            names = frozenset((b"x" * size, *(b"y%d" % each for each in range(more))))
            assert native.has_any(fields[size : size + 1], names)
            assert not native.has_any(fields[:size], names)
            assert len(native.without_fields(fields, names)) == 79


@pytest.mark.parametrize("wrong", [(1,), ((b"a",),), ((b"a", b"b", b"c"),), (None,), (b"a",)])
def test_what_is_no_field_is_refused(wrong: tuple[object, ...]) -> None:
    """No reader makes such; a kernel that took it for one would read what is not there."""
    fields: Fields = wrong  # type: ignore[assignment]
    for walk in (native.value_of, native.has_any, native.land, native.without_fields):
        with pytest.raises((TypeError, ValueError)):
            walk(fields, b"a" if walk is native.value_of else NOT_RIDING)  # type: ignore[arg-type]
    with pytest.raises((TypeError, ValueError)):
        native.write_last_chunk(fields)
