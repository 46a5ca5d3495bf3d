"""Everything known of one cluster: objects in, and live answers about it out.

One owner applies changes, a list at a time; whatever a change touches, destinations and policies
alike, is computed before the first of it is published.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

from core.watch import Watch
from discovery.index import Index
from discovery.resolve import ANYWHERE, Viewpoint
from discovery.store import Lookup, Tag
from policy.compile import compile_port
from policy.default import refuse_all
from policy.index import PolicyIndex, View
from policy.model import ServerPolicy
from resources.kind import ObjectKey, Resource
from resources.pod import Pod


@final
class Mesh:
    """The objects of one cluster: where everything is, and who may call it."""

    def __init__(self, viewpoint: Viewpoint = ANYWHERE) -> None:
        self.index: Final = Index(viewpoint)
        self.policies: Final = PolicyIndex()
        self._ports: Final = self.index.table(self._make_policy)

    def change(
        self,
        applied: Iterable[Resource],
        deleted: Iterable[ObjectKey],
        *,
        viewpoint: Viewpoint | None = None,
        touched: Iterable[Tag] = (),
    ) -> None:
        """Forget, take in, and then publish all that differs; as ``Index.change``."""
        applied, deleted = list(applied), list(deleted)
        tags = self.policies.change(applied, deleted)
        self.index.change(applied, deleted, viewpoint=viewpoint, touched={*touched, *tags})

    def inbound(self, pod: ObjectKey, port: int, now: float) -> Watch[ServerPolicy]:
        """Return the live policy of a pod's port; ``now`` in monotonic seconds."""
        return self._ports.watch((pod, port), now)

    def policy_of(self, lookup: Lookup, pod: Pod, port: int) -> ServerPolicy:
        """Return the policy of a pod's port; what it depends on is noted in ``lookup``."""
        return compile_port(View(self.policies, lookup.tags), lookup.workload(pod), port)

    def server_ports(self, pod: Pod) -> set[int]:
        """Return the ports of a pod that a Server selects."""
        servers = View(self.policies, set()).servers(pod.meta)
        return {number for server in servers for number in pod.numbers_of(server.port)}

    def _make_policy(self, lookup: Lookup, target: tuple[ObjectKey, int]) -> ServerPolicy:
        key, port = target
        pod = lookup.pod(key.namespace, key.name)
        if pod is None:
            return refuse_all(f"{key} has no manifest")
        return self.policy_of(lookup, pod, port)
