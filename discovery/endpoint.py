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
from resources.workload import ZONE_LABEL

MESHED_HTTP2: Final = Http2Params(
    keep_alive=KeepAlive(interval_s=10.0, timeout_s=3.0, while_idle=True)
)
"""What Linkerd's chart sets between meshed pods."""


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
    workload = lookup.workload(pod)
    port = address.port if target_port is None else target_port
    zone = zone or pod.meta.labels.get(ZONE_LABEL, "")
    all_labels = {**workload.labels, **dict(labels)}
    if zone:
        all_labels["zone"] = zone
    endpoint = Endpoint(
        address=address,
        labels=tuple(sorted(all_labels.items())),
        resource=Metadata(
            group="core", kind="Pod", namespace=pod.meta.namespace, name=pod.meta.name, port=port
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
        hint=Hint.OPAQUE if port in workload.opaque_ports else Hint.H2,
        direct_port=workload.direct_port if is_direct else None,
        http2=MESHED_HTTP2,
    )
