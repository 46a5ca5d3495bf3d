"""The destinations of one sidecar: made when first asked for, let go of when nobody asks."""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Final, final

from core.errors import OverloadError
from discovery.model import Labels, Metadata, RetryBudget
from proxy.outbound.budget import Budget
from proxy.outbound.destination import Concrete, Destination
from proxy.providers import DiscoveryProvider
from proxy.runtime import Runtime
from proxy.telemetry.metric import backend_labels, parent_labels
from proxy.telemetry.transport import Cache

IDLE_S: Final = 60.0
"""How long what is known of an unused destination is kept."""
MAX_DESTINATIONS: Final = 16_384
"""Destinations in use at once; as many as discovery follows."""

_PLAIN_BUDGET: Final = RetryBudget()


@final
class Destinations:
    """Every destination and retry budget in use."""

    def __init__(self, runtime: Runtime, discovery: DiscoveryProvider) -> None:
        self._runtime = runtime
        self._discovery = discovery
        self._chance = random.Random().random  # noqa: S311  # spreads load, keeps no secret
        self._made: dict[Concrete, Destination] = {}
        self._open: OrderedDict[int, Destination] = OrderedDict()
        """Those that follow discovery, by their identity: who was let go of may be asked again."""
        self._budgets: Cache[tuple[Metadata, RetryBudget], Budget] = Cache(MAX_DESTINATIONS)

    def __len__(self) -> int:
        return len(self._open)

    def of(self, concrete: Concrete) -> Destination:
        """Return a destination; whoever keeps it may go on asking it.

        Raises OverloadError when ``MAX_DESTINATIONS`` are in use.
        """
        found = self._made.get(concrete)
        if found is not None:
            return found
        self._drop_idle(self._runtime.clock.monotonic())
        if len(self._open) >= MAX_DESTINATIONS and not self._drop_unused():
            raise OverloadError(
                f"{MAX_DESTINATIONS} destinations are in use at once",
                hint="end some connections, or run more replicas",
            )
        metrics = self._runtime.metrics
        is_tcp = concrete.is_by_connection
        families = metrics.tcp_balancer if is_tcp else metrics.http_balancer
        made = Destination(
            self._runtime,
            concrete,
            self._discovery.endpoints,
            self._chance,
            families.of(_labels(concrete)),
            self._opened,
        )
        self._made[concrete] = made
        return made

    def budget(self, parent: Metadata, budget: RetryBudget | None) -> Budget:
        """Return the retry budget of a Service, Linkerd's unless it has its own."""
        key = (parent, budget or _PLAIN_BUDGET)
        found = self._budgets.get(key)
        return found if found is not None else self._budgets.put(key, Budget(key[1]))

    def _opened(self, destination: Destination) -> None:
        self._open[id(destination)] = destination

    def _drop_idle(self, now: float) -> None:
        """Look at the two looked at longest ago: more than come in by one, and never many."""
        for found in [each for each, _ in zip(self._open.values(), range(2), strict=False)]:
            if now - found.used_at < IDLE_S or not self._drop(found):
                self._open.move_to_end(id(found))

    def _drop_unused(self) -> bool:
        return any(self._drop(found) for found in tuple(self._open.values()))

    def _drop(self, destination: Destination) -> bool:
        if not destination.is_idle:
            return False
        destination.close()
        del self._open[id(destination)]
        if self._made.get(destination.concrete) is destination:
            del self._made[destination.concrete]
        return True


def _labels(concrete: Concrete) -> Labels:
    labels = (*parent_labels(concrete.parent), *backend_labels(concrete.backend))
    if not concrete.is_by_connection:
        return labels
    name = str(concrete.target)
    return (*labels, ("logical", name), ("concrete", name))
