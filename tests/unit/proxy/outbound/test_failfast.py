"""The queue before a balancer: who waits, who is told at once, when it shuts and opens."""

from __future__ import annotations

from proxy.outbound.failfast import Entry, FailFast


def test_as_many_wait_as_may_and_the_next_is_told() -> None:
    """At the capacity; and whoever leaves makes room."""
    queue = FailFast(capacity=2)
    assert [queue.enter(0.0) for _ in range(3)] == [Entry.WAIT, Entry.WAIT, Entry.FULL]
    queue.leave()
    assert queue.enter(0.0) is Entry.WAIT


def test_it_shuts_when_nothing_was_ready_for_the_whole_timeout() -> None:
    """Counted from the first who waits, not from the last; then nobody waits any more."""
    queue = FailFast(timeout_s=3.0)
    queue.enter(10.0)
    queue.enter(12.0)
    assert queue.deadline == 13.0
    assert not queue.expire(12.999)
    assert queue.expire(13.0)
    queue.leave()
    queue.leave()
    assert queue.enter(13.0) is Entry.SHUT
    assert queue.expire(20.0)


def test_it_opens_when_an_endpoint_is_ready() -> None:
    """Which is told once; and the next wait is a whole one."""
    queue = FailFast(timeout_s=3.0)
    queue.enter(0.0)
    queue.expire(3.0)
    queue.leave()
    assert queue.ready()
    assert not queue.ready()
    assert queue.enter(4.0) is Entry.WAIT
    assert queue.deadline == 7.0


def test_a_queue_that_emptied_begins_anew() -> None:
    """Its only client went away; another comes much later and has the whole timeout."""
    queue = FailFast(timeout_s=3.0)
    queue.enter(0.0)
    queue.leave()
    assert not queue.expire(100.0)
    assert queue.enter(100.0) is Entry.WAIT
    assert queue.deadline == 103.0
