"""The exposition: what Prometheus' own parser reads, and what the page says of it."""

from __future__ import annotations

import math
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from proxy.telemetry.exposition import PROCESS, expose
from proxy.telemetry.metric import LABEL_SETS, Metrics
from proxy.telemetry.slot import Family, HistogramFamily, Table
from tools.pages import ROOT


def test_every_exposed_metric_is_on_the_page_and_the_other_way_round() -> None:
    """With its type; the process's own are among them."""
    page = (ROOT / "docs/metrics.md").read_text()
    documented = dict(
        re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \|", page, re.MULTILINE)
    )
    exposed = {
        f"{each.name}_total" if each.type == "counter" else each.name: each.type
        for each in text_string_to_metric_families(b"".join(expose(Metrics().families())).decode())
    }
    assert exposed == documented
    assert {each.name for each in PROCESS} <= set(documented)


def test_names_follow_linkerd_s_or_carry_ours_with_a_base_unit() -> None:
    """Counters end in _total; but for one of Linkerd's, all are in seconds and bytes."""
    for family in Metrics().families():
        if family.name == "response_latency_ms":
            continue
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert not re.search(r"_(ms|millis|kb)\b", family.name)
        if family.kind == "histogram":
            assert family.name.endswith(("_seconds", "_bytes"))


def test_labels_are_plain_names_or_sets_that_the_page_explains() -> None:
    """A name in capitals that is no set would be on the page as nonsense."""
    page = (ROOT / "docs/metrics.md").read_text()
    for family in Metrics().families():
        for label in family.labels:
            assert re.fullmatch(r"[a-z_]+", label) or f"\n| {label} | `" in page
    assert all(f"\n| {name} | `{labels[0]}`" in page for name, labels in LABEL_SETS.items())


def test_hostile_label_values_stay_values() -> None:
    """An SNI is the client's to choose: quotes and line ends in it break nothing."""
    metrics = Metrics()
    evil = 'a"b\\c\nd} 1\nfake_total 7'
    metrics.tcp_open.child((("sni", evil),)).value += 1
    found = {
        sample.labels["sni"]: sample.value
        for family in text_string_to_metric_families(b"".join(expose(metrics.families())).decode())
        for sample in family.samples
        if "sni" in sample.labels
    }
    assert found == {evil: 1}


@given(
    st.dictionaries(
        st.tuples(st.text(), st.text()),
        st.integers(0, 2**53) | st.floats(allow_nan=False),
        max_size=5,
    ),
    st.lists(st.floats(0, 100)),
)
def test_what_is_exposed_is_what_was_counted(
    values: dict[tuple[str, str], float], observed: list[float]
) -> None:
    """Prometheus' own parser reads every value back, under labels with any text in them."""
    gauge = Family("left", "gauge", 'A "gauge" \\ with\nlines.', ("pod", "zone"))
    for (pod, zone), value in values.items():
        gauge.child((("pod", pod), ("zone", zone))).value = value
    bare = HistogramFamily("took_seconds", "", (), (0.1, 10.0))
    labelled = HistogramFamily("ran_seconds", "", ("pod",), (1.0,))
    for seconds in observed:
        bare.child().observe(seconds)
        labelled.child((("pod", "a"),)).observe(seconds)
    tables: list[Table[Any]] = [gauge, bare, labelled]
    read = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(b"".join(expose(tables)).decode())
        for sample in family.samples
        if not sample.name.startswith("process_")
    }
    assert read == {
        (f"{table.name}{suffix}", frozenset(labels)): value
        for table in tables
        for suffix, labels, value in table.samples()
    }


def test_numbers_that_are_none_are_written_as_prometheus_wants_them() -> None:
    """Not as Python does."""
    gauge = Family("left", "gauge", "")
    for name, value in (("a", math.inf), ("b", -math.inf), ("c", math.nan)):
        gauge.child((("pod", name),)).value = value
    text = b"".join(expose([gauge])).decode()
    assert 'left{pod="a"} +Inf\nleft{pod="b"} -Inf\nleft{pod="c"} NaN\n' in text


def test_a_family_without_room_says_so() -> None:
    """The fold is a metric itself."""
    metrics = Metrics()
    for number in range(2_002):
        metrics.handshake_failures.child((("error", str(number)),)).value += 1
    text = b"".join(expose(metrics.families())).decode()
    wanted = 'pillion_metric_folds_total{metric="pillion_tls_handshake_failures_total"} 2\n'
    assert wanted in text
    assert b"".join(expose(metrics.families())).decode().count("folds_total{") == 1
