"""MeshTLSAuthentication (policy.linkerd.io): identities, or the accounts that have them."""

from __future__ import annotations

from typing import final

from core.record import dataclass
from resources.fields import Fields
from resources.identity_pattern import IdentityPattern, parse_patterns
from resources.kind import Meta, ObjectKey
from resources.object_name import check_name, check_namespace, group_of


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MeshTlsAuthentication:
    """A MeshTLSAuthentication; any of its identities will do."""

    meta: Meta
    identities: tuple[IdentityPattern, ...] = ()
    references: tuple[ObjectKey, ...] = ()
    """ServiceAccounts, and Namespaces for all of their accounts; they need not exist."""


def parse_mesh_tls_authentication(meta: Meta, body: Fields) -> MeshTlsAuthentication:
    """Read a MeshTLSAuthentication."""
    spec = body.map("spec", required=True)
    spec.only("identities", "identityRefs")
    identities = parse_patterns(spec, "identities")
    references = []
    for fields in spec.maps("identityRefs"):
        kind = fields.choice("kind", ("ServiceAccount", "Namespace"), required=True)
        if group_of(fields):
            fields.problem("group", f"{kind} is of the core group, which is written as empty")
        name = check_name(fields, "name")
        if kind == "Namespace" and fields.has("namespace"):
            fields.problem("namespace", "a Namespace is in none")
        namespace = check_namespace(fields, "namespace", meta.namespace)
        references.append(ObjectKey("", kind, "" if kind == "Namespace" else namespace, name))
    if spec.has("identities") == spec.has("identityRefs"):
        spec.problem("", "wanted either identities or identityRefs")
    for name in ("identities", "identityRefs"):
        if spec.has(name):
            spec.items(name, required=True)
    return MeshTlsAuthentication(meta=meta, identities=identities, references=tuple(references))
