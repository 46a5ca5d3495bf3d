"""Files to objects: what is used, what is left out, whom a mistake concerns."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.kind import ObjectKey, Owner
from resources.manifest import Manifest, parse_manifest
from resources.namespace import Namespace
from resources.registry import KINDS
from resources.service_account import ServiceAccount


def parse(text: str, file: str = "a.yaml") -> Manifest:
    """Parse a manifest's text."""
    return parse_manifest(file, text.encode())


def test_documents_of_a_file_become_objects() -> None:
    """Metadata is read alike for every kind."""
    manifest = parse("""
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels: {team: a}
  annotations: {linkerd.io/inject: enabled}
  creationTimestamp: "2024-01-02T03:04:05Z"
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: web
  namespace: shop
  deletionTimestamp: "2024-01-02T03:04:05Z"
  ownerReferences: [{apiVersion: v1, kind: Thing, name: t, controller: true, uid: x}]
""")
    namespace, account = (document.resource for document in manifest.documents)
    assert isinstance(namespace, Namespace)
    assert isinstance(account, ServiceAccount)
    assert namespace.meta.key == ObjectKey("", "Namespace", "", "shop")
    assert namespace.meta.labels == {"team": "a"}
    assert namespace.meta.annotations == {"linkerd.io/inject": "enabled"}
    assert namespace.meta.created == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert account.meta.key == ObjectKey("", "ServiceAccount", "shop", "web")
    assert account.meta.is_terminating
    assert account.meta.owners == (Owner("Thing", "t", is_controller=True),)
    assert str(account.meta.key) == "ServiceAccount shop/web"
    assert str(namespace.meta.key) == "Namespace shop"


def test_an_object_without_namespace_is_in_default() -> None:
    """As kubectl has it."""
    (document,) = parse("{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}}").documents
    assert document.key == ObjectKey("", "ServiceAccount", "default", "a")


@pytest.mark.parametrize(
    "text",
    [
        "{apiVersion: apps/v1, kind: Deployment, metadata: 3}",
        "{apiVersion: example.com/v1, kind: Pod}",
        "{apiVersion: v1, kind: Node, metadata: {name: n}}",
    ],
)
def test_unknown_kinds_are_left_out(text: str) -> None:
    """Whatever they hold."""
    assert parse(text) == Manifest()


def test_lists_are_unfolded() -> None:
    """Of any kind; items of a typed list take its kind when they have none."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}}
    bare = {"metadata": {"name": "b", "namespace": "shop"}}
    typed = {"apiVersion": "v1", "kind": "ServiceAccountList", "items": [bare]}
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [account, typed]})
    names = [document.key and document.key.name for document in parse(text).documents]
    assert names == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "namespace", "path"),
    [
        ("- 1", None, ""),
        ("text", None, ""),
        ("{kind: Pod}", None, "apiVersion"),
        ("{apiVersion: v1}", None, "kind"),
        ("{apiVersion: v1, kind: [Pod]}", None, "kind"),
        ("{apiVersion: v1, kind: ServiceAccount}", None, "metadata"),
        ("{apiVersion: v1, kind: ServiceAccount, metadata: x}", None, "metadata"),
        ("{apiVersion: v1, kind: ServiceAccount, metadata: {name: a, namespace: 3}}", None,
         "metadata.namespace"),
        ("{apiVersion: v1, kind: ServiceAccount, metadata: {name: a, namespace: A_B}}", None,
         "metadata.namespace"),
        ("{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: shop}}", "shop",
         "metadata.name"),
        ("{apiVersion: v1, kind: ServiceAccount, metadata: {name: A/B, namespace: shop}}", "shop",
         "metadata.name"),
        ("{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop, labels: {x: 1}}}",
         "shop", "metadata.labels.x"),
        ("{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop, labels: {x: a b}}}",
         "shop", "metadata.labels.x"),
        ("{apiVersion: v2, kind: ServiceAccount, metadata: {name: a, namespace: shop}}", "shop",
         "apiVersion"),
        ("{apiVersion: v1, kind: ServiceAccount, metadata: {name: a, name: b, namespace: shop}}",
         None, "metadata.name"),
        ("{apiVersion: v1, kind: ServiceAccount, kind: x, metadata: {name: a, namespace: shop}}",
         "shop", "kind"),
        ("{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: 3}}", "shop",
         "metadata.labels"),
        ("{apiVersion: v1, kind: List, items: {}}", None, "items"),
        ("{apiVersion: v1, kind: List, items: [3]}", None, ""),
    ],
)  # fmt: skip
def test_a_mistake_names_its_field_and_whom_it_concerns(
    text: str, namespace: str | None, path: str
) -> None:
    """What cannot be placed concerns everyone."""
    (document,) = parse(text).documents
    assert document.resource is None
    assert document.namespace == namespace
    assert path in {problem.path for problem in document.problems}


def test_all_mistakes_of_a_document_are_told_at_once() -> None:
    """With file and line."""
    manifest = parse("""\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: Clusterip
  clusterIP: 10.0.0.300
  ports:
  - port: 0
  - targetPort: 80
""")
    (document,) = manifest.documents
    assert document.key == ObjectKey("", "Service", "shop", "web")
    assert [(problem.line, problem.path) for problem in document.problems] == [
        (5, "spec.type"),
        (6, "spec.clusterIP"),
        (8, "spec.ports[0].port"),
        (9, "spec.ports[1].port"),
    ]


def test_a_good_document_beside_a_broken_one_is_used() -> None:
    """Documents stand for themselves."""
    manifest = parse("""\
{apiVersion: v1, kind: ServiceAccount, metadata: {name: A}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: b}}
""")
    assert [document.resource is not None for document in manifest.documents] == [False, True]


def test_a_file_that_is_cut_short_is_unreadable() -> None:
    """Nothing of it is used: what came before the cut may have been meant to change too."""
    manifest = parse("apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: a\n  names")
    assert manifest.documents == ()
    assert manifest.unreadable is not None
    assert manifest.unreadable.line == 6


_FIELDS = (
    *("spec", "status", "metadata", "data", "name", "namespace", "labels", "annotations", "ports"),
    *("port", "containers", "containerPort", "podIP", "podIPs", "ip", "selector", "matchLabels"),
    *("endpoints", "addresses", "addressType", "conditions", "type", "targetRef", "kind", "group"),
    *("rules", "matches", "path", "value", "parentRefs", "backendRefs", "filters", "identities"),
    *("podSelector", "proxyProtocol", "requiredAuthenticationRefs", "networks", "cidr", "except"),
)
_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 70_000)
    | st.sampled_from(["", "a", "A b", "10.0.0.1", "IPv4", "Service", "0.0.0.0/0", "HTTP/1", "*"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=5)
    ),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)), st.dictionaries(st.sampled_from(_FIELDS), _anything, max_size=5)
)
def test_whatever_a_document_holds_it_is_used_or_its_mistakes_are_told(
    kind: tuple[str, str], fields: dict[str, object]
) -> None:
    """No kind's reading ends in anything else."""
    group, name = kind
    version = min(KINDS[kind].versions)
    head = {"apiVersion": f"{group}/{version}" if group else version, "kind": name}
    (document,) = parse(json.dumps({"metadata": {"name": "a"}, **fields, **head})).documents
    assert (document.resource is None) is bool(document.problems)
