"""Every kind that is read: add yours as one row."""

from __future__ import annotations

from typing import Final

from resources.config_map import parse_config_map
from resources.endpoint_slice import parse_endpoint_slice
from resources.kind import Kind
from resources.namespace import parse_namespace
from resources.pod import parse_pod
from resources.service import parse_service
from resources.service_account import parse_service_account

_V1: Final = frozenset({"v1"})

_KNOWN: Final[tuple[Kind, ...]] = (
    Kind(group="", name="Namespace", versions=_V1, parse=parse_namespace, is_namespaced=False),
    Kind(group="", name="ServiceAccount", versions=_V1, parse=parse_service_account),
    Kind(group="", name="ConfigMap", versions=_V1, parse=parse_config_map),
    Kind(group="", name="Pod", versions=_V1, parse=parse_pod),
    Kind(group="", name="Service", versions=_V1, parse=parse_service),
    Kind(
        group="discovery.k8s.io",
        name="EndpointSlice",
        versions=frozenset({"v1", "v1beta1"}),
        parse=parse_endpoint_slice,
    ),
)

KINDS: Final[dict[tuple[str, str], Kind]] = {(kind.group, kind.name): kind for kind in _KNOWN}
"""Group and kind → how to read it."""
