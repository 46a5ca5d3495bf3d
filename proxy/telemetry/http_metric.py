"""The families that requests and responses are counted in, with Linkerd's names and labels.

Two generations stand side by side, as in Linkerd: ``request_total`` and its kin, which its
dashboards draw, and those named by direction and protocol, in seconds.
"""

from __future__ import annotations

from typing import Any, Final, final

from proxy.telemetry.slot import Family, HistogramFamily, Table

LATENCY_MS: Final = tuple(
    float(scale * step) for scale in (1, 10, 100, 1_000, 10_000) for step in (1, 2, 3, 4, 5)
)
"""Linkerd's buckets of ``response_latency_ms``."""
WHOLE_SECONDS: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0)
"""Linkerd's buckets of a request's duration inbound, and of a backend's response."""
COARSE_SECONDS: Final = (0.05, 0.5, 1.0, 10.0)
"""Linkerd's buckets of a response's duration inbound, and of a route's request."""
DETECT_SECONDS: Final = (0.001, 0.1)

PROTOCOLS: Final = ("http", "grpc")

_REQUEST: Final = ("direction", "authority", "TARGET")
_INBOUND: Final = ("TLS_ACCEPT", "SRV", "INBOUND_ROUTE", "AUTHZ")
_OUTBOUND: Final = ("TLS_CONNECT", "DST")
_ROUTED: Final = ("SRV_PARENT", "INBOUND_ROUTE")
_HOSTED: Final = ("PARENT", "ROUTE", "hostname")
_BACKED: Final = ("PARENT", "ROUTE", "BACKEND")
_STATUS: Final = {"http": "http_status", "grpc": "grpc_status"}


class Families:
    """Families that are attributes of one object."""

    def families(self) -> list[Table[Any]]:
        """Return every family, in the order of exposition."""
        return [each for each in vars(self).values() if isinstance(each, Table)]


@final
class InboundFamilies(Families):
    """Requests to the workload, of HTTP or of gRPC."""

    def __init__(self, protocol: str) -> None:
        self.requests = Family(
            f"inbound_{protocol}_requests_total", "counter", "Requests let in, by route.", _ROUTED
        )
        self.request_seconds = HistogramFamily(
            f"inbound_{protocol}_request_duration_seconds",
            "From a request's head to the end of its response.",
            _ROUTED,
            WHOLE_SECONDS,
        )
        self.response_seconds = HistogramFamily(
            f"inbound_{protocol}_response_duration_seconds",
            "From a request's end to the end of its response.",
            _ROUTED,
            COARSE_SECONDS,
        )
        self.statuses = Family(
            f"inbound_{protocol}_statuses_total",
            "counter",
            "Responses given, by status.",
            (*_ROUTED, "status"),
        )


@final
class OutboundFamilies(Families):
    """Requests of the workload, of HTTP or of gRPC."""

    def __init__(self, protocol: str) -> None:
        self.route_seconds = HistogramFamily(
            f"outbound_{protocol}_route_request_duration_seconds",
            "From a request's head to the end of its response, retries included.",
            _HOSTED,
            COARSE_SECONDS,
        )
        self.route_statuses = Family(
            f"outbound_{protocol}_route_request_statuses_total",
            "counter",
            "Responses given to the workload, by status, or the error that took their place.",
            (*_HOSTED, _STATUS[protocol], "error"),
        )
        self.backend_requests = Family(
            f"outbound_{protocol}_route_backend_requests_total",
            "counter",
            "Requests sent to a backend, retries each for itself.",
            _BACKED,
        )
        self.backend_seconds = HistogramFamily(
            f"outbound_{protocol}_route_backend_response_duration_seconds",
            "From a request's end to the end of the backend's response.",
            _BACKED,
            WHOLE_SECONDS,
        )
        self.backend_statuses = Family(
            f"outbound_{protocol}_route_backend_response_statuses_total",
            "counter",
            "Responses of a backend, by status, or the error that took their place.",
            (*_BACKED, _STATUS[protocol], "error"),
        )
        name = f"outbound_{protocol}_route_retry"
        self.retry_requests = Family(
            f"{name}_requests_total", "counter", "Requests made again.", _HOSTED
        )
        self.retry_successes = Family(
            f"{name}_successes_total",
            "counter",
            "Requests that were made again and ended well.",
            _HOSTED,
        )
        self.retry_limit = Family(
            f"{name}_limit_exceeded_total",
            "counter",
            "Requests that failed after as many retries as they may have.",
            _HOSTED,
        )
        self.retry_overflow = Family(
            f"{name}_overflow_total",
            "counter",
            "Requests not made again because the budget was spent.",
            _HOSTED,
        )


@final
class HttpMetrics(Families):
    """Every family of HTTP."""

    def __init__(self) -> None:
        self.requests = Family(
            "request_total",
            "counter",
            "Requests, inbound those that policy let in, outbound each attempt at an endpoint.",
            (*_REQUEST, *_INBOUND, *_OUTBOUND),
        )
        self.responses = Family(
            "response_total",
            "counter",
            "Requests that are over, by how they ended.",
            (*_REQUEST, *_INBOUND, *_OUTBOUND, "CLASS"),
        )
        self.latency = HistogramFamily(
            "response_latency_ms",
            "From a request's head to the first octet of its response's content, or its end.",
            (*_REQUEST, *_INBOUND, *_OUTBOUND, "status_code"),
            LATENCY_MS,
        )
        self.allow = Family(
            "inbound_http_authz_allow_total",
            "counter",
            "Inbound requests that policy let in.",
            ("TARGET", "SRV", "INBOUND_ROUTE", "AUTHZ", "TLS_ACCEPT"),
        )
        self.deny = Family(
            "inbound_http_authz_deny_total",
            "counter",
            "Inbound requests that policy refused.",
            ("TARGET", "SRV", "INBOUND_ROUTE", "TLS_ACCEPT"),
        )
        self.not_found = Family(
            "inbound_http_route_not_found_total",
            "counter",
            "Inbound requests that no route is for.",
            ("TARGET", "SRV", "TLS_ACCEPT"),
        )
        self.limited = Family(
            "inbound_http_local_ratelimit_total",
            "counter",
            "Inbound requests refused because a rate limit was reached.",
            ("TARGET", "SRV", "RATELIMIT", "TLS_ACCEPT"),
        )
        self.inbound_errors = Family(
            "inbound_http_errors_total",
            "counter",
            "Inbound requests that failed here, by error code; policy's refusals are not among "
            "them.",
            ("error", "TARGET", "SRV"),
        )
        self.outbound_errors = Family(
            "outbound_http_errors_total",
            "counter",
            "Outbound requests that failed here, by error code.",
            ("error",),
        )
        self.inbound_detect = Family(
            "inbound_tcp_detect_http_results_total",
            "counter",
            "Inbound connections whose protocol was looked for: `http/1`, `http/2`, `not_http`, "
            "`read_timeout` or `error`.",
            ("result", "SRV"),
        )
        self.inbound_detect_seconds = HistogramFamily(
            "inbound_tcp_detect_http_duration_seconds",
            "How long that took.",
            ("SRV",),
            DETECT_SECONDS,
        )
        self.outbound_detect = Family(
            "outbound_tcp_detect_http_results_total",
            "counter",
            "Outbound connections whose protocol was looked for, as inbound.",
            ("result", "PARENT"),
        )
        self.mirrored = Family(
            "pillion_outbound_http_mirror_total",
            "counter",
            "Copies of requests for a mirror: `answered`, `failed`, or `dropped` because too many "
            "were under way or the copy lagged behind.",
            (*_BACKED, "result"),
        )
        self.outbound_detect_seconds = HistogramFamily(
            "outbound_tcp_detect_http_duration_seconds",
            "How long that took.",
            ("PARENT",),
            DETECT_SECONDS,
        )
        self.access_log_drops = Family(
            "pillion_access_log_drops_total",
            "counter",
            "Lines of the access log that were not written: nobody read fast enough (`full`), or "
            "at all (`closed`).",
            ("reason",),
        )
        self.inbound: Final = {each: InboundFamilies(each) for each in PROTOCOLS}
        self.outbound: Final = {each: OutboundFamilies(each) for each in PROTOCOLS}

    def families(self) -> list[Table[Any]]:
        """Return every family, in the order of exposition."""
        more = [*self.inbound.values(), *self.outbound.values()]
        return [*super().families(), *(each for group in more for each in group.families())]
