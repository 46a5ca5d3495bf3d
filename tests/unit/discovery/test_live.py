"""Tables of live values: computed when asked for, again when touched, dropped when idle."""

from __future__ import annotations

import pytest

from core.errors import OverloadError
from discovery import live
from discovery.live import IDLE_S, Dependents, LiveTable
from discovery.store import Change, Lookup, Store
from tests.support import manifests


class Counted:
    """A table of service names by cluster address, and what was computed for it."""

    def __init__(self) -> None:
        self.store = Store()
        self.dependents = Dependents()
        self.computed: list[str] = []
        self.table: LiveTable[str, str] = LiveTable(self.store, self.dependents, self._make)

    def _make(self, lookup: Lookup, ip: str) -> str:
        self.computed.append(ip)
        found = lookup.services_at(ip)
        return found[0].meta.name if found else ""

    def apply(self, name: str, ip: str) -> None:
        """Put a Service in and publish."""
        change = Change()
        self.store.put(manifests.one(manifests.service(name, ip, {"port": 80})), change)
        for publish in [each.refresh() for each in self.dependents.of(change)]:
            publish()


def test_a_value_is_computed_once_and_again_when_its_lookup_is_touched() -> None:
    """Other objects do not matter; equal values are no news."""
    counted = Counted()
    watch = counted.table.watch("10.2.0.1", 0.0)
    assert counted.table.watch("10.2.0.1", 1.0) is watch
    assert (watch.current, counted.computed) == ("", ["10.2.0.1"])
    counted.apply("other", "10.2.0.2")
    assert counted.computed == ["10.2.0.1"]
    counted.apply("web", "10.2.0.1")
    assert (watch.current, watch.version, len(counted.computed)) == ("web", 1, 2)
    counted.apply("web", "10.2.0.1")
    assert len(counted.computed) == 2
    counted.apply("zeb", "10.2.0.1")
    assert (watch.version, len(counted.computed)) == (1, 3)
    counted.apply("web", "10.2.0.3")
    assert watch.current == "zeb"


def test_what_is_held_stays_live_however_idle() -> None:
    """A reader may keep a Watch for as long as a connection lasts."""
    counted = Counted()
    held = counted.table.watch("10.2.0.1", 0.0)
    for second in range(100):
        counted.table.watch(f"10.3.0.{second}", second * IDLE_S)
    counted.apply("web", "10.2.0.1")
    assert held.current == "web"


def test_what_is_listened_to_stays_live_though_nobody_holds_it() -> None:
    """A listener does not keep the Watch itself."""
    counted = Counted()
    heard: list[str] = []
    counted.table.watch("10.2.0.1", 0.0).subscribe(heard.append)
    for second in range(100):
        counted.table.watch(f"10.3.0.{second}", second * IDLE_S)
    counted.apply("web", "10.2.0.1")
    assert heard == ["web"]


def test_what_nobody_holds_is_dropped_after_its_idle_time() -> None:
    """Two are looked at whenever one comes in, so the table shrinks to what is in use."""
    counted = Counted()
    for number in range(50):
        counted.table.watch(f"10.3.0.{number}", 0.0)
    assert len(counted.table) == 50
    counted.table.watch("10.4.0.0", IDLE_S - 0.1)
    assert len(counted.table) == 51
    for number in range(1, 60):
        counted.table.watch(f"10.4.0.{number}", IDLE_S)
    assert len(counted.table) == 60
    counted.apply("web", "10.3.0.1")
    assert counted.computed.count("10.3.0.1") == 1


def test_a_dropped_value_is_computed_anew_when_asked_for_again() -> None:
    """From what is known then."""
    counted = Counted()
    counted.table.watch("10.3.0.1", 0.0)
    counted.table.watch("10.3.0.2", IDLE_S)
    assert len(counted.table) == 1
    counted.apply("web", "10.3.0.1")
    assert counted.table.watch("10.3.0.1", IDLE_S).current == "web"


def test_the_bound_drops_the_unused_first_and_then_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound a value nobody holds makes room; one past it, with all held, is refused."""
    monkeypatch.setattr(live, "MAX_KEYS", 3)
    counted = Counted()
    held = [counted.table.watch(f"10.3.0.{number}", 0.0) for number in (1, 2)]
    counted.table.watch("10.3.0.3", 0.0)
    held.append(counted.table.watch("10.3.0.4", 0.0))
    assert len(counted.table) == 3
    with pytest.raises(OverloadError, match="3 destinations are in use at once"):
        counted.table.watch("10.3.0.5", 0.0)
    assert counted.table.watch("10.3.0.4", 0.0) is held[2]
    held.pop()
    assert counted.table.watch("10.3.0.5", 0.0).current == ""


def test_nothing_is_left_behind_by_what_was_dropped() -> None:
    """Tags and selectors go with their last dependent."""
    store, dependents = Store(), Dependents()

    def make(lookup: Lookup, name: str) -> int:
        lookup.namespace(name)
        return len(lookup.pods_selected("shop", (("app", name),)))

    table: LiveTable[str, int] = LiveTable(store, dependents, make)
    for number in range(20):
        table.watch(str(number), number * IDLE_S)
    assert len(table) == 1
    assert len(dependents._by_tag) == 1
    assert [len(each) for each in dependents._by_selector.values()] == [1]


def test_a_selector_is_touched_by_pods_it_selected_or_selects() -> None:
    """By the old labels as by the new; by no other pod, and no other namespace."""
    store, dependents = Store(), Dependents()
    computed: list[str] = []

    def make(lookup: Lookup, app: str) -> int:
        computed.append(app)
        return len(lookup.pods_selected("shop", (("app", app),)))

    table: LiveTable[str, int] = LiveTable(store, dependents, make)
    web, db = table.watch("web", 0.0), table.watch("db", 0.0)

    def apply(name: str, app: str, namespace: str = "shop") -> None:
        change = Change()
        labels = {"app": app}
        store.put(manifests.one(manifests.pod(name, labels=labels, namespace=namespace)), change)
        for publish in [each.refresh() for each in dependents.of(change)]:
            publish()

    computed.clear()
    apply("a", "web")
    assert (computed, web.current, db.current) == (["web"], 1, 0)
    apply("a", "db")
    assert (sorted(computed[1:]), web.current, db.current) == (["db", "web"], 0, 1)
    computed.clear()
    apply("b", "web", namespace="other")
    apply("c", "cache")
    assert computed == []
