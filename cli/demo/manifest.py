"""A mesh directory: what runs where, as the ordinary Kubernetes manifests a sidecar reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Final, final

import yaml

from cli.output import Json
from core.record import dataclass

NAMESPACE: Final = "shop"
_CREATED: Final = "2026-01-01T00:00:00Z"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A pod as its manifest says it."""

    name: str
    service_account: str
    ips: Sequence[str]
    """Its addresses, the first of them first."""
    ports: Mapping[str, int]
    """Container → the port it listens on."""
    meshed: bool = True
    annotations: Mapping[str, str]

    @property
    def app(self) -> str:
        """The label that Services select by: the name without its number."""
        return self.name.rpartition("-")[0]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service over the pods of one ``app`` label; with none, over no pods of its own."""

    name: str
    app: str
    cluster_ips: Sequence[str]
    ports: Mapping[int, int]
    """Port → the pods' port."""
    labels: Mapping[str, str] = field(default_factory=dict)


def write_manifests(
    directory: Path,
    workloads: Sequence[Workload],
    services: Sequence[Service],
    settings: Mapping[str, str],
    others: Mapping[str, str],
) -> None:
    """Write the mesh directory, file by file; ``settings`` are those of the whole mesh.

    ``others`` are whole files, by name.
    """
    accounts = sorted({workload.service_account for workload in workloads})
    files: dict[str, list[Json]] = {
        "mesh.yaml": [
            _manifest("v1", "Namespace", "linkerd"),
            {
                **_manifest("v1", "ConfigMap", "pillion-config", "linkerd"),
                "data": dict(settings),
            },
        ],
        "namespace.yaml": [
            _manifest("v1", "Namespace", NAMESPACE),
            *(_manifest("v1", "ServiceAccount", account, NAMESPACE) for account in accounts),
        ],
        "pods.yaml": [_pod(workload) for workload in workloads],
        "services.yaml": [_service(service) for service in services],
    }
    for name, documents in files.items():
        if not documents:
            continue
        text = yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=False)
        _replace(directory / name, text)
    for name, text in others.items():
        _replace(directory / name, text)


def _replace(path: Path, text: str) -> None:
    """Write a file at one stroke: sidecars may be reading it."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(text)
    draft.replace(path)


def _manifest(
    version: str,
    kind: str,
    name: str,
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
) -> dict[str, Json]:
    metadata: dict[str, Json] = {"name": name, "creationTimestamp": _CREATED}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = dict(labels)
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _pod(workload: Workload) -> Json:
    inject = "enabled" if workload.meshed else "disabled"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": workload.name,
            "namespace": NAMESPACE,
            "creationTimestamp": _CREATED,
            "labels": {"app": workload.app},
            "annotations": {"linkerd.io/inject": inject, **workload.annotations},
        },
        "spec": {
            "serviceAccountName": workload.service_account,
            "containers": [
                {"name": name, "image": name, "ports": [{"containerPort": port}]}
                for name, port in workload.ports.items()
            ]
            or [{"name": "app", "image": "app"}],
        },
        "status": {
            "phase": "Running",
            "podIP": workload.ips[0],
            "podIPs": [{"ip": ip} for ip in workload.ips],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def _service(service: Service) -> Json:
    return {
        **_manifest("v1", "Service", service.name, NAMESPACE, service.labels),
        "spec": {
            "selector": {"app": service.app} if service.app else {},
            "clusterIP": service.cluster_ips[0],
            "clusterIPs": list(service.cluster_ips),
            "ports": [
                {"name": f"port-{port}", "port": port, "targetPort": target}
                for port, target in service.ports.items()
            ],
        },
    }
