"""ConfigMap: its string data, and what ``linkerd/pillion-config`` says of the mesh.

The settings carry Linkerd's names and defaults (linkerd-control-plane chart, values.yaml):
``clusterDomain`` is ``cluster.local``, ``identityTrustDomain`` the cluster domain,
``clusterNetworks`` the private ranges, the default inbound policy ``all-unauthenticated``.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, final

from core.nearest import nearest_name
from core.record import dataclass
from identity.name import try_identity
from resources.fields import Fields
from resources.kind import Meta, ObjectKey

CONTROL_NAMESPACE: Final = "linkerd"
CONFIG_KEY: Final = ObjectKey("", "ConfigMap", CONTROL_NAMESPACE, "pillion-config")
"""The one ConfigMap that the mesh reads."""

DEFAULT_POLICIES: Final = (
    "all-unauthenticated",
    "all-authenticated",
    "cluster-unauthenticated",
    "cluster-authenticated",
    "deny",
    "audit",
)
"""Names of default inbound policies (linkerd2, policy-controller/core)."""

Network = IPv4Network | IPv6Network

_SETTINGS: Final = (
    "clusterName",
    "clusterDomain",
    "trustDomain",
    "clusterNetworks",
    "defaultInboundPolicy",
    "mirrorNetwork",
)
_MIRROR_NETWORK: Final = ip_network("240.240.0.0/16")
MIN_MIRROR_ADDRESSES: Final = 256
"""A smaller network would be full of collisions."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MeshConfig:
    """What holds for the whole mesh of one cluster."""

    cluster_name: str = "local"
    cluster_domain: str = "cluster.local"
    trust_domain: str = "cluster.local"
    cluster_networks: tuple[Network, ...] = tuple(
        ip_network(each)
        for each in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")
    )
    default_inbound_policy: str = "all-unauthenticated"
    mirror_network: Network = _MIRROR_NETWORK
    """Where Services of other clusters get their addresses."""
    control_namespace: str = CONTROL_NAMESPACE


DEFAULT_CONFIG: Final = MeshConfig()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMap:
    """A ConfigMap; ``config`` is set on ``linkerd/pillion-config`` alone."""

    meta: Meta
    config: MeshConfig | None = None


def parse_config_map(meta: Meta, body: Fields) -> ConfigMap:
    """Read a ConfigMap; of others than ours nothing is kept, and nothing can be wrong."""
    if meta.key != CONFIG_KEY:
        return ConfigMap(meta=meta)
    fields = body.map("data")
    for name in fields.names:
        if name not in _SETTINGS:
            near = nearest_name(name, _SETTINGS)
            fields.problem(name, "is no setting" + (f"; did you mean {near}?" if near else ""))
    data = body.text_map("data")
    domain = _domain(fields, "clusterDomain", data, DEFAULT_CONFIG.cluster_domain)
    return ConfigMap(
        meta=meta,
        config=MeshConfig(
            cluster_name=data.get("clusterName", "").strip() or DEFAULT_CONFIG.cluster_name,
            cluster_domain=domain,
            trust_domain=_domain(fields, "trustDomain", data, domain),
            cluster_networks=_networks(fields, data.get("clusterNetworks", "")),
            default_inbound_policy=fields.choice(
                "defaultInboundPolicy", DEFAULT_POLICIES, DEFAULT_CONFIG.default_inbound_policy
            ),
            mirror_network=_mirror_network(fields, data.get("mirrorNetwork", "").strip()),
        ),
    )


def _mirror_network(fields: Fields, given: str) -> Network:
    if not given:
        return DEFAULT_CONFIG.mirror_network
    try:
        found = ip_network(given)
    except ValueError:
        fields.problem("mirrorNetwork", f"{given[:80]!r} is no network, as 240.240.0.0/16 is")
        return DEFAULT_CONFIG.mirror_network
    if found.num_addresses < MIN_MIRROR_ADDRESSES or found.is_loopback or found.is_multicast:
        fields.problem(
            "mirrorNetwork",
            f"{given[:80]!r} cannot be used: wanted {MIN_MIRROR_ADDRESSES} addresses at least, "
            "neither loopback nor multicast",
        )
        return DEFAULT_CONFIG.mirror_network
    return found


def _domain(fields: Fields, name: str, data: Mapping[str, str], default: str) -> str:
    given = data.get(name, "").strip().removesuffix(".")
    if not given:
        return default
    identity = try_identity(given)
    if identity is None or identity.is_uri:
        fields.problem(name, f"{given[:80]!r} is no DNS name")
        return default
    return identity.name


def _networks(fields: Fields, given: str) -> tuple[Network, ...]:
    found = []
    for each in given.split(","):
        text = each.strip()
        if not text:
            continue
        try:
            found.append(ip_network(text))
        except ValueError:
            fields.problem("clusterNetworks", f"{text[:80]!r} is no network, as 10.0.0.0/8 is")
    return tuple(found) or DEFAULT_CONFIG.cluster_networks
