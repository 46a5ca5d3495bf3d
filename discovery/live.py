"""Values computed from a store, kept right while somebody holds their ``Watch``.

A table makes a Watch for a key when it is first asked for and computes it again when what it was
computed from has changed, and only then. A Watch that nobody holds is kept for ``IDLE_S`` after
its last use, since the next connection is likely to want it, and then dropped.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar, final

from core.errors import OverloadError
from core.watch import Watch
from discovery.store import Change, Lookup, Selector, Store, Tag, matches

IDLE_S: Final = 10.0
"""How long an unused value is kept; Linkerd keeps outbound discoveries for 5 s."""
MAX_KEYS: Final = 16_384
"""Values of one table; more destinations in use at once than connections are admitted."""

K = TypeVar("K")
V = TypeVar("V")


class _Refreshed(Protocol):
    def refresh(self) -> Callable[[], None]: ...


@final
class Dependents:
    """Who is to be computed again when something was touched."""

    def __init__(self) -> None:
        self._by_tag: dict[Tag, set[_Refreshed]] = {}
        self._by_selector: dict[str, dict[Selector, set[_Refreshed]]] = {}

    def bind(self, who: _Refreshed, lookup: Lookup) -> None:
        """Remember what ``who`` depends on."""
        for tag in lookup.tags:
            self._by_tag.setdefault(tag, set()).add(who)
        for namespace, selector in lookup.selectors:
            inner = self._by_selector.setdefault(namespace, {})
            inner.setdefault(selector, set()).add(who)

    def unbind(self, who: _Refreshed, lookup: Lookup) -> None:
        """Forget it again."""
        for tag in lookup.tags:
            self._by_tag[tag].discard(who)
            if not self._by_tag[tag]:
                del self._by_tag[tag]
        for namespace, selector in lookup.selectors:
            inner = self._by_selector[namespace]
            inner[selector].discard(who)
            if not inner[selector]:
                del inner[selector]
            if not inner:
                del self._by_selector[namespace]

    def of(self, change: Change) -> set[_Refreshed]:
        """Return everyone whose value may differ now."""
        found: set[_Refreshed] = set()
        for tag in change.tags:
            found |= self._by_tag.get(tag, set())
        for pod in change.pods:
            for selector, dependents in self._by_selector.get(pod.meta.namespace, {}).items():
                if matches(selector, pod):
                    found |= dependents
        return found


@final
class _Entry(Generic[K, V]):
    """One key's value."""

    __slots__ = ("_dependents", "_make", "_store", "key", "lookup", "used_at", "watch")

    def __init__(
        self,
        key: K,
        make: Callable[[Lookup, K], V],
        store: Store,
        dependents: Dependents,
        now: float,
    ) -> None:
        self.key: Final = key
        self.used_at = now
        self._make = make
        self._store = store
        self._dependents = dependents
        self.lookup = Lookup(store)
        self.watch = Watch(make(self.lookup, key))
        dependents.bind(self, self.lookup)

    def refresh(self) -> Callable[[], None]:
        """Compute again; the function returned publishes the outcome."""
        lookup = Lookup(self._store)
        value = self._make(lookup, self.key)
        self._dependents.unbind(self, self.lookup)
        self.lookup = lookup
        self._dependents.bind(self, lookup)
        return lambda: self.watch.publish(value)

    def close(self) -> None:
        """Depend on nothing any more."""
        self._dependents.unbind(self, self.lookup)

    @property
    def references(self) -> int:
        """How many hold the Watch, in CPython's count: this entry and the count itself included."""
        return sys.getrefcount(self.watch)


@final
class LiveTable(Generic[K, V]):
    """Watches by key, made when asked for."""

    def __init__(
        self, store: Store, dependents: Dependents, make: Callable[[Lookup, K], V]
    ) -> None:
        self._store = store
        self._dependents = dependents
        self._make = make
        self._entries: OrderedDict[K, _Entry[K, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def watch(self, key: K, now: float) -> Watch[V]:
        """Return the live value of ``key``; ``now`` in seconds, monotonic.

        Raises OverloadError when ``MAX_KEYS`` values are held by somebody.
        """
        entry = self._entries.get(key)
        if entry is None:
            self._drop_idle(now)
            if len(self._entries) >= MAX_KEYS and not self._drop_unused():
                raise OverloadError(
                    f"{MAX_KEYS} destinations are in use at once",
                    hint="end some connections, or run more replicas",
                )
            entry = _Entry(key, self._make, self._store, self._dependents, now)
            self._entries[key] = entry
        else:
            self._entries.move_to_end(key)
        entry.used_at = now
        return entry.watch

    def _drop_idle(self, now: float) -> None:
        """Look at the two used longest ago: more than come in by one, and never many at once."""
        for key in list(self._oldest(2)):
            entry = self._entries[key]
            if now - entry.used_at < IDLE_S:
                return
            if not self._drop(entry):
                entry.used_at = now
                self._entries.move_to_end(key)

    def _drop_unused(self) -> bool:
        return any(self._drop(self._entries[key]) for key in list(self._entries))

    def _oldest(self, count: int) -> list[K]:
        return [key for key, _ in zip(self._entries, range(count), strict=False)]

    def _drop(self, entry: _Entry[K, V]) -> bool:
        if entry.references > _UNHELD or entry.watch.is_watched:
            return False
        entry.close()
        del self._entries[entry.key]
        return True


def _measure_unheld() -> int:
    """Return what ``references`` says when an entry alone holds its Watch."""
    store, dependents = Store(), Dependents()
    return _Entry("", lambda _lookup, key: key, store, dependents, 0.0).references


_UNHELD: Final = _measure_unheld()
