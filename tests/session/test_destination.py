"""Destinations: who waits for an endpoint, who is told what, and what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from core.errors import MeshError, OverloadError, RefusedError, UnreachableError
from core.watch import Watch
from discovery.model import (
    UNKNOWN_ENDPOINTS,
    Address,
    Endpoint,
    EndpointSet,
    RetryBudget,
    Target,
    default_metadata,
)
from identity.generation import Generation
from policy.model import ConsecutiveFailures, OutboundTls, PeakEwma
from proxy.outbound import destinations as table
from proxy.outbound.destination import SLICE, Concrete, Destination
from proxy.outbound.destinations import Destinations
from proxy.outbound.pick import Outcome, Pick
from tests.session.client import run_client
from tests.sidecars import Control

TARGET = Target("api.shop.svc.cluster.local", 80)
ONE = Endpoint(address=Address("10.1.0.1", 8080))
TWO = Endpoint(address=Address("10.1.0.2", 8080))
CONCRETE = Concrete(
    parent=default_metadata("api"),
    backend=default_metadata("api"),
    target=TARGET,
    load=PeakEwma(),
)


@dataclass
class World:
    """Destinations of a sidecar that runs, and the endpoints they find."""

    destinations: Destinations
    control: Control

    def publish(self, *endpoints: Endpoint) -> None:
        """Let discovery find these."""
        self.control.sets[TARGET].publish(EndpointSet(endpoints=endpoints))

    def of(self, concrete: Concrete = CONCRETE, timeout_s: float = 3.0) -> Destination:
        """Return a destination that fails fast after so long."""
        found = self.destinations.of(concrete)
        found._failfast.timeout_s = timeout_s
        return found


@dataclass
class Waiting:
    """Somebody who waits and remembers what came of it."""

    is_over: bool = False
    got: list[Pick | str] = field(default_factory=list)

    def on_pick(self, pick: Pick) -> None:
        self.got.append(pick)

    def on_no_pick(self, error: MeshError) -> None:
        self.got.append(error.code)


@contextlib.asynccontextmanager
async def world(web: Generation, *endpoints: Endpoint) -> AsyncIterator[World]:
    """Run a sidecar whose discovery finds these endpoints."""
    control = Control(Watch(web))
    control.sets[TARGET] = Watch(EndpointSet(endpoints=endpoints, labels=(("service", "api"),)))
    async with run_client(web, control) as client, asyncio.timeout(20):
        yield World(Destinations(client.sidecar.runtime, control), control)


async def test_an_endpoint_that_is_ready_is_had_at_once(web: Generation) -> None:
    """With the labels of the whole set."""
    async with world(web, ONE) as mesh:
        destination = mesh.of()
        assert (await destination.acquire()).endpoint == ONE
        assert destination.labels == (("service", "api"),)
        assert mesh.of() is destination


async def test_who_finds_none_waits_until_there_is_one(web: Generation) -> None:
    """A set that goes to zero and comes back costs those in between a moment, in their order."""
    async with world(web) as mesh:
        destination, order = mesh.of(), list[int]()

        async def wait(number: int) -> None:
            (await destination.acquire()).finish(0.0, Outcome.ABANDONED)
            order.append(number)

        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(wait(number))
            await asyncio.sleep(0.05)
            assert order == []
            mesh.publish(TWO)
        assert order == [0, 1, 2, 3, 4]
        assert destination.is_idle


async def test_who_waits_is_served_when_a_held_back_endpoint_may_be_tried(web: Generation) -> None:
    """After 100 ms by one, whose success serves the others."""
    async with world(web, ONE) as mesh:
        destination = mesh.of()
        (await destination.acquire()).finish(time.monotonic(), Outcome.UNREACHABLE)
        waiting = [Waiting() for _ in range(3)]
        for each in waiting:
            destination.wait(each)
        while not waiting[0].got:
            await asyncio.sleep(0.01)
        assert waiting[1].got == []
        probe = waiting[0].got[0]
        assert isinstance(probe, Pick)
        assert probe.is_probe
        probe.connected(time.monotonic())
        await asyncio.sleep(0.05)
        assert [len(each.got) for each in waiting] == [1, 1, 1]


async def test_when_nothing_is_ready_for_too_long_all_fail_and_then_everyone_at_once(
    web: Generation,
) -> None:
    """Until an endpoint is ready again; who left in between is not told."""
    accrual = ConsecutiveFailures(max_failures=1)
    async with world(web, ONE) as mesh:
        destination = mesh.of(replace(CONCRETE, accrual=accrual), timeout_s=0.2)
        (await destination.acquire()).finish(time.monotonic(), Outcome.FAILURE)
        gone, waiting = Waiting(is_over=True), Waiting()
        destination.wait(gone)
        destination.wait(waiting)
        await asyncio.sleep(0.5)
        assert (gone.got, waiting.got) == ([], ["failfast"])
        with pytest.raises(OverloadError) as caught:
            destination.wait(Waiting())
        assert caught.value.code == "loadshed"
        mesh.publish(ONE, TWO)
        assert (await destination.acquire()).endpoint == TWO
        again = Waiting()
        mesh.publish(ONE)
        destination.wait(again)
        assert destination._failfast.waiting == 1


async def test_no_more_wait_than_may(web: Generation) -> None:
    """As many as the capacity; the next is told at once."""
    async with world(web) as mesh:
        destination = mesh.of()
        destination._failfast._capacity = 2
        waiting = [Waiting(), Waiting()]
        for each in waiting:
            destination.wait(each)
        with pytest.raises(OverloadError, match="2 wait for an endpoint already"):
            destination.wait(Waiting())
        mesh.publish(ONE)
        await asyncio.sleep(0.05)
        assert all(each.got for each in waiting)


@pytest.mark.parametrize("exists", [True, False])
async def test_without_endpoints_the_error_says_why(web: Generation, exists: bool) -> None:
    """What does not exist is not waited for."""
    async with world(web) as mesh:
        if not exists:
            mesh.control.sets[TARGET].publish(UNKNOWN_ENDPOINTS)
        destination = mesh.of(timeout_s=0.1)
        began = time.monotonic()
        with pytest.raises(UnreachableError) as caught:
            await destination.acquire()
        assert caught.value.code == "no-endpoints"
        assert (time.monotonic() - began >= 0.09) is exists


async def test_endpoints_without_identity_are_none_where_tls_is_required(
    web: Generation, api: Generation
) -> None:
    """Those with one are; without any the refusal says so, to who waits as well."""
    meshed = replace(TWO, identity=api.identity)
    concrete = replace(CONCRETE, tls_mode=OutboundTls.REQUIRED)
    async with world(web, ONE, meshed) as mesh:
        destination = mesh.of(concrete)
        picks = [await destination.acquire() for _ in range(10)]
        assert {pick.endpoint for pick in picks} == {meshed}
        mesh.publish(ONE)
        with pytest.raises(RefusedError) as caught:
            await destination.acquire()
        assert caught.value.code == "mtls-required"
        mesh.publish()
        waiting = Waiting()
        destination.wait(waiting)
        mesh.publish(ONE)
        await asyncio.sleep(0.05)
        assert waiting.got == ["mtls-required"]


async def test_endpoints_meant_for_other_zones_are_there_when_ours_are_not(
    web: Generation,
) -> None:
    """Until ours can be reached again."""
    async with world(web) as mesh:
        mesh.control.sets[TARGET].publish(EndpointSet(endpoints=(ONE,), reserve=(TWO,)))
        destination = mesh.of()
        pick = await destination.acquire()
        assert pick.endpoint == ONE
        pick.finish(time.monotonic(), Outcome.UNREACHABLE)
        for _ in range(5):
            pick = await destination.acquire()
            assert pick.endpoint == TWO
            pick.finish(time.monotonic(), Outcome.ABANDONED)
        await asyncio.sleep(0.15)
        assert (await destination.acquire()).endpoint == ONE


@pytest.mark.parametrize("count", [SLICE, SLICE + 1])
async def test_a_crowd_that_waited_is_served_in_turns(web: Generation, count: int) -> None:
    """As many as one go serves, and one more; or failed, when nothing came."""
    async with world(web) as mesh:
        destination = mesh.of(timeout_s=0.1)
        for endpoints, wanted in (((ONE,), Pick), ((), str)):
            mesh.publish()
            crowd = [Waiting() for _ in range(count)]
            for each in crowd:
                destination.wait(each)
            mesh.publish(*endpoints)
            while not crowd[-1].got:
                await asyncio.sleep(0.01)
            assert all(len(each.got) == 1 and isinstance(each.got[0], wanted) for each in crowd)
            assert destination._failfast.waiting == 0


async def test_a_fault_of_one_who_waited_is_not_the_others(web: Generation) -> None:
    """Its ticket ends, and the next is served."""

    class Broken(Waiting):
        def on_pick(self, pick: Pick) -> None:
            super().on_pick(pick)
            raise ValueError("broken")

    async with world(web) as mesh:
        destination = mesh.of()
        broken, whole = Broken(), Waiting()
        destination.wait(broken)
        destination.wait(whole)
        mesh.publish(ONE)
        while not whole.got:
            await asyncio.sleep(0.01)
        assert destination._balancer.pending == 1


async def test_a_wait_that_is_cancelled_leaves_nothing_behind(web: Generation) -> None:
    """Neither in the queue, nor as a ticket that came at the last moment."""
    async with world(web) as mesh:
        destination = mesh.of()
        tasks = [asyncio.ensure_future(destination.acquire()) for _ in range(2)]
        await asyncio.sleep(0.05)
        tasks[0].cancel()
        await asyncio.sleep(0)
        destination._balancer.update((ONE,), 0.0)
        destination._serve_some()
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        assert destination.is_idle


async def test_an_unused_destination_is_let_go_of_and_may_be_asked_again(
    web: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever kept it; one with something under way is not let go of."""
    monkeypatch.setattr(table, "IDLE_S", 0.0)
    async with world(web, ONE) as mesh:
        kept, busy = mesh.of(), mesh.of(replace(CONCRETE, is_by_connection=True))
        pick = await busy.acquire()
        watch = mesh.control.sets[TARGET]
        for number in range(3):
            mesh.destinations.of(replace(CONCRETE, backend=default_metadata(f"b{number}")))
        assert mesh.destinations.of(replace(CONCRETE, is_by_connection=True)) is busy
        assert not kept.labels
        assert (await kept.acquire()).endpoint == ONE
        assert kept.labels == (("service", "api"),)
        pick.close(0.0)
        assert watch.is_watched
        for each in list(mesh.destinations._open.values()):
            each.close()
        assert not watch.is_watched


async def test_as_many_destinations_as_may_be_and_one_more(
    web: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next takes the place of one that is idle; without any it is refused."""
    monkeypatch.setattr(table, "MAX_DESTINATIONS", 2)
    async with world(web, ONE) as mesh:
        picks: list[Pick] = []
        for number in range(3):
            concrete = replace(CONCRETE, backend=default_metadata(f"b{number}"))
            if number == 2:
                with pytest.raises(OverloadError, match="2 destinations are in use"):
                    mesh.of(concrete)
                picks[0].finish(0.0, Outcome.SUCCESS)
            picks.append(await mesh.of(concrete).acquire())
        assert len(mesh.destinations) == 2


async def test_a_service_has_one_retry_budget(web: Generation) -> None:
    """Linkerd's, unless it has its own."""
    async with world(web) as mesh:
        parent = default_metadata("api")
        budget = mesh.destinations.budget(parent, None)
        assert budget.left(0.0) == 100.0
        assert mesh.destinations.budget(parent, RetryBudget()) is budget
        own = RetryBudget(min_retries_per_second=1)
        assert mesh.destinations.budget(parent, own).left(0.0) == 10.0


async def test_a_sidecar_that_ends_lets_nobody_wait(web: Generation) -> None:
    """Whoever still does is told."""
    waiting = Waiting()
    async with world(web) as mesh:
        mesh.of().wait(waiting)
        await asyncio.sleep(0.05)
    assert waiting.got == ["draining"]
