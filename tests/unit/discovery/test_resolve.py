"""A Service's name and port as endpoints: from pods, from slices, by place."""

from __future__ import annotations

from typing import Any

import pytest

from discovery.model import UNKNOWN_ENDPOINTS, Address, EndpointSet, Target
from discovery.resolve import ANYWHERE, Viewpoint, resolve
from discovery.store import Change, Lookup, Store
from tests.support import manifests

WEB = "web.shop.svc.cluster.local"
APP = {"app": "web"}
HTTP: dict[str, Any] = {"port": 80, "name": "http", "targetPort": "http"}


def found(
    *objects: dict[str, Any], host: str = WEB, port: int = 80, at: Viewpoint = ANYWHERE
) -> EndpointSet:
    """Return the endpoints of a target among these objects."""
    store = Store()
    for each in manifests.objects(*objects):
        store.put(each, Change())
    return resolve(Lookup(store), Target(host, port), at)


def texts(endpoints: EndpointSet) -> list[str]:
    """Return the addresses as text, in their order."""
    return [str(each.address) for each in endpoints.endpoints]


def web(number: int, **more: Any) -> dict[str, Any]:
    """Return pod ``web-<number>`` at 10.1.0.<number>."""
    more.setdefault("labels", APP)
    more.setdefault("ports", {"http": 8080})
    return manifests.pod(f"web-{number}", f"10.1.0.{number}", **more)


NOT_READY = {"conditions": [{"type": "Ready", "status": "False"}]}


@pytest.mark.parametrize(
    ("pods", "wanted"),
    [
        ([web(1), web(2)], ["10.1.0.1:8080", "10.1.0.2:8080"]),
        ([web(10), web(9)], ["10.1.0.9:8080", "10.1.0.10:8080"]),
        ([web(1, labels={"app": "db"})], []),
        ([web(1, labels={"app": "web", "x": "y"})], ["10.1.0.1:8080"]),
        ([web(1, namespace="other")], []),
        ([web(1, status=NOT_READY)], []),
        ([web(1, status={"phase": "Succeeded"})], []),
        ([web(1, meta={"deletionTimestamp": "2024-01-01T00:00:00Z"})], []),
        ([web(1, ports={"https": 8443})], []),
        ([web(1, ports={"http": 9999}), web(2)], ["10.1.0.1:9999", "10.1.0.2:8080"]),
        ([manifests.pod("web-x", labels=APP, ports={"http": 1})], []),
    ],
)
def test_without_slices_the_selected_ready_pods_are_the_endpoints(
    pods: list[dict[str, Any]], wanted: list[str]
) -> None:
    """Each pod with its own number for the target port's name, in the addresses' order."""
    assert texts(found(manifests.service("web", "10.2.0.1", HTTP), *pods)) == wanted


@pytest.mark.parametrize(
    ("port", "spec", "wanted"),
    [
        ({"port": 80}, {}, ["10.1.0.1:80"]),
        ({"port": 80, "targetPort": 8081}, {}, ["10.1.0.1:8081"]),
        ({"port": 81}, {}, ["10.1.0.1:80"]),
        ({"port": 80, "protocol": "UDP"}, {}, ["10.1.0.1:80"]),
        ({"port": 80}, {"selector": {}}, []),
        ({"port": 80}, {"type": "ExternalName", "externalName": "x.example"}, None),
    ],
)
def test_ports_by_number_name_or_as_they_stand(
    port: dict[str, Any], spec: dict[str, Any], wanted: list[str] | None
) -> None:
    """A port the Service does not declare is taken as the pods' own."""
    service = manifests.service("web", "10.2.0.1", port, spec=spec)
    endpoints = found(service, web(1))
    assert endpoints.exists is (wanted is not None)
    assert texts(endpoints) == (wanted or [])


def test_not_ready_pods_are_published_where_the_service_wants_them() -> None:
    """``publishNotReadyAddresses``: terminating ones too, ended ones never."""
    service = manifests.service("web", "10.2.0.1", HTTP, spec={"publishNotReadyAddresses": True})
    pods = [
        web(1, status=NOT_READY),
        web(2, meta={"deletionTimestamp": "2024-01-01T00:00:00Z"}),
        web(3, status={"phase": "Failed"}),
    ]
    assert texts(found(service, *pods)) == ["10.1.0.1:8080", "10.1.0.2:8080"]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"clusterIP": "10.2.0.1"}, ["10.1.0.1:80"]),
        ({"clusterIP": "fd00:2::1"}, ["[fd00:1::1]:80"]),
        ({"clusterIP": "10.2.0.1", "clusterIPs": ["10.2.0.1", "fd00:2::1"]},
         ["10.1.0.1:80", "[fd00:1::1]:80"]),
        ({"clusterIP": "None"}, ["10.1.0.1:80", "[fd00:1::1]:80"]),
        ({"clusterIP": "None", "ipFamilies": ["IPv6"]}, ["[fd00:1::1]:80"]),
    ],
)  # fmt: skip
def test_families_are_the_services(spec: dict[str, Any], wanted: list[str]) -> None:
    """IPv4 before IPv6; a headless Service that says nothing has both."""
    service = manifests.service("web", "None", {"port": 80}, spec=spec)
    pod = manifests.pod("web-1", "10.1.0.1", "fd00:1::1", labels=APP)
    assert texts(found(service, pod)) == wanted


@pytest.mark.parametrize(
    ("host", "port", "wanted"),
    [
        ("web.shop", 80, ["10.1.0.1:8080"]),
        ("WEB.SHOP.SVC.CLUSTER.LOCAL.", 80, ["10.1.0.1:8080"]),
        ("web.other.svc.cluster.local", 80, None),
        ("web.shop.svc.east.local", 80, None),
        ("example.com", 80, None),
        ("localhost", 80, None),
    ],
)
def test_names_that_are_no_service_here_do_not_exist(
    host: str, port: int, wanted: list[str] | None
) -> None:
    """So that the caller may ask elsewhere."""
    endpoints = found(manifests.service("web", "10.2.0.1", HTTP), web(1), host=host, port=port)
    if wanted is None:
        assert endpoints == UNKNOWN_ENDPOINTS
    else:
        assert texts(endpoints) == wanted


def test_an_address_is_its_own_endpoint_with_what_is_known_of_it() -> None:
    """A pod's identity; nothing for others."""
    objects = [web(1, annotations=manifests.MESHED)]
    (pod,) = found(*objects, host="10.1.0.1", port=8080).endpoints
    assert pod.identity is not None
    (other,) = found(*objects, host="::ffff:192.0.2.1", port=443).endpoints
    assert other.address == Address("192.0.2.1", 443)
    assert other.identity is None


def test_set_labels_name_the_service_and_endpoint_labels_the_locality() -> None:
    """As the destination controller writes them."""
    endpoints = found(manifests.service("web", "10.2.0.1", HTTP), web(1))
    assert endpoints.labels == (("namespace", "shop"), ("service", "web"))
    assert dict(endpoints.endpoints[0].labels) == {
        "pod": "web-1",
        "serviceaccount": "default",
        "zone_locality": "unknown",
    }


# --- EndpointSlices -------------------------------------------------------------------------


def at(number: int, **more: Any) -> dict[str, Any]:
    """Return the slice's entry of pod ``web-<number>``."""
    target = {"kind": "Pod", "name": f"web-{number}", "namespace": "shop"}
    return {"addresses": [f"10.1.0.{number}"], "targetRef": target, **more}


NAMED = ({"name": "http", "port": 8080},)


def test_where_there_are_slices_they_alone_count() -> None:
    """Readiness is theirs, unknown is ready; the selector no longer matters."""
    service = manifests.service("web", "10.2.0.1", HTTP)
    pods = [web(number, status=NOT_READY) for number in (1, 2, 3, 4)]
    first = manifests.endpoint_slice("a", "web", at(2), at(1), ports=NAMED)
    second = manifests.endpoint_slice(
        "b", "web", at(3, conditions={"ready": False}), at(4, conditions={"ready": None}),
        ports=NAMED)  # fmt: skip
    endpoints = found(service, *pods, first, second)
    assert texts(endpoints) == ["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.4:8080"]
    assert dict(endpoints.endpoints[0].labels)["pod"] == "web-1"
    empty = manifests.endpoint_slice("a", "web", ports=NAMED)
    assert found(service, web(1), empty) == EndpointSet(labels=endpoints.labels)


@pytest.mark.parametrize(
    ("declared", "ports", "port", "wanted"),
    [
        (HTTP, NAMED, 80, ["10.1.0.1:8080"]),
        ({"port": 80}, ({"port": 8080},), 80, ["10.1.0.1:8080"]),
        (HTTP, ({"name": "other", "port": 8080},), 80, []),
        (HTTP, ({"name": "http"},), 80, ["10.1.0.1:80"]),
        ({"port": 80, "name": "http", "targetPort": 81}, ({"name": "http"},), 80, ["10.1.0.1:81"]),
        (HTTP, NAMED, 9999, ["10.1.0.1:9999"]),
    ],
)
def test_a_declared_port_is_found_by_its_name_in_the_slice(
    declared: dict[str, Any], ports: tuple[dict[str, Any], ...], port: int, wanted: list[str]
) -> None:
    """An undeclared one is taken as it stands."""
    service = manifests.service("web", "10.2.0.1", declared)
    entries = manifests.endpoint_slice("a", "web", at(1), ports=ports)
    assert texts(found(service, web(1), entries, port=port)) == wanted


def test_who_is_behind_an_address_comes_from_its_target_or_its_address() -> None:
    """A target that is not there is left out: it would be dialled in plaintext."""
    service = manifests.service("web", "10.2.0.1", HTTP)
    plain = {"addresses": ["10.1.0.2"]}
    foreign = {"addresses": ["10.9.0.1"]}
    entries = manifests.endpoint_slice("a", "web", at(1), plain, foreign, at(7), ports=NAMED)
    meshed = [web(1, annotations=manifests.MESHED), web(2, annotations=manifests.MESHED)]
    endpoints = found(service, *meshed, entries)
    assert texts(endpoints) == ["10.1.0.1:8080", "10.1.0.2:8080", "10.9.0.1:8080"]
    assert [each.identity is not None for each in endpoints.endpoints] == [True, True, False]


def test_an_address_that_two_slices_list_is_one_endpoint() -> None:
    """While the cluster moves it from one to the other."""
    service = manifests.service("web", "10.2.0.1", HTTP)
    slices = [manifests.endpoint_slice(name, "web", at(1), ports=NAMED) for name in "ab"]
    assert texts(found(service, web(1), *slices)) == ["10.1.0.1:8080"]


def test_both_families_slices_count() -> None:
    """IPv4 first."""
    service = manifests.service("web", "10.2.0.1", HTTP)
    six = manifests.endpoint_slice(
        "a6", "web", {"addresses": ["fd00:1::1"]}, ports=NAMED, family="IPv6"
    )
    four = manifests.endpoint_slice("b4", "web", at(1), ports=NAMED)
    assert texts(found(service, web(1), six, four)) == ["10.1.0.1:8080", "[fd00:1::1]:8080"]


@pytest.mark.parametrize("has_slices", [True, False])
@pytest.mark.parametrize(
    ("instance", "wanted"), [("web-1", ["10.1.0.1:8080"]), ("web-9", []), ("special", [])]
)
def test_an_instance_of_a_headless_service_is_one_pod(
    has_slices: bool, instance: str, wanted: list[str]
) -> None:
    """By the slice's hostname; without slices by the pod's hostname, else its name."""
    service = manifests.service("web", "None", HTTP)
    other = web(2, spec={"hostname": "special", "subdomain": "elsewhere"})
    entries = manifests.endpoint_slice(
        "a", "web", at(1, hostname="web-1"), at(2, hostname="other"), ports=NAMED
    )
    objects = [service, web(1), other, *([entries] if has_slices else [])]
    assert texts(found(*objects, host=f"{instance}.{WEB}")) == wanted


def test_an_instance_is_found_by_the_pods_hostname() -> None:
    """Its own name then is none."""
    service = manifests.service("web", "None", HTTP)
    pod = web(1, spec={"hostname": "first", "subdomain": "web"})
    assert texts(found(service, pod, host=f"first.{WEB}")) == ["10.1.0.1:8080"]
    assert texts(found(service, pod, host=f"web-1.{WEB}")) == []


# --- the client's place ---------------------------------------------------------------------


@pytest.mark.parametrize("has_slices", [True, False])
@pytest.mark.parametrize(
    ("node", "wanted"),
    [("n1", ["10.1.0.1:8080"]), ("n3", []), ("", ["10.1.0.1:8080", "10.1.0.2:8080"])],
)
def test_local_traffic_stays_on_the_clients_node(
    has_slices: bool, node: str, wanted: list[str]
) -> None:
    """``internalTrafficPolicy: Local``; a client that knows no node sees all."""
    service = manifests.service("web", "10.2.0.1", HTTP, spec={"internalTrafficPolicy": "Local"})
    pods = [web(1, spec={"nodeName": "n1"}), web(2, spec={"nodeName": "n2"})]
    entries = manifests.endpoint_slice(
        "a", "web", at(1, nodeName="n1"), at(2, nodeName="n2"), ports=NAMED
    )
    objects = [service, *pods, *([entries] if has_slices else [])]
    assert texts(found(*objects, at=Viewpoint(node))) == wanted


def _hinted(number: int, zone: str, *zones: str) -> dict[str, Any]:
    hints = {"hints": {"forZones": [{"name": each} for each in zones]}} if zones else {}
    return at(number, zone=zone, nodeName=f"n-{zone}", **hints)


@pytest.mark.parametrize(
    ("entries", "viewpoint", "wanted"),
    [
        ([_hinted(1, "a", "a"), _hinted(2, "b", "b")], Viewpoint("", "a"), [1]),
        ([_hinted(1, "a", "a"), _hinted(2, "b", "b")], Viewpoint("n-b"), [2]),
        ([_hinted(1, "a", "a", "c"), _hinted(2, "b", "b", "c")], Viewpoint("", "c"), [1, 2]),
        ([_hinted(1, "a", "a"), _hinted(2, "b")], Viewpoint("", "a"), [1, 2]),
        ([_hinted(1, "a", "a"), _hinted(2, "b", "b")], Viewpoint("", "z"), [1, 2]),
        ([_hinted(1, "a", "a"), _hinted(2, "b", "b")], ANYWHERE, [1, 2]),
        (
            [_hinted(1, "a", "a"), {**_hinted(2, "b"), "conditions": {"ready": False}}],
            Viewpoint("", "a"),
            [1],
        ),
    ],
)
def test_topology_hints_keep_traffic_in_the_zone(
    entries: list[dict[str, Any]], viewpoint: Viewpoint, wanted: list[int]
) -> None:
    """Only where every ready address has them and some are for us; the zone may be our node's.

    The others that are ready are kept in reserve.
    """
    service = manifests.service("web", "10.2.0.1", HTTP)
    slices = manifests.endpoint_slice("a", "web", *entries, ports=NAMED)
    endpoints = found(service, web(1), web(2), slices, at=viewpoint)
    assert texts(endpoints) == [f"10.1.0.{number}:8080" for number in wanted]
    ready = [number for number, entry in enumerate(entries, 1) if "conditions" not in entry]
    others = [f"10.1.0.{number}:8080" for number in ready if number not in wanted]
    assert [str(each.address) for each in endpoints.reserve] == others


def test_zone_labels_say_where_an_endpoint_is_seen_from_here() -> None:
    """Local, remote, or unknown."""
    service = manifests.service("web", "10.2.0.1", HTTP)
    slices = manifests.endpoint_slice("a", "web", _hinted(1, "a"), _hinted(2, "b"), at(3),
                                      ports=NAMED)  # fmt: skip
    endpoints = found(service, web(1), web(2), web(3), slices, at=Viewpoint("", "a"))
    labels = [dict(each.labels) for each in endpoints.endpoints]
    assert [each["zone_locality"] for each in labels] == ["local", "remote", "unknown"]
    assert [each.zone for each in endpoints.endpoints] == ["a", "b", ""]
    assert "zone" not in labels[2]
