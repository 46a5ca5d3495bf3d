"""Control without a control plane: a directory of manifests, read by the sidecar itself.

Owns the directory's watcher, its source and the index, and answers the data plane from them:
policy, discovery and readiness of one pod. Nothing is known before the first load is complete,
and what was broken then keeps the pods it concerns unready and closed; what breaks later leaves
the last good state in force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_network
from typing import Final, final

from control.links import LinkedClusters
from control.mesh import Mesh
from control.overlay import Overlay
from control.watcher import FolderWatcher
from core.clock import Clock
from core.watch import Watch
from discovery.index import Index
from discovery.model import EMPTY_PROFILE, Address, Endpoint, EndpointSet, Profile, Target
from discovery.profile import in_cluster, profile_of, service_at
from discovery.resolve import Viewpoint
from discovery.service_name import service_host
from discovery.store import Lookup, Tag
from multicluster.imports import Imports, import_services, own_of
from multicluster.model import Gateway
from policy.default import (
    closed_policy,
    egress_policy,
    endpoint_policy,
    refuse_all,
    service_policy,
)
from policy.model import (
    LOCALHOST,
    Authorization,
    NetworkMatch,
    OutboundPolicy,
    OutboundTls,
    ServerPolicy,
)
from policy.outbound_tls import outbound_tls, strictest
from policy.route_attach import effective_routes
from policy.route_outbound import Surroundings, routed_policy
from resources.document import Problem
from resources.kind import ObjectKey, Resource
from resources.link import Link
from resources.pod import Pod
from resources.service import Service
from resources.sources.directory import DirectorySource, Scan
from resources.workload import ZONE_LABEL, Workload

SLICE_S: Final = 0.01
"""How long manifests are read before others may run."""

MAX_RESCANS: Final = 5
"""Scans in a row while folders keep turning up; the next notice brings another."""

_STATE: Final[Tag] = ("embedded", "", "")
"""What a policy depends on besides objects: why nothing may pass."""


@final
class EmbeddedControl:
    """A mesh directory, as one of its pods sees it."""

    def __init__(
        self,
        directory: str,
        namespace: str,
        pod: str,
        clock: Clock,
    ) -> None:
        """Prepare to read ``directory`` as the pod that ``namespace`` and ``pod`` name."""
        self._source = DirectorySource(directory)
        self._watcher = FolderWatcher(self._source.root)
        self._clock = clock
        self._key = ObjectKey("", "Pod", namespace, pod)
        self._own: Pod | None = None
        """Our pod as last seen: what was in force stays so while it is being taken away."""
        self._mesh = Mesh()
        self._index = self._mesh.index
        self._localhost: Authorization | None = None
        self._inbound = self._index.table(self._make_inbound)
        self._outbound = self._index.table(self._make_outbound)
        self._overlay = Overlay()
        self._links = LinkedClusters(clock, self._relink)
        self._imports = Imports()
        self._behind_gateway: dict[str, tuple[str, ...]] = {}
        """Full names of Services → the clusters whose gateways they are behind."""
        self._gateways: Watch[tuple[Gateway, ...]] = Watch(())
        self._anchor_files: Watch[tuple[tuple[str, str], ...]] = Watch(())
        self._scanned: tuple[Problem, ...] = ()
        self._folders: tuple[str, ...] = ()
        self._reason = f"{self._source.root} has not been read yet"
        """Why nothing may pass; empty when all is well."""
        self._unready = Watch(self._reason)
        self._problems: Watch[tuple[Problem, ...]] = Watch(())

    @property
    def unready(self) -> Watch[str]:
        """Why the sidecar is not ready; empty when it is."""
        return self._unready

    @property
    def problems(self) -> Watch[tuple[Problem, ...]]:
        """Everything wrong with the directory now, sorted by file and line."""
        return self._problems

    @property
    def index(self) -> Index:
        """The directory's objects."""
        return self._index

    @property
    def own_pod(self) -> Pod | None:
        """Our pod as last seen; None before its manifest was."""
        return self._own

    @property
    def own_workload(self) -> Workload | None:
        """Our pod with what decides about it now; None before its manifest was seen."""
        return None if self._own is None else self._index.workload(self._own)

    @property
    def imports(self) -> Imports:
        """What is taken in of linked clusters."""
        return self._imports

    @property
    def gateways(self) -> Watch[tuple[Gateway, ...]]:
        """The gateways of other clusters that are in use here."""
        return self._gateways

    @property
    def anchor_files(self) -> Watch[tuple[tuple[str, str], ...]]:
        """Trust domain → the file of its roots, of linked clusters that name one."""
        return self._anchor_files

    def gateway_probed(self, cluster: str, *, is_usable: bool) -> None:
        """Take notice of whether a cluster's gateway lives."""
        self._links.report(cluster, is_usable=is_usable)

    def inbound(self, port: int) -> Watch[ServerPolicy]:
        """Return the live policy of one of our ports."""
        return self._inbound.watch(port, self._clock.monotonic())

    def ports(self) -> tuple[int, ...]:
        """Return the ports that our pod declares."""
        ports = () if self._own is None else self._own.ports
        return tuple(sorted({each.number for each in ports}))

    def outbound(self, destination: Address) -> Watch[OutboundPolicy | None]:
        """Return the live policy for an original destination; None: not a Service's."""
        return self._outbound.watch(destination, self._clock.monotonic())

    def profile(self, destination: Address) -> Watch[Profile | None]:
        """Return what is known of an original destination, live."""
        return self._index.profile(destination, self._clock.monotonic())

    def addresses(self, host: str, port: int) -> tuple[Address, ...] | None:
        """Return where a Service's name leads now; None for a name that is none."""
        return self._index.addresses(host, port)

    def endpoints(self, target: Target) -> Watch[EndpointSet]:
        """Return the live endpoints of a target."""
        new = [each for each in self._behind_gateway.get(target.host, ()) if self._links.use(each)]
        if new:
            self._gateways.publish(self._links.gateways)
        return self._index.endpoints(target, self._clock.monotonic())

    def admit_from(self, ips: Iterable[str]) -> None:
        """Let the implicit authorization ``localhost`` hold for these addresses alone.

        For capture without redirection, where the pod's own programs come from other addresses
        than 127.0.0.1, or others from that one. To be called before policies are asked for.
        """
        networks = tuple(NetworkMatch(ip_network(ip)) for ip in sorted(ips))
        self._localhost = replace(LOCALHOST, networks=networks)

    async def start(self) -> None:
        """Read the directory once; returns when all of it is in force, good or bad."""
        await self._load()
        await self._links.first_look()

    def close(self) -> None:
        """Read linked directories no more."""
        self._links.close()

    async def run(self) -> None:
        """Follow the directory until cancelled; may be run again after that."""
        self._watcher.open()
        try:
            while True:
                await self._load()
                await self._watcher.changed()
        finally:
            self._watcher.close()

    async def _load(self) -> None:
        """Scan until no folder turns up that was not watched while it was scanned."""
        self._watcher.watch(self._folders)
        for _ in range(MAX_RESCANS):
            scan = await self._scan()
            self._folders = scan.folders
            self._take(scan)
            is_new = self._watcher.watch(scan.folders)
            self._scanned = scan.problems
            self._report()
            if not is_new:
                return

    async def _scan(self) -> Scan:
        steps = self._source.scan_steps(self._clock.now())
        since = self._clock.monotonic()
        while True:
            try:
                next(steps)
            except StopIteration as done:
                scan: Scan = done.value
                return scan
            if self._clock.monotonic() - since > SLICE_S:
                await asyncio.sleep(0)
                since = self._clock.monotonic()

    def _take(self, scan: Scan) -> None:
        """Put a scan in force, all of it at once."""
        own = next((each for each in scan.applied if each.meta.key == self._key), None)
        if isinstance(own, Pod):
            self._own = own
        before, self._reason = self._reason, self._why_unready(scan)
        self._change(scan.applied, scan.deleted, touched={_STATE} if self._reason != before else ())
        self._unready.publish(self._reason)

    def _change(
        self,
        applied: Iterable[Resource],
        deleted: Iterable[ObjectKey],
        *,
        touched: Iterable[Tag] = (),
    ) -> None:
        """Put changes of our own objects in force, with what linked clusters bring in."""
        change = self._overlay.take(applied, deleted)
        own = own_of(self._overlay.own)
        links = [each for each in self._overlay.own if isinstance(each, Link)]
        self._links.follow(links, own.config)
        self._imports = import_services(own, self._links.clusters)
        domain = own.config.cluster_domain
        self._behind_gateway = {
            service_host(each.namespace, each.name, domain): each.gateways
            for each in self._imports.services
            if each.gateways
        }
        new, gone = change.lay(self._imports.objects)
        self._mesh.change(new, gone, viewpoint=self._viewpoint(), touched=touched)
        self._anchor_files.publish(self._links.choice.anchors)
        self._gateways.publish(self._links.gateways)

    def _relink(self) -> None:
        """Put in force what is new of linked clusters."""
        self._change((), ())
        self._report()

    def _report(self) -> None:
        linked = (*self._links.problems, *self._imports.problems)
        self._problems.publish((*self._own_problems(), *self._scanned, *linked))

    def _why_unready(self, scan: Scan) -> str:
        blocks = [
            block.problem
            for block in scan.blocks
            if block.namespace is None or block.namespace == self._key.namespace
        ]
        if blocks:
            more = f" (and {len(blocks) - 1} more)" if len(blocks) > 1 else ""
            return f"the mesh directory was broken when it was first read: {blocks[0]}{more}"
        if self._own is None:
            return f"{self._key} has no manifest in {self._source.root}"
        return ""

    def _own_problems(self) -> list[Problem]:
        """Return what is wrong beside the manifests themselves."""
        found = []
        if self._watcher.trouble:
            found.append(self._watcher.trouble)
        if self._own is not None and self._index.get(self._key) is None:
            found.append(f"{self._key} has no manifest any more; its last state stays in force")
        return [Problem(self._source.root, 0, "", message) for message in found]

    def _viewpoint(self) -> Viewpoint:
        if self._own is None:
            return Viewpoint()
        return Viewpoint(self._own.node_name, self._own.meta.labels.get(ZONE_LABEL, ""))

    def _make_inbound(self, lookup: Lookup, port: int) -> ServerPolicy:
        lookup.tags.add(_STATE)
        pod = lookup.pod(self._key.namespace, self._key.name) or self._own
        if self._reason or pod is None:
            return refuse_all(self._reason)
        policy = self._mesh.policy_of(lookup, pod, port)
        return policy if self._localhost is None else replace(policy, localhost=self._localhost)

    def _make_outbound(self, lookup: Lookup, destination: Address) -> OutboundPolicy | None:
        lookup.tags.add(_STATE)
        if self._reason:
            return closed_policy(self._reason)
        service = service_at(lookup, destination.ip)
        policy = self._plain_outbound(lookup, destination, service)
        own = lookup.pod(self._key.namespace, self._key.name) or self._own
        mode = _outbound_tls(lookup, own)
        if service is not None:
            mode = strictest(mode, _outbound_tls(lookup, service))
        if mode is OutboundTls.OPPORTUNISTIC:
            return policy
        if policy is None:
            profile = profile_of(lookup, destination) or EMPTY_PROFILE
            endpoint = profile.endpoint or Endpoint(address=destination)
            policy = endpoint_policy(endpoint, is_opaque=profile.opaque_protocol)
        return replace(policy, tls_mode=mode)

    def _plain_outbound(
        self, lookup: Lookup, destination: Address, service: Service | None
    ) -> OutboundPolicy | None:
        config = lookup.config()
        if service is None:
            return None if in_cluster(config, destination.ip) else egress_policy(destination)
        namespace, name = service.meta.namespace, service.meta.name
        domain = config.cluster_domain
        host = service_host(namespace, name, domain)
        plain = service_policy(service, lookup.namespace(namespace), destination.port, host)
        routes = effective_routes(
            lookup.routes(namespace, name), service, destination.port, self._key.namespace
        )
        around = Surroundings(
            find=lookup.service,
            host_of=lambda namespace, name: service_host(namespace, name, domain),
        )
        return routed_policy(plain, service, routes, around)


def _outbound_tls(lookup: Lookup, resource: Pod | Service | None) -> OutboundTls:
    """Return what a pod or Service, or else its namespace, says of mutual TLS on the way out."""
    if resource is None:
        return OutboundTls.OPPORTUNISTIC
    namespace = lookup.namespace(resource.meta.namespace)
    return outbound_tls(resource.meta, None if namespace is None else namespace.meta)
