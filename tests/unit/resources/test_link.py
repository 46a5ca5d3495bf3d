"""Links: Linkerd's fields and defaults, our annotations, and every mistake at once."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from identity.name import Identity
from resources.link import MAX_GATEWAYS, Link, ProbeSpec
from resources.manifest import Document, parse_manifest
from resources.registry import KINDS, LINKED_KINDS

GATEWAY = "linkerd-gateway.linkerd-multicluster.serviceaccount.identity.linkerd.west.example"
EXPORTED = {"matchLabels": {"mirror.linkerd.io/exported": "true"}}
DIRECT = {"matchLabels": {"mirror.linkerd.io/exported": "remote-discovery"}}
MEMBER = {"matchLabels": {"mirror.linkerd.io/federated": "member"}}


def document_of(
    spec: dict[str, Any], annotations: dict[str, Any] | None = None, version: str = "v1alpha3"
) -> Document:
    """Return the one document of a Link with this spec."""
    manifest = {
        "apiVersion": f"multicluster.linkerd.io/{version}",
        "kind": "Link",
        "metadata": {
            "name": "west",
            "namespace": "linkerd-multicluster",
            "annotations": annotations or {},
        },
        "spec": spec,
    }
    (document,) = parse_manifest("link.json", json.dumps(manifest).encode()).documents
    return document


def link_of(spec: dict[str, Any], annotations: dict[str, Any] | None = None) -> Link:
    """Return a Link without mistakes."""
    document = document_of(spec, annotations)
    assert document.problems == ()
    assert isinstance(document.resource, Link)
    return document.resource


def wrong_fields(spec: dict[str, Any], annotations: dict[str, Any] | None = None) -> list[str]:
    """Return where a Link is wrong, last step of each path."""
    document = document_of(spec, annotations)
    assert document.resource is None
    return sorted(re.split(r"[./]", each.path)[-1].strip("[']") for each in document.problems)


def test_what_linkerd_writes() -> None:
    """A Link as Linkerd's own command prints it, numbers as strings."""
    link = link_of(
        {
            "targetClusterName": "west",
            "targetClusterDomain": "west.local",
            "targetClusterLinkerdNamespace": "linkerd-two",
            "clusterCredentialsSecret": "cluster-credentials-west",
            "gatewayAddress": "192.0.2.7, gateway.west.example, FD00:0::1, 192.0.2.7",
            "gatewayPort": "4243",
            "gatewayIdentity": GATEWAY,
            "probeSpec": {
                "path": "/live",
                "port": "4191",
                "period": "5s",
                "timeout": "30s",
                "failureThreshold": "4",
            },
            "selector": EXPORTED,
            "remoteDiscoverySelector": DIRECT,
            "federatedServiceSelector": MEMBER,
            "excludedAnnotations": ["a/*"],
            "excludedLabels": ["b"],
            "somethingNewer": {},
        }
    )
    assert (link.cluster, link.cluster_domain) == ("west", "west.local")
    assert link.control_namespace == "linkerd-two"
    assert link.gateway_addresses == ("192.0.2.7", "gateway.west.example", "fd00::1")
    assert (link.gateway_port, link.gateway_identity) == (4243, Identity(GATEWAY))
    assert link.probe == ProbeSpec(path="/live", period_s=5.0, failure_threshold=4)
    assert (link.excluded_annotations, link.excluded_labels) == (("a/*",), ("b",))
    assert (link.source, link.trust_domain, link.anchors) == ("", "", "")


def test_defaults_and_annotations() -> None:
    """Without a gateway, and with a directory and roots of its own."""
    link = link_of(
        {"targetClusterName": "west", "probeSpec": {"period": "3"}},
        {
            "multicluster.pillion.dev/source": "/mesh/west",
            "multicluster.pillion.dev/trust-domain": "West.example",
            "multicluster.pillion.dev/anchors": "west-roots.pem",
            "multicluster.pillion.dev/headless": "true",
            "example.org/other": "1",
        },
    )
    assert (link.cluster_domain, link.control_namespace) == ("cluster.local", "linkerd")
    assert (link.gateway_addresses, link.gateway_port) == ((), 4143)
    assert link.gateway_identity is None
    assert link.probe == ProbeSpec()
    assert (link.source, link.trust_domain) == ("/mesh/west", "west.example")
    assert link.anchors == "west-roots.pem"
    assert link.keeps_headless
    assert not link.federates_by_gateway
    annotation = {"multicluster.pillion.dev/federated": "gateway"}
    assert link_of({"targetClusterName": "west"}, annotation).federates_by_gateway


@pytest.mark.parametrize("selector", [None, {}, {"matchLabels": {}}, {"matchExpressions": []}])
def test_a_selector_that_says_nothing_takes_nothing(selector: dict[str, Any] | None) -> None:
    """Other than everywhere else in Kubernetes (Link reference)."""
    link = link_of({"targetClusterName": "west", "selector": selector})
    assert not link.takes_by_gateway({"mirror.linkerd.io/exported": "true"})
    assert not link.takes_directly({})
    assert not link.takes_federated({})


def test_selectors_choose_the_way() -> None:
    """Each has its own say."""
    link = link_of(
        {
            "targetClusterName": "west",
            "selector": EXPORTED,
            "remoteDiscoverySelector": {
                "matchExpressions": [{"key": "direct", "operator": "Exists"}]
            },
            "federatedServiceSelector": MEMBER,
        }
    )
    assert link.takes_by_gateway({"mirror.linkerd.io/exported": "true"})
    assert not link.takes_by_gateway({"mirror.linkerd.io/exported": "remote-discovery"})
    assert link.takes_directly({"direct": ""})
    assert link.takes_federated({"mirror.linkerd.io/federated": "member", "direct": ""})


def test_every_mistake_is_told_at_once() -> None:
    """All of them, each at its place."""
    found = wrong_fields(
        {
            "targetClusterName": "West!",
            "targetClusterDomain": "no domain",
            "targetClusterLinkerdNamespace": "No",
            "gatewayAddress": "0.0.0.0, 256.1.1.1, -x-",
            "gatewayPort": "many",
            "gatewayIdentity": "not an identity",
            "probeSpec": {
                "path": "ready",
                "port": "70000",
                "period": "1ms",
                "timeout": "soon",
                "failureThreshold": "0",
            },
            "selector": {"matchLabel": {}},
        },
        {
            "multicluster.pillion.dev/source": "mesh/west",
            "multicluster.pillion.dev/trust-domain": "no domain",
            "multicluster.pillion.dev/anchors": "../own.pem",
            "multicluster.pillion.dev/sauce": "x",
            "multicluster.pillion.dev/headless": "maybe",
        },
    )
    assert found == sorted(
        [
            *("targetClusterName", "targetClusterDomain", "targetClusterLinkerdNamespace"),
            *("gatewayAddress", "gatewayAddress", "gatewayAddress"),
            *("gatewayPort", "gatewayIdentity"),
            *("path", "port", "period", "timeout", "failureThreshold", "matchLabel"),
            *("source", "trust-domain", "anchors", "sauce", "headless"),
        ]
    )


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "targetClusterName"),
        ({"targetClusterName": "west", "gatewayAddress": "192.0.2.1"}, "gatewayIdentity"),
    ],
)
def test_what_has_to_be_there(spec: dict[str, Any], field: str) -> None:
    """A name, and with a gateway its identity: it is never trusted by its address."""
    assert wrong_fields(spec) == [field]


def test_anchors_need_a_trust_domain() -> None:
    """Roots without a domain that they may speak for would speak for ours."""
    (problem,) = document_of(
        {"targetClusterName": "west"}, {"multicluster.pillion.dev/anchors": "west.pem"}
    ).problems
    assert "trust-domain" in problem.message


@pytest.mark.parametrize(
    ("count", "fits"), [(MAX_GATEWAYS, True), (MAX_GATEWAYS + 1, False)], ids=str
)
def test_a_gateway_has_so_many_addresses(count: int, fits: bool) -> None:
    """At the bound, and one past it."""
    addresses = ",".join(f"192.0.2.{number}" for number in range(1, count + 1))
    spec = {
        "targetClusterName": "west",
        "gatewayAddress": addresses,
        "gatewayIdentity": GATEWAY,
    }
    assert (document_of(spec).problems == ()) is fits


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2", "v1alpha3"])
def test_versions(version: str) -> None:
    """Every version that Linkerd has had."""
    assert document_of({"targetClusterName": "west"}, version=version).problems == ()


def test_of_another_cluster_only_places_are_read() -> None:
    """Its policies, configuration and links are its own."""
    names = {name for _, name in LINKED_KINDS}
    assert names == {"Namespace", "Service", "EndpointSlice", "Pod", "Server"}
    link = b"apiVersion: multicluster.linkerd.io/v1alpha3\nkind: Link\nspec: nonsense\n"
    assert parse_manifest("a.yaml", link, LINKED_KINDS).documents == ()
    assert len(parse_manifest("a.yaml", link, KINDS).documents) == 1
