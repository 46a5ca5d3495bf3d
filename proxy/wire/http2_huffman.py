"""The Huffman code of HPACK, decoded an octet at a time (RFC 7541 §5.2 and appendix B).

The code is canonical: the lengths below say all of it. A state is an inner node of the code's
tree; a state's row says for each octet which state follows and what it yields (at most two
octets). Rows are made when they are first needed: ordinary text needs a few dozen of the 256.

Nothing is encoded here: coding a value costs Python ten times what it saves the wire.
"""

from __future__ import annotations

from typing import Final

_SYMBOLS: Final[tuple[tuple[int, bytes], ...]] = (
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b'!"()?'),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\x00$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
    (20, b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    (21, b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6"),
    (
        22,
        (
            b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4"
            b"\xc6\xe4\xe8\xe9"
        ),
    ),
    (
        23,
        (
            b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4"
            b"\xb6\xb7\xbc\xbf\xc5\xe7\xef"
        ),
    ),
    (24, b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    (25, b"\xc7\xcf\xea\xeb"),
    (26, b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff"),
    (27, b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe"),
    (
        28,
        (
            b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b"
            b"\x1c\x1d\x1e\x1f\x7f\xdc\xf9"
        ),
    ),
    (30, b"\n\r\x16"),
)
"""Length in bits → the symbols of that length, in the order of their codes."""

_NOTHING: Final = -1
"""A branch without a node: only the end-of-string code lies there, which nobody may send."""

SYMBOL: Final = 1_000
"""A branch from here on is a symbol, not a node."""

Step = tuple[int, bytes]
"""The state that follows an octet, and what the octet yielded; _NOTHING: the code is broken."""


def _grow() -> tuple[list[int], list[int], frozenset[int]]:
    """Return the tree: each node's branch for 0 and for 1, and the nodes where padding may end.

    A branch is a node's number, or SYMBOL more than a symbol.
    """
    zero = [_NOTHING]
    one = [_NOTHING]
    code = 0
    previous = 0
    for length, symbols in _SYMBOLS:
        code <<= length - previous
        previous = length
        for symbol in symbols:
            node = 0
            for shift in range(length - 1, 0, -1):
                branch = one if (code >> shift) & 1 else zero
                if branch[node] == _NOTHING:
                    branch[node] = len(zero)
                    zero.append(_NOTHING)
                    one.append(_NOTHING)
                node = branch[node]
            (one if code & 1 else zero)[node] = SYMBOL + symbol
            code += 1
    padding = [0]
    while len(padding) < 8:
        padding.append(one[padding[-1]])
    return zero, one, frozenset(padding)


ZERO, ONE, MAY_END = _grow()
_BROKEN: Final[Step] = (_NOTHING, b"")
_ROWS: Final[list[list[Step] | None]] = [None] * len(ZERO)


def _row_of(state: int) -> list[Step]:
    """Make the row of a state: what each octet does there."""
    row: list[Step] = []
    for octet in range(256):
        node = state
        out = b""
        for shift in range(7, -1, -1):
            node = ONE[node] if (octet >> shift) & 1 else ZERO[node]
            if node == _NOTHING:
                break
            if node >= SYMBOL:
                out += bytes((node - SYMBOL,))
                node = 0
        row.append(_BROKEN if node == _NOTHING else (node, out))
    _ROWS[state] = row
    return row


def decode_huffman(data: bytes) -> bytes:
    """Return what ``data`` stands for.

    Raises:
        ValueError: it holds the end-of-string code, or its padding is longer than seven bits or
            not all ones.

    """
    state = 0
    out: list[bytes] = []
    for octet in data:
        row = _ROWS[state]
        if row is None:
            row = _row_of(state)
        state, text = row[octet]
        if state == _NOTHING:
            raise ValueError("the end-of-string code")
        out.append(text)
    if state not in MAY_END:
        raise ValueError("bad padding")
    return b"".join(out)
