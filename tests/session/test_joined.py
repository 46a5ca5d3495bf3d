"""The admin pages of several workers as one: what is asked of the others, and how much at once."""

from __future__ import annotations

import asyncio
import json
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from identity.generation import Generation
from policy.model import Client
from proxy.admin import joined, kept
from proxy.admin.answer import Answer
from proxy.admin.joined import MAX_LARGE, JoinedPages
from proxy.admin.kept import KeptMetrics, forget_kept
from proxy.admin.pages import AdminPages
from proxy.admin.policies import PolicyPages
from proxy.crew import Crew
from proxy.net.capture import FixedCapture
from proxy.net.listener import Bound
from proxy.net.loads import SharedLoads, make_loads
from tests.session.admin import samples
from tests.sidecars import Running, free_address, run_sidecar

CLIENT = Client("127.0.0.1")


@asynccontextmanager
async def worker(
    generation: Generation, directory: Path
) -> AsyncIterator[tuple[JoinedPages, Running]]:
    """Yield the pages of the first of two workers, and the sidecar that it is."""
    table = make_loads(2)
    try:
        async with run_sidecar(generation, FixedCapture(free_address())) as running:
            metrics = KeptMetrics(directory, 1)
            yield JoinedPages(_pages(running), metrics, _crew(directory, table)), running
    finally:
        os.close(table)


def _pages(running: Running) -> AdminPages:
    runtime = running.sidecar.runtime
    return AdminPages(
        runtime,
        {},
        PolicyPages(runtime, running.control, "shop/web-0"),
        unready=str,
        warnings=tuple,
        refresh=lambda: None,
        stop=None,
    )


def _crew(directory: Path, table: int) -> Crew:
    return Crew(
        number=1,
        count=2,
        starts=1,
        directory=directory,
        bound=Bound([], []),
        loads=SharedLoads(table, 1),
        stop=lambda: None,
        is_orphan=lambda: False,
    )


async def ask(pages: JoinedPages, path: str) -> Answer:
    """Return the answer to a GET."""
    return await pages.answer("GET", path, "", b"", CLIENT)


@pytest.mark.parametrize("path", ["/metrics", "/connections", "/policy"])
async def test_few_large_pages_are_put_together_at_once(
    api: Generation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """At the bound each asks the others, one past it waits, and is made when its turn has come.

    Small pages wait for none of them.
    """
    monkeypatch.setattr(joined, "ANSWER_S", 30)
    monkeypatch.setattr(joined, "LARGE_ANSWER_S", 30)
    asked: list[str] = []
    heard, go_on = asyncio.Condition(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(4), "big")
        async with heard:
            asked.append(json.loads(await reader.readexactly(size))["path"])
            heard.notify_all()
        await go_on.wait()
        writer.close()

    async def until_asked(count: int) -> None:
        async with asyncio.timeout(10), heard:
            await heard.wait_for(lambda: len(asked) >= count)

    async with (
        worker(api, tmp_path) as (pages, running),
        await asyncio.start_unix_server(hang, tmp_path / "2"),
        asyncio.TaskGroup() as tasks,
    ):
        large = [tasks.create_task(ask(pages, path)) for _ in range(MAX_LARGE + 1)]
        await until_asked(MAX_LARGE)
        small = tasks.create_task(ask(pages, "/proxy-log-level"))
        await until_asked(MAX_LARGE + 1)
        assert asked == [path] * MAX_LARGE + ["/proxy-log-level"]
        labels = (("direction", "inbound"), ("peer", "src"))
        running.sidecar.runtime.metrics.tcp_open.child(labels).value = 7
        go_on.set()
        assert [(await each)[0] for each in (*large, small)] == [200] * (MAX_LARGE + 2)
        if path == "/metrics":
            assert [_taken(await each) for each in large] == [0] * MAX_LARGE + [7]
    assert asked.count(path) == MAX_LARGE + 1


def _taken(metrics: Answer) -> float:
    """Return how many connections a page of metrics says were taken."""
    status, _, page = metrics
    assert status == 200
    return sum(samples(page).get("tcp_open_total", {}).values())


async def test_what_a_worker_had_told_is_gone_on_from(api: Generation, tmp_path: Path) -> None:
    """By the others while it is gone, and by who comes in its place, however often."""
    async with worker(api, tmp_path) as (first, running):
        family = running.sidecar.runtime.metrics.tcp_open
        labels = (("direction", "inbound"), ("peer", "src"))
        family.child(labels).value = 5
        running.sidecar.runtime.metrics.connections_max.child().value = 100
        assert _taken(await ask(first, "/metrics")) == 5
        # What is not told is not known.
        family.child(labels).value = 7
    (tmp_path / "1.metrics").rename(tmp_path / "2.metrics")
    for times in (1, 2, 3):
        async with worker(api, tmp_path) as (again, running):
            family = running.sidecar.runtime.metrics.tcp_open
            assert _taken(await ask(again, "/metrics")) == 5 + 10 * (times - 1)
            family.child(labels).value = 10
            answer = await ask(again, "/metrics")
            assert _taken(answer) == 5 + 10 * times
            # Who is gone has no room for connections.
            assert "pillion_connections_max" not in samples(answer[2])
            assert _taken(await ask(again, "/metrics")) == 5 + 10 * times
    forget_kept(tmp_path)
    assert not list(tmp_path.iterdir())


PAGE = b"# HELP tcp_open_total x\n# TYPE tcp_open_total counter\ntcp_open_total 5\n"


@pytest.mark.parametrize("over", [0, 1])
async def test_a_page_is_gone_on_from_to_its_bound(
    api: Generation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over: int
) -> None:
    """One octet past it the sum falls."""
    monkeypatch.setattr(kept, "MAX_KEPT_BYTES", len(PAGE) - over)
    for number in (1, 2):
        (tmp_path / f"{number}.metrics").write_bytes(PAGE)
    async with worker(api, tmp_path) as (pages, _):
        assert _taken(await ask(pages, "/metrics")) == (0 if over else 10)


@pytest.mark.parametrize("over", [0, 1])
async def test_a_page_is_kept_to_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over: int
) -> None:
    """One octet past it is told, and takes no room; what was kept before it stays."""
    (tmp_path / "1.metrics").write_bytes(PAGE)
    metrics = KeptMetrics(tmp_path, 1)
    told = PAGE.replace(b" 5\n", b" 10\n")
    monkeypatch.setattr(kept, "MAX_KEPT_BYTES", len(told) - over)
    assert await metrics.told("/metrics", (200, "", PAGE)) == (200, "", told)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [PAGE if over else told]


async def test_where_there_is_no_room_for_a_page_nothing_fails(tmp_path: Path) -> None:
    """What was kept before stays, and nothing of the page that was begun."""
    (tmp_path / "1.metrics").write_bytes(PAGE)
    metrics = KeptMetrics(tmp_path, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        told = await metrics.told("/metrics", (200, "", PAGE))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert told == (200, "", PAGE.replace(b" 5\n", b" 10\n"))
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [PAGE]
