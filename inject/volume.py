"""What the sidecar finds on disk: the mesh, its identity, the anchors; and where.

Anchors come from the ConfigMap ``linkerd-identity-trust-roots``, so that they rotate without a
restart. With a controller the leaf is made in the pod: an emptyDir in memory, and the projected
token that proves who asks (linkerd2, charts/partials/templates/_volumes.tpl). Without one, leaf
and key are a Secret's, which others rotate.
"""

from __future__ import annotations

from typing import Final, final

from core.record import dataclass
from inject.options import ANCHORS_CONFIG_MAP, ANCHORS_KEY, Options
from inject.patch import Json
from inject.settings import Settings

MESH: Final = "/var/run/pillion/mesh"
IDENTITY: Final = "/var/run/pillion/identity"
ISSUED_IDENTITY: Final = "/var/run/linkerd/identity/end-entity"
TOKENS: Final = "/var/run/secrets/tokens"
TOKEN_NAME: Final = "linkerd-identity-token"  # noqa: S105  a volume and a file, no secret

_PRIVATE: Final = 0o400
_TOKEN_SECONDS: Final = 86_400
_AUDIENCE: Final = "identity.l5d.io"


@final
@dataclass(frozen=True, slots=True)
class Mount:
    """A volume, and where a container sees it."""

    name: str
    source: dict[str, Json]
    path: str
    is_read_only: bool = True

    def volume(self) -> dict[str, Json]:
        """Return the element of ``spec.volumes``."""
        return {"name": self.name, **self.source}

    def mount(self) -> dict[str, Json]:
        """Return the element of a container's ``volumeMounts``."""
        plain: dict[str, Json] = {"name": self.name, "mountPath": self.path}
        return {**plain, "readOnly": True} if self.is_read_only else plain


RULES_LOCK: Final = Mount(
    "linkerd-proxy-init-xtables-lock", {"emptyDir": {}}, "/run", is_read_only=False
)
"""Where iptables locks, beside a root file system that is read-only."""


def sidecar_mounts(settings: Settings, options: Options) -> tuple[Mount, ...]:
    """Return the sidecar's volumes."""
    anchors: Json = [{"key": ANCHORS_KEY, "path": f"{options.trust_domain}.pem"}]
    if options.controller:
        return (
            Mount(
                "linkerd-identity-end-entity",
                {"emptyDir": {"medium": "Memory"}},
                ISSUED_IDENTITY,
                is_read_only=False,
            ),
            Mount(
                ANCHORS_CONFIG_MAP,
                {"configMap": {**_anchors(options), "items": anchors}},
                f"{ISSUED_IDENTITY}/anchors",
            ),
            Mount(TOKEN_NAME, {"projected": _token()}, TOKENS),
        )
    return (
        Mount("pillion-mesh", {"configMap": {"name": settings.mesh_config_map}}, MESH),
        Mount("pillion-identity", {"projected": _identity(settings, options)}, IDENTITY),
    )


def _anchors(options: Options) -> dict[str, Json]:
    """Return the ConfigMap of anchors, which a pod may do without where it is given others."""
    named: dict[str, Json] = {"name": ANCHORS_CONFIG_MAP}
    return {**named, "optional": True} if options.trust_anchors else named


def _token() -> dict[str, Json]:
    token: dict[str, Json] = {
        "path": TOKEN_NAME,
        "expirationSeconds": _TOKEN_SECONDS,
        "audience": _AUDIENCE,
    }
    return {"sources": [{"serviceAccountToken": token}]}


def _identity(settings: Settings, options: Options) -> dict[str, Json]:
    leaf: Json = [{"key": "tls.key", "path": "key.pem"}, {"key": "tls.crt", "path": "chain.pem"}]
    anchors: Json = [{"key": ANCHORS_KEY, "path": f"anchors/{options.trust_domain}.pem"}]
    return {
        "defaultMode": _PRIVATE,
        "sources": [
            {"secret": {"name": settings.identity_secret, "items": leaf}},
            {"configMap": {**_anchors(options), "items": anchors}},
        ],
    }
