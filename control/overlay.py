"""Objects of our own with derived ones laid over them: a derived object hides ours of its key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import final

from resources.kind import ObjectKey, Resource


@final
class Overlay:
    """What is in force: derived objects, and our own where nothing is derived."""

    def __init__(self) -> None:
        self._own: dict[ObjectKey, Resource] = {}
        self._over: Mapping[ObjectKey, Resource] = {}

    @property
    def own(self) -> Collection[Resource]:
        """Our own objects, hidden ones too."""
        return self._own.values()

    def take(self, applied: Iterable[Resource], deleted: Iterable[ObjectKey]) -> Before:
        """Take in changes of our own objects; ``Before.lay`` then says what differs."""
        news = {each.meta.key: each for each in applied}
        gone = set(deleted)
        before = Before(self, {key: self.get(key) for key in {*news, *gone}})
        for key in gone:
            self._own.pop(key, None)
        self._own |= news
        return before

    def get(self, key: ObjectKey) -> Resource | None:
        """Return the object that is in force."""
        return self._over.get(key) or self._own.get(key)

    def replace(self, over: Mapping[ObjectKey, Resource]) -> dict[ObjectKey, Resource | None]:
        """Lay other derived objects over ours; return what was in force where that may differ."""
        before = {
            key: self.get(key)
            for key in {*self._over, *over}
            if self._over.get(key) != over.get(key)
        }
        self._over = over
        return before


@final
class Before:
    """What was in force before a change."""

    def __init__(self, overlay: Overlay, seen: dict[ObjectKey, Resource | None]) -> None:
        self._overlay = overlay
        self._seen = seen

    def lay(self, over: Mapping[ObjectKey, Resource]) -> tuple[list[Resource], list[ObjectKey]]:
        """Lay derived objects over ours; return what is new in force, and what no longer is."""
        own_seen = self._seen
        seen = {**self._overlay.replace(over), **own_seen}
        applied: list[Resource] = []
        deleted: list[ObjectKey] = []
        for key, old in seen.items():
            new = self._overlay.get(key)
            if new is None:
                if old is not None:
                    deleted.append(key)
            elif new is not old and new != old:
                applied.append(new)
        return applied, deleted
