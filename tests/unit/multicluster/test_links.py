"""Which Links are followed: one a cluster, and none that would speak for our identities."""

from __future__ import annotations

from typing import Any

import pytest

from multicluster.links import Choice, choose
from multicluster.model import MAX_CLUSTERS
from resources.config_map import MeshConfig
from resources.link import Link
from tests.support import manifests

ME = "multicluster.pillion.dev/"
OURS = MeshConfig(trust_domain="east.example")


def link(name: str, day: int = 1, cluster: str = "", **annotations: str) -> Link:
    """Return a Link that was made on a day of January."""
    manifest: dict[str, Any] = {
        "apiVersion": "multicluster.linkerd.io/v1alpha3",
        "kind": "Link",
        "metadata": {
            "name": name,
            "creationTimestamp": f"2026-01-{day:02}T00:00:00Z",
            "annotations": {
                f"{ME}{key.replace('_', '-')}": value
                for key, value in {"source": "/mesh", **annotations}.items()
                if value
            },
        },
        "spec": {"targetClusterName": cluster or name},
    }
    found = manifests.one(manifest)
    assert isinstance(found, Link)
    return found


def followed(choice: Choice) -> list[tuple[str, str]]:
    """Return the clusters that are followed, and their trust domains."""
    return [(each.link.cluster, each.trust_domain) for each in choice.followed]


def test_links_are_followed_oldest_first() -> None:
    """With the trust domain they name, or ours; only files that are named are told."""
    choice = choose(
        [
            link("south", 2, trust_domain="south.example"),
            link("west", 1),
            link("north", 3, trust_domain="north.example", anchors="n.pem"),
        ],
        OURS,
    )
    assert followed(choice) == [
        ("west", "east.example"),
        ("south", "south.example"),
        ("north", "north.example"),
    ]
    assert choice.anchors == (("north.example", "n.pem"),)
    assert choice.problems == ()


@pytest.mark.parametrize(
    ("links", "clusters", "said"),
    [
        ([link("a", 1, "west"), link("b", 2, "west")], ["west"], "already"),
        ([link("federated")], [], "cannot be called"),
        ([link("w", trust_domain="east.example", anchors="w.pem")], [], "our roots alone"),
        (
            [
                link("a", 1, trust_domain="x.example"),
                link("b", 2, trust_domain="x.example", anchors="b.pem"),
            ],
            ["a"],
            "other roots",
        ),
        ([link("w", source="")], ["w"], "names no mesh directory"),
    ],
)
def test_what_cannot_be_followed_is_told(links: list[Link], clusters: list[str], said: str) -> None:
    """Each with its reason."""
    choice = choose(links, OURS)
    assert [cluster for cluster, _ in followed(choice)] == clusters
    (problem,) = choice.problems
    assert said in problem.message


@pytest.mark.parametrize(("count", "problems"), [(MAX_CLUSTERS, 0), (MAX_CLUSTERS + 1, 1)])
def test_so_many_links_are_followed(count: int, problems: int) -> None:
    """At the bound, and one past it."""
    choice = choose([link(f"c{number}") for number in range(count)], OURS)
    assert (len(choice.followed), len(choice.problems)) == (MAX_CLUSTERS, problems)
