"""Which routes hold for a Service's port, and for whom: Gateway API, GEP-1294 and GEP-1324. Pure.

A route of the Service's own namespace is its producer's and holds for every client; one of
another namespace is a consumer's and holds for the clients in that namespace alone, where it takes
the place of the producer's. On one port only one kind counts: GRPCRoute before HTTPRoute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from resources.route import BackendRef, ParentRef, Route
from resources.service import Service

FindService = Callable[[str, str], Service | None]
"""Returns a Service by namespace and name."""


def attached_ports(parent: ParentRef, service: Service | None) -> frozenset[int]:
    """Return the ports of a Service that a parent reference means; none: it means nothing.

    Port and section (the port's name) must both fit where both are given. A Service without an
    address of its own is never where a client's connection goes.
    """
    if service is None or not service.cluster_ips:
        return frozenset()
    return frozenset(
        each.port
        for each in service.ports
        if parent.port in (None, each.port) and parent.section in ("", each.name)
    )


def detached(parent: ParentRef, service: Service | None) -> str:
    """Say why a parent reference means no port; empty when it means one."""
    if attached_ports(parent, service):
        return ""
    what = f"Service {parent.namespace}/{parent.name}"
    if service is None:
        return f"{what} does not exist"
    if not service.cluster_ips:
        return f"{what} has no cluster address, so no client calls it by one"
    wanted = [] if parent.port is None else [f"number {parent.port}"]
    wanted += [f"name {parent.section!r}"] if parent.section else []
    has = ", ".join(str(each.port) for each in service.ports) or "none"
    said = f" of {' and '.join(wanted)}" if wanted else ""
    return f"{what} has no port{said}; its ports: {has}"


def is_attached(route: Route, service: Service, port: int) -> bool:
    """Whether a route is attached to a Service's port."""
    meta = service.meta
    return any(
        parent.is_service
        and (parent.namespace, parent.name) == (meta.namespace, meta.name)
        and port in attached_ports(parent, service)
        for parent in route.parents
    )


def effective_routes(
    routes: Iterable[Route], service: Service, port: int, client_namespace: str
) -> list[Route]:
    """Return the routes that decide for a client's namespace, in the order given."""
    attached = [each for each in routes if is_attached(each, service, port)]
    consumer = [each for each in attached if each.meta.namespace == client_namespace]
    producer = [each for each in attached if each.meta.namespace == service.meta.namespace]
    chosen = consumer or producer
    calls = [each for each in chosen if each.is_grpc]
    return calls or chosen


def bad_backend(backend: BackendRef, find: FindService) -> tuple[str, str]:
    """Return the reason (Gateway API, ResolvedRefs) and words for a reference that leads nowhere.

    Both are empty for one that can be used. Other namespaces need no grant: the mesh makes
    nothing reachable that was not.
    """
    name = f"{backend.namespace}/{backend.name}"
    if (backend.group, backend.kind) not in (("", "Service"), ("core", "Service")):
        kind = f"{backend.group}/{backend.kind}" if backend.group else backend.kind
        return "InvalidKind", f"{kind} {name} is no Service"
    service = find(backend.namespace, backend.name)
    if service is None:
        return "BackendNotFound", f"Service {name} does not exist"
    if service.type == "ExternalName":
        return "InvalidKind", f"Service {name} is an ExternalName, which has no endpoints"
    if backend.port is None or service.port(backend.port) is None:
        has = ", ".join(str(each.port) for each in service.ports) or "none"
        return "BackendNotFound", f"Service {name} has no port {backend.port}; its ports: {has}"
    return "", ""
