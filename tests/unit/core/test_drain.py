"""core.drain: tickets, listeners and the deadline."""

from __future__ import annotations

import asyncio

from core.drain import Drain


def test_listeners_are_told_once_in_their_order() -> None:
    """A second start says nothing new."""
    drain = Drain()
    heard: list[str] = []
    drain.on_start(lambda: heard.append("first"))
    drain.on_start(lambda: heard.append("second"))
    before = drain.started
    drain.start()
    drain.start()
    assert (before, drain.started) == (False, True)
    assert heard == ["first", "second"]


def test_whoever_comes_late_is_told_at_once() -> None:
    """A connection accepted during the drain must know of it."""
    drain = Drain()
    drain.start()
    heard: list[str] = []
    drain.on_start(lambda: heard.append("late"))
    assert heard == ["late"]


def test_tickets_are_counted() -> None:
    """Work in flight is what was taken and not given back."""
    drain = Drain()
    drain.enter()
    drain.enter()
    drain.leave()
    assert drain.in_flight == 1


async def test_nothing_in_flight_is_drained_at_once() -> None:
    """No wait, not even with a deadline of nothing."""
    assert await Drain().drained(0)


async def test_the_last_ticket_ends_the_wait() -> None:
    """Given back before the deadline, it was a clean exit."""
    drain = Drain()
    drain.enter()
    drain.enter()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(drain.drained(60))
        await asyncio.sleep(0)
        drain.leave()
        await asyncio.sleep(0)
        assert not waiting.done()
        drain.leave()
    assert waiting.result()


async def test_giving_up_ends_the_wait() -> None:
    """Before it begins, or while it lasts; what is in flight stays unfinished."""
    drain = Drain()
    drain.enter()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(drain.drained(60))
        await asyncio.sleep(0)
        drain.give_up()
    assert not waiting.result()
    assert not await drain.drained(60)
    drain.leave()
    assert await drain.drained(60)


async def test_a_ticket_that_is_kept_meets_the_deadline() -> None:
    """The wait is bounded and says so."""
    drain = Drain()
    drain.enter()
    async with asyncio.timeout(5):
        assert not await drain.drained(0.001)
    assert drain.in_flight == 1
