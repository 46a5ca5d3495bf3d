"""What whoever injects decides for all pods, and what surrounds the one pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Final, final

from core.record import dataclass

CONTROL_NAMESPACE: Final = "linkerd"
TRUST_DOMAIN: Final = "cluster.local"
CLUSTER_DOMAIN: Final = "cluster.local"
ANCHORS_CONFIG_MAP: Final = "linkerd-identity-trust-roots"
ANCHORS_KEY: Final = "ca-bundle.crt"
MESH_CONFIG_MAP: Final = "pillion-mesh"
CAPTURES: Final = ("redirect", "explicit")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Decided once; annotations of a pod or its namespace win where both say something."""

    image: str = "pillion"
    init_image: str = "pillion-init"
    version: str = "latest"
    """The images' tag."""
    pull_policy: str = "IfNotPresent"
    control_namespace: str = CONTROL_NAMESPACE
    trust_domain: str = TRUST_DOMAIN
    cluster_domain: str = CLUSTER_DOMAIN
    trust_anchors: str = ""
    """PEM: roots for as long as the ConfigMap of anchors is not there; empty: it has to be."""
    controller: str = ""
    """The controller's address; empty: control is embedded, from a mounted ConfigMap."""
    mesh_config_map: str = MESH_CONFIG_MAP
    identity_secret: str = ""
    capture: str = "redirect"
    iptables_mode: str = ""
    """As ``pillion redirect install`` has it; empty: its default."""
    native_sidecar: bool = True
    needs_annotation: bool = False
    """Inject only what ``linkerd.io/inject`` asks for, as admission does; else all but disabled."""
    created_by: str = "pillion"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What decides about a pod without standing in it."""

    namespace: str = ""
    """Empty: the manifest names none."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """The namespace's."""
    owner_kind: str = "Pod"
    owner_name: str = ""
