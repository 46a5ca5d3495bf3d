"""Metric slots: plain numbers on an object that was looked up when a connection was made.

Adding to a slot costs a tenth of a microsecond; finding a child by its labels ten times that,
so it is done once a connection or route. Label sets are bounded: past the bound everything
new is counted under one child whose labels all say ``other``, and that it was is counted too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import cache
from math import inf
from typing import Final, Generic, Literal, Protocol, TypeVar, final

from discovery.model import Labels

MAX_CHILDREN: Final = 2_000
"""Label sets a family keeps; what a scrape can carry without hurting."""

Kind = Literal["counter", "gauge", "histogram"]
Sample = tuple[str, Labels, int | float]
"""A line of the exposition: what follows the family's name, labels besides its own, value."""


class Child(Protocol):
    """What a family keeps for one label set."""

    def samples(self) -> Iterable[Sample]:
        """Return the lines that show it."""
        ...


C = TypeVar("C", bound=Child)


@final
class Slot:
    """One number."""

    __slots__ = ("_steps", "_value")

    def __init__(self) -> None:
        self._value: int | float = 0
        self._steps = 0
        """Counted since the value was set: compiled, an addition to it makes no object."""

    @property
    def value(self) -> int | float:
        """The number."""
        return self._value + self._steps

    @value.setter
    def value(self, value: int | float) -> None:  # noqa: PYI041 - compiled, one is no other
        self._value = value
        self._steps = 0

    def step(self) -> None:
        """Add one."""
        self._steps += 1

    def samples(self) -> Iterable[Sample]:
        """Return the one line."""
        return (("", (), self.value),)


@final
class Histogram:
    """How often values fell into each bucket, and their sum."""

    __slots__ = ("_above", "_bounds", "_counts", "_place", "_steps", "_total", "_upto")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0
        self._place = 0
        """The bucket of the last value, which is most often the next one's as well."""
        self._above = -inf
        self._upto = bounds[0] if bounds else inf
        self._steps = 0
        """What fell into that bucket and is not among the counts yet."""

    def observe(self, value: float) -> None:
        """Count ``value``; a bound belongs to the bucket below it."""
        if not self._above < value <= self._upto:
            self._move(bisect_left(self._bounds, value))
        self._steps += 1
        self._total += value

    def _move(self, place: int) -> None:
        """Go on with another bucket."""
        self._counts[self._place] += self._steps
        self._steps = 0
        self._place = place
        bounds = self._bounds
        self._above = bounds[place - 1] if place else -inf
        self._upto = bounds[place] if place < len(bounds) else inf

    def samples(self) -> Iterable[Sample]:
        """Return the buckets, each with those below it, then count and sum."""
        self._move(self._place)
        seen = 0
        for label, count in zip(_bucket_labels(self._bounds), self._counts, strict=True):
            seen += count
            yield "_bucket", label, seen
        yield "_count", (), seen
        yield "_sum", (), self._total


@cache
def _bucket_labels(bounds: tuple[float, ...]) -> tuple[Labels, ...]:
    return (*((("le", f"{bound:g}"),) for bound in bounds), (("le", "+Inf"),))


class Described:
    """What is said of a family, in the exposition and on its page."""

    __slots__ = ("documentation", "kind", "labels", "name")

    def __init__(
        self, name: str, kind: Kind, documentation: str, labels: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        """The name as exposed, counters with ``_total``."""
        self.kind = kind
        self.documentation = documentation
        self.labels = labels
        """What a child's labels may be called; in capitals a set of them."""


class Table(Described, Generic[C]):
    """All children of one metric."""

    __slots__ = ("_children", "_limit", "folds")

    def __init__(
        self,
        name: str,
        kind: Kind,
        documentation: str,
        labels: tuple[str, ...] = (),
        limit: int = MAX_CHILDREN,
    ) -> None:
        super().__init__(name, kind, documentation, labels)
        self.folds = 0
        """How often a label set was new and found no room."""
        self._limit = limit
        self._children: dict[Labels, C] = {}

    def child(self, labels: Labels = ()) -> C:
        """Return what is kept for ``labels``; the ``other`` child once the bound is reached."""
        found = self._children.get(labels)
        if found is not None:
            return found
        if len(self._children) >= self._limit:
            self.folds += 1
            labels = tuple((name, "other") for name, _ in labels)
            found = self._children.get(labels)
            if found is not None:
                return found
        found = self._children[labels] = self._make()
        return found

    def children(self) -> Iterable[tuple[Labels, C]]:
        """Return every child with its labels, in the order of first use."""
        return self._children.items()

    def samples(self) -> Iterable[Sample]:
        """Yield every child's lines with all their labels, in the order of first use."""
        for labels, child in self._children.items():
            for suffix, more, value in child.samples():
                yield suffix, (*labels, *more), value

    def _make(self) -> C:
        raise NotImplementedError


@final
class Family(Table[Slot]):
    """A counter or a gauge."""

    __slots__ = ()

    def _make(self) -> Slot:
        return Slot()

    def set_all(self, values: Mapping[Labels, int | float]) -> None:
        """Show these children and no others: for gauges that are read from elsewhere."""
        self._children.clear()
        for labels, value in values.items():
            self.child(labels).value = value


@final
class HistogramFamily(Table[Histogram]):
    """A histogram with the same buckets for every child."""

    __slots__ = ("bounds",)

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: tuple[str, ...],
        bounds: tuple[float, ...],
        limit: int = MAX_CHILDREN,
    ) -> None:
        super().__init__(name, "histogram", documentation, labels, limit)
        self.bounds = bounds
        """Upper bounds of the buckets, in the unit that the name says, growing."""

    def _make(self) -> Histogram:
        return Histogram(self.bounds)
