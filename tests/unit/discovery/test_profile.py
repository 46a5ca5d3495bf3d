"""What an original destination is."""

from __future__ import annotations

from typing import Any

import pytest

from discovery.model import EMPTY_PROFILE, Address, Hint, Metadata, Profile, RetryBudget
from discovery.profile import profile_of
from discovery.store import Change, Lookup, Store
from tests.support import manifests


def profile(ip: str, port: int, *objects: dict[str, Any]) -> Profile | None:
    """Return the profile of an address among these objects."""
    store = Store()
    for each in manifests.objects(*objects):
        store.put(each, Change())
    return profile_of(Lookup(store), Address(ip, port))


def test_a_services_declared_port_is_the_service() -> None:
    """Any of its cluster addresses."""
    service = manifests.service(
        "web", "10.2.0.1", {"port": 80}, spec={"clusterIPs": ["10.2.0.1", "fd00:2::1"]}
    )
    for ip in ("10.2.0.1", "fd00:2::1"):
        assert profile(ip, 80, service) == Profile(
            fully_qualified_name="web.shop.svc.cluster.local",
            retry_budget=RetryBudget(),
            parent=Metadata("Service", "web", "core", "shop", "", 80),
        )


def test_the_full_name_is_in_the_clusters_own_domain() -> None:
    """As configured."""
    objects = [manifests.service("web", "10.2.0.1", {"port": 80})]
    found = profile("10.2.0.1", 80, *objects, manifests.config(clusterDomain="east.local"))
    assert found is not None
    assert found.fully_qualified_name == "web.shop.svc.east.local"


def test_a_services_undeclared_port_has_an_empty_profile() -> None:
    """Outbound policy then closes it; UDP declares nothing."""
    service = manifests.service("web", "10.2.0.1", {"port": 80, "protocol": "UDP"})
    assert profile("10.2.0.1", 80, service) == EMPTY_PROFILE


@pytest.mark.parametrize(
    ("created", "wanted"),
    [(("2024-01-02", "2024-01-01"), "b"), ((None, "2024-01-01"), "b"), ((None, None), "a")],
)
def test_of_two_services_with_one_address_the_oldest_counts(
    created: tuple[str | None, str | None], wanted: str
) -> None:
    """Without a creation time youngest; ties by name."""
    services = [
        manifests.service(name, "10.2.0.1", {"port": 80},
                          created=moment and f"{moment}T00:00:00Z")
        for name, moment in zip("ab", created, strict=True)
    ]  # fmt: skip
    found = profile("10.2.0.1", 80, *services)
    assert found is not None
    assert found.parent is not None
    assert found.parent.name == wanted


@pytest.mark.parametrize(
    ("status", "is_known"),
    [
        ({}, True),
        ({"conditions": [{"type": "Ready", "status": "False"}]}, True),
        ({"phase": "Pending"}, True),
        ({"phase": "Succeeded"}, False),
        ({"phase": "Failed"}, False),
    ],
)
def test_a_pods_address_is_the_pod_ready_or_not(status: dict[str, Any], is_known: bool) -> None:
    """With its identity, on any port; an ended pod's address may be another's soon."""
    pod = manifests.pod("web", "10.1.0.1", annotations=manifests.MESHED, status=status)
    found = profile("10.1.0.1", 12345, pod)
    assert found is not None
    assert found.endpoint is not None
    assert (found.endpoint.identity is not None) is is_known
    if is_known:
        assert dict(found.endpoint.labels)["namespace"] == "shop"


def test_the_pod_that_stays_has_the_address() -> None:
    """A terminating one keeps it only while alone."""
    going = manifests.pod("a", "10.1.0.1", meta={"deletionTimestamp": "2024-01-01T00:00:00Z"})
    staying = manifests.pod("b", "10.1.0.1")
    for objects, wanted in (((going, staying), "b"), ((going,), "a")):
        found = profile("10.1.0.1", 80, *objects)
        assert found is not None
        assert found.endpoint is not None
        assert found.endpoint.resource is not None
        assert found.endpoint.resource.name == wanted


def test_a_nodes_host_port_is_the_pod_that_holds_it() -> None:
    """The hints are those of the pod's own port; the address dialled stays the node's."""
    ports = [{"containerPort": 5432, "hostPort": 80}]
    pod = manifests.pod("db", "10.1.0.1", annotations=manifests.MESHED,
                        container={"ports": ports}, status={"hostIP": "10.9.0.1"})  # fmt: skip
    found = profile("10.9.0.1", 80, pod)
    assert found is not None
    assert found.endpoint is not None
    assert found.endpoint.address == Address("10.9.0.1", 80)
    assert found.endpoint.hint is Hint.OPAQUE
    assert found.opaque_protocol
    other = profile("10.9.0.1", 81, pod)
    assert other is not None
    assert other.endpoint is not None
    assert other.endpoint.resource is None


def test_a_pod_on_the_hosts_network_is_known_by_its_ports_alone() -> None:
    """The node's address is not its own."""
    pod = manifests.pod("agent", "10.9.0.1", spec={"hostNetwork": True}, ports={"x": 9100})
    for port, is_known in ((9100, True), (9101, False)):
        found = profile("10.9.0.1", port, pod)
        assert found is not None
        assert found.endpoint is not None
        assert (found.endpoint.resource is not None) is is_known


@pytest.mark.parametrize(
    ("ip", "port", "opaque"),
    [
        ("10.7.0.1", 80, False),
        ("10.7.0.1", 3306, True),
        ("fd00::7", 80, False),
        ("192.0.2.1", 80, None),
        ("2001:db8::1", 3306, None),
    ],
)
def test_other_addresses_are_bare_inside_and_nothing_outside_the_cluster(
    ip: str, port: int, opaque: bool | None
) -> None:
    """Inside, the default opaque ports count."""
    found = profile(ip, port)
    if opaque is None:
        assert found is None
    else:
        assert found is not None
        assert found.endpoint is not None
        assert found.endpoint.identity is None
        assert found.opaque_protocol is opaque


def test_what_is_inside_is_configured() -> None:
    """``clusterNetworks``."""
    assert profile("10.7.0.1", 80, manifests.config(clusterNetworks="192.0.2.0/24")) is None


@pytest.mark.parametrize(
    ("port", "opaque"),
    [
        ({"port": 3306}, True),
        ({"port": 3306, "appProtocol": "http"}, False),
        ({"port": 80, "appProtocol": "linkerd.io/opaque"}, True),
        ({"port": 80}, False),
    ],
)
def test_a_services_port_is_opaque_as_its_policy_is(port: dict[str, Any], opaque: bool) -> None:
    """The profile's word forces opaque, so it must not contradict ``appProtocol``."""
    found = profile("10.2.0.1", port["port"], manifests.service("web", "10.2.0.1", port))
    assert found is not None
    assert found.opaque_protocol is opaque
