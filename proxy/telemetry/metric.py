"""The families the data plane counts in, with Linkerd's names and labels.

Where Linkerd has none, ours begin with ``pillion_`` and are in seconds and bytes. docs/metrics.md
is made from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

from discovery.model import Address, Labels, Metadata
from policy.model import DEFAULT_ROUTE, Client, ClientTls, Verdict
from proxy.telemetry.balancer import BalancerFamilies
from proxy.telemetry.http_metric import HttpMetrics
from proxy.telemetry.slot import Family, Histogram, HistogramFamily, Table

LABEL_SETS: Final[Mapping[str, tuple[str, ...]]] = {
    "TARGET": ("target_addr", "target_ip", "target_port"),
    "TLS_ACCEPT": ("tls", "client_id", "no_tls_reason", "sni"),
    "TLS_CONNECT": ("tls", "server_id", "no_tls_reason"),
    "SRV": ("srv_group", "srv_kind", "srv_name", "srv_port"),
    "AUTHZ": ("authz_group", "authz_kind", "authz_name"),
    "PARENT": (
        *("parent_group", "parent_kind", "parent_namespace", "parent_name"),
        *("parent_port", "parent_section_name"),
    ),
    "ROUTE": ("route_group", "route_kind", "route_namespace", "route_name"),
    "DST": ("dst_*",),
    "INBOUND_ROUTE": ("route_group", "route_kind", "route_name"),
    "SRV_PARENT": ("parent_group", "parent_kind", "parent_name", "parent_port"),
    "BACKEND": (
        *("backend_group", "backend_kind", "backend_namespace", "backend_name"),
        *("backend_port", "backend_section_name"),
    ),
    "CLASS": ("status_code", "classification", "grpc_status", "error"),
    "RATELIMIT": ("ratelimit_group", "ratelimit_kind", "ratelimit_name", "ratelimit_scope"),
}
"""Labels that stand together, named as in Linkerd's source; families name them in capitals."""
_SIDE: Final = (
    *("direction", "peer", "authority", "TARGET", "TLS_ACCEPT", "TLS_CONNECT", "SRV", "DST"),
)
_AUDITED: Final = ("TARGET", "SRV", "INBOUND_ROUTE", "AUTHZ", "TLS_ACCEPT")

CONNECT_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""From a dial on this machine to the limit that Linkerd sets."""
LIFE_SECONDS: Final = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86_400.0)
"""From a request a connection to a day: a pool, a stream, a database session."""


@final
class Handshakes:
    """TLS handshakes of one direction: how long they took, and why they failed."""

    __slots__ = ("_direction", "_failures", "full", "resumed")

    def __init__(self, times: HistogramFamily, failures: Family, direction: str) -> None:
        self._direction = ("direction", direction)
        self._failures = failures
        self.full: Histogram = times.child((self._direction, ("resumed", "false")))
        self.resumed: Histogram = times.child((self._direction, ("resumed", "true")))

    def done(self, seconds: float, *, resumed: bool) -> None:
        """Count one that succeeded, the peer's proof included."""
        (self.resumed if resumed else self.full).observe(seconds)

    def failed(self, code: str) -> None:
        """Count one that did not, by the error's code."""
        self._failures.child((self._direction, ("error", code))).value += 1


@final
class Metrics:
    """Every family of one sidecar."""

    def __init__(self) -> None:
        self.tcp_open = Family("tcp_open_total", "counter", "Connections opened.", _SIDE)
        self.tcp_open_now = Family("tcp_open_connections", "gauge", "Connections open now.", _SIDE)
        self.tcp_close = Family(
            "tcp_close_total",
            "counter",
            "Connections closed; errno is empty when both ends ended in order.",
            (*_SIDE, "errno"),
        )
        self.tcp_read = Family(
            "tcp_read_bytes_total", "counter", "Bytes read from peers, without TLS.", _SIDE
        )
        self.tcp_write = Family(
            "tcp_write_bytes_total", "counter", "Bytes written to peers, without TLS.", _SIDE
        )
        self.allow = Family(
            "inbound_tcp_authz_allow_total",
            "counter",
            "Inbound connections admitted by policy.",
            ("TARGET", "SRV", "TLS_ACCEPT", "AUTHZ"),
        )
        self.deny = Family(
            "inbound_tcp_authz_deny_total",
            "counter",
            "Inbound connections refused by policy.",
            ("TARGET", "SRV", "TLS_ACCEPT"),
        )
        self.terminate = Family(
            "inbound_tcp_authz_terminate_total",
            "counter",
            "Open inbound connections cut because policy changed.",
            ("TARGET", "SRV", "TLS_ACCEPT"),
        )
        self.audit_allow = Family(
            "pillion_inbound_audit_allow_total",
            "counter",
            "Inbound requests and connections that a policy in audit mode would let in, if it were "
            "enforced; AUTHZ is that policy.",
            _AUDITED,
        )
        self.audit_deny = Family(
            "pillion_inbound_audit_deny_total",
            "counter",
            "Those that it would refuse.",
            _AUDITED,
        )
        self.inbound_errors = Family(
            "inbound_tcp_errors_total",
            "counter",
            "Inbound connections that failed, by error code; policy's refusals are not among them.",
            ("error", "TARGET"),
        )
        self.outbound_errors = Family(
            "outbound_tcp_errors_total",
            "counter",
            "Outbound connections that failed, by error code.",
            ("TARGET", "error"),
        )
        self.gateway_alive = Family(
            "gateway_alive",
            "gauge",
            "1 while a linked cluster's gateway answers probes.",
            ("target_cluster_name",),
        )
        self.gateway_enabled = Family(
            "gateway_enabled",
            "gauge",
            "1 for each linked cluster whose gateway is in use here.",
            ("target_cluster_name",),
        )
        self.gateway_latency = Family(
            "gateway_latency",
            "gauge",
            "Milliseconds that the last answer of a gateway to a probe took.",
            ("target_cluster_name",),
        )
        self.gateway_probes = Family(
            "gateway_probes_total",
            "counter",
            "Probes of gateways.",
            ("target_cluster_name", "probe_successful"),
        )
        self.headers = Family(
            "inbound_tcp_transport_header_connections_total",
            "counter",
            "Direct connections, by what their transport header says.",
            ("session_protocol", "target_port", "target_name", "client_id"),
        )
        self.protocols = Family(
            "outbound_tcp_protocol_connections_total",
            "counter",
            "Outbound connections, by how they are carried.",
            ("protocol", "PARENT"),
        )
        self.route_open = Family(
            "outbound_tcp_route_open_total",
            "counter",
            "Outbound connections that a route took up.",
            ("PARENT", "ROUTE", "target_ip", "target_port"),
        )
        self.route_close = Family(
            "outbound_tcp_route_close_total",
            "counter",
            "Outbound connections that a route has done with, by error; empty: none.",
            ("PARENT", "ROUTE", "target_ip", "target_port", "error"),
        )
        self.transfer_cost = Family(
            "outbound_tcp_transfer_cost_bytes_total",
            "counter",
            "Bytes to and from endpoints, by whether these are in our zone.",
            ("op", "zone_locality"),
        )
        self.connect_seconds = HistogramFamily(
            "pillion_tcp_connect_duration_seconds",
            "From the dial to a usable connection, with TLS and its header: to the application "
            "(inbound), to an endpoint (outbound).",
            ("direction", "tls"),
            CONNECT_SECONDS,
        )
        self.life_seconds = HistogramFamily(
            "pillion_tcp_connection_duration_seconds",
            "From the verdict to the end of a connection: by server (inbound), by the "
            "destination's Service (outbound).",
            ("direction", "SRV", "PARENT"),
            LIFE_SECONDS,
        )
        self.handshake_seconds = HistogramFamily(
            "pillion_tls_handshake_duration_seconds",
            "TLS handshakes that succeeded, from the ClientHello to the peer's proof.",
            ("direction", "resumed"),
            CONNECT_SECONDS,
        )
        self.handshake_failures = Family(
            "pillion_tls_handshake_failures_total",
            "counter",
            "TLS handshakes that failed, by error code.",
            ("direction", "error"),
        )
        self.tls_info = Family(
            "pillion_tls_info", "gauge", "The TLS library, and what is spoken.", ("library", "tls")
        )
        self.accept_pauses = Family(
            "pillion_accept_pauses_total",
            "counter",
            "Times accepting paused: admission bound reached, or out of descriptors.",
        )
        self.connections_max = Family(
            "pillion_connections_max", "gauge", "Connections that may be open at once."
        )
        self.worker_starts = Family(
            "pillion_worker_starts_total",
            "counter",
            "Starts of each worker, where there are several (PILLION_WORKERS).",
            ("worker",),
        )
        self.folds = Family(
            "pillion_metric_folds_total",
            "counter",
            "Times a family had no room for another label set and counted it as `other`.",
            ("metric",),
        )
        self.cert_refresh = Family(
            "control_identity_cert_refreshes_total",
            "counter",
            "New leaves (ok), and attempts at one that failed (error).",
            ("result",),
        )
        self.cert_expiry = Family(
            "control_identity_cert_expiration_timestamp_seconds",
            "gauge",
            "When the leaf in use ends, in seconds since the epoch.",
        )
        self.cert_refreshed = Family(
            "control_identity_cert_refresh_timestamp_seconds",
            "gauge",
            "When the leaf in use came into use, in seconds since the epoch.",
        )
        self.cert_ttl = Family(
            "pillion_identity_cert_ttl_seconds",
            "gauge",
            "How long the leaf in use still lasts; negative when it is over.",
        )
        self.issuer_ttl = Family(
            "pillion_identity_issuer_ttl_seconds",
            "gauge",
            "How long the first of the issuers above our leaf still lasts.",
        )
        self.anchor_ttl = Family(
            "pillion_identity_anchor_ttl_seconds",
            "gauge",
            "How long each trust anchor in force still lasts.",
            ("trust_domain", "fingerprint"),
        )
        self.anchor_reload = Family(
            "pillion_identity_anchor_reloads_total",
            "counter",
            "Other trust anchors in force (ok), and readings that brought a fault (error).",
            ("result",),
        )
        self.identity_warnings = Family(
            "pillion_identity_warnings",
            "gauge",
            "What somebody should look at in our identity; /ready says it in words.",
        )
        self.build_info = Family(
            "proxy_build_info",
            "gauge",
            "What runs: version, commit, and whether its core is compiled.",
            ("version", "git_sha", "profile", "vendor", "date"),
        )
        self.inbound_handshakes: Final = Handshakes(
            self.handshake_seconds, self.handshake_failures, "inbound"
        )
        self.outbound_handshakes: Final = Handshakes(
            self.handshake_seconds, self.handshake_failures, "outbound"
        )
        self.http: Final = HttpMetrics()
        self.tcp_balancer: Final = BalancerFamilies(
            "outbound_tcp", ("PARENT", "BACKEND", "logical", "concrete")
        )
        self.http_balancer: Final = BalancerFamilies("outbound_http", ("PARENT", "BACKEND"))

    def families(self) -> list[Table[Any]]:
        """Return every family, in the order of exposition; brings ``folds`` up to date."""
        found = [each for each in vars(self).values() if isinstance(each, Table)]
        for each in (self.http, self.tcp_balancer, self.http_balancer):
            found += each.families()
        self.folds.set_all({(("metric", each.name),): each.folds for each in found if each.folds})
        return found


def count_audits(metrics: Metrics, verdict: Verdict, labels: Labels, *, is_request: bool) -> None:
    """Count what policies in audit mode said beside a verdict.

    ``labels``: the fragments TARGET, SRV and TLS_ACCEPT. A connection has no route.
    """
    if is_request:
        labels = (*labels, *inbound_route_labels(verdict.route or DEFAULT_ROUTE))
    for each in verdict.audits:
        family = metrics.audit_allow if each.would_allow else metrics.audit_deny
        family.child((*labels, *authz_labels(each.authorization))).value += 1


def target_labels(target: Address) -> Labels:
    """Return the TARGET fragment."""
    return (
        ("target_addr", str(target)),
        ("target_ip", target.ip),
        ("target_port", str(target.port)),
    )


def accept_labels(client: Client, *, port_skipped: bool = False) -> Labels:
    """Return the TLS_ACCEPT fragment: what the client's connection was."""
    if client.tls is ClientTls.MESH:
        return (("tls", "true"), ("client_id", str(client.identity or "")))
    if client.tls is ClientTls.FOREIGN:
        return (("tls", "opaque"), ("sni", client.sni))
    reason = "port_skipped" if port_skipped else "no_tls_from_remote"
    return (("tls", "no_identity"), ("no_tls_reason", reason))


def server_labels(server: Metadata, port: int) -> Labels:
    """Return the SRV fragment."""
    return (
        ("srv_group", server.group),
        ("srv_kind", server.kind.lower()),
        ("srv_name", server.name),
        ("srv_port", str(port)),
    )


def authz_labels(authorization: Metadata) -> Labels:
    """Return the AUTHZ fragment."""
    return (
        ("authz_group", authorization.group),
        ("authz_kind", authorization.kind.lower()),
        ("authz_name", authorization.name),
    )


def parent_labels(parent: Metadata) -> Labels:
    """Return the PARENT fragment: the Service, or the default, that a destination belongs to."""
    return (
        ("parent_group", parent.group),
        ("parent_kind", parent.kind),
        ("parent_namespace", parent.namespace),
        ("parent_name", parent.name),
        ("parent_port", str(parent.port or "")),
        ("parent_section_name", parent.section),
    )


def backend_labels(backend: Metadata) -> Labels:
    """Return the BACKEND fragment: what a route sends to."""
    return (
        ("backend_group", backend.group),
        ("backend_kind", backend.kind),
        ("backend_namespace", backend.namespace),
        ("backend_name", backend.name),
        ("backend_port", str(backend.port or "")),
        ("backend_section_name", backend.section),
    )


def inbound_route_labels(route: Metadata) -> Labels:
    """Return the INBOUND_ROUTE fragment."""
    return (
        ("route_group", route.group),
        ("route_kind", route.kind),
        ("route_name", route.name),
    )


def route_labels(route: Metadata) -> Labels:
    """Return the ROUTE fragment."""
    return (
        ("route_group", route.group),
        ("route_kind", route.kind),
        ("route_namespace", route.namespace),
        ("route_name", route.name),
    )


def dst_labels(common: Labels, own: Labels) -> Labels:
    """Return the DST fragment: an endpoint's own labels over those of its whole set."""
    return tuple(
        (f"dst_{name}", value) for name, value in sorted({**dict(common), **dict(own)}.items())
    )
