"""Every kind that is read: add yours as one row."""

from __future__ import annotations

from typing import Final

from resources.authorization_policy import (
    GATEWAY_GROUP,
    POLICY_GROUP,
    parse_authorization_policy,
    parse_deny_policy,
)
from resources.config_map import parse_config_map
from resources.endpoint_slice import parse_endpoint_slice
from resources.grpc_route import parse_grpc_route
from resources.http_route import parse_http_route
from resources.kind import Kind
from resources.link import MULTICLUSTER_GROUP, parse_link
from resources.mesh_tls_authentication import parse_mesh_tls_authentication
from resources.namespace import parse_namespace
from resources.network_authentication import parse_network_authentication
from resources.pod import parse_pod
from resources.rate_limit_policy import parse_rate_limit_policy
from resources.server import parse_server
from resources.server_authorization import parse_server_authorization
from resources.service import parse_service
from resources.service_account import parse_service_account

_V1: Final = frozenset({"v1"})
_V1ALPHA1: Final = frozenset({"v1alpha1"})

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
    Kind(
        group=POLICY_GROUP,
        name="Server",
        versions=frozenset({"v1beta3", "v1beta2", "v1beta1", "v1alpha1"}),
        parse=parse_server,
    ),
    Kind(
        group=POLICY_GROUP,
        name="ServerAuthorization",
        versions=frozenset({"v1beta1", "v1alpha1"}),
        parse=parse_server_authorization,
    ),
    Kind(
        group=POLICY_GROUP,
        name="AuthorizationPolicy",
        versions=_V1ALPHA1,
        parse=parse_authorization_policy,
    ),
    Kind(
        group="policy.pillion.dev",
        name="DenyPolicy",
        versions=_V1ALPHA1,
        parse=parse_deny_policy,
    ),
    Kind(
        group=POLICY_GROUP,
        name="MeshTLSAuthentication",
        versions=_V1ALPHA1,
        parse=parse_mesh_tls_authentication,
    ),
    Kind(
        group=POLICY_GROUP,
        name="NetworkAuthentication",
        versions=_V1ALPHA1,
        parse=parse_network_authentication,
    ),
    Kind(
        group=POLICY_GROUP,
        name="HTTPLocalRateLimitPolicy",
        versions=_V1ALPHA1,
        parse=parse_rate_limit_policy,
    ),
    Kind(
        group=POLICY_GROUP,
        name="HTTPRoute",
        versions=frozenset({"v1beta3", "v1beta2", "v1beta1", "v1alpha1"}),
        parse=parse_http_route,
    ),
    Kind(
        group=GATEWAY_GROUP,
        name="HTTPRoute",
        versions=frozenset({"v1", "v1beta1", "v1alpha2"}),
        parse=parse_http_route,
    ),
    Kind(
        group=GATEWAY_GROUP,
        name="GRPCRoute",
        versions=frozenset({"v1", "v1alpha2"}),
        parse=parse_grpc_route,
    ),
    Kind(
        group=MULTICLUSTER_GROUP,
        name="Link",
        versions=frozenset({"v1alpha3", "v1alpha2", "v1alpha1"}),
        parse=parse_link,
    ),
)

KINDS: Final[dict[tuple[str, str], Kind]] = {(kind.group, kind.name): kind for kind in _KNOWN}
"""Group and kind → how to read it."""

_LINKED: Final = ("Namespace", "Service", "EndpointSlice", "Pod", "Server")
LINKED_KINDS: Final[dict[tuple[str, str], Kind]] = {
    key: kind for key, kind in KINDS.items() if kind.name in _LINKED
}
"""What is read of another cluster's directory: where things are, never who may call them."""
