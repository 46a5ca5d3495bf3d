"""A Service's name and port as its endpoints.

EndpointSlices count when the Service has any. Where it has none, as in a directory written by
hand, the endpoints are the pods that its selector selects, as the cluster's own controller would
list them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, final

from core.record import dataclass
from discovery.endpoint import bare_endpoint, pod_endpoint
from discovery.mirror import Mirror
from discovery.model import UNKNOWN_ENDPOINTS, Address, Endpoint, EndpointSet, Labels, Target
from discovery.profile import address_endpoint
from discovery.service_name import ServiceName, service_host, try_service_name
from discovery.store import Lookup
from resources.endpoint_slice import EndpointSlice, SliceEndpoint
from resources.fields import shortest_address
from resources.pod import Pod
from resources.service import Service
from resources.workload import ZONE_LABEL


@final
@dataclass(frozen=True, slots=True)
class Viewpoint:
    """Whose endpoints are looked for: only the pod's place matters, as CP's context tokens."""

    node: str = ""
    zone: str = ""


ANYWHERE: Final = Viewpoint()


@final
@dataclass(frozen=True, slots=True)
class _Candidate:
    """A ready address before the filters."""

    address: Address
    pod: Pod | None
    node: str = ""
    zone: str = ""
    for_zones: tuple[str, ...] = ()


def resolve(lookup: Lookup, target: Target, viewpoint: Viewpoint) -> EndpointSet:
    """Return the ready endpoints of ``target``, in the order of their addresses."""
    try:
        ip = shortest_address(target.host)
    except ValueError:
        ip = ""
    if ip:
        return EndpointSet(endpoints=(address_endpoint(lookup, Address(ip, target.port)),))
    name = try_service_name(target.host, lookup.config().cluster_domain)
    service = None if name is None else lookup.service(name.namespace, name.name)
    if name is None or service is None or service.type == "ExternalName":
        return UNKNOWN_ENDPOINTS
    mirror = lookup.mirror(name.namespace, name.name)
    if mirror is not None:
        return _across_clusters(lookup, mirror, target.port, viewpoint, name)
    slices = lookup.slices(name.namespace, name.name)
    if slices:
        found = list(_from_slices(lookup, slices, service, target.port, name))
    else:
        found = list(_from_pods(lookup, service, target.port, name))
    zone = viewpoint.zone
    if not zone and viewpoint.node:
        zone = lookup.zone_of(viewpoint.node)
    found, others = _near(service, found, viewpoint.node, zone)
    return EndpointSet(
        endpoints=tuple(_endpoint(lookup, each, zone) for each in _by_address(found)),
        reserve=tuple(_endpoint(lookup, each, zone) for each in _by_address(others)),
        labels=_labels(name),
    )


def _across_clusters(
    lookup: Lookup, mirror: Mirror, port: int, viewpoint: Viewpoint, name: ServiceName
) -> EndpointSet:
    """Return our own cluster's endpoints, if it has a part, before those of others."""
    local = EndpointSet()
    if mirror.local:
        host = service_host(name.namespace, mirror.local, lookup.config().cluster_domain)
        local = resolve(lookup, Target(host, port), viewpoint)
    return EndpointSet(
        endpoints=(*local.endpoints, *mirror.of_port(port)),
        reserve=local.reserve,
        labels=_labels(name),
    )


def _labels(name: ServiceName) -> Labels:
    return (("namespace", name.namespace), ("service", name.name))


def _from_slices(
    lookup: Lookup, slices: list[EndpointSlice], service: Service, number: int, name: ServiceName
) -> Iterable[_Candidate]:
    for each in slices:
        port = _slice_port(each, service, number)
        if port is None:
            continue
        for endpoint in each.endpoints:
            if not endpoint.is_ready or (name.instance and endpoint.hostname != name.instance):
                continue
            address = Address(endpoint.addresses[0], port)
            if endpoint.pod is not None:
                pod = lookup.pod(*endpoint.pod)
                if pod is None:
                    continue
            else:
                at = lookup.pods_at(address.ip)
                pod = at[0] if at else None
            yield _Candidate(
                address, pod, endpoint.node_name, _zone(endpoint, pod), endpoint.for_zones
            )


def _slice_port(each: EndpointSlice, service: Service, number: int) -> int | None:
    """A declared port is found by its name in the slice; another is taken as it stands."""
    declared = service.port(number)
    if declared is None:
        return number
    for port in each.ports:
        if port.name == declared.name:
            if port.number is not None:
                return port.number
            return declared.target if isinstance(declared.target, int) else number
    return None


def _zone(endpoint: SliceEndpoint, pod: Pod | None) -> str:
    return endpoint.zone or ("" if pod is None else pod.meta.labels.get(ZONE_LABEL, ""))


def _from_pods(
    lookup: Lookup, service: Service, number: int, name: ServiceName
) -> Iterable[_Candidate]:
    if not service.selector:
        return
    declared = service.port(number)
    target = number if declared is None else declared.target
    families = _families(service)
    namespace = service.meta.namespace
    for pod in lookup.pods_selected(namespace, tuple(sorted(service.selector.items()))):
        if pod.is_done or not (service.publishes_not_ready or _is_serving(pod)):
            continue
        if name.instance and name.instance != _instance(pod, service):
            continue
        numbers = pod.numbers_of(target)
        for ip in pod.ips if numbers else ():
            if not families or _family(ip) in families:
                zone = pod.meta.labels.get(ZONE_LABEL, "")
                yield _Candidate(Address(ip, numbers[0]), pod, pod.node_name, zone)


def _is_serving(pod: Pod) -> bool:
    return pod.is_ready and not pod.meta.is_terminating


def _instance(pod: Pod, service: Service) -> str:
    """Return the label a headless Service's name has for this pod; a name alone will do."""
    if pod.hostname and pod.subdomain in {"", service.meta.name}:
        return pod.hostname
    return "" if pod.hostname else pod.meta.name


def _families(service: Service) -> frozenset[int]:
    """Return the IP versions a Service has; none: any."""
    if service.cluster_ips:
        return frozenset(_family(ip) for ip in service.cluster_ips)
    return frozenset(service.ip_families)


def _near(
    service: Service, found: list[_Candidate], node: str, zone: str
) -> tuple[list[_Candidate], list[_Candidate]]:
    """Return what is meant for the client's place, and what it may fall back on.

    Its node alone, where the Service says so; by topology hints its zone, and then the others.
    """
    if service.is_local_only:
        return [each for each in found if not node or each.node == node], []
    if not all(each.for_zones for each in found):
        return found, []
    near = [each for each in found if zone in each.for_zones]
    if not near:
        return found, []
    return near, [each for each in found if zone not in each.for_zones]


def _by_address(found: list[_Candidate]) -> list[_Candidate]:
    """Sort, and keep one of each address: a slice being replaced lists it twice."""
    unique: dict[Address, _Candidate] = {}
    for each in found:
        unique.setdefault(each.address, each)
    return sorted(unique.values(), key=lambda each: (*_order(each.address.ip), each.address.port))


@lru_cache(maxsize=4096)
def _order(ip: str) -> tuple[int, int]:
    return _family(ip), int(ip_address(ip))


def _family(ip: str) -> int:
    return 6 if ":" in ip else 4


def _endpoint(lookup: Lookup, each: _Candidate, zone: str) -> Endpoint:
    locality = "unknown"
    if zone and each.zone:
        locality = "local" if zone == each.zone else "remote"
    labels = (("zone_locality", locality),)
    if each.pod is not None:
        return pod_endpoint(lookup, each.pod, each.address, labels=labels, zone=each.zone)
    own = (("zone", each.zone),) if each.zone else ()
    return bare_endpoint(each.address, labels=(*own, *labels), zone=each.zone)
