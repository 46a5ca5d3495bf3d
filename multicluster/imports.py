"""Mirrored and federated Services: what our own objects and linked clusters' offers come to.

Pure. Names, labels, annotations and clean-up follow Linkerd's service mirror; here the outcome
lives in the index alone and is made anew at each change, so nothing is ever left behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Final, final

from core.record import dataclass
from discovery.mirror import Mirror, mirror_key
from discovery.model import Endpoint
from discovery.service_name import service_host
from identity.name import is_label
from multicluster.address import Claim, allocate
from multicluster.model import ExportMode, ImportedService
from multicluster.offer import MIRRORED, Offer, Ports, gateway_endpoint
from resources.config_map import DEFAULT_CONFIG, ConfigMap, MeshConfig
from resources.document import Problem
from resources.endpoint_slice import EndpointSlice
from resources.kind import Meta, ObjectKey, Resource
from resources.link import FEDERATED, MEMBER, Link
from resources.namespace import Namespace
from resources.pod import Pod
from resources.service import Service, ServicePort

MIRROR_PREFIX: Final = "mirror.linkerd.io/"
CLUSTER_NAME: Final = "mirror.linkerd.io/cluster-name"
REMOTE_NAME: Final = "mirror.linkerd.io/remote-svc-fq-name"
GATEWAY_IDENTITY: Final = "mirror.linkerd.io/remote-gateway-identity"
HEADLESS_NAME: Final = "mirror.linkerd.io/headless-mirror-svc-name"
REMOTE_DISCOVERY: Final = "multicluster.linkerd.io/remote-discovery"
REMOTE_SERVICE: Final = "multicluster.linkerd.io/remote-service"
LOCAL_DISCOVERY: Final = "multicluster.linkerd.io/local-discovery"
OPAQUE_PORTS: Final = "config.linkerd.io/opaque-ports"
FEDERATED_ENDING: Final = "-federated"
_TOPOLOGY: Final = frozenset(
    {
        "service.kubernetes.io/topology-aware-hints",
        "service.kubernetes.io/topology-mode",
    }
)
"""Whoever is near over there is not near here."""

Name = tuple[str, str]
"""Namespace and name of a Service."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What is known of a linked cluster now."""

    link: Link
    trust_domain: str
    offers: tuple[Offer, ...] = ()
    gateways: tuple[str, ...] = ()
    """The gateway's addresses, names resolved, sorted."""
    is_gateway_usable: bool = True


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What of our own cluster decides about what is taken in."""

    config: MeshConfig = DEFAULT_CONFIG
    services: Mapping[Name, Service] = field(default_factory=dict)
    with_slices: frozenset[Name] = frozenset()
    namespaces: frozenset[str] = frozenset()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Imports:
    """What is taken in: the objects, what they are for people, and what could not be."""

    objects: Mapping[ObjectKey, Resource] = field(default_factory=dict)
    services: tuple[ImportedService, ...] = ()
    problems: tuple[Problem, ...] = ()


def own_of(objects: Iterable[Resource]) -> Own:
    """Return what counts of all our own objects."""
    config = DEFAULT_CONFIG
    services: dict[Name, Service] = {}
    slices: set[Name] = set()
    namespaces: set[str] = set()
    for each in objects:
        if isinstance(each, ConfigMap):
            config = each.config or config
        elif isinstance(each, Service):
            services[each.meta.namespace, each.meta.name] = each
            namespaces.add(each.meta.namespace)
        elif isinstance(each, EndpointSlice):
            slices.add((each.meta.namespace, each.service))
        elif isinstance(each, Namespace):
            namespaces.add(each.meta.name)
        elif isinstance(each, Pod):
            namespaces.add(each.meta.namespace)
    return Own(
        config=config,
        services=services,
        with_slices=frozenset(slices),
        namespaces=frozenset(namespaces),
    )


def import_services(own: Own, clusters: Sequence[Cluster]) -> Imports:
    """Return what our cluster takes in of ``clusters``, sorted oldest link first."""
    return _Importer(own).run(clusters)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A Service still without its address."""

    namespace: str
    name: str
    mode: ExportMode
    claim: Claim
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    ports: tuple[ServicePort, ...]
    endpoints: Ports
    members: tuple[str, ...]
    gateways: tuple[str, ...] = ()
    local: str = ""
    instances: tuple[tuple[str, str], ...] = ()
    """Of a headless one: an instance's name here → the name of its own Service."""
    is_headless: bool = False


@final
class _Importer:
    """One derivation."""

    def __init__(self, own: Own) -> None:
        self._own = own
        self._drafts: dict[Name, _Draft] = {}
        self._problems: list[Problem] = []

    def run(self, clusters: Sequence[Cluster]) -> Imports:
        members: dict[Name, list[tuple[Cluster, Offer]]] = {}
        for cluster in clusters:
            for offer in cluster.offers:
                meta = offer.service.meta
                if meta.namespace not in self._own.namespaces:
                    self._problem(cluster.link, offer, "its namespace does not exist here")
                    continue
                if offer.directly or offer.by_gateway:
                    self._mirror(cluster, offer)
                if offer.federated and offer.is_headless:
                    self._problem(cluster.link, offer, "a headless Service cannot be federated")
                elif offer.federated:
                    if cluster.link.federates_by_gateway and not offer.by_gateway:
                        self._need_gateway(cluster.link, offer)
                    members.setdefault((meta.namespace, meta.name), []).append((cluster, offer))
        self._federate(members)
        return self._finish()

    def _mirror(self, cluster: Cluster, offer: Offer) -> None:
        link, service = cluster.link, offer.service
        name = f"{service.meta.name}-{link.cluster}"
        labels, annotations = _copied(link, service)
        labels |= {MIRRORED: "true", CLUSTER_NAME: link.cluster}
        remote = service_host(service.meta.namespace, service.meta.name, link.cluster_domain)
        if offer.directly:
            labels |= {REMOTE_DISCOVERY: link.cluster, REMOTE_SERVICE: service.meta.name}
            endpoints = offer.endpoints
        else:
            self._need_gateway(link, offer)
            annotations[GATEWAY_IDENTITY] = str(link.gateway_identity or "")
            endpoints = _behind_gateway(cluster, service, offer.ready)
        if offer.directly and offer.plain:
            self._problem(link, offer, f"{offer.plain} endpoints have no identity and are left out")
        instances = []
        for each in offer.instances:
            host = f"{each.name}-{link.cluster}"
            through = _behind_gateway(cluster, service, each.ready, each.name)
            draft = self._draft(
                cluster,
                offer,
                host,
                {**labels, HEADLESS_NAME: name},
                {**annotations, REMOTE_NAME: f"{each.name}.{remote}"},
                each.endpoints if offer.directly else through,
            )
            if draft is not None:
                instances.append((host, host))
        self._draft(
            cluster,
            offer,
            name,
            labels,
            {**annotations, REMOTE_NAME: remote},
            () if instances else endpoints,
            tuple(instances),
        )

    def _draft(
        self,
        cluster: Cluster,
        offer: Offer,
        name: str,
        labels: Mapping[str, str],
        annotations: Mapping[str, str],
        endpoints: Ports,
        instances: tuple[tuple[str, str], ...] = (),
    ) -> _Draft | None:
        meta = offer.service.meta
        draft = _Draft(
            namespace=meta.namespace,
            name=name,
            mode=ExportMode.DIRECT if offer.directly else ExportMode.GATEWAY,
            claim=Claim(meta.age_order[0], meta.namespace, name),
            labels=labels,
            annotations=annotations,
            ports=offer.service.ports,
            endpoints=endpoints,
            members=(f"{meta.name}@{cluster.link.cluster}",),
            gateways=() if offer.directly else (cluster.link.cluster,),
            instances=instances,
            is_headless=bool(instances),
        )
        why_not = self._why_not(draft)
        if why_not:
            self._problem(cluster.link, offer, why_not)
            return None
        self._drafts[draft.namespace, name] = draft
        return draft

    def _why_not(self, draft: _Draft) -> str:
        """Return why a Service cannot have its name here; empty when it can."""
        at = (draft.namespace, draft.name)
        if not is_label(draft.name):
            return f"{draft.name} is no Service's name; 63 characters are the longest"
        if at in self._drafts:
            return f"{draft.name} is {', '.join(self._drafts[at].members)} already"
        own = self._own.services.get(at)
        if own is None or own.meta.labels.get(MIRRORED) == "true":
            return ""
        if own.selector or own.type == "ExternalName" or at in self._own.with_slices:
            return f"{draft.name} is a Service of our own, which stays"
        return ""

    def _federate(self, remote: Mapping[Name, list[tuple[Cluster, Offer]]]) -> None:
        local = {
            at: service
            for at, service in self._own.services.items()
            if service.meta.labels.get(FEDERATED) == MEMBER and at not in self._drafts
        }
        for at in [at for at, service in local.items() if not service.cluster_ips]:
            key = local.pop(at).meta.key
            self._problems.append(Problem(str(key), 0, "", "is headless and cannot be federated"))
        for at in sorted({*local, *remote}):
            self._federated(at, local.get(at), remote.get(at, []))

    def _federated(
        self, at: Name, local: Service | None, remote: list[tuple[Cluster, Offer]]
    ) -> None:
        namespace, base = at
        services = [*([local] if local else []), *(offer.service for _, offer in remote)]
        oldest = services[0]
        link = remote[0][0].link if remote and local is None else None
        labels, annotations = _copied(link, oldest)
        others = [f"{base}@{cluster.link.cluster}" for cluster, _ in remote]
        if others:
            annotations[REMOTE_DISCOVERY] = ",".join(others)
        if local is not None:
            annotations[LOCAL_DISCOVERY] = base
        draft = _Draft(
            namespace=namespace,
            name=f"{base}{FEDERATED_ENDING}",
            mode=ExportMode.FEDERATED,
            claim=Claim(min(each.meta.age_order[0] for each in services), *at),
            labels={**labels, MIRRORED: "true"},
            annotations=annotations,
            ports=oldest.ports,
            endpoints=_union(oldest.ports, remote, is_reserve=local is not None),
            members=(*([base] if local else []), *others),
            gateways=tuple(
                cluster.link.cluster for cluster, _ in remote if cluster.link.federates_by_gateway
            ),
            local=base if local else "",
        )
        why_not = self._why_not(draft)
        if why_not:
            self._problems.append(Problem(f"Service {namespace}/{base}", 0, "", why_not))
        else:
            self._drafts[namespace, draft.name] = draft

    def _finish(self) -> Imports:
        """Give every Service its address, and make the objects."""
        given = {
            at: own.cluster_ips
            for at in self._drafts
            if (own := self._own.services.get(at)) is not None and own.cluster_ips
        }
        taken = {ip for each in self._own.services.values() for ip in each.cluster_ips}
        claims = [
            Claim(draft.claim.since, *at)
            for at, draft in self._drafts.items()
            if at not in given and not draft.is_headless
        ]
        made = allocate(claims, self._own.config.mirror_network, taken)
        addresses = {**{at: (ip,) for at, ip in made.items()}, **given}
        objects: dict[ObjectKey, Resource] = {}
        services = []
        for at, draft in sorted(self._drafts.items()):
            ips = () if draft.is_headless else addresses.get(at, ())
            if not ips and not draft.is_headless:
                network = self._own.config.mirror_network
                message = f"there is no address left for it in {network} (mirrorNetwork)"
                self._problems.append(Problem(f"Service {at[0]}/{at[1]}", 0, "", message))
            service, mirror = self._objects(draft, ips, addresses)
            objects[service.meta.key] = service
            objects[mirror.meta.key] = mirror
            services.append(
                ImportedService(
                    namespace=draft.namespace,
                    name=draft.name,
                    mode=draft.mode,
                    addresses=ips,
                    members=draft.members,
                    gateways=draft.gateways,
                )
            )
        return Imports(
            objects=objects, services=tuple(services), problems=tuple(sorted(self._problems))
        )

    def _objects(
        self, draft: _Draft, ips: tuple[str, ...], addresses: Mapping[Name, tuple[str, ...]]
    ) -> tuple[Service, Mirror]:
        at = (draft.namespace, draft.name)
        own = self._own.services.get(at)
        meta = Meta(
            key=ObjectKey("", "Service", *at),
            labels=draft.labels,
            # Whoever writes the Service down for its address may say more about it.
            annotations={**draft.annotations, **(own.meta.annotations if own else {})},
            created=own.meta.created if own else None,
        )
        instances = tuple(
            (name, ip)
            for name, service in draft.instances
            for ip in addresses.get((draft.namespace, service), ())
        )
        service = Service(meta=meta, cluster_ips=ips, ports=draft.ports)
        mirror = Mirror(
            meta=Meta(key=mirror_key(*at)),
            endpoints=draft.endpoints,
            local=draft.local,
            instances=instances,
        )
        return service, mirror

    def _need_gateway(self, link: Link, offer: Offer) -> None:
        if not link.gateway_addresses:
            self._problem(link, offer, "is exported through a gateway, and the link has none")

    def _problem(self, link: Link, offer: Offer, message: str) -> None:
        key = offer.service.meta.key
        self._problems.append(Problem(str(link.meta.key), 0, "", f"{key} over there: {message}"))


def _copied(link: Link | None, service: Service) -> tuple[dict[str, str], dict[str, str]]:
    """Return a Service's labels and annotations as they are taken over."""
    meta = service.meta
    without_labels = link.excluded_labels if link else ()
    without = link.excluded_annotations if link else ()
    labels = {
        key: value
        for key, value in meta.labels.items()
        if not key.startswith(MIRROR_PREFIX) and not _is_excluded(key, without_labels)
    }
    annotations = {
        key: value
        for key, value in meta.annotations.items()
        if key == OPAQUE_PORTS or (key not in _TOPOLOGY and not _is_excluded(key, without))
    }
    return labels, annotations


def _is_excluded(key: str, excluded: Sequence[str]) -> bool:
    return any(
        key == each or (each.endswith("/*") and key.startswith(each[:-1])) for each in excluded
    )


def _behind_gateway(
    cluster: Cluster, service: Service, ready: Sequence[int], instance: str = ""
) -> Ports:
    """Return the gateway's addresses for each port, none where nobody is ready behind it."""
    link = cluster.link
    found: list[tuple[int, tuple[Endpoint, ...]]] = []
    for port in sorted(each.port for each in service.ports):
        is_open = port in ready and cluster.is_gateway_usable and link.gateway_identity is not None
        through = (
            gateway_endpoint(link, service, address, port, cluster.trust_domain, instance)
            for address in (cluster.gateways if is_open else ())
        )
        found.append((port, tuple(through)))
    return tuple(found)


def _union(
    ports: Sequence[ServicePort], remote: Iterable[tuple[Cluster, Offer]], *, is_reserve: bool
) -> Ports:
    """Return what all members have of these ports; what one has in addition does not count.

    ``is_reserve``: our own cluster has a part, which comes first.
    """
    by_port: dict[int, list[Endpoint]] = {each.port: [] for each in ports}
    for cluster, offer in remote:
        is_direct = not cluster.link.federates_by_gateway
        for port, endpoints in (
            offer.endpoints if is_direct else _behind_gateway(cluster, offer.service, offer.ready)
        ):
            if port in by_port:
                by_port[port] += (replace(each, is_reserve=is_reserve) for each in endpoints)
    return tuple((port, tuple(found)) for port, found in sorted(by_port.items()))
