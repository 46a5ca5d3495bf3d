"""One address as an endpoint: who must answer there and how to speak to it.

The hints are those of Linkerd's destination controller in its transport-header mode: a meshed
pod is spoken to at its sidecar's direct port, in HTTP/2 or, where the port is opaque, in raw
bytes; the sidecar's own ports are never reached directly, skipped ports not through it at all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from discovery.model import Address, Endpoint, Hint, Http2Params, KeepAlive, Labels, Metadata
from discovery.store import Lookup
from resources.pod import Pod
from resources.workload import ZONE_LABEL, Workload

MESHED_HTTP2: Final = Http2Params(
    keep_alive=KeepAlive(interval_s=10.0, timeout_s=3.0, while_idle=True)
)
"""What Linkerd's chart sets between meshed pods."""
MAX_REMEMBERED: Final = 64
"""Endpoints kept of one pod; clients may ask for any of its ports."""


def bare_endpoint(address: Address, *, labels: Labels = (), zone: str = "") -> Endpoint:
    """Return an address of which no more is known."""
    return Endpoint(address=address, labels=labels, zone=zone)


def pod_endpoint(
    lookup: Lookup,
    pod: Pod,
    address: Address,
    *,
    target_port: int | None = None,
    labels: Labels = (),
    zone: str = "",
) -> Endpoint:
    """Return a pod's port as an endpoint.

    ``target_port`` is the pod's own port where ``address`` is a node's; ``labels`` and ``zone``
    come on top of the pod's.
    """
    known = lookup.remembered(pod)
    asked = (address, target_port, labels, zone)
    endpoint = known.get(asked)
    if endpoint is None:
        if len(known) >= MAX_REMEMBERED:
            known.clear()
        port = address.port if target_port is None else target_port
        endpoint = known[asked] = _make(lookup, pod, address, port, labels, zone)
    return endpoint


def _make(
    lookup: Lookup, pod: Pod, address: Address, port: int, labels: Labels, zone: str
) -> Endpoint:
    workload = lookup.workload(pod)
    meta = pod.meta
    zone = zone or meta.labels.get(ZONE_LABEL, "")
    all_labels = {**workload.labels, **dict(labels)}
    if zone:
        all_labels["zone"] = zone
    endpoint = Endpoint(
        address=address,
        labels=tuple(sorted(all_labels.items())),
        resource=Metadata(
            group="core", kind="Pod", namespace=meta.namespace, name=meta.name, port=port
        ),
        zone=zone,
    )
    if not workload.is_meshed or port in workload.skipped_ports:
        return endpoint
    identity = workload.identity
    is_direct = identity is not None and not workload.is_meta_port(port)
    return replace(
        endpoint,
        identity=identity,
        hint=Hint.OPAQUE if is_opaque_port(lookup, workload, port) else Hint.H2,
        direct_port=workload.direct_port if is_direct else None,
        http2=MESHED_HTTP2,
    )


def is_opaque_port(lookup: Lookup, workload: Workload, port: int) -> bool:
    """Whether a pod's port carries opaque bytes: as its Server says, else its opaque ports.

    The oldest Server that selects the port counts, as for inbound policy; one that says
    ``unknown`` leaves it to the opaque ports.
    """
    pod = workload.pod
    for server in lookup.servers(pod.meta.namespace):
        is_selected = server.pods is not None and server.pods.matches(pod.meta.labels)
        if is_selected and port in pod.numbers_of(server.port):
            if server.protocol == "unknown":
                break
            return server.protocol == "opaque"
    return port in workload.opaque_ports
