"""What of our own cluster others may reach through its gateway: exported Services, live."""

from __future__ import annotations

from typing import Final, final

from core.clock import Clock
from core.watch import Watch
from discovery.index import Index
from discovery.model import Target
from discovery.service_name import ServiceName, service_host, try_service_name
from discovery.store import Lookup
from multicluster.offer import MIRRORED
from resources.link import BY_GATEWAY, DIRECTLY, EXPORTED, FEDERATED, MEMBER
from resources.selector import Selector
from resources.service import Service

_EXPORTS: Final = frozenset({BY_GATEWAY, DIRECTLY})
"""Direct ones too: a Service that changes its way is reached by the other until all know."""


@final
class Exports:
    """The exported Services of an index."""

    def __init__(
        self,
        index: Index,
        clock: Clock,
        suffixes: tuple[str, ...] = (),
        more: Selector | None = None,
    ) -> None:
        """Export by the labels of the mirror, and what ``more`` selects besides.

        ``suffixes`` are the domains whose names are answered, without dots at their ends; none:
        that of the cluster's Services.
        """
        self._clock = clock
        self._suffixes = suffixes
        self._more = more
        self._table = index.table(self._make)

    def exported(self, host: str, port: int) -> Watch[Target | None]:
        """Return the Service's port that a name leads to, live; None: it is not exported."""
        return self._table.watch((host.lower().removesuffix("."), port), self._clock.monotonic())

    def _make(self, lookup: Lookup, asked: tuple[str, int]) -> Target | None:
        host, port = asked
        domain = lookup.config().cluster_domain
        name = try_service_name(host, domain)
        suffixes = self._suffixes or (f"svc.{domain}",)
        if name is None or not any(host.endswith(f".{each}") for each in suffixes):
            return None
        service = lookup.service(name.namespace, name.name)
        if service is None or not self._is_exported(lookup, service, name):
            return None
        if service.port(port) is None:
            return None
        full = service_host(name.namespace, name.name, domain)
        return Target(f"{name.instance}.{full}" if name.instance else full, port)

    def _is_exported(self, lookup: Lookup, service: Service, name: ServiceName) -> bool:
        labels = service.meta.labels
        # What we took in of others goes no further: their own gateways export it.
        if service.type == "ExternalName" or labels.get(MIRRORED) == "true":
            return False
        if lookup.mirror(name.namespace, name.name) is not None:
            return False
        is_labelled = labels.get(EXPORTED) in _EXPORTS or labels.get(FEDERATED) == MEMBER
        return is_labelled or (self._more is not None and self._more.matches(labels))
