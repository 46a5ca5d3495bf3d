from __future__ import annotations

from proxy.wire import http2_stream
from proxy.wire.http2_stream import ENDED, RESET_BY_PEER, RESET_BY_US, ClosedStreams

BOUND = http2_stream._REMEMBERED


def test_as_many_are_remembered_as_the_bound_and_one_more_forgets_the_oldest() -> None:
    """The bound holds whatever a peer opens and closes."""
    closed = ClosedStreams()
    for stream_id in range(1, BOUND + 1):
        closed.add(stream_id, ENDED)
    assert closed.how(1) == ENDED
    closed.add(BOUND + 1, RESET_BY_PEER)
    assert [closed.how(1), closed.how(2), closed.how(BOUND + 1)] == [0, ENDED, RESET_BY_PEER]


def test_a_stream_that_ends_twice_takes_one_place_and_keeps_its_turn() -> None:
    """Its last end counts."""
    closed = ClosedStreams()
    closed.add(1, ENDED)
    for _ in range(BOUND + 1):
        closed.add(3, RESET_BY_US)
    assert [closed.how(1), closed.how(3)] == [ENDED, RESET_BY_US]
    for stream_id in range(5, 5 + BOUND):
        closed.add(stream_id, ENDED)
    assert [closed.how(1), closed.how(3), closed.how(5)] == [0, 0, ENDED]
