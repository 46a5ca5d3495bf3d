"""Mirrored and federated Services out of two clusters' objects, by the reference's rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from discovery.index import Index
from discovery.mirror import Mirror, mirror_key
from discovery.model import Address, Hint, PathKind, Target
from discovery.store import Change, Lookup, Store
from identity.name import Identity
from multicluster.imports import Cluster, Imports, import_services, own_of
from multicluster.model import ExportMode
from multicluster.offer import MAX_OFFERS, Offers, offers_of
from resources.config_map import CONFIG_KEY, ConfigMap, MeshConfig
from resources.kind import Meta, ObjectKey, Resource
from resources.link import Link
from resources.service import Service
from tests.support import manifests

GATEWAY = "linkerd-gateway.linkerd-multicluster.serviceaccount.identity.linkerd.west.example"
ME = "multicluster.pillion.dev/"
HTTP = {"port": 80, "name": "http", "targetPort": 8080}
BY_GATEWAY = {"mirror.linkerd.io/exported": "true"}
DIRECT = {"mirror.linkerd.io/exported": "remote-discovery"}
MEMBER = {"mirror.linkerd.io/federated": "member"}


def link(name: str = "west", created: str = "2026-01-01T00:00:00Z", **spec: Any) -> Link:
    """Return a Link with the selectors that Linkerd gives it."""
    manifest = {
        "apiVersion": "multicluster.linkerd.io/v1alpha3",
        "kind": "Link",
        "metadata": {
            "name": name,
            "namespace": "linkerd-multicluster",
            "creationTimestamp": created,
            "annotations": {
                f"{ME}trust-domain": f"{name}.example",
                f"{ME}headless": spec.pop("headless", "false"),
            },
        },
        "spec": {
            "targetClusterName": name,
            "targetClusterDomain": f"{name}.local",
            "gatewayAddress": "192.0.2.1,192.0.2.2",
            "gatewayIdentity": GATEWAY,
            "selector": {"matchLabels": BY_GATEWAY},
            "remoteDiscoverySelector": {"matchLabels": DIRECT},
            "federatedServiceSelector": {"matchLabels": MEMBER},
            **spec,
        },
    }
    return cast("Link", manifests.one(manifest))


def lookup_of(one: Link, objects: list[Resource]) -> Lookup:
    """Return a reader of a remote cluster's objects, its settings those of the link."""
    store, change = Store(), Change()
    config = MeshConfig(
        cluster_domain=one.cluster_domain,
        trust_domain=one.trust_domain,
        control_namespace=one.control_namespace,
    )
    store.put(ConfigMap(meta=Meta(key=CONFIG_KEY), config=config), change)
    for each in objects:
        store.put(each, change)
    return Lookup(store)


def offered(one: Link, *remote: dict[str, Any]) -> Offers:
    """Return what a remote cluster offers."""
    objects = manifests.objects(*remote)
    services = [each for each in objects if isinstance(each, Service)]
    return offers_of(one, services, lookup_of(one, objects))


def cluster(one: Link, *remote: dict[str, Any], usable: bool = True) -> Cluster:
    """Return a linked cluster with these objects."""
    return Cluster(
        link=one,
        trust_domain=one.trust_domain,
        offers=offered(one, *remote).offers,
        gateways=one.gateway_addresses,
        is_gateway_usable=usable,
    )


OWN = (manifests.namespace(), manifests.config(trustDomain="east.example"))


def imported(*clusters: Cluster, own: tuple[dict[str, Any], ...] = OWN) -> Imports:
    """Return what a cluster with these objects of its own takes in."""
    return import_services(own_of(manifests.objects(*own)), clusters)


def service_of(imports: Imports, name: str) -> Service:
    """Return an imported Service."""
    return cast("Service", imports.objects[ObjectKey("", "Service", "shop", name)])


def mirror_of(imports: Imports, name: str) -> Mirror:
    """Return what an imported Service has in other clusters."""
    return cast("Mirror", imports.objects[mirror_key("shop", name)])


def names(imports: Imports) -> list[str]:
    """Return the imported Services' names."""
    return [each.name for each in imports.services]


def api(labels: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """Return an exported Service."""
    return manifests.service("api", "10.96.0.1", HTTP, labels=labels, **more)


def api_pod(number: int = 1, **more: Any) -> dict[str, Any]:
    """Return a meshed pod behind it."""
    settings: dict[str, Any] = {"labels": {"app": "api"}, "annotations": manifests.MESHED, **more}
    return manifests.pod(f"api-{number}", f"10.12.0.{number}", **settings)


def test_a_service_taken_in_directly() -> None:
    """The remote pods themselves, with names of the link's trust domain."""
    imports = imported(cluster(link(), api(DIRECT), api_pod(1), api_pod(2)))
    assert imports.problems == ()
    service = service_of(imports, "api-west")
    assert dict(service.meta.labels) == {
        "mirror.linkerd.io/mirrored-service": "true",
        "mirror.linkerd.io/cluster-name": "west",
        "multicluster.linkerd.io/remote-discovery": "west",
        "multicluster.linkerd.io/remote-service": "api",
    }
    assert dict(service.meta.annotations) == {
        "mirror.linkerd.io/remote-svc-fq-name": "api.shop.svc.west.local"
    }
    assert [each.port for each in service.ports] == [80]
    assert service.selector == {}
    endpoints = mirror_of(imports, "api-west").of_port(80)
    assert [each.address for each in endpoints] == [
        Address("10.12.0.1", 8080),
        Address("10.12.0.2", 8080),
    ]
    one = endpoints[0]
    assert one.identity == Identity("default.shop.serviceaccount.identity.linkerd.west.example")
    assert (one.direct_port, one.hint, one.authority_override) == (4143, Hint.H2, "")
    assert (one.path.kind, one.path.cluster) == (PathKind.DIRECT, "west")
    assert one.path.trust_domain == "west.example"
    assert dict(one.labels)["target_cluster"] == "west"
    (found,) = imports.services
    assert (found.mode, found.members) == (ExportMode.DIRECT, ("api@west",))
    assert found.addresses == service.cluster_ips


def test_a_service_taken_in_through_the_gateway() -> None:
    """The gateway's addresses, the name it is asked for, and Linkerd's hint."""
    imports = imported(cluster(link(), api(BY_GATEWAY), api_pod()))
    service = service_of(imports, "api-west")
    assert service.meta.annotations["mirror.linkerd.io/remote-gateway-identity"] == GATEWAY
    assert "multicluster.linkerd.io/remote-discovery" not in service.meta.labels
    endpoints = mirror_of(imports, "api-west").of_port(80)
    assert [each.address for each in endpoints] == [
        Address("192.0.2.1", 4143),
        Address("192.0.2.2", 4143),
    ]
    one = endpoints[0]
    assert one.authority_override == "api.shop.svc.west.local:80"
    assert (one.identity, one.hint, one.direct_port) == (Identity(GATEWAY), Hint.H2, None)
    assert (one.path.kind, one.path.trust_domain) == (PathKind.GATEWAY, "west.example")
    assert one.weight == 10_000


@pytest.mark.parametrize("labels", [DIRECT, BY_GATEWAY])
def test_no_endpoint_without_a_ready_one_over_there(labels: dict[str, str]) -> None:
    """The mirror stays, and is empty."""
    waiting = api_pod(status={"conditions": [{"type": "Ready", "status": "False"}]})
    imports = imported(cluster(link(), api(labels), waiting))
    assert names(imports) == ["api-west"]
    assert mirror_of(imports, "api-west").of_port(80) == ()


def test_a_dead_gateway_takes_its_endpoints_away() -> None:
    """Those behind it alone; a direct Service does not need it."""
    other = manifests.service("web", "10.96.0.2", HTTP, labels=DIRECT, selector={"app": "api"})
    one = cluster(link(), api(BY_GATEWAY), other, api_pod(), usable=False)
    imports = imported(one)
    assert mirror_of(imports, "api-west").of_port(80) == ()
    assert len(mirror_of(imports, "web-west").of_port(80)) == 1


def test_a_pod_without_identity_is_not_dialled_across() -> None:
    """No plaintext between clusters: whoever writes their manifests would choose our targets."""
    plain = manifests.pod("api-1", "10.12.0.1", labels={"app": "api"})
    imports = imported(cluster(link(), api(DIRECT), plain))
    assert mirror_of(imports, "api-west").of_port(80) == ()
    (problem,) = imports.problems
    assert "no identity" in problem.message


@pytest.mark.parametrize("ip", ["127.0.0.1", "0.0.0.0", "224.0.0.1", "169.254.169.254", "::1"])
def test_an_address_that_cannot_be_theirs_is_not_dialled(ip: str) -> None:
    """Whatever their manifests say."""
    pod = manifests.pod("api-1", ip, labels={"app": "api"}, annotations=manifests.MESHED)
    service = manifests.service("api", "None", HTTP, labels=DIRECT)
    imports = imported(cluster(link(), service, pod))
    assert mirror_of(imports, "api-west").of_port(80) == ()


def test_labels_and_annotations_are_copied_but_for_some() -> None:
    """Excluded keys and prefixes, the mirror's own labels, and topology."""
    service = api(
        {**DIRECT, "team": "a", "x.example/one": "1", "y": "2"},
        annotations={
            "note": "n",
            "z.example/one": "1",
            "config.linkerd.io/opaque-ports": "80",
            "service.kubernetes.io/topology-mode": "Auto",
        },
    )
    one = link(excludedLabels=["x.example/*", "y"], excludedAnnotations=["z.example/*", "config.*"])
    found = service_of(imported(cluster(one, service)), "api-west").meta
    assert found.labels["team"] == "a"
    assert {"x.example/one", "y", "mirror.linkerd.io/exported"}.isdisjoint(found.labels)
    assert found.annotations["note"] == "n"
    assert found.annotations["config.linkerd.io/opaque-ports"] == "80"
    assert {"z.example/one", "service.kubernetes.io/topology-mode"}.isdisjoint(found.annotations)


@pytest.mark.parametrize(
    "service",
    [
        api({}),
        api({"mirror.linkerd.io/exported": "maybe"}),
        api({**DIRECT, "mirror.linkerd.io/mirrored-service": "true"}),
    ],
    ids=["no label", "another value", "a mirror itself"],
)
def test_what_is_not_exported_is_not_here(service: dict[str, Any]) -> None:
    """An export that is taken back takes the mirror along."""
    assert imported(cluster(link(), service, api_pod())).services == ()


def test_a_namespace_has_to_be_here() -> None:
    """None is made; the Service is reported."""
    imports = imported(cluster(link(), api(DIRECT)), own=(manifests.config(),))
    assert imports.services == ()
    (problem,) = imports.problems
    assert "namespace" in problem.message


def test_a_service_of_our_own_stays_ours() -> None:
    """Another cluster cannot take its name by exporting one like it."""
    own = manifests.service("api-west", "10.96.0.9", HTTP)
    imports = imported(cluster(link(), api(DIRECT), api_pod()), own=(*OWN, own))
    assert imports.services == ()
    (problem,) = imports.problems
    assert "our own" in problem.message


def test_a_manifest_without_pods_gives_the_address() -> None:
    """And may say more of the Service; it has no endpoints of its own."""
    own = manifests.service(
        "api-west", "10.96.0.9", HTTP, selector={}, annotations={"pillion.dev/x": "1"}
    )
    imports = imported(cluster(link(), api(DIRECT), api_pod()), own=(*OWN, own))
    service = service_of(imports, "api-west")
    assert service.cluster_ips == ("10.96.0.9",)
    assert service.meta.annotations["pillion.dev/x"] == "1"
    assert len(mirror_of(imports, "api-west").of_port(80)) == 1


def test_a_name_that_becomes_too_long() -> None:
    """63 characters are the longest; one more is reported."""
    for length, fits in ((58, True), (59, False)):
        service = manifests.service("a" * length, "10.96.0.1", HTTP, labels=DIRECT)
        imports = imported(cluster(link(), service))
        assert bool(imports.services) is fits
        assert bool(imports.problems) is not fits


def test_two_links_with_one_name_are_told_apart_by_age() -> None:
    """The older has the mirror, the younger is reported."""
    first = cluster(link(), api(DIRECT), api_pod(1))
    second = cluster(link(created="2026-02-01T00:00:00Z"), api(DIRECT), api_pod(2))
    imports = imported(first, second)
    (endpoint,) = mirror_of(imports, "api-west").of_port(80)
    assert endpoint.address.ip == "10.12.0.1"
    assert len(imports.problems) == 1


@pytest.mark.parametrize(("count", "problems"), [(MAX_OFFERS, 0), (MAX_OFFERS + 1, 1)])
def test_so_many_services_are_taken_in(count: int, problems: int) -> None:
    """At the bound, and one past it."""
    one = link()
    services = [
        Service(meta=Meta(key=ObjectKey("", "Service", "shop", f"s{number}"), labels=DIRECT))
        for number in range(count)
    ]
    found = offers_of(one, services, lookup_of(one, []))
    assert (len(found.offers), len(found.problems)) == (MAX_OFFERS, problems)


# Headless


def stateful(ordinal: int) -> dict[str, Any]:
    """Return a pod of a StatefulSet, with its name in the Service."""
    return api_pod(ordinal, spec={"hostname": f"api-{ordinal}", "subdomain": "api"})


def test_a_headless_service_gets_an_address() -> None:
    """Without more it is mirrored as any other."""
    service = manifests.service("api", "None", HTTP, labels=DIRECT)
    imports = imported(cluster(link(), service, stateful(1), stateful(2)))
    assert names(imports) == ["api-west"]
    assert len(service_of(imports, "api-west").cluster_ips) == 1
    assert len(mirror_of(imports, "api-west").of_port(80)) == 2


@pytest.mark.parametrize("labels", [DIRECT, BY_GATEWAY])
def test_a_headless_service_that_stays_one(labels: dict[str, str]) -> None:
    """Its pods have Services of their own, which its names lead to."""
    service = manifests.service("api", "None", HTTP, labels=labels)
    one = cluster(link(headless="true"), service, stateful(1), stateful(2))
    imports = imported(one)
    assert names(imports) == ["api-1-west", "api-2-west", "api-west"]
    assert service_of(imports, "api-west").cluster_ips == ()
    pod = service_of(imports, "api-1-west")
    assert pod.meta.labels["mirror.linkerd.io/headless-mirror-svc-name"] == "api-west"
    assert pod.meta.annotations["mirror.linkerd.io/remote-svc-fq-name"] == (
        "api-1.api.shop.svc.west.local"
    )
    index = Index()
    index.apply(*manifests.objects(*OWN), *imports.objects.values())
    assert index.addresses("api-1-west.api-west.shop.svc.cluster.local", 80) == (
        Address(pod.cluster_ips[0], 80),
    )
    assert len(index.addresses("api-west.shop.svc.cluster.local", 80) or ()) == 2
    found = index.endpoints(Target("api-1-west.shop.svc.cluster.local", 80), 0.0).current
    if labels is DIRECT:
        assert [each.address.ip for each in found.endpoints] == ["10.12.0.1"]
    else:
        assert {each.authority_override for each in found.endpoints} == {
            "api-1.api.shop.svc.west.local:80"
        }


# Federated


def test_a_federated_service_is_the_union() -> None:
    """Our own pods first, then those of each cluster."""
    own = manifests.service("api", "10.96.0.1", HTTP, labels=MEMBER)
    pod = manifests.pod("api-1", "10.11.0.1", labels={"app": "api"}, annotations=manifests.MESHED)
    south = cluster(link("south"), api(MEMBER), api_pod(7))
    imports = imported(cluster(link(), api(MEMBER), api_pod(1)), south, own=(*OWN, own, pod))
    assert names(imports) == ["api-federated"]
    service = service_of(imports, "api-federated")
    assert service.meta.annotations == {
        "multicluster.linkerd.io/remote-discovery": "api@west,api@south",
        "multicluster.linkerd.io/local-discovery": "api",
    }
    index = Index()
    index.apply(*manifests.objects(*OWN, own, pod), *imports.objects.values())
    target = Target("api-federated.shop.svc.cluster.local", 80)
    found = index.endpoints(target, 0.0).current.endpoints
    assert [(each.address.ip, each.path.cluster) for each in found] == [
        ("10.11.0.1", ""),
        ("10.12.0.1", "west"),
        ("10.12.0.7", "south"),
    ]


def test_federated_with_a_mirror_beside_it() -> None:
    """One Service may be both."""
    imports = imported(cluster(link(), api({**MEMBER, **BY_GATEWAY}), api_pod()))
    assert names(imports) == ["api-federated", "api-west"]
    kinds = {
        name: {each.path.kind for each in mirror_of(imports, name).of_port(80)}
        for name in names(imports)
    }
    assert kinds == {"api-federated": {PathKind.DIRECT}, "api-west": {PathKind.GATEWAY}}


def test_federated_through_a_gateway() -> None:
    """Where a Link says so, mixed with direct members; a dead gateway takes its part away."""
    west = replace(link(), federates_by_gateway=True)
    south = cluster(link("south"), api(MEMBER), api_pod(7))

    def found(one: Link, *, usable: bool = True) -> list[tuple[str, PathKind, str]]:
        imports = imported(cluster(one, api(MEMBER), api_pod(), usable=usable), south)
        assert imports.services[0].gateways == ("west",)
        ends = mirror_of(imports, "api-federated").of_port(80)
        paths = [(each.path.cluster, each.path.kind) for each in ends]
        return [(*path, each.authority_override) for path, each in zip(paths, ends, strict=True)]

    direct = ("south", PathKind.DIRECT, "")
    through = ("west", PathKind.GATEWAY, "api.shop.svc.west.local:80")
    assert found(west) == [through, through, direct]
    assert found(west, usable=False) == [direct]
    imports = imported(cluster(replace(west, gateway_addresses=()), api(MEMBER), api_pod()))
    (problem,) = imports.problems
    assert "the link has none" in problem.message


def test_ports_are_the_oldest_members() -> None:
    """What another has in addition is not merged."""
    own = manifests.service("api", "10.96.0.1", HTTP, labels=MEMBER)
    more = manifests.service("api", "10.96.0.1", HTTP, {"port": 81, "name": "more"}, labels=MEMBER)
    imports = imported(cluster(link(), more, api_pod()), own=(*OWN, own))
    assert [each.port for each in service_of(imports, "api-federated").ports] == [80]
    assert [port for port, _ in mirror_of(imports, "api-federated").endpoints] == [80]


def test_members_alone_make_it() -> None:
    """Ours alone, another's alone, and none."""
    own = manifests.service("api", "10.96.0.1", HTTP, labels=MEMBER)
    assert names(imported(own=(*OWN, own))) == ["api-federated"]
    assert names(imported(cluster(link(), api(MEMBER)))) == ["api-federated"]
    assert imported(cluster(link(), api({}))).services == ()


def test_headless_services_are_not_federated() -> None:
    """Neither ours nor theirs."""
    service = manifests.service("api", "None", HTTP, labels=MEMBER)
    imports = imported(cluster(link(), service), own=(*OWN, service))
    assert imports.services == ()
    assert len(imports.problems) == 2


def test_the_same_objects_come_to_the_same() -> None:
    """However often it is worked out: that is what makes it no news."""
    one = cluster(link(), api({**MEMBER, **DIRECT}), api_pod(1))
    assert imported(one) == imported(one)
