"""AuthorizationPolicy (policy.linkerd.io) and DenyPolicy (policy.pillion.dev): one shape.

Both have a target and the authentications that must hold together. An AuthorizationPolicy
admits whom they fit; a DenyPolicy refuses them, whatever else admits them.
"""

from __future__ import annotations

from typing import Final, final

from core.record import dataclass
from resources.fields import Fields
from resources.kind import Meta, ObjectKey
from resources.object_name import check_name, check_namespace, group_of
from resources.policy_mode import parse_is_audit

POLICY_GROUP: Final = "policy.linkerd.io"
GATEWAY_GROUP: Final = "gateway.networking.k8s.io"

_TARGETS: Final = (
    (POLICY_GROUP, "Server"),
    (POLICY_GROUP, "HTTPRoute"),
    (GATEWAY_GROUP, "HTTPRoute"),
    (GATEWAY_GROUP, "GRPCRoute"),
    ("", "Namespace"),
)
_AUTHENTICATIONS: Final = (
    (POLICY_GROUP, "MeshTLSAuthentication"),
    (POLICY_GROUP, "NetworkAuthentication"),
    ("", "ServiceAccount"),
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationPolicy:
    """An AuthorizationPolicy, or a DenyPolicy (``is_denial``)."""

    meta: Meta
    target: ObjectKey
    """A Server, a route, or the namespace itself; always of the policy's own namespace."""
    authentications: tuple[ObjectKey, ...] = ()
    """All must hold; without any, everyone from everywhere fits."""
    is_denial: bool = False
    is_audit: bool = False


def parse_authorization_policy(meta: Meta, body: Fields) -> AuthorizationPolicy:
    """Read an AuthorizationPolicy."""
    return _parse(meta, body, is_denial=False)


def parse_deny_policy(meta: Meta, body: Fields) -> AuthorizationPolicy:
    """Read a DenyPolicy."""
    return _parse(meta, body, is_denial=True)


def _parse(meta: Meta, body: Fields, *, is_denial: bool) -> AuthorizationPolicy:
    spec = body.map("spec", required=True)
    spec.only("targetRef", "requiredAuthenticationRefs")
    if not spec.has("requiredAuthenticationRefs"):
        spec.problem(
            "requiredAuthenticationRefs", "is missing; an empty list, [], stands for everyone"
        )
    authentications = []
    for fields in spec.maps("requiredAuthenticationRefs"):
        fields.only("group", "kind", "namespace", "name")
        group, kind = _kind_of(fields, _AUTHENTICATIONS)
        namespace = check_namespace(fields, "namespace", meta.namespace)
        authentications.append(ObjectKey(group, kind, namespace, check_name(fields, "name")))
    kinds = [each.kind for each in authentications]
    if kinds.count("MeshTLSAuthentication") + kinds.count("ServiceAccount") > 1:
        spec.problem(
            "requiredAuthenticationRefs",
            "more than one MeshTLSAuthentication or ServiceAccount; name all identities in one"
            " MeshTLSAuthentication",
        )
    if kinds.count("NetworkAuthentication") > 1:
        spec.problem("requiredAuthenticationRefs", "more than one NetworkAuthentication")
    return AuthorizationPolicy(
        meta=meta,
        target=_target(spec.map("targetRef", required=True), meta),
        authentications=tuple(authentications),
        is_denial=is_denial,
        is_audit=parse_is_audit(body),
    )


def _target(fields: Fields, meta: Meta) -> ObjectKey:
    group, kind = _kind_of(fields, _TARGETS)
    name = check_name(fields, "name")
    if kind == "Namespace":
        if name and name != meta.namespace:
            fields.problem("name", f"must be the policy's own namespace, {meta.namespace}")
        return ObjectKey(group, kind, "", name)
    return ObjectKey(group, kind, meta.namespace, name)


def _kind_of(fields: Fields, known: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """Return a reference's group and kind, one of the ``known`` pairs."""
    group = group_of(fields)
    kind = fields.choice("kind", dict.fromkeys(each for _, each in known), required=True)
    groups = [each or "core" for each, of in known if of == kind]
    if kind and (group, kind) not in known:
        fields.problem("group", f"{kind} is of group {' or '.join(groups)}, not {group or 'core'}")
    return group, kind
