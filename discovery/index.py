"""Where everything is: takes objects in any order and publishes what was asked for.

One owner applies changes, a list at a time; readers hold Watches. Every value a change touches is
computed before the first is published, so no reader ever sees half of a change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar, final

from core.watch import Watch
from discovery.addresses import addresses_of
from discovery.live import Dependents, LiveTable
from discovery.model import Address, EndpointSet, Profile, Target
from discovery.profile import profile_of
from discovery.resolve import ANYWHERE, Viewpoint, resolve
from discovery.store import Change, Lookup, Store, Tag
from resources.kind import ObjectKey, Resource
from resources.pod import Pod
from resources.workload import Workload

_VIEWPOINT: Final[Tag] = ("viewpoint", "", "")

K = TypeVar("K")
V = TypeVar("V")


@final
class Index:
    """The objects of one cluster as one of its workloads sees them."""

    def __init__(self, viewpoint: Viewpoint = ANYWHERE) -> None:
        self._store = Store()
        self._dependents = Dependents()
        self._viewpoint = viewpoint
        self._profiles = self.table(profile_of)
        self._endpoints = self.table(self._resolve)

    def table(self, make: Callable[[Lookup, K], V]) -> LiveTable[K, V]:
        """Return a new table of values computed from these objects and kept right with them."""
        return LiveTable(self._store, self._dependents, make)

    def get(self, key: ObjectKey) -> Resource | None:
        """Return an object of a kind that discovery reads."""
        return self._store.get(key)

    def workload(self, pod: Pod) -> Workload:
        """Return ``pod`` with what else decides about it now."""
        return Lookup(self._store).workload(pod)

    def apply(self, *resources: Resource) -> None:
        """Take in objects or their new states, as one change."""
        self.change(resources, ())

    def delete(self, *keys: ObjectKey) -> None:
        """Forget objects, as one change."""
        self.change((), keys)

    def change(
        self,
        applied: Iterable[Resource],
        deleted: Iterable[ObjectKey],
        *,
        viewpoint: Viewpoint | None = None,
        touched: Iterable[Tag] = (),
    ) -> None:
        """Forget, take in, look from elsewhere, and then publish all that differs.

        ``touched`` names what else is new, by tags that the tables' own functions looked at.
        """
        change = Change(tags=set(touched))
        for key in deleted:
            self._store.remove(key, change)
        for resource in applied:
            self._store.put(resource, change)
        if viewpoint is not None and viewpoint != self._viewpoint:
            self._viewpoint = viewpoint
            change.tags.add(_VIEWPOINT)
        for publish in [each.refresh() for each in self._dependents.of(change)]:
            publish()

    def profile(self, destination: Address, now: float) -> Watch[Profile | None]:
        """Return what is known of an original destination, live; ``now`` in monotonic seconds."""
        return self._profiles.watch(destination, now)

    def addresses(self, host: str, port: int) -> tuple[Address, ...] | None:
        """Return where a Service's name leads now; None for a name that is none."""
        return addresses_of(Lookup(self._store), host, port, self._viewpoint)

    def endpoints(self, target: Target, now: float) -> Watch[EndpointSet]:
        """Return the ready endpoints of a target, live; ``now`` in monotonic seconds."""
        return self._endpoints.watch(target, now)

    def _resolve(self, lookup: Lookup, target: Target) -> EndpointSet:
        lookup.tags.add(_VIEWPOINT)
        return resolve(lookup, target, self._viewpoint)
