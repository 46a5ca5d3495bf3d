"""A mesh directory and all it is linked to, read once: what a sidecar would take in."""

from __future__ import annotations

from typing import Final, final

from control.linked import Known, LinkedCluster
from control.offline import OfflineMesh
from core.clock import Clock
from discovery.model import EndpointSet, Target
from discovery.service_name import service_host
from multicluster.imports import Cluster, Imports, import_services, own_of
from multicluster.links import Choice, choose
from multicluster.model import ImportedService
from resources.document import Problem
from resources.kind import ObjectKey
from resources.link import Link
from resources.service import Service


@final
class OfflineClusters:
    """Everything in one directory and in those of linked clusters."""

    def __init__(self, directory: str, clock: Clock) -> None:
        """Read them; of a linked directory that cannot be read only its fault is known."""
        mesh = OfflineMesh(directory, clock.now())
        self.mesh: Final = mesh
        self.links: Final = [each for each in mesh.resources if isinstance(each, Link)]
        self.choice: Final[Choice] = choose(self.links, mesh.config)
        self.known: Final[dict[str, Known]] = {
            each.link.cluster: LinkedCluster(each.link.source).look(each, clock)
            for each in self.choice.followed
            if each.link.source
        }
        nothing = Known()
        clusters = []
        for each in self.choice.followed:
            known = self.known.get(each.link.cluster, nothing)
            clusters.append(
                Cluster(
                    link=each.link,
                    trust_domain=each.trust_domain,
                    offers=known.offers.offers,
                    gateways=known.gateways,
                )
            )
        self.imports: Final[Imports] = import_services(own_of(mesh.resources), clusters)
        mesh.mesh.change(self.imports.objects.values(), ())

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with links, linked directories and what they offer."""
        linked = [each for known in self.known.values() for each in known.problems]
        return sorted({*self.choice.problems, *linked, *self.imports.problems})

    def ports(self, service: ImportedService) -> tuple[int, ...]:
        """Return the ports of a Service that was taken in."""
        key = ObjectKey("", "Service", service.namespace, service.name)
        found = self.imports.objects.get(key)
        return tuple(each.port for each in found.ports) if isinstance(found, Service) else ()

    def endpoints(self, service: ImportedService, port: int) -> EndpointSet:
        """Return where a port of such a Service leads."""
        domain = self.mesh.config.cluster_domain
        host = service_host(service.namespace, service.name, domain)
        return self.mesh.mesh.index.endpoints(Target(host, port), 0.0).current
