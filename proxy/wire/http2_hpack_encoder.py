"""HPACK, outgoing: fields to header blocks (RFC 7541).

What stands in a table goes out as its index. What does not is written as it is, without Huffman
coding; when the same field is written a second time within a while, it is put into the table. So
a trace id, a date or a path that never comes back costs the table nothing, whatever its name.

Secrets are never put into a table: credentials and cookies by their names (RFC 7541 §7.1.3), and
whatever the sender of a message has marked so (§6.2.3).
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from proxy.wire.http2_frame import header_frames
from proxy.wire.http2_hpack_table import (
    DEFAULT_TABLE_SIZE,
    ENTRY_OVERHEAD,
    FIRST_DYNAMIC,
    STATIC,
    encode_integer,
)
from proxy.wire.http_field import Field, Fields

SECRET: Final = frozenset(
    (b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"l5d-client-id")
)
"""Names of fields that hold them."""
SEEN_FIELDS: Final = 128
"""How many fields are remembered as written once."""
LONGEST_INDEXED: Final = 1_024
"""A longer field is not worth a quarter of the table."""

STATIC_INDEX: Final[dict[Field, int]] = {
    entry: -index for index, entry in enumerate(STATIC, 1) if entry[1] or index in (15, 19)
}
_NAME_INDEX: Final[dict[bytes, int]] = {
    name: index for index, (name, _) in reversed(list(enumerate(STATIC, 1)))
}


@final
class HpackEncoder:
    """The table of one direction of a connection."""

    def __init__(self) -> None:
        self._index: dict[Field, int] = dict(STATIC_INDEX)
        self._entries: deque[tuple[Field, int]] = deque()
        self._added = 0
        self._used = 0
        self._bound = DEFAULT_TABLE_SIZE
        self._resized: list[int] = []
        self._seen: set[Field] = set()

    @property
    def table_size(self) -> int:
        """The size of the dynamic table (RFC 7541 §4.1)."""
        return self._used

    def resize(self, allowed: int) -> None:
        """Follow the peer's SETTINGS_HEADER_TABLE_SIZE; we never use more than the default."""
        bound = min(allowed, DEFAULT_TABLE_SIZE)
        if bound == self._bound and not self._resized:
            return
        self._bound = bound
        self._evict(0)
        # The smallest size since the last block must be signaled, and the final one (§4.2).
        smallest = min([bound, *self._resized])
        self._resized = [smallest, bound] if smallest < bound else [bound]

    def encode(self, pseudo: Fields, fields: Fields, never: frozenset[Field]) -> bytes:
        """Return a block with ``pseudo`` before ``fields``; ``never`` is not put into the table."""
        out = bytearray()
        if self._resized:
            for size in self._resized:
                out += encode_integer(size, 5, 0x20)
            self._resized = []
        index = self._index
        for part in (pseudo, fields):
            for field in part:
                known = index.get(field)
                if known is None or (never and field in never):
                    self._write(out, field, never)
                    continue
                # Negative: static. Dynamic entries count from the newest on.
                number = -known if known < 0 else self._added - known + FIRST_DYNAMIC
                if number < 0x7F:
                    out.append(0x80 | number)
                else:
                    out += encode_integer(number, 7, 0x80)
        return bytes(out)

    def head(
        self,
        stream_id: int,
        pseudo: Fields,
        fields: Fields,
        never: frozenset[Field],
        ends: bool,  # noqa: FBT001 - not every encoder knows arguments by name
    ) -> bytes:
        """Return the same as HEADERS and, if it is long, CONTINUATION frames."""
        return header_frames(stream_id, self.encode(pseudo, fields, never), ends=ends)

    def _write(self, out: bytearray, field: Field, never: frozenset[Field]) -> None:
        """Write a field that stands in no table, or may not be taken from one."""
        name, value = field
        if name in SECRET or field in never:
            first, prefix = 0x10, 4
        elif field in self._seen and self._add(field):
            first, prefix = 0x40, 6
        else:
            if len(self._seen) >= SEEN_FIELDS:
                self._seen.clear()
            self._seen.add(field)
            first, prefix = 0x00, 4
        number = _NAME_INDEX.get(name, 0)
        if number:
            out += encode_integer(number, prefix, first)
        else:
            out.append(first)
            size = len(name)
            if size < 0x7F:
                out.append(size)
            else:
                out += encode_integer(size, 7, 0)
            out += name
        size = len(value)
        if size < 0x7F:
            out.append(size)
        else:
            out += encode_integer(size, 7, 0)
        out += value

    def _add(self, field: Field) -> bool:
        """Put a field into the table, if it is not too long for it."""
        size = len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
        if size > LONGEST_INDEXED or size > self._bound:
            return False
        self._evict(size)
        self._seen.discard(field)
        self._added += 1
        self._index[field] = self._added
        self._entries.append((field, size))
        self._used += size
        return True

    def _evict(self, wanted: int) -> None:
        """Drop the oldest entries until ``wanted`` fits."""
        while self._used + wanted > self._bound and self._entries:
            field, size = self._entries.popleft()
            self._used -= size
            del self._index[field]
