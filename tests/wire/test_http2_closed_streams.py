from __future__ import annotations

from proxy.wire.http2_stream import (
    ENDED,
    REMEMBERED,
    RESET_BY_PEER,
    RESET_BY_US,
    ClosedStreams,
)


def test_as_many_are_remembered_as_the_bound_and_one_more_forgets_the_oldest() -> None:
    """The bound holds whatever a peer opens and closes."""
    closed = ClosedStreams()
    assert closed.how(1) == 0
    ids = [2 * number + 1 for number in range(REMEMBERED)]
    for stream_id in ids:
        closed.add(stream_id, ENDED)
    assert {closed.how(each) for each in ids} == {ENDED}
    one_more = 2 * REMEMBERED + 1
    closed.add(one_more, RESET_BY_PEER)
    assert [closed.how(1), closed.how(3), closed.how(one_more)] == [0, ENDED, RESET_BY_PEER]


def test_the_last_end_of_a_stream_counts() -> None:
    """A stream that ended may be reset by us behind that."""
    closed = ClosedStreams()
    closed.add(1, ENDED)
    closed.add(3, ENDED)
    closed.add(3, RESET_BY_US)
    assert [closed.how(1), closed.how(3), closed.how(5)] == [ENDED, RESET_BY_US, 0]
