"""A mesh directory read once, for questions about it: no watching, every pod alike.

What a sidecar would do with the directory at its first load is what is answered: a broken
document closes the ports of whom it concerns.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, final

from control.mesh import Mesh
from policy.default import refuse_all
from policy.model import ServerPolicy
from resources.config_map import CONFIG_KEY, DEFAULT_CONFIG, ConfigMap, MeshConfig
from resources.document import Problem
from resources.kind import ObjectKey, Resource
from resources.namespace import Namespace
from resources.pod import Pod
from resources.sources.directory import DirectorySource
from resources.workload import Workload


@final
class OfflineMesh:
    """Everything in one directory."""

    def __init__(self, directory: str, now: datetime) -> None:
        scan = DirectorySource(directory).scan(now)
        self.problems: Final[tuple[Problem, ...]] = scan.problems
        self.resources: Final[tuple[Resource, ...]] = scan.applied
        self.blocks: Final = scan.blocks
        self._by_key: Final = {each.meta.key: each for each in scan.applied}
        self.mesh: Final = Mesh()
        self.mesh.change(scan.applied, ())

    @property
    def config(self) -> MeshConfig:
        """The mesh's settings."""
        found = self._by_key.get(CONFIG_KEY)
        return (isinstance(found, ConfigMap) and found.config) or DEFAULT_CONFIG

    @property
    def workloads(self) -> list[Workload]:
        """Every pod that has not ended, by namespace and name."""
        pods = [each for each in self.resources if isinstance(each, Pod) and not each.is_done]
        return [self._workload(each) for each in sorted(pods, key=lambda each: each.meta.key)]

    def get(self, key: ObjectKey) -> Resource | None:
        """Return an object, or None."""
        return self._by_key.get(key)

    def workload(self, namespace: str, name: str) -> Workload | None:
        """Return a pod with what else decides about it; None when there is none."""
        found = self._by_key.get(ObjectKey("", "Pod", namespace, name))
        return self._workload(found) if isinstance(found, Pod) else None

    def policy(self, pod: ObjectKey, port: int) -> ServerPolicy:
        """Return the policy of a pod's port."""
        for block in self.blocks:
            if block.namespace is None or block.namespace == pod.namespace:
                return refuse_all(f"the mesh directory is broken: {block.problem}")
        return self.mesh.inbound(pod, port, 0.0).current

    def _workload(self, pod: Pod) -> Workload:
        namespace = self._by_key.get(ObjectKey("", "Namespace", "", pod.meta.namespace))
        return Workload(pod, namespace if isinstance(namespace, Namespace) else None, self.config)
