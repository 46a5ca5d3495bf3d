"""core.watch: the current value, its version, waiters and listeners."""

from __future__ import annotations

import asyncio

import pytest

from core.watch import Watch


def test_a_new_watch_holds_its_first_value_at_version_zero() -> None:
    """The first value is nobody's news."""
    watch = Watch("a")
    assert (watch.current, watch.version) == ("a", 0)


def test_publishing_replaces_the_value_and_counts() -> None:
    """Each change is one version."""
    watch = Watch(1)
    watch.publish(2)
    watch.publish(3)
    assert (watch.current, watch.version) == (3, 2)


def test_an_equal_value_is_no_news() -> None:
    """Neither version, listeners nor waiters take notice."""
    watch = Watch((1, 2))
    heard: list[tuple[int, int]] = []
    watch.subscribe(heard.append)
    watch.publish((1, 2))
    assert (watch.version, heard) == (0, [])


def test_listeners_hear_later_changes_in_their_order_until_they_leave() -> None:
    """A subscription starts after the current value and ends when it is given up."""
    watch = Watch(0)
    heard: list[str] = []
    leave = watch.subscribe(lambda value: heard.append(f"first {value}"))
    watch.subscribe(lambda value: heard.append(f"second {value}"))
    watch.publish(1)
    leave()
    leave()
    watch.publish(2)
    assert heard == ["first 1", "second 1", "second 2"]


def test_a_listener_may_leave_while_it_is_told() -> None:
    """The others of the same change still hear it."""
    watch = Watch(0)
    heard: list[int] = []

    def once(value: int) -> None:
        heard.append(value)
        leave()

    leave = watch.subscribe(once)
    watch.subscribe(heard.append)
    watch.publish(1)
    watch.publish(2)
    assert heard == [1, 1, 2]


async def test_every_waiter_wakes_with_the_new_value() -> None:
    """One publication answers all who wait."""
    watch = Watch("old")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = [group.create_task(watch.changed(0)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        watch.publish("new")
    assert [task.result() for task in waiting] == ["new"] * 3


async def test_a_change_missed_is_returned_at_once() -> None:
    """Whoever knows version 0 need not wait when version 1 is out."""
    watch = Watch(0)
    watch.publish(1)
    async with asyncio.timeout(5):
        assert await watch.changed(0) == 1


async def test_a_waiter_for_a_later_version_sleeps_through_the_earlier_ones() -> None:
    """Only what is past ``since`` counts."""
    watch = Watch(0)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(watch.changed(1))
        await asyncio.sleep(0)
        watch.publish(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        watch.publish(2)
    assert waiting.result() == 2


async def test_a_cancelled_waiter_leaves_nothing_behind() -> None:
    """Connections come and go; what they waited for must not remember them."""
    watch = Watch(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await watch.changed(0)
    assert watch._waiters == []
    watch.publish(1)
    assert watch.current == 1


async def test_it_is_watched_while_anyone_listens_or_waits() -> None:
    """Whoever keeps watches by the thousand may drop those that are not."""
    watch = Watch(1)
    seen = [watch.is_watched]
    leave = watch.subscribe(lambda value: None)
    seen.append(watch.is_watched)
    leave()
    seen.append(watch.is_watched)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch.changed(watch.version))
        await asyncio.sleep(0)
        seen.append(watch.is_watched)
        watch.publish(2)
    seen.append(watch.is_watched)
    assert seen == [False, True, False, True, False]
