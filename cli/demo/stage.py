"""Where the demo's story plays: pods, and how their programs reach each other.

Two stages: network namespaces with capture rules, for root; loopback addresses, for everybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from cli.demo.mesh import Mesh
from cli.demo.pods import Pod
from cli.demo.talk import Talk
from cli.demo.witness import Flow

HTTP_PORT: Final = 8080
CANARY_PORT: Final = 8081
REDIS_PORT: Final = 6379
HTTP_SERVICE_PORT: Final = 80
CANARY_SHARE: Final = 20
"""Of a hundred requests to the routed Service, those that the canary gets."""
ROUTES: Final = f"""\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: catalog, namespace: shop}}
spec:
  parentRefs: [{{group: "", kind: Service, name: catalog, port: 80}}]
  rules:
    - matches: [{{headers: [{{name: x-canary, value: "yes"}}]}}]
      backendRefs: [{{name: canary, port: 80}}]
    - backendRefs:
        - {{name: api, port: 80, weight: {100 - CANARY_SHARE}}}
        - {{name: canary, port: 80, weight: {CANARY_SHARE}}}
"""
"""The route of the Service ``catalog``, which stands before ``api`` and ``canary``."""
START_S: Final = 15.0
"""How long a program may take to begin."""


class Stage(Protocol):
    """One way to play the story."""

    @property
    def mesh(self) -> Mesh:
        """The mesh, with the pods ``web-0``, ``store-0`` and ``stranger-0``."""
        ...

    @property
    def witness(self) -> str:
        """Who saw what passed between the sidecars, for a person."""
        ...

    def write(self, **settings: str) -> None:
        """Write the manifests, with these settings of the whole mesh."""
        ...

    def app(self, port: int) -> tuple[str, int]:
        """Return where the application of a port of ``store-0`` listens."""
        ...

    def settings(self, pod: str) -> Mapping[str, str]:
        """Return what a pod's sidecar is told besides."""
        ...

    def lead_connections(self, talk: Talk) -> None:
        """Bring the programs' connections to the sidecars, as far as that takes doing."""
        ...

    def curl(self, pod: Pod) -> Sequence[str]:
        """Return curl's arguments for the HTTP service, as ``pod`` reaches it."""
        ...

    def curl_routed(self) -> Sequence[str]:
        """Return curl's arguments for the routed Service, as ``web-0`` reaches it; no path."""
        ...

    def redis(self) -> Sequence[str]:
        """Return redis-cli's arguments for the redis service, as ``web-0`` reaches it."""
        ...

    def watch(self) -> None:
        """Begin to look at what passes between the sidecars."""
        ...

    def seen(self, word: bytes) -> list[Flow]:
        """Return what has passed; the last of it has ``word`` in the clear."""
        ...
