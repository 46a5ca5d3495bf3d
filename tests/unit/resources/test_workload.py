"""What a pod is to the mesh: membership, identity, special ports, labels."""

from __future__ import annotations

from typing import Any

import pytest

from resources.config_map import ConfigMap, MeshConfig
from resources.namespace import Namespace
from resources.pod import Pod
from resources.service import Service
from resources.workload import CONTROL_LABEL, INJECT, Workload, is_opaque, service_opaque_ports
from tests.support import manifests

ENABLED = {INJECT: "enabled"}
INJECTED = {CONTROL_LABEL: "linkerd"}


def workload(
    annotations: dict[str, str] | None = None,
    of_namespace: dict[str, str] | None = None,
    config: MeshConfig | None = None,
    **more: Any,
) -> Workload:
    """Return a pod ``web`` in ``shop`` with these annotations, and its namespace's."""
    pod = manifests.one(manifests.pod("web", "10.1.0.1", annotations=annotations, **more))
    assert isinstance(pod, Pod)
    return Workload(pod, _namespace(of_namespace), config or MeshConfig())


def _namespace(annotations: dict[str, str] | None) -> Namespace | None:
    if annotations is None:
        return None
    found = manifests.one(manifests.namespace("shop", annotations))
    assert isinstance(found, Namespace)
    return found


@pytest.mark.parametrize(
    ("labels", "own", "of_namespace", "is_meshed"),
    [
        (None, None, None, False),
        (INJECTED, None, None, True),
        (INJECTED, {INJECT: "disabled"}, None, True),
        (None, ENABLED, None, True),
        (None, {INJECT: "ingress"}, None, True),
        (None, {INJECT: "disabled"}, ENABLED, False),
        (None, {INJECT: "yes"}, ENABLED, False),
        (None, None, ENABLED, True),
        (None, ENABLED, {INJECT: "disabled"}, True),
        (None, None, {INJECT: "disabled"}, False),
        (None, None, {}, False),
    ],
)
def test_meshed_is_the_label_or_the_effective_injection(
    labels: dict[str, str] | None,
    own: dict[str, str] | None,
    of_namespace: dict[str, str] | None,
    is_meshed: bool,
) -> None:
    """The pod's annotation beats its namespace's."""
    found = workload(own, of_namespace, labels=labels)
    assert found.is_meshed is is_meshed
    assert (found.identity is not None) is is_meshed


def test_a_pod_on_the_hosts_network_is_not_injected_by_annotation() -> None:
    """Its traffic cannot be captured; with the label it says so itself."""
    spec = {"hostNetwork": True}
    assert not workload(ENABLED, spec=spec).is_meshed
    assert workload(labels=INJECTED, spec=spec).is_meshed


@pytest.mark.parametrize(
    ("labels", "config", "identity"),
    [
        (INJECTED, MeshConfig(), "web-sa.shop.serviceaccount.identity.linkerd.cluster.local"),
        (
            None,
            MeshConfig(trust_domain="mesh.example", cluster_domain="east.local"),
            "web-sa.shop.serviceaccount.identity.linkerd.mesh.example",
        ),
        ({CONTROL_LABEL: "other"}, MeshConfig(), None),
    ],
)
def test_the_identity_is_made_of_account_namespace_and_trust_domain(
    labels: dict[str, str] | None, config: MeshConfig, identity: str | None
) -> None:
    """A pod of another control plane has an identity, but none that is known here."""
    found = workload(ENABLED, config=config, labels=labels,
                     spec={"serviceAccountName": "web-sa"}).identity  # fmt: skip
    assert (None if found is None else found.name) == identity


def test_a_name_too_long_for_an_identity_is_not_plaintext() -> None:
    """It is asked for, and never proven."""
    found = workload(ENABLED, spec={"serviceAccountName": ".".join(["a" * 63] * 3)}).identity
    assert found is not None
    assert len(found.name) > 200


@pytest.mark.parametrize(
    ("labels", "own", "of_namespace", "opaque"),
    [
        (None, None, None, [3306, 5432]),
        (None, "1234", None, [1234]),
        (None, "", None, []),
        (None, None, "http", [8080]),
        (None, "1234", "4321", [1234]),
        (INJECTED, None, "4321", [3306, 5432]),
        (INJECTED, "1234", "4321", [1234]),
    ],
)
def test_opaque_ports_replace_the_default_list(
    labels: dict[str, str] | None, own: str | None, of_namespace: str | None, opaque: list[int]
) -> None:
    """The pod's, else (unless the label says it was injected) its namespace's, else Linkerd's."""
    name = "config.linkerd.io/opaque-ports"
    found = workload(
        None if own is None else {name: own},
        None if of_namespace is None else {name: of_namespace},
        labels=labels,
        ports={"http": 8080},
    )
    asked = (1234, 3306, 4321, 5432, 8080)
    assert [port for port in asked if port in found.opaque_ports] == opaque


def test_skipped_and_own_ports_follow_their_annotations() -> None:
    """Defaults are Linkerd's; nonsense is the default."""
    prefix = "config.linkerd.io/"
    plain = workload()
    assert (plain.direct_port, plain.is_meta_port(4190), plain.is_meta_port(4191)) == (
        4143,
        True,
        True,
    )
    assert not plain.is_meta_port(4143)
    assert 80 not in plain.skipped_ports
    told = workload(
        {
            f"{prefix}skip-inbound-ports": "80,90-99",
            f"{prefix}inbound-port": "5143",
            f"{prefix}admin-port": "5191",
            f"{prefix}control-port": "x",
        }
    )
    assert 95 in told.skipped_ports
    assert told.direct_port == 5143
    assert [port for port in (4190, 4191, 5191) if told.is_meta_port(port)] == [4190, 5191]
    assert workload({f"{prefix}inbound-port": "70000"}).direct_port == 4143


@pytest.mark.parametrize(
    ("owners", "labels", "wanted"),
    [
        ([], {}, ("pod", "web")),
        ([("StatefulSet", "db", True)], {}, ("statefulset", "db")),
        ([("ReplicaSet", "web-5d8", True)], {"pod-template-hash": "5d8"}, ("deployment", "web")),
        ([("ReplicaSet", "web-5d8", True)], {}, ("replicaset", "web-5d8")),
        ([("X", "x", False), ("Job", "j", True)], {}, ("job", "j")),
    ],
)
def test_the_owner_is_the_controller(
    owners: list[tuple[str, str, bool]], labels: dict[str, str], wanted: tuple[str, str]
) -> None:
    """A ReplicaSet's Deployment is known by the template's hash."""
    references = [{"kind": kind, "name": name, "controller": it} for kind, name, it in owners]
    found = workload(labels=labels, meta={"ownerReferences": references})
    assert found.owner == wanted
    assert found.labels[wanted[0]] == wanted[1]


def test_labels_name_pod_account_control_plane_and_template() -> None:
    """An owner's kind that makes no label name is left out."""
    found = workload(
        ENABLED,
        labels={"pod-template-hash": "5d8"},
        meta={"ownerReferences": [{"kind": 'x="', "name": "y"}]},
    )
    assert found.labels == {
        "pod": "web",
        "serviceaccount": "default",
        "control_plane_ns": "linkerd",
        "pod_template_hash": "5d8",
    }


@pytest.mark.parametrize(
    ("app_protocol", "own", "of_namespace", "opaque"),
    [
        ("", None, None, False),
        ("", "80", None, True),
        ("", None, "web", True),
        ("", "", "80", False),
        ("http", "80", None, False),
        ("HTTP", "80", None, False),
        ("kubernetes.io/h2c", "80", None, False),
        ("linkerd.io/opaque", "", None, True),
        ("https", "", None, True),
    ],
)
def test_a_services_port_is_opaque_by_protocol_then_annotation(
    app_protocol: str, own: str | None, of_namespace: str | None, opaque: bool
) -> None:
    """``appProtocol`` wins; a namespace's annotation counts where the Service has none."""
    name = "config.linkerd.io/opaque-ports"
    port = {"port": 80, "name": "web", **({"appProtocol": app_protocol} if app_protocol else {})}
    service = manifests.one(manifests.service(
        "s", "10.2.0.1", port, annotations=None if own is None else {name: own}))  # fmt: skip
    assert isinstance(service, Service)
    namespace = _namespace(None if of_namespace is None else {name: of_namespace})
    assert is_opaque(service, namespace, 80) is opaque


def test_a_services_default_opaque_ports_are_linkerds() -> None:
    """The same list as a pod's."""
    service = manifests.one(manifests.service("s", "10.2.0.1", {"port": 3306}))
    assert isinstance(service, Service)
    ports = service_opaque_ports(service, None)
    listed = [25, 587, 3306, 4444, 5432, 6379, 9300, 11211]
    assert [port for port in range(1, 65536) if port in ports] == listed


def test_the_configuration_is_a_config_maps() -> None:
    """The builders of these tests make real ones."""
    found = manifests.one(manifests.config(trustDomain="mesh.example"))
    assert isinstance(found, ConfigMap)
    assert found.config == MeshConfig(trust_domain="mesh.example")
