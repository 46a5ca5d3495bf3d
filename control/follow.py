"""Looking at files again whenever they may have changed, and now and then in any case.

A notice can get lost, a file system may give none, and a certificate ends without any file
changing: so things are looked at at least as often as ``FolderWatcher`` sweeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from control.watcher import FolderWatcher

MAX_LINKS: Final = 40
"""Links followed from one path, as many as the kernel follows."""
_MAX_LOOKS: Final = 5
"""Looks in a row while folders keep turning up; the next notice brings another."""


async def follow(root: Path, paths: Callable[[], Iterable[Path]], look: Callable[[], None]) -> None:
    """Call ``look`` at once and after each change of ``paths``, until cancelled.

    ``root`` is a directory that may go and come back.
    """
    watcher = FolderWatcher(str(root))
    watcher.open()
    try:
        while True:
            for _ in range(_MAX_LOOKS):
                watcher.watch(folders_of(paths()))
                look()
                # Looked at while a link was moved: what it leads to now is not watched yet.
                if not watcher.watch(folders_of(paths())):
                    break
            await watcher.changed()
    finally:
        watcher.close()


def folders_of(paths: Iterable[Path]) -> set[str]:
    """Return the directories in which a change can put another file under one of ``paths``.

    Links are followed: a ConfigMap or Secret is a directory of links, exchanged in one stroke.
    """
    return {str(folder) for path in paths for folder in _ways(path)}


def _ways(path: Path) -> Iterator[Path]:
    for _ in range(MAX_LINKS):
        yield path.parent
        yield from (above.parent for above in path.parents if above.is_symlink())
        try:
            target = path.readlink()
        except OSError:
            return
        path = path.parent / target
