"""The families the data plane counts in, with Linkerd's names and labels."""

from __future__ import annotations

from typing import final

from discovery.model import Address, Labels, Metadata
from policy.model import Client, ClientTls
from proxy.telemetry.slot import Family


@final
class Metrics:
    """Every family of one sidecar."""

    def __init__(self) -> None:
        self.tcp_open = Family("tcp_open_total", "counter", "Connections opened.")
        self.tcp_open_now = Family("tcp_open_connections", "gauge", "Connections open now.")
        self.tcp_close = Family("tcp_close_total", "counter", "Connections closed, by errno.")
        self.tcp_read = Family("tcp_read_bytes_total", "counter", "Bytes read from peers.")
        self.tcp_write = Family("tcp_write_bytes_total", "counter", "Bytes written to peers.")
        self.allow = Family(
            "inbound_tcp_authz_allow_total", "counter", "Inbound connections admitted by policy."
        )
        self.deny = Family(
            "inbound_tcp_authz_deny_total", "counter", "Inbound connections refused by policy."
        )
        self.terminate = Family(
            "inbound_tcp_authz_terminate_total",
            "counter",
            "Open inbound connections cut because policy changed.",
        )
        self.inbound_errors = Family(
            "inbound_tcp_errors_total", "counter", "Inbound connections that failed, by error."
        )
        self.outbound_errors = Family(
            "outbound_tcp_errors_total", "counter", "Outbound connections that failed, by error."
        )
        self.headers = Family(
            "inbound_tcp_transport_header_connections_total",
            "counter",
            "Direct connections, by what their transport header says.",
        )
        self.accept_pauses = Family(
            "pillion_accept_pauses_total",
            "counter",
            "Times accepting paused: admission bound reached, or out of descriptors.",
        )
        self.cert_refresh = Family(
            "control_identity_cert_refreshes_total", "counter", "Leaf renewals, by result."
        )
        self.cert_expiry = Family(
            "control_identity_cert_expiration_timestamp_seconds",
            "gauge",
            "When the leaf in use ends, in seconds since the epoch.",
        )

    def families(self) -> list[Family]:
        """Return every family, in the order of exposition."""
        return [each for each in vars(self).values() if isinstance(each, Family)]


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
