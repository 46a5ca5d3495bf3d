"""Link (multicluster.linkerd.io): one remote cluster, what is taken in from it, whom to trust.

Fields and defaults are those of Linkerd's Link (v1alpha1 to v1alpha3): a selector that is empty
or unset selects nothing. What Linkerd keeps in Secrets is in annotations under
``multicluster.pillion.dev/``: where the cluster's mesh directory is, and its trust domain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from ipaddress import ip_address
from typing import Final, final

from core.duration import parse_duration
from core.record import dataclass
from identity.name import Identity, is_label, is_trust_domain, try_identity
from resources.fields import Fields, shortest_address
from resources.kind import Meta, is_name
from resources.selector import Selector, parse_selector

MULTICLUSTER_GROUP: Final = "multicluster.linkerd.io"
ANNOTATIONS: Final = "multicluster.pillion.dev/"
SOURCE: Final = f"{ANNOTATIONS}source"
TRUST_DOMAIN: Final = f"{ANNOTATIONS}trust-domain"
ANCHORS: Final = f"{ANNOTATIONS}anchors"
HEADLESS: Final = f"{ANNOTATIONS}headless"
FEDERATED_WAY: Final = f"{ANNOTATIONS}federated"
_KNOWN: Final = (SOURCE, TRUST_DOMAIN, ANCHORS, HEADLESS, FEDERATED_WAY)

EXPORTED: Final = "mirror.linkerd.io/exported"
FEDERATED: Final = "mirror.linkerd.io/federated"
BY_GATEWAY: Final = "true"
DIRECTLY: Final = "remote-discovery"
MEMBER: Final = "member"

DEFAULT_GATEWAY_PORT: Final = 4143
MAX_GATEWAYS: Final = 16
"""Addresses of one gateway."""
_NUMBER: Final = re.compile(r"[0-9]{1,6}", re.ASCII)
_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,250}\.pem", re.ASCII)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """How a gateway is asked whether it lives."""

    path: str = "/ready"
    port: int = 4191
    period_s: float = 3.0
    timeout_s: float = 30.0
    failure_threshold: int = 3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One remote cluster."""

    meta: Meta
    cluster: str
    """``targetClusterName``: what mirrored Services' names end in."""
    cluster_domain: str = "cluster.local"
    control_namespace: str = "linkerd"
    gateway_addresses: tuple[str, ...] = ()
    """IP addresses and host names; empty: there is no gateway."""
    gateway_port: int = DEFAULT_GATEWAY_PORT
    gateway_identity: Identity | None = None
    probe: ProbeSpec = field(default_factory=ProbeSpec)
    exported: Selector | None = None
    """Services taken in through the gateway; None: none."""
    remote_discovery: Selector | None = None
    """Services taken in directly."""
    federated: Selector | None = None
    """Services that join federated ones."""
    excluded_annotations: tuple[str, ...] = ()
    excluded_labels: tuple[str, ...] = ()
    source: str = ""
    """The remote cluster's mesh directory; empty: nothing is known of its Services."""
    trust_domain: str = ""
    """The remote trust domain; empty: ours."""
    anchors: str = ""
    """The file of its roots, beside ours; empty: the one named after its trust domain."""
    federates_by_gateway: bool = False
    """Whether members of federated Services are reached through the gateway; else directly."""
    keeps_headless: bool = False
    """Whether a headless Service stays one, its pods by name; else it gets an address."""

    def takes_by_gateway(self, labels: Mapping[str, str]) -> bool:
        """Whether a Service with these labels is taken in through the gateway."""
        return self.exported is not None and self.exported.matches(labels)

    def takes_directly(self, labels: Mapping[str, str]) -> bool:
        """Whether a Service with these labels is taken in directly."""
        return self.remote_discovery is not None and self.remote_discovery.matches(labels)

    def takes_federated(self, labels: Mapping[str, str]) -> bool:
        """Whether a Service with these labels joins its federated Service."""
        return self.federated is not None and self.federated.matches(labels)


def parse_link(meta: Meta, body: Fields) -> Link:
    """Read a Link."""
    annotations = body.map("metadata").map("annotations")
    for name in annotations.names:
        if name.startswith(ANNOTATIONS) and name not in _KNOWN:
            annotations.problem(name, f"is not known here; known are {', '.join(_KNOWN)}")
    spec = body.map("spec", required=True)
    cluster = spec.text("targetClusterName", required=True)
    if cluster and not is_label(cluster):
        spec.problem("targetClusterName", f"{cluster[:80]!r} is no part of a Service's name")
    identity = spec.text("gatewayIdentity")
    gateways = _gateways(spec)
    if identity and try_identity(identity) is None:
        spec.problem("gatewayIdentity", f"{identity[:80]!r} is no identity")
    elif gateways and not identity:
        spec.problem("gatewayIdentity", "is missing; a gateway has to prove whom it is")
    return Link(
        meta=meta,
        cluster=cluster,
        cluster_domain=_domain(spec, "targetClusterDomain", "cluster.local"),
        control_namespace=_namespace(spec),
        gateway_addresses=gateways,
        gateway_port=_number(spec, "gatewayPort", DEFAULT_GATEWAY_PORT, 65_535),
        gateway_identity=try_identity(identity),
        probe=_probe(spec),
        exported=_selector(spec, "selector"),
        remote_discovery=_selector(spec, "remoteDiscoverySelector"),
        federated=_selector(spec, "federatedServiceSelector"),
        excluded_annotations=spec.texts("excludedAnnotations"),
        excluded_labels=spec.texts("excludedLabels"),
        source=_source(annotations),
        trust_domain=_trust_domain(annotations),
        anchors=_anchors(annotations),
        federates_by_gateway=annotations.choice(FEDERATED_WAY, ("direct", "gateway"), "direct")
        == "gateway",
        keeps_headless=annotations.choice(HEADLESS, ("true", "false"), "false") == "true",
    )


def _selector(spec: Fields, name: str) -> Selector | None:
    """Read a selector; here, other than elsewhere, one without requirements selects nothing."""
    found = parse_selector(spec.map(name))
    return found if found.requirements else None


def _domain(spec: Fields, name: str, default: str) -> str:
    given = spec.text(name, default).removesuffix(".").lower()
    if not is_trust_domain(given):
        spec.problem(name, f"{given[:80]!r} is no DNS name")
        return default
    return given


def _namespace(spec: Fields) -> str:
    given = spec.text("targetClusterLinkerdNamespace", "linkerd")
    if not is_label(given):
        spec.problem("targetClusterLinkerdNamespace", f"{given[:80]!r} is no namespace's name")
        return "linkerd"
    return given


def _gateways(spec: Fields) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for each in spec.text("gatewayAddress").split(","):
        text = each.strip()
        if not text:
            continue
        address = _host(text)
        if address:
            found[address] = None
        else:
            spec.problem("gatewayAddress", f"{text[:80]!r} is neither an IP address nor a name")
    if len(found) > MAX_GATEWAYS:
        spec.problem("gatewayAddress", f"holds {len(found)} addresses; {MAX_GATEWAYS} at most")
    return tuple(found)


def _host(text: str) -> str:
    """Return an address a gateway may have, or a name; empty for what leads nowhere else."""
    try:
        address = ip_address(shortest_address(text))
    except ValueError:
        name = text.lower().removesuffix(".")
        return name if is_name(name) and not name.replace(".", "").isdigit() else ""
    return "" if address.is_unspecified or address.is_multicast else str(address)


def _number(fields: Fields, name: str, default: int, high: int) -> int:
    """Read a number that the resource writes as a string."""
    given = fields.port_or_name(name)
    if given is None:
        return default
    if isinstance(given, str) and not _NUMBER.fullmatch(given):
        fields.problem(name, f"{given[:80]!r} is no number")
        return default
    if not 1 <= int(given) <= high:
        fields.problem(name, f"{given} does not lie between 1 and {high}")
        return default
    return int(given)


def _probe(spec: Fields) -> ProbeSpec:
    fields = spec.map("probeSpec")
    default = ProbeSpec()
    path = fields.text("path", default.path)
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        fields.problem("path", f"{path[:80]!r} is no path, as {default.path} is")
        path = default.path
    return ProbeSpec(
        path=path,
        port=_number(fields, "port", default.port, 65_535),
        period_s=_seconds(fields, "period", default.period_s),
        timeout_s=_seconds(fields, "timeout", default.timeout_s),
        failure_threshold=_number(fields, "failureThreshold", default.failure_threshold, 1000),
    )


def _seconds(fields: Fields, name: str, default: float) -> float:
    """Read a duration; a number alone is in seconds, as Linkerd's first version wrote it."""
    given = fields.text(name)
    if not given:
        return default
    try:
        found = float(given) if _NUMBER.fullmatch(given) else parse_duration(given)
    except ValueError:
        found = 0.0
    if not 0.05 <= found <= 3600:
        fields.problem(name, f"{given[:80]!r} is no time between 50ms and 1h")
        return default
    return found


def _source(annotations: Fields) -> str:
    given = annotations.text(SOURCE)
    if given and (not given.startswith("/") or "\0" in given):
        annotations.problem(SOURCE, f"{given[:80]!r} is no absolute path of a directory")
        return ""
    return given


def _trust_domain(annotations: Fields) -> str:
    given = annotations.text(TRUST_DOMAIN).removesuffix(".").lower()
    if given and not is_trust_domain(given):
        annotations.problem(TRUST_DOMAIN, f"{given[:80]!r} is no trust domain: wanted a DNS name")
        return ""
    return given


def _anchors(annotations: Fields) -> str:
    given = annotations.text(ANCHORS)
    if given and not _FILE.fullmatch(given):
        annotations.problem(
            ANCHORS, f"{given[:80]!r} is no name of a file; wanted one that ends in .pem, no path"
        )
        return ""
    if given and not annotations.text(TRUST_DOMAIN):
        annotations.problem(
            ANCHORS, f"means nothing without {TRUST_DOMAIN}: roots count for one trust domain"
        )
    return given
