"""The mesh of a run, as ten manifests: two meshed workloads, an opaque port, who may call it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.candidate import Carried, Hop
from discovery.model import Address

CLUSTER_IP: Final = "127.255.255.254"
"""The service's address. Connections to it come out of the capture; nobody listens there."""

_MANIFESTS: Final = """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: pillion-config, namespace: linkerd}}
data:
  trustDomain: {trust_domain}
  clusterNetworks: 127.0.0.0/8
  defaultInboundPolicy: {default_policy}
---
apiVersion: v1
kind: Namespace
metadata:
  name: bench
  annotations: {{linkerd.io/inject: enabled}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: client, namespace: bench}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: server, namespace: bench}}
---
apiVersion: v1
kind: Pod
metadata: {{name: outbound-0, namespace: bench}}
spec:
  serviceAccountName: client
  containers: [{{name: load}}]
status: {{podIP: {client_ip}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: inbound-0
  namespace: bench
  labels: {{app: server}}
  annotations:
    linkerd.io/inject: {inject}
    config.linkerd.io/opaque-ports: "{opaque}"
    config.linkerd.io/inbound-port: "{direct_port}"
spec:
  serviceAccountName: server
  containers:
    - name: backend
      ports: [{{name: bytes, containerPort: {port}}}]
status: {{podIP: {server_ip}}}
---
apiVersion: v1
kind: Service
metadata:
  name: server
  namespace: bench
  annotations: {{config.linkerd.io/opaque-ports: "{opaque}"}}
spec:
  clusterIP: {cluster_ip}
  selector: {{app: server}}
  ports: [{{name: bytes, port: {port}}}]
"""
_ONLY_THE_CLIENT: Final = """\
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {{name: bytes, namespace: bench}}
spec:
  podSelector: {{matchLabels: {{app: server}}}}
  port: bytes
  proxyProtocol: {protocol}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {{name: client, namespace: bench}}
spec:
  identityRefs: [{{kind: ServiceAccount, name: client}}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: client, namespace: bench}}
spec:
  targetRef: {{group: policy.linkerd.io, kind: Server, name: bytes}}
  requiredAuthenticationRefs:
    - {{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: client}}
"""


def write_mesh(hop: Hop, directory: Path) -> None:
    """Write the manifests of the mesh that ``hop`` is in."""
    is_plain = hop.carried is Carried.PLAIN
    ports = (hop.backend.port, hop.inner.port) if is_plain else (hop.backend.port,)
    text = _MANIFESTS if is_plain else _MANIFESTS + _ONLY_THE_CLIENT
    text = text.format(
        trust_domain=hop.credentials.authority.trust_domain,
        client_ip=hop.entry.ip,
        server_ip=hop.backend.ip,
        cluster_ip=CLUSTER_IP,
        port=hop.backend.port,
        opaque=",".join(map(str, ports)) if hop.is_declared else "",
        default_policy="all-unauthenticated" if is_plain else "cluster-authenticated",
        inject="disabled" if is_plain else "enabled",
        protocol="opaque" if hop.is_declared else "unknown",
        direct_port=hop.inner.port,
    )
    (directory / "mesh.yaml").write_text(text)


def service_address(backend: Address) -> Address:
    """Return where the client of a service in front of ``backend`` connects."""
    return Address(CLUSTER_IP, backend.port)
