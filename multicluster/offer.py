"""What a linked cluster offers: its exported Services, and where they are over there.

Pure, and read from that cluster's objects alone, so that each linked directory can be looked
through by itself. Whatever a cluster says of itself stays within its link: its pods have names of
its own trust domain, and no address is dialled without one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from typing import Final, final

from core.record import dataclass
from discovery.model import (
    Address,
    Endpoint,
    Hint,
    Http2Params,
    KeepAlive,
    Path,
    PathKind,
    Target,
)
from discovery.resolve import ANYWHERE, resolve
from discovery.service_name import service_host
from discovery.store import Lookup
from resources.link import Link
from resources.service import Service

MAX_OFFERS: Final = 4096
"""Services taken in of one cluster; of more the youngest are left out."""
MAX_ENDPOINTS: Final = 1000
"""Endpoints of one port that are used, first ones by address."""
MAX_INSTANCES: Final = 256
"""Pods of a headless Service that are reached by name."""
MIRRORED: Final = "mirror.linkerd.io/mirrored-service"
ACROSS: Final = Http2Params(keep_alive=KeepAlive(interval_s=0.5, timeout_s=1.0, while_idle=True))
"""Between clusters whole networks vanish without a word."""

Ports = tuple[tuple[int, tuple[Endpoint, ...]], ...]
"""A Service's port → endpoints, reached directly."""


@final
@dataclass(frozen=True, slots=True)
class Instance:
    """A pod of a headless Service that has a name in it."""

    name: str
    endpoints: Ports
    ready: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One exported Service of another cluster."""

    service: Service
    by_gateway: bool = False
    directly: bool = False
    federated: bool = False
    endpoints: Ports = ()
    """Those that have an identity; each has the link as its path."""
    ready: tuple[int, ...] = ()
    """Ports with a ready endpoint of any sort."""
    plain: int = 0
    """Ready endpoints that have no identity: they are reached through a gateway or not at all."""
    instances: tuple[Instance, ...] = ()

    @property
    def is_headless(self) -> bool:
        """Whether the Service has no address over there."""
        return not self.service.cluster_ips


@final
@dataclass(frozen=True, slots=True)
class Offers:
    """All that a cluster offers, by namespace and name."""

    offers: tuple[Offer, ...] = ()
    problems: tuple[str, ...] = ()


NOTHING: Final = Offers()


def offers_of(link: Link, services: Iterable[Service], lookup: Lookup) -> Offers:
    """Return what ``link`` takes in of its cluster's ``services``; ``lookup`` reads its objects."""
    exported = [each for each in services if is_exported(link, each)]
    problems = []
    if len(exported) > MAX_OFFERS:
        problems.append(f"{len(exported)} Services are exported; {MAX_OFFERS} at most are taken in")
    exported.sort(key=lambda each: each.meta.age_order)
    found = []
    for service in exported[:MAX_OFFERS]:
        if service.type == "ExternalName":
            problems.append(f"{service.meta.key} is an ExternalName and cannot be taken in")
        else:
            found.append(_offer(link, service, lookup))
    found.sort(key=lambda each: each.service.meta.key)
    return Offers(tuple(found), tuple(problems))


def is_exported(link: Link, service: Service) -> bool:
    """Whether a link takes a Service in; what a cluster itself took in goes no further."""
    labels = service.meta.labels
    if labels.get(MIRRORED) == "true":
        return False
    return link.takes_by_gateway(labels) or link.takes_directly(labels) or _joins(link, service)


def _joins(link: Link, service: Service) -> bool:
    return link.takes_federated(service.meta.labels)


def _offer(link: Link, service: Service, lookup: Lookup) -> Offer:
    labels = service.meta.labels
    endpoints, ready, plain = _ports(link, service, lookup, "")
    is_direct = link.takes_directly(labels)
    instances: list[Instance] = []
    if link.keeps_headless and not service.cluster_ips:
        names = sorted(_names(service, lookup))[:MAX_INSTANCES]
        for name in names:
            behind, alive, _ = _ports(link, service, lookup, name)
            instances.append(Instance(name, behind, alive))
    return Offer(
        service=service,
        by_gateway=link.takes_by_gateway(labels) and not is_direct,
        directly=is_direct,
        federated=_joins(link, service),
        endpoints=endpoints,
        ready=ready,
        plain=plain,
        instances=tuple(instances),
    )


def _ports(
    link: Link, service: Service, lookup: Lookup, instance: str
) -> tuple[Ports, tuple[int, ...], int]:
    """Return endpoints by port, the ports that have a ready one, and how many have no identity."""
    config = lookup.config()
    host = service_host(service.meta.namespace, service.meta.name, config.cluster_domain)
    if instance:
        host = f"{instance}.{host}"
    path = Path(PathKind.DIRECT, link.cluster, config.trust_domain)
    labels = target_labels(link, service)
    found: list[tuple[int, tuple[Endpoint, ...]]] = []
    ready: list[int] = []
    plain = 0
    for port in service.ports:
        endpoints = resolve(lookup, Target(host, port.port), ANYWHERE).endpoints
        usable = [each for each in endpoints if each.identity is not None and _leads_out(each)]
        plain += len(endpoints) - len(usable)
        if endpoints:
            ready.append(port.port)
        across = tuple(_across(each, path, labels) for each in usable[:MAX_ENDPOINTS])
        found.append((port.port, across))
    return tuple(sorted(found, key=lambda each: each[0])), tuple(sorted(ready)), plain


def _across(endpoint: Endpoint, path: Path, labels: tuple[tuple[str, str], ...]) -> Endpoint:
    kept = [each for each in endpoint.labels if each[0] != "zone_locality"]
    return replace(
        endpoint,
        path=path,
        http2=ACROSS,
        zone="",
        labels=tuple(sorted({*kept, *labels, ("zone_locality", "remote")})),
    )


def target_labels(link: Link, service: Service) -> tuple[tuple[str, str], ...]:
    """Return what Linkerd's metrics say of a service in another cluster."""
    return (
        ("target_cluster", link.cluster),
        ("target_service", service.meta.name),
        ("target_service_namespace", service.meta.namespace),
    )


def gateway_endpoint(
    link: Link, service: Service, address: str, port: int, trust_domain: str, instance: str = ""
) -> Endpoint:
    """Return a service's port as its cluster's gateway, at ``address``, leads to it.

    The protocol hint and the name are those of Linkerd's destination controller.
    """
    host = service_host(service.meta.namespace, service.meta.name, link.cluster_domain)
    name = f"{instance}.{host}" if instance else host
    identity = link.gateway_identity
    labels = {*target_labels(link, service), ("zone_locality", "remote")}
    if identity is not None:
        labels.add(("remote_gateway_identity", identity.name))
    return Endpoint(
        address=Address(address, link.gateway_port),
        identity=identity,
        hint=Hint.H2,
        authority_override=f"{name}:{port}",
        http2=ACROSS,
        labels=tuple(sorted(labels)),
        path=Path(PathKind.GATEWAY, link.cluster, trust_domain),
    )


def _leads_out(endpoint: Endpoint) -> bool:
    """Whether an address can be another cluster's: never our own loopback or network's edge."""
    address = ip_address(endpoint.address.ip)
    return not (
        address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or address.is_link_local
    )


def _names(service: Service, lookup: Lookup) -> set[str]:
    """Return the names that pods have in a headless Service."""
    namespace, name = service.meta.namespace, service.meta.name
    slices = lookup.slices(namespace, name)
    if slices:
        found = {each.hostname for one in slices for each in one.endpoints}
    elif service.selector:
        pods = lookup.pods_selected(namespace, tuple(sorted(service.selector.items())))
        found = {pod.hostname for pod in pods if pod.subdomain in {"", name}}
    else:
        found = set()
    return found - {""}
