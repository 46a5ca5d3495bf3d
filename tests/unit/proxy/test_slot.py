"""Metric slots: numbers, buckets, and a bound on label sets that is told."""

from __future__ import annotations

from discovery.model import Labels
from proxy.telemetry.slot import Family, Histogram, HistogramFamily, Slot


def _labels(number: int) -> Labels:
    return (("pod", f"api-{number}"), ("zone", "a"))


def test_a_family_keeps_as_many_label_sets_as_its_bound_and_folds_the_next() -> None:
    """At the bound each has its own; one past it, and all after, share ``other``."""
    family = Family("opened_total", "counter", "", limit=3)
    for number in range(3):
        family.child(_labels(number)).value += 1
    assert (len(list(family.samples())), family.folds) == (3, 0)
    family.child(_labels(3)).value += 1
    family.child(_labels(4)).value += 1
    family.child(_labels(0)).value += 1
    shown = {labels: value for _, labels, value in family.samples()}
    assert shown[_labels(0)] == 2
    assert shown[(("pod", "other"), ("zone", "other"))] == 2
    assert (len(shown), family.folds) == (4, 2)


def test_a_gauge_that_is_read_from_elsewhere_shows_that_and_nothing_before() -> None:
    """What is gone there is gone here."""
    family = Family("left", "gauge", "")
    family.set_all({_labels(1): 1, _labels(2): 2})
    family.set_all({_labels(2): 3})
    assert list(family.samples()) == [("", _labels(2), 3)]


def test_a_value_falls_into_the_bucket_that_it_is_not_above() -> None:
    """A bound belongs to the bucket below it; what is past the last falls into +Inf."""
    histogram = Histogram((0.1, 1.0, 10.0))
    for value in (0.0, 0.1, 0.100001, 1.0, 10.0, 10.1, 1e9):
        histogram.observe(value)
    lines = list(histogram.samples())
    buckets = {labels[-1][1]: value for suffix, labels, value in lines if suffix == "_bucket"}
    assert buckets == {"0.1": 2, "1": 4, "10": 5, "+Inf": 7}
    rest = {suffix: value for suffix, _, value in lines if suffix != "_bucket"}
    assert rest["_count"] == 7
    assert rest["_sum"] == sum((0.0, 0.1, 0.100001, 1.0, 10.0, 10.1, 1e9))


def test_the_children_of_a_histogram_share_its_buckets() -> None:
    """And are bounded like any other's."""
    family = HistogramFamily("took_seconds", "", ("pod", "zone"), (0.5,), limit=1)
    family.child(_labels(0)).observe(0.4)
    family.child(_labels(1)).observe(0.6)
    family.child(_labels(2)).observe(0.6)
    counts = {labels: value for suffix, labels, value in family.samples() if suffix == "_count"}
    assert counts == {_labels(0): 1, (("pod", "other"), ("zone", "other")): 2}


def test_steps_add_to_what_was_set() -> None:
    """However a number came about, it is one number; whole ones stay whole."""
    slot = Slot()
    slot.step()
    slot.value += 2
    slot.step()
    assert (slot.value, type(slot.value)) == (4, int)
    slot.value = 0.5
    slot.step()
    assert slot.value == 1.5


def test_values_are_told_whichever_bucket_the_last_one_fell_into() -> None:
    """Back and forth, on the bounds and past them; asked for in between."""
    histogram = Histogram((1.0, 2.0))
    for place, value in enumerate((0.5, 1.0, 1.5, 2.0, 2.5, 1.5, -1.0, 3.0, 3.0), 1):
        histogram.observe(value)
        assert list(histogram.samples())[-2] == ("_count", (), place)
    assert [each[2] for each in histogram.samples()] == [3, 6, 9, 9, 14.0]
