"""Links as manifests: making one, and naming one that is to go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from cli.output import Json
from control.offline import OfflineMesh
from core.errors import ConfigError
from core.record import dataclass
from identity.name import is_label, try_identity
from resources.link import (
    ANCHORS,
    BY_GATEWAY,
    DEFAULT_GATEWAY_PORT,
    DIRECTLY,
    EXPORTED,
    FEDERATED,
    FEDERATED_WAY,
    MEMBER,
    MULTICLUSTER_GROUP,
    SOURCE,
    TRUST_DOMAIN,
    Link,
)
from resources.service import Service

NAMESPACE: Final = "linkerd-multicluster"
_IS_GATEWAY: Final = "mirror.linkerd.io/multicluster-gateway"
_GATEWAY_IDENTITY: Final = "mirror.linkerd.io/gateway-identity"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a link is to be."""

    cluster: str
    source: Path
    namespace: str = NAMESPACE
    gateways: Sequence[str] = ()
    gateway_port: int = DEFAULT_GATEWAY_PORT
    gateway_identity: str = ""
    federates_by_gateway: bool = False
    anchors: str = ""
    """The file's name below ``anchors/``, if it is not the trust domain's."""


def link_manifest(own: OfflineMesh, far: OfflineMesh, wanted: Wanted) -> Json:
    """Return a Link from our cluster to ``far``. Raises ConfigError with every mistake."""
    problems = []
    config = far.config
    if not is_label(wanted.cluster):
        problems.append(f"{wanted.cluster[:80]!r} is no part of a Service's name")
    problems += [
        f"{each.meta.key} leads to {wanted.cluster} already"
        for each in own.resources
        if isinstance(each, Link) and each.cluster == wanted.cluster
    ]
    identity = wanted.gateway_identity or _announced(far)
    if wanted.gateways and not identity:
        problems.append("a gateway has to prove who it is, and --gateway-identity is not given")
    elif identity and try_identity(identity) is None:
        problems.append(f"{identity[:80]!r} is no identity")
    if wanted.federates_by_gateway and not wanted.gateways:
        problems.append("--federated-by-gateway means nothing without --gateway")
    if problems:
        raise ConfigError(problems)
    annotations = {SOURCE: str(wanted.source.absolute())}
    if wanted.federates_by_gateway:
        annotations[FEDERATED_WAY] = "gateway"
    if config.trust_domain != own.config.trust_domain:
        annotations[TRUST_DOMAIN] = config.trust_domain
        if wanted.anchors and wanted.anchors != f"{config.trust_domain}.pem":
            annotations[ANCHORS] = wanted.anchors
    spec: dict[str, Json] = {
        "targetClusterName": wanted.cluster,
        "targetClusterDomain": config.cluster_domain,
        "targetClusterLinkerdNamespace": config.control_namespace,
    }
    if wanted.gateways:
        spec |= {
            "gatewayAddress": ",".join(wanted.gateways),
            "gatewayPort": str(wanted.gateway_port),
            "gatewayIdentity": identity,
            "probeSpec": {
                "path": "/ready",
                "port": "4191",
                "period": "3s",
                "timeout": "30s",
                "failureThreshold": "3",
            },
        }
    spec |= {
        "selector": {"matchLabels": {EXPORTED: BY_GATEWAY}},
        "remoteDiscoverySelector": {"matchLabels": {EXPORTED: DIRECTLY}},
        "federatedServiceSelector": {"matchLabels": {FEDERATED: MEMBER}},
    }
    head = _head(wanted.cluster, wanted.namespace)
    return {**head, "metadata": {**_metadata(head), "annotations": annotations}, "spec": spec}


def unlink_manifests(own: OfflineMesh, cluster: str) -> list[Json]:
    """Return what names the Links to a cluster, to be deleted. Raises ConfigError for none."""
    links = [each for each in own.resources if isinstance(each, Link)]
    found = [each.meta for each in links if each.cluster == cluster]
    if not found:
        known = ", ".join(sorted({each.cluster for each in links})) or "none"
        raise ConfigError(f"no Link leads to {cluster}; there is {known}")
    return [_head(each.name, each.namespace) for each in found]


def _head(name: str, namespace: str) -> dict[str, Json]:
    return {
        "apiVersion": f"{MULTICLUSTER_GROUP}/v1alpha3",
        "kind": "Link",
        "metadata": {"name": name, "namespace": namespace},
    }


def _metadata(head: dict[str, Json]) -> dict[str, Json]:
    found = head["metadata"]
    return dict(found) if isinstance(found, dict) else {}


def _announced(far: OfflineMesh) -> str:
    """Return the identity that a cluster's gateway Service says, as Linkerd's chart labels it."""
    for each in far.resources:
        if isinstance(each, Service):
            annotations = each.meta.annotations
            if annotations.get(_IS_GATEWAY) == "true":
                return annotations.get(_GATEWAY_IDENTITY, "")
    return ""
