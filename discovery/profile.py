"""What an original destination is: a Service's port, a pod, a node's port, or only an address."""

from __future__ import annotations

from ipaddress import ip_address

from discovery.endpoint import bare_endpoint, is_opaque_port, pod_endpoint
from discovery.model import EMPTY_PROFILE, Address, Endpoint, Metadata, Profile, RetryBudget
from discovery.service_name import service_host
from discovery.store import Lookup
from resources.config_map import MeshConfig
from resources.pod import Pod
from resources.ports import parse_ports
from resources.service import Service
from resources.workload import DEFAULT_OPAQUE_PORTS, is_opaque


def service_at(lookup: Lookup, ip: str) -> Service | None:
    """Return the Service whose cluster address this is; of several the oldest."""
    found = lookup.services_at(ip)
    return found[0] if found else None


def service_metadata(service: Service, port: int) -> Metadata:
    """Return what policy and metrics call a Service's port."""
    return Metadata(
        group="core",
        kind="Service",
        namespace=service.meta.namespace,
        name=service.meta.name,
        port=port,
    )


def profile_of(lookup: Lookup, address: Address) -> Profile | None:
    """Return what is known of an original destination; None outside the cluster's networks.

    A Service's undeclared port has an empty profile: outbound policy closes it.
    """
    service = service_at(lookup, address.ip)
    if service is not None:
        if service.port(address.port) is None:
            return EMPTY_PROFILE
        return _service_profile(lookup, service, address.port)
    pod, port = _pod_behind(lookup, address)
    if pod is not None:
        return Profile(
            endpoint=pod_endpoint(lookup, pod, address, target_port=port, labels=_namespace(pod)),
            opaque_protocol=is_opaque_port(lookup, lookup.workload(pod), port),
        )
    if not in_cluster(lookup.config(), address.ip):
        return None
    return Profile(
        endpoint=bare_endpoint(address),
        opaque_protocol=address.port in parse_ports(DEFAULT_OPAQUE_PORTS, lambda _name: ()),
    )


def address_endpoint(lookup: Lookup, address: Address) -> Endpoint:
    """Return an address as an endpoint, with what is known of the pod behind it."""
    pod, port = _pod_behind(lookup, address)
    if pod is None:
        return bare_endpoint(address)
    return pod_endpoint(lookup, pod, address, target_port=port, labels=_namespace(pod))


def in_cluster(config: MeshConfig, ip: str) -> bool:
    """Whether an address lies in the cluster's networks."""
    address = ip_address(ip)
    return any(
        address.version == network.version and address in network
        for network in config.cluster_networks
    )


def _service_profile(lookup: Lookup, service: Service, port: int) -> Profile:
    namespace = service.meta.namespace
    host = service_host(namespace, service.meta.name, lookup.config().cluster_domain)
    return Profile(
        fully_qualified_name=host,
        opaque_protocol=is_opaque(service, lookup.namespace(namespace), port),
        retry_budget=RetryBudget(),
        parent=service_metadata(service, port),
    )


def _pod_behind(lookup: Lookup, address: Address) -> tuple[Pod | None, int]:
    """Return the pod at an address, ready or not, and its own port there.

    Of several pods with one address (one is going, its successor is there) the one that stays,
    then the oldest.
    """
    at_ip = lookup.pods_at(address.ip)
    if at_ip:
        return _staying(at_ip), address.port
    on_host = lookup.pods_on_host(address.ip, address.port)
    if on_host:
        pod = _staying(on_host)
        return pod, next(p.number for p in pod.ports if p.host_port == address.port)
    return None, address.port


def _staying(pods: list[Pod]) -> Pod:
    return next((pod for pod in pods if not pod.meta.is_terminating), pods[0])


def _namespace(pod: Pod) -> tuple[tuple[str, str], ...]:
    return (("namespace", pod.meta.namespace),)
