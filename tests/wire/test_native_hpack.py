"""The HPACK that runs against its reference: any block means the same to both."""

from __future__ import annotations

import os

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import http2_header
from proxy.wire.http2_header import Section, classify
from proxy.wire.http2_hpack_decoder import HpackDecoder
from proxy.wire.http2_hpack_encoder import LONGEST_INDEXED, SEEN_FIELDS, HpackEncoder
from proxy.wire.http2_hpack_table import STATIC, encode_integer
from proxy.wire.http_field import Field, Fields
from proxy.wire.native import new_decoder, new_encoder
from tests.wire.hpack_pair import DecoderPair, EncoderPair
from tests.wire.http2_talk import literal, string

_NAMES = st.sampled_from(
    sorted(
        {name for name, _ in STATIC}
        | set(http2_header.KINDS)
        | {b"", b":", b"x", b"X", b"hosts", b"upgradf", b"a b", b"\xff", b"x-" + b"n" * 200}
    )
)
_MEANT = st.sampled_from(
    [
        *(b"", b" ", b"a ", b" a", b"a\tb", b"\ta", b"a\x00", b"a\r\nb", b"\x7f", b"\x80", b"\xff"),
        *(b"GET", b"G T", b"http", b"https", b"HTTP", b"/", b"*", b"**", b"/a?b#c", b'/"<', b"//"),
        *(b"a", b"a:", b"a:1", b"a:65535", b"a:123456", b":80", b"[::1]:80", b"[", b"[]", b"[g]"),
        *(b"a%2", b"a%2g", b"a%2F", b"%", b"%41%42:1", b"a@b", b"a b", b"[::1", b"[::1]x", b"a:1x"),
        *(b"200", b"000", b"099", b"999", b"20", b"2000", b"2x0", b"trailers", b"tRailers"),
        *(b"0", b"00", b"12", b"9223372036854775807", b"9223372036854775808", b"+1", b"1_0"),
        *(b"99999999999999999999", b"100-continue", b"100-Continue", b"100-continuE ", b"x" * 500),
    ]
)
_VALUES = st.one_of(_MEANT, st.binary(max_size=12))
_FIELDS = st.tuples(_NAMES, _VALUES)
_CODER = hpack.huffman.HuffmanEncoder(
    hpack.huffman_constants.REQUEST_CODES, hpack.huffman_constants.REQUEST_CODES_LENGTH
)


def coded(text: bytes) -> bytes:
    """Return a string literal in Huffman code."""
    code = bytes(_CODER.encode(text))
    return encode_integer(len(code), 7, 0x80) + code


_INDICES = st.integers(0, 200)
_FIRST = st.sampled_from([0x00, 0x10, 0x40])
_PIECES = st.one_of(
    _INDICES.map(lambda index: encode_integer(index, 7, 0x80)),
    st.builds(lambda field, first: literal(field[0], field[1], first), _FIELDS, _FIRST),
    st.builds(
        lambda field, first: bytes((first,)) + coded(field[0]) + coded(field[1]), _FIELDS, _FIRST
    ),
    st.builds(
        lambda index, first, value: (
            encode_integer(index, 6 if first == 0x40 else 4, first) + string(value)
        ),
        _INDICES,
        _FIRST,
        _VALUES,
    ),
    st.sampled_from([0, 31, 64, 4_095, 4_096, 4_097]).map(lambda n: encode_integer(n, 5, 0x20)),
    st.binary(max_size=6),
)
_BLOCKS = st.lists(_PIECES, max_size=12).map(b"".join)


def test_the_kernel_runs_where_it_is_expected() -> None:
    """With EXPECT_COMPILED=1 or EXPECT_KERNELS=1; elsewhere as it was built."""
    expected = "1" in (os.environ.get("EXPECT_COMPILED"), os.environ.get("EXPECT_KERNELS"))
    assert not expected or new_decoder is not HpackDecoder
    assert not expected or new_encoder is not HpackEncoder


@given(st.lists(_BLOCKS, min_size=1, max_size=6))
def test_blocks_mean_the_same(blocks: list[bytes]) -> None:
    """Whole fields of every kind, in all their codings, and octets that are none."""
    pair = DecoderPair(2_000, 4_000)
    for block in [each for each in blocks for _ in range(2)]:
        if isinstance(pair.decode(block), str):
            return


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=6))
def test_any_octets_mean_the_same(blocks: list[bytes]) -> None:
    """Of which most are no block at all."""
    pair = DecoderPair()
    for block in [each for each in blocks for _ in range(2)]:
        if isinstance(pair.decode(block), str):
            return


@given(_NAMES, st.one_of(_VALUES, st.binary(max_size=80)))
def test_fields_are_judged_the_same(name: bytes, value: bytes) -> None:
    """One by one, and as ``classify`` says."""
    section = DecoderPair().decode(literal(name, value))
    assert isinstance(section, Section)
    kind = classify(name, value)
    if kind >= http2_header.BAD:
        assert section.fault == http2_header.FAULTS[kind - http2_header.BAD]
    elif kind == http2_header.PLAIN:
        assert section.fields == ((name, value),)


@pytest.mark.parametrize("name", [b"x", b"host", b":path", b":method", b":authority"])
def test_every_octet_is_judged_the_same(name: bytes) -> None:
    """Alone, first, in the middle and last, in a value and in a name."""
    for number in range(256):
        octet = bytes((number,))
        for text in (octet, octet + b"a", b"a" + octet + b"a", b"a" + octet, b"/" + octet + b"/"):
            DecoderPair().decode(literal(name, text))
            DecoderPair().decode(literal(text, b"a"))


@pytest.mark.parametrize("size", [0, 1, 7, 999, 1_000, 1_001, 1_002, 20_000])
@pytest.mark.parametrize("symbol", [b"0", b"a", b"z", b"\xff", b"\n"])
def test_codes_of_any_length_are_read_the_same(size: int, symbol: bytes) -> None:
    """Also beyond what fits on the stack, and cut off in the middle."""
    code = bytes(_CODER.encode(symbol * size))[:60_000]
    pair = DecoderPair(1 << 20, 1 << 20)
    for cut in (code, code[:-1], code + b"\xff", code + b"\x00", code[: size // 2]):
        block = b"\x00\x01x" + encode_integer(len(cut), 7, 0x80) + cut
        if isinstance(pair.decode(block), str):
            pair = DecoderPair(1 << 20, 1 << 20)


def test_the_ring_turns_the_same() -> None:
    """As many of the smallest fields as ever fit, one more each time, and every index."""
    pair = DecoderPair(1 << 20, 1 << 20)
    for number in range(300):
        name = b"x" if number % 3 else b""
        section = pair.decode(literal(name, b"" if number % 2 else b"1", 0x40))
        assert isinstance(section, Section)
        for index in range(60, 62 + min(number + 1, 120)):
            assert isinstance(pair.decode(encode_integer(index, 7, 0x80)), Section)
    for size in (4_096, 1_000, 33, 32, 0, 4_096):
        pair.decode(encode_integer(size, 5, 0x20))
        pair.decode(encode_integer(size, 5, 0x20) + literal(b"", b"", 0x40) + b"\xbe")


def test_the_widest_integers_are_read_the_same() -> None:
    """Five octets behind the prefix, and no sixth."""
    for first in (0x1F, 0x3F, 0x7F, 0xFF, 0x0F):
        for more in range(7):
            for last in (0x00, 0x01, 0x7F, 0x0F):
                block = bytes((first,)) + b"\xff" * more + bytes((last,))
                DecoderPair().decode(block)
                DecoderPair().decode(block[:-1])
                DecoderPair().decode(b"\x00" + block)
                DecoderPair().decode(b"\x00\x01x" + block)


_SENT = st.lists(_FIELDS, max_size=12).map(tuple)


def copy_of(fields: Fields) -> Fields:
    """Return equal fields that are other objects."""
    return tuple([(bytes(bytearray(name)), bytes(bytearray(value))) for name, value in fields])


@given(
    st.lists(
        st.tuples(_SENT, _SENT, st.sampled_from([-1, 0, 31, 33, 100, 4_096, 2**32 - 1])),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_written_is_the_same(sections: list[tuple[Fields, Fields, int]]) -> None:
    """The first time, when it comes again, and when it must not stay; our decoders agree."""
    pair, decoders = EncoderPair(), DecoderPair(1 << 20, 1 << 20)
    for pseudo, fields, size in sections * 3:
        if size >= 0:
            pair.resize(size)
        for sent in (fields, fields, copy_of(fields)):
            assert isinstance(decoders.decode(pair.encode(pseudo, sent, frozenset())), Section)
        never = frozenset(fields[:2])
        section = decoders.decode(pair.encode((), fields, never))
        assert isinstance(section, Section)
        assert never <= section.never_indexed


def test_tables_turn_and_forget_the_same() -> None:
    """Past the ring, past what is remembered as seen, and back to what was dropped."""
    pair = EncoderPair()
    for number in range(3 * SEEN_FIELDS):
        small: Field = (b"", b"%d" % (number % 10) if number % 7 else b"")
        pair.encode((), ((b"x", b"%d" % number), small), frozenset())
        pair.encode((), ((b"x", b"%d" % number),) if number % 3 else (), frozenset())
        back: Fields = ((b"x", b"%d" % (number - SEEN_FIELDS)), (b"x", b"%d" % (number // 2)))
        pair.encode((), back, frozenset())
    for size in (0, 4_096, 64, 4_096):
        pair.resize(size)
        for _ in range(3):
            pair.encode((), ((b"y", b"1"), (b"z", b""), (b"y", b"1")), frozenset())


@pytest.mark.parametrize("size", [LONGEST_INDEXED - 33, LONGEST_INDEXED - 32, 4_000, 5_000, 70_000])
def test_long_fields_are_written_the_same(size: int) -> None:
    """Beyond what fits on the stack, and beyond what is indexed."""
    pair = EncoderPair()
    fields: Fields = ((b"a", b"1"), (b"x", b"v" * size), (b"n" * size, b"2"), (b"b", b"v" * size))
    for _ in range(3):
        pair.encode(((b":status", b"200"),), fields, frozenset(fields[:1]))
        pair.encode((), fields, frozenset())


def test_frames_are_the_same_on_both_sides_of_the_largest() -> None:
    """One frame, and one with a continuation; every octet of a stream's number."""
    pair = EncoderPair()
    for stream_id in (1, 0x7F, 0x1234, 0x7FFFFFFF):
        for size in (0, 16_384 - 6, 16_384 - 5, 40_000):
            for ends in (False, True):
                frames = pair.head(stream_id, ((b"x", b"v" * size),), ends=ends)
                assert (frames[4] & 4 != 0) == (size <= 16_384 - 6)


def test_the_kernel_takes_fields_and_nothing_else() -> None:
    """Whatever is not a name and a value is refused before it is looked into."""
    encoder = new_encoder()
    if isinstance(encoder, HpackEncoder):
        return
    broken: list[object] = [None, (b"x",), (b"x", "y"), (b"x", None), b"xy", (b"x", b"y", b"z")]
    for each in broken:
        with pytest.raises(TypeError):
            encoder.encode((), (each,), frozenset())  # type: ignore[arg-type]
    for each in ([], None, {}):
        with pytest.raises(TypeError):
            encoder.encode(each, (), frozenset())  # type: ignore[arg-type]
    assert encoder.encode((), ((b"x", b"y"),), frozenset()) == b"\x00\x01x\x01y"
