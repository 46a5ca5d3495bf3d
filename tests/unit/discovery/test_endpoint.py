"""One pod's port as an endpoint: the table of hints, identities and direct ports."""

from __future__ import annotations

from typing import Any

import pytest

from discovery.endpoint import MAX_REMEMBERED, MESHED_HTTP2, bare_endpoint, pod_endpoint
from discovery.model import Address, Endpoint, Hint, Metadata
from discovery.store import Change, Lookup, Store
from identity.name import Identity
from resources.kind import ObjectKey
from resources.pod import Pod
from resources.workload import CONTROL_LABEL
from tests.support import manifests

WEB = "web.shop.serviceaccount.identity.linkerd.cluster.local"
_SETTING = "config.linkerd.io/"


def stored(*more: dict[str, Any]) -> tuple[Store, Lookup]:
    """Return a store with these objects."""
    store, change = Store(), Change()
    for each in manifests.objects(*more):
        store.put(each, change)
    return store, Lookup(store)


def endpoint_of(port: int, *others: dict[str, Any], **pod: Any) -> Endpoint:
    """Return port ``port`` of a pod ``web-0``, account ``web``, as an endpoint."""
    pod.setdefault("spec", {"serviceAccountName": "web"})
    _, lookup = stored(manifests.pod("web-0", "10.1.0.1", **pod), *others)
    found = lookup.pod("shop", "web-0")
    assert found is not None
    return pod_endpoint(lookup, found, Address("10.1.0.1", port))


def _server(protocol: str, port: int | str = 8080, app: str = "web") -> dict[str, Any]:
    return {
        "apiVersion": "policy.linkerd.io/v1beta3",
        "kind": "Server",
        "metadata": {"name": f"s-{protocol.lower().replace('/', '')}", "namespace": "shop"},
        "spec": {
            "podSelector": {"matchLabels": {"app": app}},
            "port": port,
            "proxyProtocol": protocol,
        },
    }


MESHED = manifests.MESHED
Row = tuple[Hint, int | None, bool]


@pytest.mark.parametrize(
    ("port", "annotations", "wanted"),
    [
        (8080, None, (Hint.UNKNOWN, None, False)),
        (8080, MESHED, (Hint.H2, 4143, True)),
        (5432, MESHED, (Hint.OPAQUE, 4143, True)),
        (4190, MESHED, (Hint.H2, None, True)),
        (4191, MESHED, (Hint.H2, None, True)),
        (8080, {**MESHED, f"{_SETTING}opaque-ports": "8080"}, (Hint.OPAQUE, 4143, True)),
        (5432, {**MESHED, f"{_SETTING}opaque-ports": "8080"}, (Hint.H2, 4143, True)),
        (8080, {**MESHED, f"{_SETTING}skip-inbound-ports": "8080"}, (Hint.UNKNOWN, None, False)),
        (5432, {**MESHED, f"{_SETTING}skip-inbound-ports": "1-6000"}, (Hint.UNKNOWN, None, False)),
        (8080, {**MESHED, f"{_SETTING}inbound-port": "5143"}, (Hint.H2, 5143, True)),
    ],
)
def test_hints_follow_the_ports_table(
    port: int, annotations: dict[str, str] | None, wanted: Row
) -> None:
    """Linkerd's, in transport-header mode: hint, direct port, identity."""
    found = endpoint_of(port, annotations=annotations)
    identity = Identity(WEB) if wanted[2] else None
    assert (found.hint, found.direct_port, found.identity) == (*wanted[:2], identity)
    assert found.http2 == (MESHED_HTTP2 if wanted[2] else None)
    assert found.sni == (WEB if wanted[2] else "")


def test_a_pod_of_another_control_plane_has_the_hint_but_no_identity() -> None:
    """Any Linkerd's sidecar knows HTTP/2; whom to expect there is not known."""
    found = endpoint_of(8080, labels={CONTROL_LABEL: "other"})
    assert (found.hint, found.direct_port, found.identity) == (Hint.H2, None, None)


@pytest.mark.parametrize(
    ("port", "servers", "hint"),
    [
        (8080, [_server("opaque")], Hint.OPAQUE),
        (8080, [_server("opaque", "http")], Hint.OPAQUE),
        (8080, [_server("opaque", 9090)], Hint.H2),
        (8080, [_server("opaque", app="db")], Hint.H2),
        (8080, [_server("HTTP/1"), _server("opaque")], Hint.H2),
        (5432, [_server("HTTP/1", 5432)], Hint.H2),
        (5432, [_server("unknown", 5432)], Hint.OPAQUE),
    ],
)
def test_a_server_decides_before_the_opaque_ports(
    port: int, servers: list[dict[str, Any]], hint: Hint
) -> None:
    """Of several the oldest, here by name; ``unknown`` decides nothing."""
    found = endpoint_of(
        port, *servers, annotations=MESHED, labels={"app": "web"}, ports={"http": 8080}
    )
    assert found.hint is hint


def test_labels_and_resource_name_the_pod() -> None:
    """Sorted; with the zone that the pod says it is in."""
    found = endpoint_of(8080, annotations=MESHED, labels={"topology.kubernetes.io/zone": "a"})
    assert found.labels == (
        ("control_plane_ns", "linkerd"),
        ("pod", "web-0"),
        ("serviceaccount", "web"),
        ("zone", "a"),
    )
    assert found.zone == "a"
    assert found.resource == Metadata("Pod", "web-0", "core", "shop", "", 8080)


def test_a_bare_address_has_nothing_but_itself() -> None:
    """Plaintext, no hint."""
    address = Address("192.0.2.1", 80)
    assert bare_endpoint(address) == Endpoint(address=address)


@pytest.mark.parametrize(
    "change",
    [
        manifests.pod("web-0", "10.1.0.1", annotations={}),
        manifests.namespace("shop", {f"{_SETTING}skip-inbound-ports": "8080"}),
        manifests.config(trustDomain="mesh.example"),
        _server("opaque", app="web"),
    ],
    ids=["pod", "namespace", "configuration", "server"],
)
def test_what_is_remembered_is_forgotten_when_anything_it_is_made_of_changes(
    change: dict[str, Any],
) -> None:
    """The same question after the change gets the new answer, and knows that it depends on it."""
    store, lookup = stored(
        manifests.pod("web-0", "10.1.0.1", annotations=MESHED, labels={"app": "web"})
    )

    def ask(lookup: Lookup) -> Endpoint:
        found = lookup.pod("shop", "web-0")
        assert isinstance(found, Pod)
        return pod_endpoint(lookup, found, Address("10.1.0.1", 8080))

    before = ask(lookup)
    again = Lookup(store)
    assert ask(again) is before
    touched = Change()
    store.put(manifests.one(change), touched)
    assert ask(Lookup(store)) != before
    assert touched.tags & lookup.tags
    assert touched.tags & again.tags


def test_of_one_pod_only_so_many_endpoints_are_remembered() -> None:
    """A client may ask for every port of it."""
    store, lookup = stored(manifests.pod("web-0", "10.1.0.1"))
    found = lookup.pod("shop", "web-0")
    assert found is not None
    for port in range(1, MAX_REMEMBERED + 1):
        pod_endpoint(lookup, found, Address("10.1.0.1", port))
    assert len(store.remembered(found)) == MAX_REMEMBERED
    pod_endpoint(lookup, found, Address("10.1.0.1", MAX_REMEMBERED + 1))
    assert len(store.remembered(found)) == 1
    store.remove(ObjectKey("", "Pod", "shop", "web-0"), Change())
    assert store.remembered(found) == {}
