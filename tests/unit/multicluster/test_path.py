"""Which endpoints come first: near before far, direct before gateway, and another cluster next."""

from __future__ import annotations

import pytest

from discovery.model import Address, Endpoint, Path, PathKind
from multicluster.path import in_order, preferred

KINDS = {"l": PathKind.LOCAL, "d": PathKind.DIRECT, "g": PathKind.GATEWAY}


def endpoints(text: str) -> tuple[Endpoint, ...]:
    """Return endpoints written as kind, cluster and number: ``l1 dw1 ge1``."""
    return tuple(
        Endpoint(
            address=Address(f"10.0.0.{number}", 80),
            labels=(("name", each),),
            path=Path(KINDS[each[0]], each[1:-1]),
        )
        for number, each in enumerate(text.split(), start=1)
    )


def names(found: tuple[Endpoint, ...]) -> str:
    """Return endpoints as they are written."""
    return " ".join(dict(each.labels)["name"] for each in found)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("", ""),
        ("l1 l2", "l1 l2"),
        ("dw1 l1 ge1", "l1"),
        ("ge1 dw1 dw2", "dw1 dw2"),
        ("ge1 ge2", "ge1 ge2"),
    ],
)
def test_new_work_goes_the_best_way(given: str, wanted: str) -> None:
    """Others are used when nothing is left of it."""
    assert names(preferred(endpoints(given))) == wanted


@pytest.mark.parametrize(
    ("given", "pick", "wanted"),
    [
        ("", 0.5, ""),
        ("l1 l2 l3 l4 l5", 0.0, "l1 l2 l3 l4"),
        ("l1 l2 l3 l4 l5", 0.99, "l5 l1 l2 l3"),
        ("l1 dw1", 0.9, "l1 dw1"),
        ("l1 l2 l3 l4 dw1 de1", 0.0, "l1 l2 dw1 de1"),
        ("l1 l2 l3 dw1", 0.0, "l1 l2 dw1 l3"),
        ("dw1 dw2 dw3 de1", 0.0, "dw1 de1 dw2 dw3"),
        ("dw1 dw2 dw3 de1", 0.99, "de1 dw1 dw2 dw3"),
        ("gw1 ge1 dw1", 0.0, "dw1 gw1 ge1"),
    ],
)
def test_after_a_failure_somewhere_else_is_tried(given: str, pick: float, wanted: str) -> None:
    """Another cluster first where the failed one is remote; never more than four."""
    assert names(in_order(endpoints(given), pick, 4)) == wanted


def test_load_is_spread_over_all_of_one_way() -> None:
    """Each endpoint is first equally often, whichever its cluster."""
    every = endpoints("dw1 dw2 dw3 de1")
    first = [names(in_order(every, pick / 4, 4)[:1]) for pick in range(4)]
    assert sorted(first) == ["de1", "dw1", "dw2", "dw3"]
