"""What a pod is to the mesh: whether it is in it, who it is, which of its ports are special.

``config.linkerd.io/*`` is the pod's own; a pod without the control plane's label was not injected
by it, so for such a pod its namespace's annotations count too, as they stand now (where Linkerd
injects, it copies them into the pod and they hold from then on).
"""

from __future__ import annotations

import re
from typing import Final, final

from core.record import dataclass
from identity.name import Identity
from resources.config_map import MeshConfig
from resources.namespace import Namespace
from resources.pod import Pod
from resources.ports import PortSet, parse_ports
from resources.service import Service

CONTROL_LABEL: Final = "linkerd.io/control-plane-ns"
INJECT: Final = "linkerd.io/inject"
SETTING_PREFIX: Final = "config.linkerd.io/"
ZONE_LABEL: Final = "topology.kubernetes.io/zone"
TEMPLATE_HASH_LABEL: Final = "pod-template-hash"

INBOUND_PORT: Final = 4143
DEFAULT_OPAQUE_PORTS: Final = "25,587,3306,4444,5432,6379,9300,11211"
"""Ports whose servers speak first or whose protocol is known to be no HTTP (Linkerd's list)."""

_META_PORTS: Final = (("control-port", 4190), ("admin-port", 4191))
_INJECTED: Final = frozenset({"enabled", "ingress"})
_LABEL_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)


@final
@dataclass(frozen=True, slots=True)
class Workload:
    """A pod together with what else decides about it."""

    pod: Pod
    namespace: Namespace | None
    config: MeshConfig

    def setting(self, name: str) -> str | None:
        """Return the annotation ``config.linkerd.io/<name>`` that counts; None when unset."""
        return self._annotation(SETTING_PREFIX + name)

    @property
    def is_meshed(self) -> bool:
        """Whether a sidecar stands beside it (a pod on the host's network gets none)."""
        if CONTROL_LABEL in self.pod.meta.labels:
            return True
        return not self.pod.is_host_network and self._annotation(INJECT) in _INJECTED

    @property
    def control_namespace(self) -> str:
        """The namespace of the control plane it belongs to."""
        return self.pod.meta.labels.get(CONTROL_LABEL) or self.config.control_namespace

    @property
    def identity(self) -> Identity | None:
        """Its identity; None for an unmeshed pod, and for one of another control plane.

        A name too long to be one is returned all the same: asked for, it is never proven, whereas
        no identity at all would mean plaintext.
        """
        if not self.is_meshed or self.control_namespace != self.config.control_namespace:
            return None
        return Identity(
            f"{self.pod.service_account}.{self.pod.meta.namespace}.serviceaccount.identity."
            f"{self.control_namespace}.{self.config.trust_domain}"
        )

    @property
    def opaque_ports(self) -> PortSet:
        """Ports without protocol detection; the annotation replaces the default list."""
        given = self.setting("opaque-ports")
        return self.ports(DEFAULT_OPAQUE_PORTS if given is None else given)

    @property
    def skipped_ports(self) -> PortSet:
        """Ports whose traffic does not pass the sidecar."""
        return self.ports(self.setting("skip-inbound-ports") or "")

    @property
    def direct_port(self) -> int:
        """The sidecar's own inbound port."""
        return self._port_setting("inbound-port", INBOUND_PORT)

    def is_meta_port(self, port: int) -> bool:
        """Whether it is one of the sidecar's own service ports, never reached directly."""
        return any(port == self._port_setting(name, default) for name, default in _META_PORTS)

    def ports(self, text: str) -> PortSet:
        """Read a list of this pod's ports."""
        return parse_ports(text, self.pod.numbers_of)

    @property
    def labels(self) -> dict[str, str]:
        """Metric labels: pod, its owner, service account, control plane, template."""
        meta = self.pod.meta
        kind, owner = self.owner
        found = {"pod": meta.name, "serviceaccount": self.pod.service_account}
        if _LABEL_NAME.fullmatch(kind):
            found[kind] = owner
        if self.is_meshed:
            found["control_plane_ns"] = self.control_namespace
        if TEMPLATE_HASH_LABEL in meta.labels:
            found["pod_template_hash"] = meta.labels[TEMPLATE_HASH_LABEL]
        return found

    @property
    def owner(self) -> tuple[str, str]:
        """Kind (lower case) and name of what runs it; a ReplicaSet's Deployment, if it has one."""
        meta = self.pod.meta
        owners = [each for each in meta.owners if each.is_controller] or list(meta.owners)
        if not owners:
            return "pod", meta.name
        kind, name = owners[0].kind.lower(), owners[0].name
        template = meta.labels.get(TEMPLATE_HASH_LABEL, "")
        if kind == "replicaset" and template and name.endswith(f"-{template}"):
            return "deployment", name.removesuffix(f"-{template}")
        return kind, name

    def _annotation(self, name: str) -> str | None:
        own = self.pod.meta.annotations.get(name)
        if own is not None or CONTROL_LABEL in self.pod.meta.labels or self.namespace is None:
            return own
        return self.namespace.meta.annotations.get(name)

    def _port_setting(self, name: str, default: int) -> int:
        given = self.setting(name) or ""
        return int(given) if given.isdecimal() and 0 < int(given[:6]) <= 65_535 else default


def service_opaque_ports(service: Service, namespace: Namespace | None) -> PortSet:
    """Return a Service's opaque ports: its own annotation, its namespace's, the default list."""
    name = SETTING_PREFIX + "opaque-ports"
    given = service.meta.annotations.get(name)
    if given is None and namespace is not None:
        given = namespace.meta.annotations.get(name)

    def numbers_of(port: str) -> tuple[int, ...]:
        return tuple(each.port for each in service.ports if each.name == port)

    return parse_ports(DEFAULT_OPAQUE_PORTS if given is None else given, numbers_of)


def is_opaque(service: Service, namespace: Namespace | None, port: int) -> bool:
    """Whether a Service's declared port carries opaque bytes.

    Its ``appProtocol`` beats the opaque-ports annotation, and any but those of HTTP is opaque
    (linkerd2, policy-controller/core/src/outbound.rs; ``grpc`` is opaque there).
    """
    declared = service.port(port)
    if declared is not None and declared.app_protocol:
        return declared.app_protocol.lower() not in HTTP_PROTOCOLS
    return port in service_opaque_ports(service, namespace)


HTTP_PROTOCOLS: Final = frozenset({"http", "kubernetes.io/h2c", "grpc"})
"""Values of ``appProtocol``, in lower case, that stand for HTTP."""
