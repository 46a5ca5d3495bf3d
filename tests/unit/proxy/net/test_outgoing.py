"""What is gathered is sent whole and in its order, however many pieces it came in."""

from __future__ import annotations

import pytest

from proxy.http.outgoing import Outgoing


@pytest.mark.parametrize("count", range(6))
def test_pieces_are_taken_together_and_once(count: int) -> None:
    """Empty ones among them change nothing; what comes afterwards begins anew."""
    outgoing = Outgoing()
    pieces = [b"", *(b"%d," % number for number in range(count)), b""]
    for piece in pieces:
        outgoing.add(piece)
    assert outgoing.size == len(b"".join(pieces))
    assert outgoing.take() == b"".join(pieces)
    assert (outgoing.size, outgoing.take()) == (0, b"")
    outgoing.add(b"next")
    assert outgoing.take() == b"next"


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_what_is_dropped_is_not_sent(count: int) -> None:
    """The connection is over."""
    outgoing = Outgoing()
    for _ in range(count):
        outgoing.add(b"x")
    outgoing.clear()
    assert (outgoing.size, outgoing.take()) == (0, b"")
