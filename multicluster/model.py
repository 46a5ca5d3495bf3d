"""Links and what they bring in, in the shapes of ``multicluster.linkerd.io``.

Counterparts: the Link resource (v1alpha1 to v1alpha3) and the mirror's labels. A selector that
is empty or unset matches nothing (Link reference).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, final

from discovery.model import Address, PathKind
from identity.name import Identity

GATEWAY_PORT: Final = 4143


class Operator(Enum):
    """A label selector's ``matchExpressions`` operator."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@final
@dataclass(frozen=True, slots=True)
class Requirement:
    """One entry of ``matchExpressions``."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class ExportSelector:
    """Which remote services a link takes in, by label; without clauses it takes none."""

    match_labels: tuple[tuple[str, str], ...] = ()
    requirements: tuple[Requirement, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """How a gateway's liveness is asked for; defaults are the Link resource's."""

    path: str = "/ready"
    port: int = 4191
    period_s: float = 3.0
    timeout_s: float = 30.0
    failure_threshold: int = 3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One remote cluster: where its gateway is, what is taken in, whom to trust."""

    name: str
    namespace: str
    target_cluster_name: str
    target_cluster_domain: str
    target_control_namespace: str
    credentials_secret: str = ""
    gateway_addresses: tuple[str, ...] = ()
    """IPs or host names; empty: no gateway."""
    gateway_port: int = GATEWAY_PORT
    gateway_identity: Identity | None = None
    probe: ProbeSpec = field(default_factory=ProbeSpec)
    selector: ExportSelector = ExportSelector()
    remote_discovery_selector: ExportSelector = ExportSelector()
    federated_selector: ExportSelector = ExportSelector()
    excluded_annotations: tuple[str, ...] = ()
    excluded_labels: tuple[str, ...] = ()
    source: str = ""
    """The remote cluster's mesh directory (annotation of ours); empty: none."""
    trust_domain: str = ""
    """The remote trust domain; empty: ours, by a shared anchor."""
    anchors: str = ""
    """File name under the identity directory's ``anchors``; empty: the trust domain's."""


class ExportMode(Enum):
    """The value of ``mirror.linkerd.io/exported``, or membership of a federated service."""

    GATEWAY = "true"
    DIRECT = "remote-discovery"
    FEDERATED = "member"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MirroredService:
    """A remote service as it appears here."""

    name: str
    namespace: str
    cluster: str
    remote_name: str
    mode: ExportMode
    cluster_ip: str
    fully_qualified_remote_name: str
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedMember:
    """One cluster's share of a federated service; an empty cluster is this one."""

    cluster: str
    service: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedService:
    """A service that is the union of its members over clusters."""

    name: str
    namespace: str
    cluster_ip: str
    members: tuple[FederatedMember, ...]


class GatewayLiveness(Enum):
    """What probes say of a gateway; one that never answered stays in use (mirror reference)."""

    UNPROBED = "unprobed"
    ALIVE = "alive"
    DEAD = "dead"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayState:
    """A link's gateway as it stands."""

    link: str
    addresses: tuple[Address, ...]
    identity: Identity | None
    liveness: GatewayLiveness = GatewayLiveness.UNPROBED
    consecutive_failures: int = 0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterHealth:
    """What is known of a remote cluster: which ways to it work."""

    cluster: str
    reachable: tuple[PathKind, ...]
    source_is_fresh: bool = True
