"""The admin pages of several workers as one: what is asked of the others, and how much at once."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from identity.generation import Generation
from policy.model import Client
from proxy.admin import joined
from proxy.admin.answer import Answer
from proxy.admin.joined import MAX_LARGE, JoinedPages
from proxy.admin.pages import AdminPages
from proxy.admin.policies import PolicyPages
from proxy.crew import Crew
from proxy.net.capture import FixedCapture
from proxy.net.listener import Bound
from proxy.net.loads import SharedLoads, make_loads
from tests.sidecars import Running, free_address, run_sidecar

CLIENT = Client("127.0.0.1")


@asynccontextmanager
async def worker(generation: Generation, directory: Path) -> AsyncIterator[JoinedPages]:
    """Yield the pages of the first of two workers, which is a running sidecar."""
    table = make_loads(2)
    try:
        async with run_sidecar(generation, FixedCapture(free_address())) as running:
            yield JoinedPages(_pages(running), _crew(directory, table))
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
    answer = pages.answer("GET", path, "", b"", CLIENT)
    return await answer if isinstance(answer, Awaitable) else answer


@pytest.mark.parametrize("path", ["/metrics", "/connections", "/policy"])
async def test_few_large_pages_are_put_together_at_once(
    api: Generation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """At the bound each asks the others, one past it waits; small pages wait for none of them."""
    monkeypatch.setattr(joined, "ANSWER_S", 30)
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
        worker(api, tmp_path) as pages,
        await asyncio.start_unix_server(hang, tmp_path / "2"),
        asyncio.TaskGroup() as tasks,
    ):
        large = [tasks.create_task(ask(pages, path)) for _ in range(MAX_LARGE + 1)]
        await until_asked(MAX_LARGE)
        small = tasks.create_task(ask(pages, "/proxy-log-level"))
        await until_asked(MAX_LARGE + 1)
        assert asked == [path] * MAX_LARGE + ["/proxy-log-level"]
        go_on.set()
        assert [(await each)[0] for each in (*large, small)] == [200] * (MAX_LARGE + 2)
    assert asked.count(path) == MAX_LARGE + 1
