"""Policy objects by what they are looked up by, and a view that remembers what it looked up.

An object is filed under tags; a change touches the tags of its old and its new state. A ``View``
collects the tags of all that it was asked for, found or not, so a policy computed through one is
out of date exactly when one of its tags was touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar, final

from resources.authorization_policy import POLICY_GROUP, AuthorizationPolicy
from resources.kind import Meta, ObjectKey, Resource
from resources.mesh_tls_authentication import MeshTlsAuthentication
from resources.network_authentication import NetworkAuthentication
from resources.rate_limit_policy import RateLimitPolicy
from resources.route import ParentRef, Route
from resources.selector import Selector
from resources.server import Server
from resources.server_authorization import ServerAuthorization

Tag = tuple[str, str, str]
"""A sort of lookup and what it was asked."""

R = TypeVar("R", bound=Resource)


@final
class PolicyIndex:
    """All policy objects known now, taken in any order; other kinds are let go."""

    __slots__ = ("_filed", "_objects")

    def __init__(self) -> None:
        self._objects: dict[ObjectKey, Resource] = {}
        self._filed: dict[Tag, dict[ObjectKey, Resource]] = {}

    def change(self, applied: Iterable[Resource], deleted: Iterable[ObjectKey]) -> set[Tag]:
        """Forget and take in objects; returns the tags that were touched."""
        touched: set[Tag] = set()
        for key in deleted:
            self._remove(key, touched)
        for resource in applied:
            key = resource.meta.key
            if self._objects.get(key) == resource:
                continue
            self._remove(key, touched)
            tags = _tags(resource)
            if not tags:
                continue
            self._objects[key] = resource
            for tag in tags:
                self._filed.setdefault(tag, {})[key] = resource
            touched |= tags
        return touched

    def find(self, tag: Tag, kind: type[R]) -> list[R]:
        """Return the objects under ``tag``, oldest first."""
        found = [each for each in self._filed.get(tag, {}).values() if isinstance(each, kind)]
        found.sort(key=_age)
        return found

    def _remove(self, key: ObjectKey, touched: set[Tag]) -> None:
        old = self._objects.pop(key, None)
        if old is None:
            return
        tags = _tags(old)
        for tag in tags:
            filed = self._filed[tag]
            del filed[key]
            if not filed:
                del self._filed[tag]
        touched |= tags


@final
class View:
    """Reads the index for one computation; ``tags`` is what that depends on."""

    __slots__ = ("_index", "tags")

    def __init__(self, index: PolicyIndex, tags: set[Tag]) -> None:
        self._index = index
        self.tags: Final = tags

    def servers(self, pod: Meta) -> list[Server]:
        """Return the Servers whose selector fits a pod, oldest first."""
        found: list[Server] = []
        for label in ("", *(f"{key}={value}" for key, value in pod.labels.items())):
            found += self._find(("servers", pod.namespace, label), Server)
        found = [each for each in found if each.pods and each.pods.matches(pod.labels)]
        found.sort(key=_age)
        return found

    def server_authorizations(self, server: Meta) -> list[ServerAuthorization]:
        """Return the ServerAuthorizations for a Server, by name."""
        found = [
            each
            for name in ("", server.name)
            for each in self._find(
                ("server-authorizations", server.namespace, name), ServerAuthorization
            )
            if each.selects(server)
        ]
        found.sort(key=_name)
        return found

    def policies(self, target: ObjectKey) -> list[AuthorizationPolicy]:
        """Return the AuthorizationPolicies and DenyPolicies on a target, by name."""
        found = self._find(_target_tag(target), AuthorizationPolicy)
        found.sort(key=_name)
        return found

    def routes(self, server: Meta) -> list[Route]:
        """Return the routes that want to be attached to a Server and may be, oldest first."""
        return self._find(("routes", server.namespace, server.name), Route)

    def rate_limits(self, server: Meta) -> list[RateLimitPolicy]:
        """Return the rate limits for a Server, oldest first."""
        return self._find(("rate-limits", server.namespace, server.name), RateLimitPolicy)

    def mesh_tls(self, key: ObjectKey) -> MeshTlsAuthentication | None:
        """Return a MeshTLSAuthentication."""
        found = self._find(("authentication", key.namespace, key.name), MeshTlsAuthentication)
        return found[0] if found else None

    def network(self, key: ObjectKey) -> NetworkAuthentication | None:
        """Return a NetworkAuthentication."""
        found = self._find(("authentication", key.namespace, key.name), NetworkAuthentication)
        return found[0] if found else None

    def authentications(self, kind: str) -> list[ObjectKey]:
        """Return the keys of all authentications of a kind, for messages that help."""
        self.tags.add(("authentications", kind, ""))
        found: list[Resource] = [
            *self._index.find(("authentications", kind, ""), MeshTlsAuthentication),
            *self._index.find(("authentications", kind, ""), NetworkAuthentication),
        ]
        return [each.meta.key for each in found]

    def _find(self, tag: Tag, kind: type[R]) -> list[R]:
        self.tags.add(tag)
        return self._index.find(tag, kind)


def is_attachable(parent: ParentRef, namespace: str) -> bool:
    """Whether a route of ``namespace`` may be attached to this parent as to a Server.

    Of its own namespace, and whole: Linkerd accepts neither port nor section here.
    """
    return (
        (parent.group, parent.kind, parent.namespace) == (POLICY_GROUP, "Server", namespace)
        and parent.port is None
        and not parent.section
    )


def _tags(resource: Resource) -> set[Tag]:
    """Return what an object is found by; nothing for kinds that policy does not read."""
    namespace, name = resource.meta.namespace, resource.meta.name
    if isinstance(resource, Server):
        return {("servers", namespace, _label_of(resource.pods))}
    if isinstance(resource, ServerAuthorization):
        return {("server-authorizations", namespace, resource.server_name)}
    if isinstance(resource, AuthorizationPolicy):
        return {_target_tag(resource.target)}
    if isinstance(resource, Route):
        return {
            ("routes", namespace, parent.name)
            for parent in resource.parents
            if is_attachable(parent, namespace)
        }
    if isinstance(resource, RateLimitPolicy):
        return {("rate-limits", namespace, resource.server)}
    if isinstance(resource, MeshTlsAuthentication | NetworkAuthentication):
        kind = resource.meta.key.kind
        return {("authentication", namespace, name), ("authentications", kind, "")}
    return set()


def _target_tag(target: ObjectKey) -> Tag:
    return ("policies", target.namespace, f"{target.group}/{target.kind}/{target.name}")


def _label_of(selector: Selector | None) -> str:
    """Return a label that every pod selected has, as text; empty when that cannot be told."""
    for each in selector.requirements if selector is not None else ():
        if each.operator == "In" and len(each.values) == 1:
            (value,) = each.values
            return f"{each.key}={value}"
    return ""


def _age(resource: Resource) -> tuple[object, ...]:
    key = resource.meta.key
    return (*resource.meta.age_order, key.kind, key.group)


def _name(resource: Resource) -> tuple[str, str, str]:
    key = resource.meta.key
    return (key.name, key.kind, key.group)
