"""Policy where no policy resource speaks: a pod's default for a port, a Service's plain routing.

Pure. Names and effects of the default inbound policies, the probe route and its authorization are
linkerd2's (policy-controller, core and k8s/index); so are the default routes of a Service, the
closed undeclared port and the way out of the cluster.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from core.nearest import nearest_name
from discovery.model import Address, Endpoint, Metadata, Target, default_metadata
from policy.model import (
    ALL_NETWORKS,
    Authentication,
    Authorization,
    Backend,
    Balancer,
    FirstAvailable,
    Forward,
    InboundRoute,
    InboundRule,
    NetworkMatch,
    OpaqueRoute,
    OutboundPolicy,
    OutboundRoute,
    OutboundRule,
    Protocol,
    ServerPolicy,
    TlsAuthenticated,
    Unauthenticated,
)
from policy.route import (
    ANY_PATH,
    ForbiddenFilter,
    HttpMatch,
    InvalidFilter,
    PathMatch,
    PathMatchKind,
)
from policy.traffic import Traffic, traffic_of
from resources.config_map import DEFAULT_POLICIES
from resources.namespace import Namespace
from resources.service import Service
from resources.workload import Workload, is_opaque

UNAUTHENTICATED: Final = "-unauthenticated"
_ANY_REQUEST: Final = HttpMatch(path=ANY_PATH)
_NO_WISHES: Final = Traffic()


def refuse_all(reason: str) -> ServerPolicy:
    """Return the policy of a port nothing is known about: it admits no one and says why."""
    return ServerPolicy(metadata=default_metadata("invalid"), invalid=reason)


def closed_policy(reason: str) -> OutboundPolicy:
    """Return the policy of a destination that must not be reached while ``reason`` holds."""
    closed = OpaqueRoute(metadata=default_metadata("invalid"), filters=(InvalidFilter(reason),))
    return OutboundPolicy(
        metadata=default_metadata("invalid"), protocol=Protocol.OPAQUE, opaque=(closed,)
    )


def default_policy_name(workload: Workload, port: int) -> str:
    """Return the name of the default policy in force, whether known or not.

    ``proxy-require-identity-inbound-ports`` turns a policy that takes anyone into the one of the
    same networks that takes identities.
    """
    name = workload.setting("default-inbound-policy") or workload.config.default_inbound_policy
    required = workload.ports(workload.setting("proxy-require-identity-inbound-ports") or "")
    if name.endswith(UNAUTHENTICATED) and port in required:
        return name.removesuffix(UNAUTHENTICATED) + "-authenticated"
    return name


def default_server_policy(workload: Workload, port: int) -> ServerPolicy:
    """Return the policy of a pod's port that no Server selects."""
    name = default_policy_name(workload, port)
    if name not in DEFAULT_POLICIES:
        near = nearest_name(name, DEFAULT_POLICIES)
        advice = f"did you mean {near}?" if near else f"wanted one of {', '.join(DEFAULT_POLICIES)}"
        return refuse_all(
            f"{workload.pod.meta.key}: config.linkerd.io/default-inbound-policy is "
            f"{name[:80]!r}; {advice}"
        )
    metadata = default_metadata(name)
    is_raw = port in workload.opaque_ports
    return ServerPolicy(
        metadata=metadata,
        protocol=Protocol.OPAQUE if is_raw else Protocol.DETECT,
        authorizations=default_authorizations(workload, name),
        routes=() if is_raw else default_routes(workload, port),
    )


def default_authorizations(workload: Workload, name: str) -> tuple[Authorization, ...]:
    """Return what the default policy ``name`` admits (``localhost`` is every policy's own)."""
    if name == "deny":
        return ()
    networks = workload.config.cluster_networks if name.startswith("cluster-") else ALL_NETWORKS
    authentication: Authentication = Unauthenticated()
    if name.endswith("-authenticated"):
        authentication = TlsAuthenticated(suffixes=((),))
    return (
        Authorization(
            metadata=default_metadata(name),
            networks=tuple(NetworkMatch(network) for network in networks),
            authentication=authentication,
        ),
    )


def default_routes(workload: Workload, port: int) -> tuple[InboundRoute, ...]:
    """Return the catch-all route and, where the port is probed over HTTP, the probes' own."""
    catch_all = InboundRoute(
        metadata=default_metadata("default"), rules=(InboundRule(matches=(_ANY_REQUEST,)),)
    )
    paths = sorted({probe.path for probe in workload.pod.probes if probe.port == port})
    if not paths:
        return (catch_all,)
    matches = tuple(
        HttpMatch(path=PathMatch(PathMatchKind.EXACT, path), method="GET") for path in paths
    )
    probe = InboundRoute(
        metadata=default_metadata("probe"),
        authorizations=(
            Authorization(
                metadata=default_metadata("probe"),
                networks=tuple(NetworkMatch(network) for network in ALL_NETWORKS),
                authentication=Unauthenticated(),
            ),
        ),
        rules=(InboundRule(matches=matches),),
    )
    return (catch_all, probe)


def service_policy(
    service: Service, namespace: Namespace | None, port: int, host: str
) -> OutboundPolicy:
    """Return how a Service's port is reached without routes of its own; ``host`` is its full name.

    An undeclared port is closed. Annotations say how it is retried, timed out and balanced.
    """
    metadata = Metadata(
        group="core",
        kind="Service",
        namespace=service.meta.namespace,
        name=service.meta.name,
        port=port,
    )
    declared = service.port(port)
    if declared is None:
        closed = OpaqueRoute(
            metadata=default_metadata("undefined-port"), filters=(ForbiddenFilter(),)
        )
        return OutboundPolicy(metadata=metadata, protocol=Protocol.OPAQUE, opaque=(closed,))
    protocol = Protocol.DETECT
    if is_opaque(service, namespace, port):
        protocol = Protocol.OPAQUE
    elif declared.app_protocol:
        is_h2 = declared.app_protocol.lower() != "http"
        protocol = Protocol.HTTP2 if is_h2 else Protocol.HTTP1
    traffic = traffic_of(service.meta.annotations)
    backend = Backend(
        metadata=metadata, dispatcher=Balancer(target=Target(host, port), load=traffic.load)
    )
    plain = _plain(metadata, protocol, backend, http="http", opaque="opaq", traffic=traffic)
    return replace(plain, failure_accrual=traffic.accrual, safe_retries=traffic.safe_retries)


def egress_policy(destination: Address) -> OutboundPolicy:
    """Return how an address outside the cluster's networks is reached: as it stands."""
    metadata = default_metadata("egress-fallback")
    backend = Backend(metadata=metadata, dispatcher=Forward(Endpoint(address=destination)))
    return _plain(
        metadata, Protocol.DETECT, backend, http="egress-fallback", opaque="egress-fallback"
    )


def endpoint_policy(endpoint: Endpoint, *, is_opaque: bool) -> OutboundPolicy:
    """Return how an address inside the cluster that is no Service's is reached: as it stands."""
    metadata = default_metadata("endpoint")
    backend = Backend(metadata=metadata, dispatcher=Forward(endpoint))
    protocol = Protocol.OPAQUE if is_opaque else Protocol.DETECT
    return _plain(metadata, protocol, backend, http="endpoint", opaque="endpoint")


def _plain(
    metadata: Metadata,
    protocol: Protocol,
    backend: Backend,
    *,
    http: str,
    opaque: str,
    traffic: Traffic = _NO_WISHES,
) -> OutboundPolicy:
    """Return a policy whose every route leads to one backend."""
    distribution = FirstAvailable((backend,))
    rule = OutboundRule(
        matches=(_ANY_REQUEST,),
        distribution=distribution,
        timeouts=traffic.timeouts,
        retry=traffic.retry,
        allow_l5d_request_headers=traffic.allows_headers,
    )
    route = OutboundRoute(metadata=default_metadata(http), rules=(rule,))
    raw = OpaqueRoute(metadata=default_metadata(opaque), distribution=distribution)
    return OutboundPolicy(
        metadata=metadata,
        protocol=protocol,
        http1=(route,) if protocol in {Protocol.DETECT, Protocol.HTTP1} else (),
        http2=(route,) if protocol in {Protocol.DETECT, Protocol.HTTP2} else (),
        opaque=(raw,) if protocol in {Protocol.DETECT, Protocol.OPAQUE} else (),
    )
