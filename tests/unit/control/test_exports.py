"""What a gateway leads to: exported Services of its own cluster, by whichever label."""

from __future__ import annotations

from typing import Any

import pytest

from control.exports import Exports
from core.clock import SystemClock
from discovery.index import Index
from discovery.mirror import Mirror, mirror_key
from discovery.model import Target
from resources.kind import Meta
from resources.selector import selector_of
from tests.support import manifests

HTTP = {"port": 80}
API = Target("api.shop.svc.cluster.local", 80)


def exports_of(*objects: dict[str, Any], **options: Any) -> tuple[Index, Exports]:
    """Return an index of these objects, and what it exports."""
    index = Index()
    index.apply(*manifests.objects(*objects))
    return index, Exports(index, SystemClock(), **options)


def api(labels: dict[str, str], **more: Any) -> dict[str, Any]:
    """Return a Service with labels."""
    return manifests.service("api", "10.96.0.1", HTTP, labels=labels, **more)


@pytest.mark.parametrize(
    ("labels", "is_exported"),
    [
        ({"mirror.linkerd.io/exported": "true"}, True),
        ({"mirror.linkerd.io/exported": "remote-discovery"}, True),
        ({"mirror.linkerd.io/federated": "member"}, True),
        ({"team": "shop"}, True),
        ({"mirror.linkerd.io/exported": "false"}, False),
        ({"mirror.linkerd.io/federated": "yes"}, False),
        ({}, False),
        (
            {"mirror.linkerd.io/exported": "true", "mirror.linkerd.io/mirrored-service": "true"},
            False,
        ),
    ],
)
def test_labels_export(labels: dict[str, str], is_exported: bool) -> None:
    """Each export label, and what a selector adds; never what was itself taken in."""
    _, exports = exports_of(api(labels), more=selector_of("team=shop"))
    found = exports.exported("api.shop.svc.cluster.local", 80).current
    assert found == (API if is_exported else None)


@pytest.mark.parametrize(
    ("host", "port", "found"),
    [
        ("api.shop.svc.cluster.local", 80, API),
        ("API.shop.svc.cluster.local.", 80, API),
        ("pod-0.api.shop.svc.cluster.local", 80, Target(f"pod-0.{API.host}", 80)),
        ("api.shop.svc.cluster.local", 81, None),
        ("api.shop.svc", 80, None),
        ("api.shop", 80, None),
        ("10.96.0.1", 80, None),
        ("api.shop.svc.other.local", 80, None),
        ("other.shop.svc.cluster.local", 80, None),
        ("api.other.svc.cluster.local", 80, None),
        ("a.b.api.shop.svc.cluster.local", 80, None),
        ("", 80, None),
    ],
)
def test_names(host: str, port: int, found: Target | None) -> None:
    """Full ones of declared ports, and nothing that only looks like one."""
    _, exports = exports_of(api({"mirror.linkerd.io/exported": "true"}))
    assert exports.exported(host, port).current == found


def test_suffixes_bound_it() -> None:
    """As Linkerd's setting does."""
    labels = {"mirror.linkerd.io/exported": "true"}
    _, exports = exports_of(api(labels), suffixes=("shop.svc.cluster.local",))
    assert exports.exported(API.host, 80).current == API
    _, exports = exports_of(api(labels), suffixes=("blog.svc.cluster.local",))
    assert exports.exported(API.host, 80).current is None


def test_it_is_live() -> None:
    """A label less, and it is gone; an external name never was."""
    index, exports = exports_of(api({"mirror.linkerd.io/exported": "true"}))
    watch = exports.exported(API.host, 80)

    def now() -> Target | None:
        return watch.current

    index.apply(*manifests.objects(api({})))
    assert now() is None
    index.apply(*manifests.objects(api({"mirror.linkerd.io/exported": "true"})))
    assert now() == API
    index.apply(Mirror(meta=Meta(key=mirror_key("shop", "api"))))
    assert now() is None
    index.delete(mirror_key("shop", "api"))
    assert now() == API
    external = api({"mirror.linkerd.io/exported": "true"}, spec={"type": "ExternalName"})
    index.apply(*manifests.objects(external))
    assert now() is None
