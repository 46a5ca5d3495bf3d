"""Linked clusters of real pods: each with its own issuer and trust domain, captured for real."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Cluster, Pod, Rig
from cli.demo.runtime import Runtime
from tests.support.sockets import listener_in

DIRECT = {"mirror.linkerd.io/exported": "remote-discovery"}
BY_GATEWAY = {"mirror.linkerd.io/exported": "true"}
MEMBER = {"mirror.linkerd.io/federated": "member"}
GATEWAY_ACCOUNT = "gateway"
_ME = "multicluster.pillion.dev/"


def mesh_of(rig: Rig, cluster: Cluster, runtime: Runtime, place: Path) -> Mesh:
    """Return a cluster's mesh; its trust domain is called after it."""
    home = place / cluster.name
    home.mkdir(mode=0o755)
    return Mesh(rig, cluster, runtime, home, f"{cluster.name}.example")


def identity(account: str, cluster: str) -> str:
    """Return the name of a workload of such a cluster."""
    return f"{account}.shop.serviceaccount.identity.linkerd.{cluster}.example"


def link_of(
    mesh: Mesh, far: Mesh, gateway: str = "", *, federated: str = "direct", **spec: Any
) -> None:
    """Link ``mesh`` to ``far``: its manifests and its roots; ``gateway`` is an address.

    ``federated``: how members of federated Services are reached.
    """
    name = far.cluster.name
    manifest = {
        "apiVersion": "multicluster.linkerd.io/v1alpha3",
        "kind": "Link",
        "metadata": {
            "name": name,
            "namespace": "linkerd-multicluster",
            "annotations": {
                f"{_ME}source": str(far.directory),
                f"{_ME}trust-domain": far.trust_domain,
                f"{_ME}federated": federated,
            },
        },
        "spec": {
            "targetClusterName": name,
            "targetClusterDomain": "cluster.local",
            "selector": {"matchLabels": BY_GATEWAY},
            "remoteDiscoverySelector": {"matchLabels": DIRECT},
            "federatedServiceSelector": {"matchLabels": MEMBER},
            **(
                {
                    "gatewayAddress": gateway,
                    "gatewayIdentity": identity(GATEWAY_ACCOUNT, name),
                    "probeSpec": {"period": "200ms", "timeout": "1s", "failureThreshold": "3"},
                }
                if gateway
                else {}
            ),
            **spec,
        },
    }
    mesh.add(f"link-{name}.yaml", yaml.safe_dump(manifest))
    mesh.trust(far)


def admit(mesh: Mesh, app: str, port: int | str, callers: Sequence[str]) -> None:
    """Let only these identities call a port of the pods of ``app``."""
    mesh.add(f"policy-{app}-{port}.yaml", yaml.safe_dump_all(_policy(app, port, callers)))


def _policy(app: str, port: int | str, callers: Sequence[str]) -> list[Mapping[str, Any]]:
    name = f"{app}-{port}"

    def manifest(version: str, kind: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        return {
            "apiVersion": f"policy.linkerd.io/{version}",
            "kind": kind,
            "metadata": {"name": name, "namespace": "shop"},
            "spec": spec,
        }

    group = "policy.linkerd.io"
    return [
        manifest(
            "v1beta3",
            "Server",
            {"podSelector": {"matchLabels": {"app": app}}, "port": port},
        ),
        manifest("v1alpha1", "MeshTLSAuthentication", {"identities": list(callers)}),
        manifest(
            "v1alpha1",
            "AuthorizationPolicy",
            {
                "targetRef": {"group": group, "kind": "Server", "name": name},
                "requiredAuthenticationRefs": [
                    {"group": group, "kind": "MeshTLSAuthentication", "name": name}
                ],
            },
        ),
    ]


def bytes_carried(gateway: Sidecar) -> int:
    """Return how many bytes a gateway has had from its clients, without TLS, by its own count."""
    url = f"http://{gateway.pod.ip}:4191/metrics"
    page = gateway.pod.host.run(["curl", "-sS", url]).stdout
    pattern = r'^tcp_read_bytes_total\{[^}]*direction="inbound"[^}]*\} (\d+)$'
    return sum(int(each) for each in re.findall(pattern, page, re.MULTILINE))


@contextmanager
def answering(pod: Pod, port: int, word: bytes) -> Iterator[None]:
    """Run an app in ``pod`` that answers every connection with ``word`` and what it was sent."""

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(30)
            heard = b"".join(iter(lambda: connection.recv(65_536), b""))
            connection.sendall(word + heard)

    def run(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with listener_in(pod.host, "::", port) as listener:
        listener.settimeout(None)
        thread = threading.Thread(target=run, args=(listener,))
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
