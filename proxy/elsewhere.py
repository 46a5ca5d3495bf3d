"""Settings of Linkerd's that something else of ours decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ELSEWHERE: Final[Mapping[str, str]] = {
    "DESTINATION_CONTEXT": "PILLION_POD says whose sidecar this is",
    "DESTINATION_SVC_ADDR": "PILLION_MESH_DIR, a directory, as long as there is no controller",
    "INBOUND_DEFAULT_POLICY": "defaultInboundPolicy of the ConfigMap linkerd/pillion-config, or "
    "the annotation config.linkerd.io/default-inbound-policy",
    "INBOUND_PORTS": "the container ports of the Pod's manifest",
    "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION": "the annotation config.linkerd.io/opaque-ports",
    "INBOUND_PORTS_REQUIRE_IDENTITY": "the annotation "
    "config.linkerd.io/proxy-require-identity-inbound-ports",
    "INBOUND_PORTS_REQUIRE_TLS": "a Server with an AuthorizationPolicy",
    "POLICY_CLUSTER_NETWORKS": "clusterNetworks of the ConfigMap linkerd/pillion-config",
}
"""What of Linkerd's environment is not read here, though it matters, and what is read instead."""
