"""When to look at a mesh directory again.

Notices from the kernel are gathered until none came for ``QUIET_S``. The folder above the root is
watched for the root's own name, so that a directory may go and come back. File systems that give
no notices (a network's, another kernel's) are looked at every ``SWEEP_S``; where the kernel has no
watches left for us, every ``POLL_S``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, final

from control.inotify import Inotify

QUIET_S: Final = 0.05
"""How long nothing may change before the change counts as complete."""
LONGEST_S: Final = 0.5
"""A directory that keeps changing is looked at this often all the same."""
SWEEP_S: Final = 30.0
POLL_S: Final = 2.0
MAX_FOLDERS: Final = 1024
"""Folders watched; of more only the sweep sees changes."""


@final
class FolderWatcher:
    """Tells when something under a root may have changed."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)
        self._notices: Inotify | None = None
        self._names: dict[int, set[str] | None] = {}
        """Watch → the entries that matter; None: all."""
        self._event = asyncio.Event()
        self.trouble = ""
        """Why changes are seen late, for a person; empty when they are not."""

    def open(self) -> None:
        """Start; again is no error. Where the kernel has no notices for us, polling is left."""
        if self._notices is not None:
            return
        try:
            self._notices = Inotify()
        except OSError as error:
            self.trouble = f"changes are seen only every {POLL_S:.0f} s: {error.strerror}"
            return
        asyncio.get_running_loop().add_reader(self._notices.fileno(), self._take)

    def close(self) -> None:
        """Stop; again is no error."""
        if self._notices is not None:
            asyncio.get_running_loop().remove_reader(self._notices.fileno())
            self._notices.close()
            self._notices = None
            self._names = {}

    def watch(self, folders: Iterable[str]) -> bool:
        """Watch exactly these folders, and for the root; True when one is new.

        Something may have changed in a new one before it was watched: look again.
        """
        if self._notices is None:
            return False
        names: dict[int, set[str] | None] = {}
        self.trouble = ""
        for folder in sorted(folders)[:MAX_FOLDERS]:
            number = self._add(self._notices, folder)
            if number is not None:
                names[number] = None
        for parent, name in self._ways_to_root():
            number = self._add(self._notices, str(parent))
            if number is not None and names.setdefault(number, set()) is not None:
                entries = names[number]
                if entries is not None:
                    entries.add(name)
        for number in self._names.keys() - names.keys():
            self._notices.remove(number)
        is_new = bool(names.keys() - self._names.keys())
        self._names = names
        return is_new

    async def changed(self) -> None:
        """Return when something may have changed and things are quiet again."""
        loop = asyncio.get_running_loop()
        is_polled = self._notices is None or bool(self.trouble)
        try:
            async with asyncio.timeout(POLL_S if is_polled else SWEEP_S):
                await self._event.wait()
        except TimeoutError:
            return
        latest = loop.time() + LONGEST_S
        while (left := latest - loop.time()) > 0:
            self._event.clear()
            try:
                async with asyncio.timeout(min(QUIET_S, left)):
                    await self._event.wait()
            except TimeoutError:
                return
        self._event.clear()

    def _add(self, notices: Inotify, folder: str) -> int | None:
        try:
            return notices.add(folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.trouble = f"changes are seen only every {POLL_S:.0f} s: {error.strerror}"
            return None

    def _ways_to_root(self) -> list[tuple[Path, str]]:
        """Return the folders and entries through which the root is reached, or would be."""
        ways = []
        for path in {self._root, Path(os.path.realpath(self._root))}:
            below = path
            # os.path's own: below a folder that is closed to us nothing exists, and nothing raises.
            while below != below.parent and not os.path.exists(below.parent):  # noqa: PTH110
                below = below.parent
            ways.append((below.parent, below.name))
        return ways

    def _take(self) -> None:
        if self._notices is None:
            return
        for number, name in self._notices.read():
            names = self._names.get(number)
            if names is None or not name or name in names:
                self._event.set()
