"""Notices about folders, gathered until things are quiet; polling where there are none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from control import watcher
from control.inotify import Inotify
from control.watcher import FolderWatcher

WAIT_S: Final = 5.0


@asynccontextmanager
async def watching(root: Path, *folders: Path) -> AsyncIterator[FolderWatcher]:
    """Watch a root and folders while the block runs."""
    found = FolderWatcher(str(root))
    found.open()
    try:
        found.watch([str(root), *map(str, folders)])
        yield found
    finally:
        found.close()


async def is_changed(found: FolderWatcher, within_s: float = WAIT_S) -> bool:
    """Whether a change is told in time."""
    try:
        async with asyncio.timeout(within_s):
            await found.changed()
    except TimeoutError:
        return False
    return True


async def test_every_sort_of_change_is_told(tmp_path: Path) -> None:
    """Create, write, rename, mode, delete."""
    root = tmp_path / "mesh"
    (root / "x").mkdir(parents=True)
    async with watching(root, root / "x") as found:
        path = root / "x" / "a.json"
        for change in (
            lambda: path.write_text("1"),
            lambda: path.write_text("2"),
            lambda: path.chmod(0o600),
            lambda: path.rename(root / "b.json"),
            (root / "b.json").unlink,
            (root / "x").rmdir,
        ):
            change()
            assert await is_changed(found)


async def test_a_root_that_is_replaced_is_told_and_its_neighbours_are_not(tmp_path: Path) -> None:
    """Only the root's own name matters in the folder above."""
    root = tmp_path / "mesh"
    root.mkdir()
    async with watching(root) as found:
        (tmp_path / "other").write_text("x")
        assert not await is_changed(found, 0.2)
        root.rename(tmp_path / "old")
        assert await is_changed(found)
        found.watch([str(root)])
        root.mkdir()
        assert await is_changed(found)
        assert found.watch([str(root)])
        (root / "a").write_text("x")
        assert await is_changed(found)


async def test_a_root_far_below_nothing_is_waited_for(tmp_path: Path) -> None:
    """Step by step as the folders above it appear."""
    root = tmp_path / "a" / "b" / "mesh"
    async with watching(root) as found:
        for folder in (tmp_path / "a", tmp_path / "a" / "b", root):
            folder.mkdir()
            assert await is_changed(found)
            found.watch([str(root)])


async def test_a_root_that_is_a_link_is_told_when_it_leads_elsewhere(tmp_path: Path) -> None:
    """As deployments switch between releases."""
    for name in ("1", "2"):
        (tmp_path / "releases" / name).mkdir(parents=True)
    root = tmp_path / "mesh"
    root.symlink_to("releases/1")
    async with watching(root) as found:
        (tmp_path / "new").symlink_to("releases/2")
        (tmp_path / "new").rename(root)
        assert await is_changed(found)
        found.watch([str(root)])
        (tmp_path / "releases" / "2" / "a").write_text("x")
        assert await is_changed(found)


async def test_a_new_folder_asks_for_another_look(tmp_path: Path) -> None:
    """What came into it before it was watched gave no notice."""
    (tmp_path / "x").mkdir()
    async with watching(tmp_path) as found:
        assert not found.watch([str(tmp_path)])
        assert found.watch([str(tmp_path), str(tmp_path / "x")])
        assert not found.watch([str(tmp_path), str(tmp_path / "x")])
        assert not found.watch([str(tmp_path)])
        (tmp_path / "x" / "a").write_text("x")
        assert not await is_changed(found, 0.2)


async def test_changes_are_gathered_until_quiet_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that never rests is looked at all the same."""
    monkeypatch.setattr(watcher, "LONGEST_S", 0.3)
    loop = asyncio.get_running_loop()
    async with watching(tmp_path) as found:
        begun = loop.time()
        (tmp_path / "a").write_text("x")
        await found.changed()
        # Half of it: a loop's clock may lag by a tick of its own.
        assert loop.time() - begun >= watcher.QUIET_S / 2

        async def restless() -> None:
            while True:
                (tmp_path / "a").write_text("x")
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(restless())
            assert await is_changed(found)
            task.cancel()


async def test_nothing_wakes_while_nothing_changes(tmp_path: Path) -> None:
    """Idle costs nothing: no wakeup until the sweep."""
    async with watching(tmp_path) as found:
        assert not await is_changed(found, 0.3)
        assert found.trouble == ""


async def test_where_there_is_no_inotify_the_directory_is_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's instances may be used up by others; said so."""

    def refused() -> Inotify:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(watcher, "Inotify", refused)
    monkeypatch.setattr(watcher, "POLL_S", 0.05)
    async with watching(tmp_path) as found:
        assert "Too many open files" in found.trouble
        assert not found.watch([str(tmp_path)])
        assert await is_changed(found)


async def test_a_folder_that_cannot_be_watched_is_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it can: the kernel's watches may be used up for a while."""
    monkeypatch.setattr(watcher, "POLL_S", 0.05)
    original = Inotify.add

    def full(self: Inotify, folder: str) -> int:
        raise OSError(28, os.strerror(28), folder)

    async with watching(tmp_path) as found:
        monkeypatch.setattr(Inotify, "add", full)
        found.watch([str(tmp_path)])
        assert "No space left" in found.trouble
        assert await is_changed(found)
        monkeypatch.setattr(Inotify, "add", original)
        found.watch([str(tmp_path)])
        assert found.trouble == ""


async def test_file_systems_without_notices_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Now and then."""
    monkeypatch.setattr(watcher, "SWEEP_S", 0.05)
    async with watching(tmp_path) as found:
        assert await is_changed(found)


async def test_closing_gives_every_descriptor_back(tmp_path: Path) -> None:
    """And opening again works."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    found = FolderWatcher(str(tmp_path))
    for _ in range(3):
        found.open()
        found.open()
        found.watch([str(tmp_path)])
        found.close()
        found.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
