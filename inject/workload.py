"""Where the pod stands in each kind of object, and what surrounds it there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, final

from core.nearest import nearest_name
from core.record import dataclass
from inject.facts import MAX_CONTAINERS
from inject.options import Surroundings
from inject.patch import Json

_TEMPLATE: Final = ("spec", "template")
_APPS: Final = ("apps", "extensions")
_PLACES: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "Pod": (("",), ()),
    "ReplicationController": (("",), _TEMPLATE),
    "Deployment": (_APPS, _TEMPLATE),
    "StatefulSet": (_APPS, _TEMPLATE),
    "DaemonSet": (_APPS, _TEMPLATE),
    "ReplicaSet": (_APPS, _TEMPLATE),
    "Job": (("batch",), _TEMPLATE),
    "CronJob": (("batch",), ("spec", "jobTemplate", "spec", "template")),
}
"""Kind → its groups, and the place of its pod template."""
MAX_DEPTH: Final = 16
"""Lists inside each other."""


@final
@dataclass(frozen=True, slots=True)
class Found:
    """One object of a document."""

    path: tuple[str, ...]
    """Where it stands in its document: empty, or in a List."""
    name: str
    """Kind and name, as messages have it."""
    value: dict[str, Json]
    template: tuple[str, ...] | None
    """Where its pod stands in it; None for an object without one."""
    owner_kind: str = ""
    owner_name: str = ""
    namespace: str = ""
    problem: str = ""
    """Why it cannot be told whether it is to be injected."""

    def pod(self) -> dict[str, Json]:
        """Return the pod or pod template; an empty one where there is none."""
        place: Json = self.value
        for token in self.template or ():
            place = place.get(token) if isinstance(place, dict) else None
        return place if isinstance(place, dict) else {}

    def surroundings(
        self, namespaces: Mapping[str, Mapping[str, str]], default: str
    ) -> Surroundings:
        """Return what surrounds its pod; ``namespaces`` are the annotations of those given."""
        namespace = self.namespace or default
        return Surroundings(
            namespace=namespace,
            annotations=namespaces.get(namespace, {}),
            owner_kind=self.owner_kind,
            owner_name=self.owner_name,
        )


def find_objects(document: Json, path: tuple[str, ...] = ()) -> Iterator[Found]:
    """Yield the objects of a document; a List's one by one."""
    if not isinstance(document, dict):
        yield Found(path, "a document", {}, None, problem="is no object; wanted a map")
        return
    kind, version = document.get("kind"), document.get("apiVersion")
    items = document.get("items")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
        if len(path) >= MAX_DEPTH:
            yield Found(path, kind, {}, None, problem=f"nests more than {MAX_DEPTH // 2} Lists")
            return
        for index, each in enumerate(items):
            yield from find_objects(each, (*path, "items", str(index)))
        return
    if not isinstance(kind, str) or not isinstance(version, str) or not kind or not version:
        problem = "has no kind and apiVersion; wanted a Kubernetes object"
        yield Found(path, "a document", document, None, problem=problem)
        return
    yield _object(document, path, kind, version.rpartition("/")[0])


def _object(value: dict[str, Json], path: tuple[str, ...], kind: str, group: str) -> Found:
    metadata = value.get("metadata")
    meta = metadata if isinstance(metadata, dict) else {}
    name, namespace = (meta.get(key) for key in ("name", "namespace"))
    if not isinstance(name, str):
        name = meta.get("generateName")
    name = name if isinstance(name, str) else ""
    where = namespace if isinstance(namespace, str) else ""
    shown = f"{kind.lower()}/{name}" if name else kind.lower()
    groups, template = _PLACES.get(kind, ((), None))
    if group in groups and template is not None:
        return Found(path, shown, value, template, kind, name, where)
    near = nearest_name(kind, _PLACES)
    if _holds_pods(value):
        # Left as it is, its pods would run outside the mesh without anybody having said so.
        problem = f"is of a kind that is not known here ({kind}), and has a pod template"
        if near and near != kind:
            problem += f"; did you mean {near}?"
        return Found(path, shown, value, None, namespace=where, problem=problem)
    return Found(path, shown, value, None, kind, name, where)


def _holds_pods(value: dict[str, Json]) -> bool:
    """Whether there is a pod template in an object's usual places."""
    for _, template in _PLACES.values():
        place: Json = value
        for token in (*template, "spec", "containers"):
            place = place.get(token) if isinstance(place, dict) else None
        if isinstance(place, list) and place and len(place) <= MAX_CONTAINERS:
            return True
    return False


def namespace_annotations(found: Found) -> Mapping[str, str] | None:
    """Return a Namespace's annotations; None for another object."""
    if found.owner_kind != "Namespace" or found.template is not None:
        return None
    metadata = found.value.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if not isinstance(annotations, dict):
        return {}
    return {name: value for name, value in annotations.items() if isinstance(value, str)}
