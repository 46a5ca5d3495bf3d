"""The TCP families of one side of a connection, their slots looked up once for all alike."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar, final

from discovery.model import Labels
from proxy.telemetry.metric import Metrics
from proxy.telemetry.slot import Slot

MAX_CACHED: Final = 1_024
"""Kinds of connection whose slots are kept at hand; past it they are looked up anew."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@final
class SideSlots:
    """Where one side's connections are counted."""

    __slots__ = ("_closed", "_costs", "_labels", "_metrics", "_read", "_written", "now", "opened")

    def __init__(self, metrics: Metrics, labels: Labels, zone_locality: str = "") -> None:
        self._metrics = metrics
        self._labels = labels
        self._closed: dict[str, Slot] = {}
        self.opened = metrics.tcp_open.child(labels)
        self.now = metrics.tcp_open_now.child(labels)
        self._read = metrics.tcp_read.child(labels)
        self._written = metrics.tcp_write.child(labels)
        self._costs: tuple[Slot, Slot] | None = None
        if zone_locality:
            zone = ("zone_locality", zone_locality.capitalize())
            self._costs = (
                metrics.transfer_cost.child((("op", "Recv"), zone)),
                metrics.transfer_cost.child((("op", "Send"), zone)),
            )

    def moved(self, read: int, written: int) -> None:
        """Count bytes that came from the peer and that went to it."""
        self._read.value += read
        self._written.value += written
        if self._costs is not None:
            self._costs[0].value += read
            self._costs[1].value += written

    def closed(self, cause: str) -> Slot:
        """Return the slot for connections that ended by ``cause``, empty for in order."""
        slot = self._closed.get(cause)
        if slot is None:
            slot = self._metrics.tcp_close.child((*self._labels, ("errno", cause)))
            self._closed[cause] = slot
        return slot


@final
class Cache(Generic[K, V]):
    """A bounded table of what was made before; at the bound it starts afresh."""

    __slots__ = ("_kept", "_limit")

    def __init__(self, limit: int = MAX_CACHED) -> None:
        self._kept: dict[K, V] = {}
        self._limit = limit

    def get(self, key: K) -> V | None:
        """Return what is kept for ``key``."""
        return self._kept.get(key)

    def put(self, key: K, value: V) -> V:
        """Keep ``value`` and return it."""
        if len(self._kept) >= self._limit:
            self._kept.clear()
        self._kept[key] = value
        return value
