"""Policies that do not do what their author may think: pure, over parsed objects.

A manifest that cannot be used is not found here but by its parser. What is found: references
that lead nowhere, objects without effect, Servers that an older one shadows, routes that are not
attached or take probes away, denials that hold more than they say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar, final

from core.nearest import nearest_name
from core.record import dataclass
from policy.compile import authorization_of, compile_port, servers_of
from policy.decide import decide_request
from policy.index import PolicyIndex, View, is_attachable
from policy.match import Request
from policy.model import ALL_NETWORKS, Attempt, Client, Permit
from policy.route_compile import unusable_inbound
from policy.traffic import traffic_of
from policy.words import verdict_word
from resources.authorization_policy import POLICY_GROUP, AuthorizationPolicy
from resources.config_map import DEFAULT_CONFIG, ConfigMap
from resources.kind import Meta, ObjectKey, Resource
from resources.namespace import Namespace
from resources.pod import Pod
from resources.rate_limit_policy import RateLimitPolicy
from resources.route import Route
from resources.server import Server
from resources.server_authorization import ServerAuthorization
from resources.service import Service
from resources.workload import Workload

_NOBODY: Final = Pod(meta=Meta(key=ObjectKey("", "Pod", "", "")))
"""Stands where a policy is made ready without a pod to hold it on."""
KUBELET: Final = Client(str(ALL_NETWORKS[0].network_address + 1))
"""Who probes: anybody without mesh TLS."""

_LIMITED: Final = frozenset({"unknown", "HTTP/1", "HTTP/2"})

R = TypeVar("R", bound=Resource)


@final
@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing to look at."""

    key: ObjectKey
    code: str
    """dangling-reference, no-target, no-effect, shadowed, not-attached, probe-lost, wide-denial,
    annotation."""
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message} [{self.code}]"


def lint(resources: Iterable[Resource]) -> list[Finding]:
    """Return everything there is to look at, by object."""
    linter = _Linter(list(resources))
    return sorted(set(linter.findings()))


@final
class _Linter:
    def __init__(self, resources: list[Resource]) -> None:
        self._resources = resources
        self._keys = {each.meta.key for each in resources}
        index = PolicyIndex()
        index.change(resources, ())
        self._view = View(index, set())
        configs = [each.config for each in self._of(ConfigMap) if each.config is not None]
        self._config = configs[0] if configs else DEFAULT_CONFIG
        namespaces = {each.meta.name: each for each in self._of(Namespace)}
        self._workloads = [
            Workload(pod, namespaces.get(pod.meta.namespace), self._config)
            for pod in self._of(Pod)
            if not pod.is_done
        ]

    def findings(self) -> Iterator[Finding]:
        """Yield what is found, in no order."""
        for policy in self._of(AuthorizationPolicy):
            yield from self._policy(policy)
        for authorization in self._of(ServerAuthorization):
            yield from self._server_authorization(authorization)
        for key in self._keys:
            if key.kind in {"MeshTLSAuthentication", "NetworkAuthentication"}:
                yield from self._authentication(key)
        for server in self._of(Server):
            yield from self._server(server)
        for route in self._of(Route):
            yield from self._route(route)
        for limit in self._of(RateLimitPolicy):
            yield from self._rate_limit(limit)
        for workload in self._workloads:
            yield from self._ports(workload)
        for service in self._of(Service):
            for problem in traffic_of(service.meta.annotations).problems:
                yield Finding(service.meta.key, "annotation", problem)

    def _of(self, kind: type[R]) -> list[R]:
        return [each for each in self._resources if isinstance(each, kind)]

    def _policy(self, policy: AuthorizationPolicy) -> Iterator[Finding]:
        key = policy.meta.key
        workload = Workload(_NOBODY, None, self._config)
        made = authorization_of(self._view, workload, policy)
        if isinstance(made, Attempt):
            yield Finding(key, "dangling-reference", f"{made.failed}: it admits nobody")
        elif made.note:
            yield Finding(key, "wide-denial", made.note)
        target = policy.target
        if target.kind == "Namespace":
            servers = [each for each in self._of(Server) if each.meta.namespace == target.name]
            if not servers and not policy.is_denial:
                yield Finding(key, "no-effect", "its namespace has no Server to hold it on")
        elif target not in self._keys:
            yield Finding(key, "no-target", f"{target} does not exist{self._near(target)}")
        elif target.kind != "Server" and not self._is_attached(target):
            yield Finding(key, "no-effect", f"{target} is attached to no Server")

    def _server_authorization(self, given: ServerAuthorization) -> Iterator[Finding]:
        key = given.meta.key
        if not given.authorizes:
            yield Finding(key, "no-effect", "neither unauthenticated nor meshTLS: nobody fits it")
        if not any(given.selects(each.meta) for each in self._of(Server)):
            named = ObjectKey(POLICY_GROUP, "Server", key.namespace, given.server_name)
            said = (
                f"{named} does not exist{self._near(named)}"
                if given.server_name
                else ("its selector fits no Server")
            )
            yield Finding(key, "no-target", said)

    def _authentication(self, key: ObjectKey) -> Iterator[Finding]:
        if not any(key in each.authentications for each in self._of(AuthorizationPolicy)):
            yield Finding(key, "no-effect", "no policy refers to it")

    def _server(self, server: Server) -> Iterator[Finding]:
        if server.pods is None:
            return
        fitting = [
            each
            for each in self._workloads
            if each.pod.meta.namespace == server.meta.namespace
            and server.pods.matches(each.pod.meta.labels)
        ]
        if not fitting:
            yield Finding(server.meta.key, "no-effect", "its selector fits no pod")
        elif not any(each.pod.numbers_of(server.port) for each in fitting):
            names = {port.name for each in fitting for port in each.pod.ports if port.name}
            near = nearest_name(str(server.port), names)
            advice = f" (did you mean {near!r}?)" if near else ""
            yield Finding(
                server.meta.key, "no-effect", f"no pod has a port {server.port!r}{advice}"
            )

    def _route(self, route: Route) -> Iterator[Finding]:
        key = route.meta.key
        for parent in route.parents:
            if (parent.group, parent.kind) != (POLICY_GROUP, "Server"):
                continue
            server = ObjectKey(POLICY_GROUP, "Server", parent.namespace, parent.name)
            if not is_attachable(parent, key.namespace):
                why = "a port or section" if parent.namespace == key.namespace else "its namespace"
                yield Finding(
                    key, "not-attached", f"{server} takes no route by {why}: it is left out"
                )
                continue
            found = next((each for each in self._of(Server) if each.meta.key == server), None)
            if found is None:
                yield Finding(key, "not-attached", f"{server} does not exist{self._near(server)}")
            elif found.protocol in {"opaque", "TLS"}:
                yield Finding(key, "not-attached", f"{server} takes no requests")
            elif route.is_grpc is not (found.protocol == "gRPC"):
                yield Finding(
                    key, "not-attached", f"{server} speaks {found.protocol}: {key.kind} is left out"
                )
            else:
                unusable = unusable_inbound(route)
                if unusable:
                    yield Finding(
                        key, "not-attached", f"a {unusable} filter cannot be used on a Server"
                    )

    def _rate_limit(self, limit: RateLimitPolicy) -> Iterator[Finding]:
        key = limit.meta.key
        named = ObjectKey(POLICY_GROUP, "Server", key.namespace, limit.server)
        server = next((each for each in self._of(Server) if each.meta.key == named), None)
        if server is None:
            yield Finding(key, "no-target", f"{named} does not exist{self._near(named)}")
        elif server.protocol not in _LIMITED:
            yield Finding(key, "no-effect", f"{named} speaks {server.protocol}: nothing is counted")
        else:
            first = self._view.rate_limits(server.meta)[0].meta.key
            if first != key:
                yield Finding(key, "shadowed", f"{first} is older and limits {named} already")

    def _ports(self, workload: Workload) -> Iterator[Finding]:
        pod = workload.pod
        numbers = {port.number for port in pod.ports} | {probe.port for probe in pod.probes}
        for server in self._view.servers(pod.meta):
            numbers.update(pod.numbers_of(server.port))
        for number in sorted(numbers):
            selecting = servers_of(self._view, workload, number)
            for other in selecting[1:]:
                yield Finding(
                    other.meta.key,
                    "shadowed",
                    f"{selecting[0].meta.key} is older and selects port {number} of"
                    f" {pod.meta.key} too",
                )
            if selecting:
                yield from self._probes(workload, number, selecting[0])

    def _probes(self, workload: Workload, number: int, server: Server) -> Iterator[Finding]:
        """Find probes that a route took away; those a default policy answers are never lost."""
        for probe in workload.pod.probes:
            if probe.port != number or not self._view.routes(server.meta):
                continue
            policy = compile_port(self._view, workload, number)
            verdict = decide_request(policy, KUBELET, Request("GET", probe.path))
            if not isinstance(verdict, Permit) and policy.routes:
                yield Finding(
                    server.meta.key,
                    "probe-lost",
                    f"with routes attached, the probe GET {probe.path} of {workload.pod.meta.key}"
                    f" is {verdict_word(verdict)}: add a route and a policy for it",
                )

    def _is_attached(self, route: ObjectKey) -> bool:
        found = next((each for each in self._of(Route) if each.meta.key == route), None)
        return found is not None and any(
            is_attachable(parent, route.namespace)
            and ObjectKey(POLICY_GROUP, "Server", parent.namespace, parent.name) in self._keys
            for parent in found.parents
        )

    def _near(self, key: ObjectKey) -> str:
        """Say which object of the kind has a name like it."""
        here = [each for each in self._keys if (each.group, each.kind) == (key.group, key.kind)]
        names = [each.name for each in here if each.namespace == key.namespace]
        near = nearest_name(key.name, names)
        if near is not None:
            return f" (did you mean {near!r}?)"
        groups = [
            each.group or "core"
            for each in self._keys
            if (each.kind, each.namespace, each.name) == (key.kind, key.namespace, key.name)
        ]
        return f" (there is one of group {groups[0]})" if groups else ""
