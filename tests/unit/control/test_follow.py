"""Files are looked at again when they change, by whichever links they are reached."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from control import watcher
from control.follow import MAX_LINKS, folders_of, follow
from control.inotify import Inotify


def test_folders_are_those_in_which_a_change_may_matter(tmp_path: Path) -> None:
    """Of the file, of every link on the way to it, and of what these lead to."""
    (tmp_path / "mount" / "..v1").mkdir(parents=True)
    (tmp_path / "mount" / "..v1" / "file").write_bytes(b"1")
    (tmp_path / "mount" / "..data").symlink_to("..v1")
    (tmp_path / "mount" / "file").symlink_to("..data/file")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "chain.pem").symlink_to(tmp_path / "mount" / "file")
    assert folders_of([tmp_path / "web" / "chain.pem"]) == {
        str(tmp_path / "web"),
        str(tmp_path / "mount"),
        str(tmp_path / "mount" / "..data"),
    }


def test_links_that_lead_in_circles_come_to_an_end(tmp_path: Path) -> None:
    """As the kernel gives up after so many."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert folders_of([tmp_path / "a"]) == {str(tmp_path)}
    path = tmp_path / "end"
    for number in range(MAX_LINKS + 1):
        folder = tmp_path / f"d{number}"
        folder.mkdir()
        (folder / "file").symlink_to(path)
        path = folder / "file"
    assert len(folders_of([path])) == MAX_LINKS


def _write(root: Path) -> None:
    (root / "..v1" / "file").write_bytes(b"2")


def _swap(root: Path) -> None:
    (root / "..draft").symlink_to("..v2")
    (root / "..draft").rename(root / "..data")


def _swap_twice(root: Path) -> None:
    _swap(root)
    (root / "..v2" / "file").write_bytes(b"3")


def _come_and_go(root: Path) -> None:
    root.rename(root.parent / "gone")
    (root.parent / "gone").rename(root)
    _swap(root)


@pytest.mark.parametrize("change", [_write, _swap, _swap_twice, _come_and_go])
async def test_a_change_is_looked_at(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """In place, by another link, and when the directory itself was away."""
    root = tmp_path / "mount"
    for version in ("..v1", "..v2"):
        (root / version).mkdir(parents=True)
        (root / version / "file").write_bytes(b"1" if version == "..v1" else b"2")
    (root / "..data").symlink_to("..v1")
    path = root / "file"
    path.symlink_to("..data/file")
    seen: list[bytes] = []
    news = asyncio.Event()

    def look() -> None:
        seen.append(path.read_bytes() if path.exists() else b"")
        news.set()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(follow(root, lambda: [path], look))
        await news.wait()
        assert seen[0] == b"1"
        change(root)
        wanted = path.read_bytes()
        while seen[-1] != wanted:
            news.clear()
            await news.wait()
        running.cancel()


@pytest.mark.parametrize("notices", ["none", "lost"])
async def test_a_change_without_a_notice_is_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notices: str
) -> None:
    """Where the kernel has no watches left for us, and where a notice never comes."""
    path = tmp_path / "file"
    path.write_bytes(b"1")
    seen: list[bytes] = []
    news = asyncio.Event()

    def look() -> None:
        seen.append(path.read_bytes())
        news.set()

    def refuse() -> Inotify:
        raise OSError(errno.EMFILE, "no watches")

    if notices == "none":
        monkeypatch.setattr(watcher, "Inotify", refuse)
        monkeypatch.setattr(watcher, "POLL_S", 0.05)
    else:
        monkeypatch.setattr(Inotify, "read", lambda self: iter(()))
        monkeypatch.setattr(watcher, "SWEEP_S", 0.05)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(follow(tmp_path, lambda: [path], look))
        await news.wait()
        path.write_bytes(b"2")
        while seen[-1] != b"2":
            news.clear()
            await news.wait()
        running.cancel()
