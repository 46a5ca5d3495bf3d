"""Objects by what they are looked up by, and a reader that remembers what it looked up.

An object is filed under tags; a change touches the tags of its old and its new state. A ``Lookup``
collects the tags of all that it was asked for, found or not, so a value computed through one is
out of date exactly when one of its tags was touched.
"""

from __future__ import annotations

from dataclasses import field
from typing import Final, TypeVar, final

from core.record import dataclass
from discovery.mirror import Mirror
from discovery.model import Endpoint
from resources.config_map import CONFIG_KEY, DEFAULT_CONFIG, ConfigMap, MeshConfig
from resources.endpoint_slice import EndpointSlice
from resources.kind import ObjectKey, Resource
from resources.namespace import Namespace
from resources.pod import Pod
from resources.route import Route
from resources.server import Server
from resources.service import Service
from resources.workload import Workload

Selector = tuple[tuple[str, str], ...]
"""Labels that must all be there, sorted."""
Tag = tuple[str, str, str]
"""A sort of lookup and what it was asked."""

_CONFIG: Final[Tag] = ("config", "", "")

R = TypeVar("R", bound=Resource)


@final
@dataclass(slots=True)
class Change:
    """What some puts and removes touched."""

    tags: set[Tag] = field(default_factory=set)
    pods: list[Pod] = field(default_factory=list)
    """Old and new states of pods: a selector may match either."""


@final
class Store:
    """All objects known now; kinds that discovery does not read are let go."""

    def __init__(self) -> None:
        self._objects: dict[ObjectKey, Resource] = {}
        self._filed: dict[Tag, dict[ObjectKey, Resource]] = {}
        self._remembered: dict[ObjectKey, dict[tuple[object, ...], Endpoint]] = {}

    def get(self, key: ObjectKey) -> Resource | None:
        """Return an object, or None."""
        return self._objects.get(key)

    def put(self, resource: Resource, change: Change) -> None:
        """Take in an object or its new state."""
        key = resource.meta.key
        tags = _tags(resource)
        if self._objects.get(key) == resource or not tags:
            return
        self.remove(key, change)
        self._objects[key] = resource
        for tag in tags:
            self._filed.setdefault(tag, {})[key] = resource
        self._note(change, resource, tags)

    def remove(self, key: ObjectKey, change: Change) -> None:
        """Forget an object; one that is not there is no error."""
        old = self._objects.pop(key, None)
        if old is None:
            return
        tags = _tags(old)
        for tag in tags:
            filed = self._filed[tag]
            del filed[key]
            if not filed:
                del self._filed[tag]
        self._note(change, old, tags)

    def find(self, tag: Tag, kind: type[R]) -> list[R]:
        """Return the objects under ``tag``, oldest first."""
        found = [each for each in self._filed.get(tag, {}).values() if isinstance(each, kind)]
        found.sort(key=lambda each: each.meta.age_order)
        return found

    def remembered(self, pod: Pod) -> dict[tuple[object, ...], Endpoint]:
        """Return a pod's endpoints made so far, by what they were made from beside objects.

        They are forgotten when the pod changes, or anything that all pods depend on: a change to
        one of a thousand pods makes one endpoint anew.
        """
        return self._remembered.setdefault(pod.meta.key, {})

    def _note(self, change: Change, resource: Resource, tags: set[Tag]) -> None:
        change.tags |= tags
        if isinstance(resource, Pod):
            change.pods.append(resource)
            self._remembered.pop(resource.meta.key, None)
        elif not isinstance(resource, Service | EndpointSlice | Mirror | Route):
            self._remembered.clear()


@final
class Lookup:
    """Reads a store for one computation; ``tags`` and ``selectors`` are what it depends on."""

    __slots__ = ("_store", "selectors", "tags")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.tags: set[Tag] = set()
        self.selectors: set[tuple[str, Selector]] = set()

    def config(self) -> MeshConfig:
        """Return the mesh's configuration."""
        self.tags.add(_CONFIG)
        found = self._store.get(CONFIG_KEY)
        return (isinstance(found, ConfigMap) and found.config) or DEFAULT_CONFIG

    def namespace(self, name: str) -> Namespace | None:
        """Return a namespace, if there is a manifest of it."""
        return self._one(("namespace", "", name), Namespace)

    def pod(self, namespace: str, name: str) -> Pod | None:
        """Return a pod by name."""
        return self._one(("pod", namespace, name), Pod)

    def pods_at(self, ip: str) -> list[Pod]:
        """Return the pods that have this address of the pod network, oldest first."""
        return self._all(("pod-ip", "", ip), Pod)

    def pods_on_host(self, ip: str, port: int) -> list[Pod]:
        """Return the pods that hold this port of a node, oldest first."""
        return self._all(("host", ip, str(port)), Pod)

    def pods_selected(self, namespace: str, selector: Selector) -> list[Pod]:
        """Return the pods of a namespace that have all these labels, oldest first."""
        self.selectors.add((namespace, selector))
        pods = self._store.find(("pods", namespace, ""), Pod)
        return [pod for pod in pods if matches(selector, pod)]

    def service(self, namespace: str, name: str) -> Service | None:
        """Return a Service by name."""
        return self._one(("service", namespace, name), Service)

    def services_at(self, ip: str) -> list[Service]:
        """Return the Services that have this cluster address, oldest first."""
        return self._all(("cluster-ip", "", ip), Service)

    def slices(self, namespace: str, service: str) -> list[EndpointSlice]:
        """Return a Service's EndpointSlices, oldest first."""
        return self._all(("slices", namespace, service), EndpointSlice)

    def mirror(self, namespace: str, service: str) -> Mirror | None:
        """Return what a Service has in other clusters."""
        return self._one(("mirror", namespace, service), Mirror)

    def routes(self, namespace: str, service: str) -> list[Route]:
        """Return the routes of any namespace that name a Service as a parent, oldest first."""
        return self._all(("routes-on-service", namespace, service), Route)

    def servers(self, namespace: str) -> list[Server]:
        """Return a namespace's Servers, oldest first."""
        return self._all(("servers", namespace, ""), Server)

    def zone_of(self, node: str) -> str:
        """Return the zone that EndpointSlices give for a node; empty when none does."""
        for each in self._all(("node", "", node), EndpointSlice):
            for endpoint in each.endpoints:
                if endpoint.node_name == node and endpoint.zone:
                    return endpoint.zone
        return ""

    def remembered(self, pod: Pod) -> dict[tuple[object, ...], Endpoint]:
        """Return a pod's endpoints made so far; depends on all they are made from."""
        namespace = pod.meta.namespace
        self.tags.update((_CONFIG, ("namespace", "", namespace), ("servers", namespace, "")))
        return self._store.remembered(pod)

    def workload(self, pod: Pod) -> Workload:
        """Return a pod with what else decides about it."""
        return Workload(pod, self.namespace(pod.meta.namespace), self.config())

    def _one(self, tag: Tag, kind: type[R]) -> R | None:
        found = self._all(tag, kind)
        return found[0] if found else None

    def _all(self, tag: Tag, kind: type[R]) -> list[R]:
        self.tags.add(tag)
        return self._store.find(tag, kind)


def matches(selector: Selector, pod: Pod) -> bool:
    """Whether the pod has all these labels."""
    labels = pod.meta.labels
    return all(labels.get(key) == value for key, value in selector)


def _tags(resource: Resource) -> set[Tag]:
    """Return what an object is found by; nothing for kinds that discovery does not read."""
    namespace, name = resource.meta.namespace, resource.meta.name
    if isinstance(resource, Pod):
        return _pod_tags(resource)
    if isinstance(resource, Service):
        addresses = {("cluster-ip", "", ip) for ip in resource.cluster_ips}
        return {("service", namespace, name), *addresses}
    if isinstance(resource, EndpointSlice):
        nodes = {("node", "", each.node_name) for each in resource.endpoints if each.zone}
        return {("slices", namespace, resource.service), *nodes}
    if isinstance(resource, Mirror):
        return {("mirror", namespace, name)}
    if isinstance(resource, Route):
        return {
            ("routes-on-service", parent.namespace, parent.name)
            for parent in resource.parents
            if parent.is_service
        }
    if isinstance(resource, Server):
        return {("servers", namespace, "")}
    if isinstance(resource, Namespace):
        return {("namespace", "", name)}
    if isinstance(resource, ConfigMap) and resource.config is not None:
        return {_CONFIG}
    return set()


def _pod_tags(pod: Pod) -> set[Tag]:
    """A pod on the host's network is found by the host's ports, an ended one by name alone."""
    namespace, name = pod.meta.namespace, pod.meta.name
    tags: set[Tag] = {("pod", namespace, name), ("pods", namespace, "")}
    if pod.is_done:
        return tags
    if not pod.is_host_network:
        tags.update(("pod-ip", "", ip) for ip in pod.ips)
    hosts = dict.fromkeys((*pod.host_ips, *pod.ips)) if pod.is_host_network else pod.host_ips
    tags.update(
        ("host", ip, str(port.host_port))
        for ip in hosts
        for port in pod.ports
        if port.host_port is not None
    )
    return tags
