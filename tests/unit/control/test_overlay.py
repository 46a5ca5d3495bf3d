"""Derived objects over our own: what a change comes to, whoever made it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from control.overlay import Overlay
from resources.kind import Meta, ObjectKey, Resource
from resources.service import Service

NAMES = ("a", "b", "c")
STATES = some.dictionaries(some.sampled_from(NAMES), some.sampled_from(("1", "2")))


def key(name: str) -> ObjectKey:
    """Return a Service's key."""
    return ObjectKey("", "Service", "shop", name)


def objects(states: dict[str, str], ip: str) -> dict[ObjectKey, Resource]:
    """Return Services by key, told apart by their address."""
    return {
        key(name): Service(meta=Meta(key=key(name)), cluster_ips=(f"{ip}{state}",))
        for name, state in states.items()
    }


@given(some.lists(some.tuples(STATES, STATES), max_size=5))
def test_what_is_told_adds_up_to_what_is_in_force(steps: list[tuple[dict[str, str], ...]]) -> None:
    """After any changes: the derived object where there is one, else our own; no news twice."""
    overlay, told = Overlay(), dict[ObjectKey, Resource]()
    own: dict[ObjectKey, Resource] = {}
    for own_states, over_states in steps:
        wanted, over = objects(own_states, "10.0.0."), objects(over_states, "10.1.0.")
        gone = [each for each in own if each not in wanted]
        new = [each for at, each in wanted.items() if own.get(at) != each]
        applied, deleted = overlay.take(new, gone).lay(over)
        own = wanted
        assert all(told.get(each.meta.key) != each for each in applied)
        assert all(each in told for each in deleted)
        for each in deleted:
            del told[each]
        told |= {each.meta.key: each for each in applied}
        assert told == {**own, **over}
    again, none = overlay.take((), ()).lay(objects(steps[-1][1], "10.1.0.") if steps else {})
    assert (again, none) == ([], [])
