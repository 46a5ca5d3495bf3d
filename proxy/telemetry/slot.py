"""Metric slots: a plain integer on an object that was looked up when a connection was made.

Adding to a slot costs a tenth of a microsecond; finding a child by its labels ten times that,
so it is done once a connection or route. Label sets are bounded: past the bound everything
new is counted under one child whose labels all say ``other``.
"""

from __future__ import annotations

from typing import Final, Literal, final

from discovery.model import Labels

MAX_CHILDREN: Final = 2_000
"""Label sets a family keeps; what a scrape can carry without hurting."""

Kind = Literal["counter", "gauge"]


@final
class Slot:
    """One number."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: int | float = 0


@final
class Family:
    """All children of one metric."""

    __slots__ = ("_children", "_limit", "documentation", "kind", "name")

    def __init__(
        self, name: str, kind: Kind, documentation: str, limit: int = MAX_CHILDREN
    ) -> None:
        self.name = name
        """The name as exposed, counters with ``_total``."""
        self.kind = kind
        self.documentation = documentation
        self._limit = limit
        self._children: dict[Labels, Slot] = {}

    def child(self, labels: Labels = ()) -> Slot:
        """Return the slot for ``labels``; the ``other`` slot once the bound is reached."""
        slot = self._children.get(labels)
        if slot is not None:
            return slot
        if len(self._children) >= self._limit:
            labels = tuple((name, "other") for name, _ in labels)
            slot = self._children.get(labels)
            if slot is not None:
                return slot
        slot = self._children[labels] = Slot()
        return slot

    def samples(self) -> list[tuple[Labels, int | float]]:
        """Return every child with its value, in the order of first use."""
        return [(labels, slot.value) for labels, slot in self._children.items()]
