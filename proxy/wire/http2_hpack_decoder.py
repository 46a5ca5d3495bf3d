"""HPACK, incoming: header blocks to field sections (RFC 7541).

A field is judged when it is decoded or put into the table, so that an indexed field costs one
look. A block that was seen before, and since which the table has not changed, costs one look as
a whole: responses to the same route are often the same octets.

Bounds: the table by the size that we announce; a section by ``soft`` (it is decoded to the end
for the table's sake, and marked) and ``hard`` (decoding stops); the memo by count and length.
"""

from __future__ import annotations

from typing import Final, final

from proxy.wire.http2_header import BAD, FAULTS, HOST, LENGTH, PLAIN, PSEUDO, Section
from proxy.wire.http2_hpack_table import (
    DEFAULT_TABLE_SIZE,
    FIRST_DYNAMIC,
    STATIC_ENTRIES,
    Entry,
    entry_of,
)
from proxy.wire.http2_huffman import decode_huffman
from proxy.wire.http_field import Field
from proxy.wire.http_message import NONE_SENSITIVE

_MEMO_BLOCKS: Final = 256
_MEMO_OCTETS: Final = 1_024
_MAX_INTEGER_OCTETS: Final = 5
"""Octets behind a prefix: enough for 2^32, more than any length or index here."""

TOO_LARGE: Final = "http2-header-list"
"""The fault of a section past the soft bound."""


@final
class HpackDecoder:
    """The table of one direction of a connection, and what was decoded with it lately."""

    def __init__(self, soft: int, hard: int) -> None:
        self._soft: Final = soft
        self._hard: Final = hard
        self._table: list[Entry] = [STATIC_ENTRIES[0], *STATIC_ENTRIES]
        self._used = 0
        self._bound = DEFAULT_TABLE_SIZE
        self._memo: dict[bytes, Section] = {}
        self._at = 0

    @property
    def table_size(self) -> int:
        """The size of the dynamic table (RFC 7541 §4.1)."""
        return self._used

    def decode(self, block: bytes) -> Section | str:
        """Return the section that a whole block holds, or the reason why it cannot be decoded.

        After a reason the table is not what the peer believes, and the connection must end.
        """
        known = self._memo.get(block)
        if known is not None:
            return known
        try:
            section, is_stable = self._decode(block)
        except (ValueError, IndexError):
            return "http2-compression"
        except OverflowError:
            return "http2-header-bomb"
        if not is_stable:
            self._memo.clear()
        elif len(block) <= _MEMO_OCTETS:
            if len(self._memo) >= _MEMO_BLOCKS:
                self._memo.clear()
            self._memo[block] = section
        return section

    def _decode(  # noqa: C901, PLR0912, PLR0915 - the hot loop: a call for each field costs more
        self, block: bytes
    ) -> tuple[Section, bool]:
        """Decode a block; the second value says whether the table stayed as it was."""
        table = self._table
        count = len(table)
        fields: list[Field] = []
        pseudo: list[bytes | None] = [None] * PSEUDO
        never: list[Field] | None = None
        section = Section(pseudo, (), "", 0, None, -1, False, NONE_SENSITIVE)  # noqa: FBT003
        fault = ""
        size = 0
        stable = True
        end = len(block)
        at = self._resize(block)
        if at:
            stable = False
            count = len(table)
        while at < end:
            octet = block[at]
            at += 1
            if octet >= 0x80:
                index = octet & 0x7F
                if index == 0x7F:
                    index = self._integer(block, at, 0x7F)
                    at = self._at
                if not 0 < index < count:
                    raise ValueError("no such index")
                field, kind, octets = table[index]
            else:
                self._at = at
                field, kind, octets = self._literal(block, octet)
                at = self._at
                if octet & 0x40:
                    self._add((field, kind, octets))
                    count = len(table)
                    stable = False
                elif octet & 0x10:
                    if never is None:
                        never = []
                    never.append(field)
            size += octets
            if size > self._soft:
                fault = fault or TOO_LARGE
                fields = []
                if size > self._hard:
                    raise OverflowError("header list")
            if kind == PLAIN:
                fields.append(field)
            elif kind < PSEUDO:
                if fields or pseudo[kind] is not None:
                    fault = fault or "http2-pseudo"
                pseudo[kind] = field[1]
            elif kind >= BAD:
                fault = fault or FAULTS[kind - BAD]
            else:
                fields.append(field)
                fault = fault or _take_meant(section, kind, field[1])
        section.fields = tuple(fields)
        section.fault = fault
        section.size = size
        if never is not None:
            section.never_indexed = frozenset(never)
        return section, stable

    def _resize(self, block: bytes) -> int:
        """Follow the size updates that begin a block (RFC 7541 §4.2); return what they take."""
        at = 0
        while at < len(block) and block[at] & 0xE0 == 0x20:
            size = block[at] & 0x1F
            at += 1
            if size == 0x1F:
                size = self._integer(block, at, 0x1F)
                at = self._at
            if size > DEFAULT_TABLE_SIZE:
                raise ValueError("a table larger than allowed")
            self._bound = size
            self._evict(0)
        return at

    def _literal(self, block: bytes, octet: int) -> Entry:
        """Decode a literal field behind its first octet, from ``_at`` on."""
        if octet & 0x40:
            most = 0x3F
        elif octet & 0x20:
            raise ValueError("a size update behind a field")
        else:
            most = 0x0F
        index = octet & most
        if index == most:
            index = self._integer(block, self._at, most)
        name = self._table[index][0][0] if index else self._string(block)
        return entry_of(name, self._string(block))

    def _string(self, block: bytes) -> bytes:
        """Decode a string from ``_at`` on (RFC 7541 §5.2)."""
        at = self._at
        first = block[at]
        at += 1
        length = first & 0x7F
        if length == 0x7F:
            length = self._integer(block, at, 0x7F)
            at = self._at
        end = at + length
        if end > len(block):
            raise ValueError("a string longer than its block")
        self._at = end
        text = block[at:end]
        return decode_huffman(text) if first & 0x80 else text

    def _integer(self, block: bytes, at: int, prefix: int) -> int:
        """Decode the rest of an integer whose prefix is full (RFC 7541 §5.1)."""
        value = prefix
        for shift in range(0, 7 * _MAX_INTEGER_OCTETS, 7):
            octet = block[at]
            at += 1
            value += (octet & 0x7F) << shift
            if octet < 0x80:
                self._at = at
                return value
        raise ValueError("an integer that does not end")

    def _add(self, entry: Entry) -> None:
        """Put an entry into the table; one larger than the table empties it (RFC 7541 §4.4)."""
        self._evict(entry[2])
        if entry[2] <= self._bound:
            self._table.insert(FIRST_DYNAMIC, entry)
            self._used += entry[2]

    def _evict(self, wanted: int) -> None:
        """Drop the oldest entries until ``wanted`` fits."""
        table = self._table
        while self._used + wanted > self._bound and len(table) > FIRST_DYNAMIC:
            self._used -= table.pop()[2]


def _take_meant(section: Section, kind: int, value: bytes) -> str:
    """Note a field that means something to the reader; return the fault if it stands twice."""
    if kind == HOST:
        if section.host is not None:
            return "http2-host"
        section.host = value
    elif kind == LENGTH:
        if section.length >= 0:
            return "http2-content-length"
        section.length = int(value)
    else:
        section.expects_continue = value.lower() == b"100-continue"
    return ""
