"""HPACK against the RFC's examples and the hpack library, in both directions, entry by entry."""

from __future__ import annotations

import operator
import random

import hpack
import hpack.exceptions
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.http2_header import Section
from proxy.wire.http2_hpack_table import STATIC, encode_integer
from proxy.wire.http2_huffman import decode_huffman
from proxy.wire.http_field import Fields
from proxy.wire.native import Decoder, new_decoder, new_encoder
from tests.wire.http2_talk import literal, string

CODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
NONE: frozenset[tuple[bytes, bytes]] = frozenset()
PSEUDO = (b"", b":method", b":scheme", b":authority", b":path", b":status")


def decoder() -> Decoder:
    """Return a decoder with the usual bounds."""
    return new_decoder(16_384, 65_536)


def decoded(codec: Decoder, block: bytes) -> list[tuple[bytes, bytes]]:
    """Return the fields of a block, pseudo-header fields first."""
    section = codec.decode(block)
    assert isinstance(section, Section), section
    pseudo = [
        (PSEUDO[kind], value) for kind, value in enumerate(section.pseudo) if value is not None
    ]
    return [*pseudo, *section.fields]


def test_the_static_table_is_the_rfc_s() -> None:
    """Appendix A, as the library has it."""
    assert HeaderTable.STATIC_TABLE == STATIC


REQUESTS = [
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"www.example.com"),
        (b":path", b"/"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"www.example.com"),
        (b":path", b"/"),
        (b"cache-control", b"no-cache"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", b"www.example.com"),
        (b":path", b"/index.html"),
        (b"custom-key", b"custom-value"),
    ],
]
PLAIN_BLOCKS = [
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
]
CODED_BLOCKS = [
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
]


@pytest.mark.parametrize("blocks", [PLAIN_BLOCKS, CODED_BLOCKS], ids=["C.3", "C.4"])
def test_the_rfc_s_requests_are_read(blocks: list[str]) -> None:
    """Three on one connection, without and with Huffman coding; the table's size after each."""
    codec = decoder()
    for block, fields, size in zip(blocks, REQUESTS, [57, 110, 164], strict=True):
        assert decoded(codec, bytes.fromhex(block)) == fields
        assert codec.table_size == size


def test_the_rfc_s_responses_are_read_with_a_small_table() -> None:
    """C.6: Huffman coding, and a table of 256 octets that must drop entries."""
    codec = decoder()
    blocks = [
        (
            "3fe101"
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad17"
            "1863c78f0b97c8e9ae82ae43d3"
        ),
        "4883640effc1c0bf",
        (
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335df"
            "dfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"
        ),
    ]
    statuses = [b"302", b"307", b"200"]
    fields: list[tuple[bytes, bytes]] = []
    for block, status in zip(blocks, statuses, strict=True):
        fields = decoded(codec, bytes.fromhex(block))
        assert fields[0] == (b":status", status)
        assert (b"location", b"https://www.example.com") in fields
    assert codec.table_size == 215
    assert (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1") in fields


_JUDGED = {b"host", b"content-length", b"transfer-encoding"}
"""Fields whose values have rules of their own."""
_NAMES = st.sampled_from(
    sorted({name for name, _ in STATIC if not name.startswith(b":")} - _JUDGED | {b"x-a"})
)
_VALUES = st.one_of(
    st.sampled_from([b"", b"a", b"gzip, deflate", b"0", b"very long " * 40 + b"."]),
    st.text("abc019-_/=;", max_size=40).map(str.encode),
)
_FIELDS = st.lists(st.tuples(_NAMES, _VALUES), max_size=12).map(tuple)


@given(st.lists(_FIELDS, min_size=1, max_size=8), st.booleans())
def test_what_the_library_writes_we_read(sections: list[Fields], coded: bool) -> None:
    """A connection's worth of blocks; the tables stay the same size."""
    codec, theirs = decoder(), hpack.Encoder()
    for fields in sections:
        block = theirs.encode(fields, huffman=coded)
        assert decoded(codec, block) == list(fields)
        assert codec.table_size == sum(
            hpack.table.table_entry_size(*entry) for entry in theirs.header_table.dynamic_entries
        )


@given(
    st.lists(
        st.tuples(_FIELDS, st.sampled_from([-1, 0, 100, 4_096, 9_999])), min_size=1, max_size=8
    )
)
def test_what_we_write_the_library_reads(sections: list[tuple[Fields, int]]) -> None:
    """Whatever size of table the peer asks for in between; ours reads it too."""
    codec, ours, theirs = new_encoder(), decoder(), hpack.Decoder()
    theirs.max_allowed_table_size = 4_096
    for fields, size in sections * 2:
        if size >= 0:
            codec.resize(size)
        block = codec.encode((), fields, NONE)
        assert [
            (bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)
        ] == list(fields)
        assert decoded(ours, block) == list(fields)
        assert ours.table_size == codec.table_size
        assert codec.table_size <= (4_096 if size < 0 else min(size, 4_096))


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6))
def test_any_octets_are_decoded_as_by_the_library_or_refused_as_by_it(blocks: list[bytes]) -> None:
    """Until the first block that cannot be decoded: a connection ends there."""
    codec, theirs = decoder(), hpack.Decoder()
    for block in blocks:
        section = codec.decode(block)
        try:
            wanted = [(bytes(n), bytes(v)) for n, v in theirs.decode(block, raw=True)]
        except hpack.exceptions.HPACKError:
            assert isinstance(section, str)
            return
        assert isinstance(section, Section)
        if not section.fault:
            assert sorted(decoded_of(section)) == sorted(wanted)
        assert codec.table_size == sum(
            hpack.table.table_entry_size(*entry) for entry in theirs.header_table.dynamic_entries
        )


def decoded_of(section: Section) -> list[tuple[bytes, bytes]]:
    """Return a section's fields."""
    pseudo = [
        (PSEUDO[kind], value) for kind, value in enumerate(section.pseudo) if value is not None
    ]
    return [*pseudo, *section.fields]


def test_huffman_coding_is_read_as_by_the_library() -> None:
    """Every symbol, many strings, and many octets that are no code."""
    chance = random.Random(7541)
    for symbol in range(256):
        text = bytes((symbol,)) * 3
        assert decode_huffman(bytes(CODER.encode(text))) == text
    for _ in range(3_000):
        text = chance.randbytes(chance.randrange(12))
        code = bytes(CODER.encode(text))
        assert decode_huffman(code) == text
        noise: bytes = chance.randbytes(chance.randrange(1, 6))
        try:
            plain: bytes | None = decode_huffman(noise)
        except ValueError:
            plain = None
        try:
            theirs: bytes | None = bytes(hpack.huffman_table.decode_huffman(noise))
        except hpack.exceptions.HPACKDecodingError:
            theirs = None
        assert plain == theirs


@pytest.mark.parametrize(
    ("value", "prefix", "octets"),
    [
        (10, 5, "0a"),
        (1337, 5, "1f9a0a"),
        (42, 8, "2a"),
        (30, 5, "1e"),
        (31, 5, "1f00"),
        (127, 7, "7f00"),
    ],
)
def test_integers_are_written_as_in_the_rfc(value: int, prefix: int, octets: str) -> None:
    """Appendix C.1."""
    assert encode_integer(value, prefix, 0).hex() == octets


def test_equal_blocks_are_read_twice_at_most() -> None:
    """As long as the table stays as it was."""
    codec = decoder()
    block = literal(b"x", b"1")
    codec.decode(block)
    first = codec.decode(block)
    assert codec.decode(block) is first
    codec.decode(literal(b"y", b"2", 0x40))
    assert codec.decode(block) is not first


def test_a_block_does_not_mean_what_it_meant_before_the_table_changed() -> None:
    """The memo forgets with the table."""
    codec = decoder()
    codec.decode(literal(b"x", b"1", 0x40))
    assert decoded(codec, b"\xbe") == [(b"x", b"1")]
    codec.decode(literal(b"y", b"2", 0x40))
    assert decoded(codec, b"\xbe") == [(b"y", b"2")]
    codec.decode(b"\x20")
    assert codec.decode(b"\xbe") == "http2-compression"


def test_the_memo_has_a_bound() -> None:
    """No more than 256 blocks, of no more than 1,024 octets."""
    codec = decoder()
    blocks = [literal(b"x", b"%d" % number) for number in range(1_000)]
    sections = [codec.decode(block) for block in blocks for _ in range(2)][1::2]
    assert codec.decode(blocks[-1]) is sections[-1]
    again = [codec.decode(block) for block in blocks]
    assert sum(map(operator.is_, sections, again)) <= 256
    longest, longer = literal(b"x", b"a" * 1_018), literal(b"x", b"a" * 1_019)
    assert (len(longest), len(longer)) == (1_024, 1_025)
    codec.decode(longest)
    assert codec.decode(longest) is codec.decode(longest)
    assert codec.decode(longer) is not codec.decode(longer)


def test_the_table_never_grows_past_its_bound() -> None:
    """4,096 octets; an entry larger than that empties it (§4.4)."""
    codec = decoder()
    for number in range(500):
        codec.decode(literal(b"x", b"%030d" % number, 0x40))
        assert codec.table_size <= 4_096
    exact = literal(b"x", b"a" * (4_096 - 33), 0x40)
    codec.decode(exact)
    assert codec.table_size == 4_096
    codec.decode(literal(b"x", b"a" * (4_096 - 32), 0x40))
    assert codec.table_size == 0


def test_a_field_is_indexed_when_it_comes_a_second_time() -> None:
    """And what never comes back costs the table nothing."""
    codec = new_encoder()
    steady: Fields = ((b"x", b"steady"),)
    sizes = []
    for number in range(4):
        codec.encode((), (*steady, (b"traceparent", b"%055d" % number)), NONE)
        sizes.append(codec.table_size)
    assert sizes == [0, 39, 39, 39]
    assert codec.encode((), steady, NONE) == b"\xbe"


@pytest.mark.parametrize(
    "name", [b"authorization", b"cookie", b"set-cookie", b"proxy-authorization"]
)
def test_secrets_are_never_indexed(name: bytes) -> None:
    """RFC 7541 §7.1.3: nobody can guess them by the size of what is sent."""
    codec = new_encoder()
    block = b""
    for _ in range(4):
        block = codec.encode((), ((name, b"secret"),), NONE)
        assert block[0] & 0xF0 == 0x10
        assert block.endswith(string(b"secret"))
    assert codec.table_size == 0
    section = decoder().decode(block)
    assert isinstance(section, Section)
    assert section.never_indexed == {(name, b"secret")}


def test_long_fields_are_not_indexed() -> None:
    """They would drive out everything else."""
    codec = new_encoder()
    for size, indexed in ((1_024 - 33, True), (1_024 - 32, False)):
        fields: Fields = ((b"x", b"a" * size),)
        block = b""
        for _ in range(3):
            block = codec.encode((), fields, NONE)
        assert (len(block) == 1) is indexed


def test_the_encoder_s_table_and_memory_have_bounds() -> None:
    """Whatever is sent through it."""
    codec = new_encoder()
    for number in range(2_000):
        for _ in range(2):
            codec.encode((), ((b"x", b"%040d" % number),), NONE)
        assert codec.table_size <= 4_096


def test_a_smaller_table_is_signaled_before_anything_else() -> None:
    """RFC 7541 §4.2: the smallest size in between, and the last."""
    codec = new_encoder()
    codec.resize(4_096)
    assert codec.encode((), (), NONE) == b""
    codec.resize(100)
    codec.resize(3_000)
    assert codec.encode((), (), NONE) == encode_integer(100, 5, 0x20) + encode_integer(
        3_000, 5, 0x20
    )
    assert codec.encode((), (), NONE) == b""
    codec.resize(10**9)
    assert codec.encode((), (), NONE) == encode_integer(4_096, 5, 0x20)


def test_entries_far_back_in_the_table_are_named_in_two_octets() -> None:
    """124 entries of 33 octets fit; the oldest are past index 127."""
    codec, ours = new_encoder(), decoder()
    names = [bytes((first, second)) for first in b"abcdefgh" for second in b"abcdefghijkl"]
    fields: list[Fields] = [((name, b""),) for name in names]
    for each in fields * 2:
        ours.decode(codec.encode((), each, NONE))
    block = codec.encode((), fields[0], NONE)
    assert len(block) == 2
    assert decoded(ours, block) == list(fields[0])
    assert codec.table_size == 34 * len(names)


def test_what_was_written_once_is_forgotten_in_time() -> None:
    """Only what comes back within 128 other fields is worth an entry."""
    codec = new_encoder()
    for number in range(300):
        codec.encode((), ((b"x", b"%d" % number),), NONE)
    assert codec.encode((), ((b"x", b"299"),), NONE)[0] == 0x40
    codec.encode((), ((b"x", b"170"),), NONE)
    assert codec.table_size == 36
