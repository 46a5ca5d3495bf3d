"""Manifests as text and as objects, for every suite that needs a mesh directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from resources.kind import Resource
from resources.manifest import parse_manifest

MESHED = {"linkerd.io/inject": "enabled"}


def objects(*manifests: dict[str, Any]) -> list[Resource]:
    """Return the parsed objects; a mistake in one is the test's."""
    found = []
    for manifest in manifests:
        (document,) = parse_manifest("test.json", json.dumps(manifest).encode()).documents
        assert document.resource is not None, document.problems
        found.append(document.resource)
    return found


def one(manifest: dict[str, Any]) -> Resource:
    """Return one parsed object."""
    (found,) = objects(manifest)
    return found


def _meta(
    name: str,
    namespace: str,
    labels: Mapping[str, str] | None,
    annotations: Mapping[str, str] | None,
    created: str | None,
) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name}
    if namespace:
        meta["namespace"] = namespace
    if labels:
        meta["labels"] = dict(labels)
    if annotations:
        meta["annotations"] = dict(annotations)
    if created:
        meta["creationTimestamp"] = created
    return meta


def namespace(
    name: str = "shop", annotations: Mapping[str, str] | None = None, created: str | None = None
) -> dict[str, Any]:
    """Return a Namespace's manifest."""
    meta = _meta(name, "", None, annotations, created)
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}


def config(**data: str) -> dict[str, Any]:
    """Return the mesh's own ConfigMap."""
    meta = _meta("pillion-config", "linkerd", None, None, None)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def pod(
    name: str,
    *ips: str,
    namespace: str = "shop",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    created: str | None = None,
    ports: Mapping[str, int] | None = None,
    spec: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    container: Mapping[str, Any] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a Pod's manifest with one container; ``spec``, ``status``, … are merged in."""
    named = [{"name": key, "containerPort": port} for key, port in (ports or {}).items()]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**_meta(name, namespace, labels, annotations, created), **(meta or {})},
        "spec": {
            "containers": [{"name": "app", "ports": named, **(container or {})}],
            **(spec or {}),
        },
        "status": {
            **({"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]} if ips else {}),
            **(status or {}),
        },
    }


def service(
    name: str,
    cluster_ip: str = "None",
    *ports: Mapping[str, Any],
    namespace: str = "shop",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    created: str | None = None,
    selector: Mapping[str, str] | None = None,
    spec: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a Service's manifest; the selector is ``app: <name>`` unless given."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(name, namespace, labels, annotations, created),
        "spec": {
            "clusterIP": cluster_ip,
            "ports": [dict(port) for port in ports],
            "selector": {"app": name} if selector is None else dict(selector),
            **(spec or {}),
        },
    }


def endpoint_slice(
    name: str,
    service: str,
    *endpoints: Mapping[str, Any],
    namespace: str = "shop",
    ports: tuple[Mapping[str, Any], ...] = ({"name": "", "port": 8080},),
    family: str = "IPv4",
    created: str | None = None,
) -> dict[str, Any]:
    """Return an EndpointSlice's manifest."""
    labels = {"kubernetes.io/service-name": service}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": _meta(name, namespace, labels, None, created),
        "addressType": family,
        "endpoints": [dict(endpoint) for endpoint in endpoints],
        "ports": [dict(port) for port in ports],
    }
