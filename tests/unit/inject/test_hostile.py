"""inject_pod and undo over whatever an API server or a file may hand them: they answer, always."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inject.draft import MARK, undo
from inject.options import Options, Surroundings
from inject.patch import Json, apply_patch, pointer
from inject.pod import inject_pod
from inject.workload import find_objects

SCALARS = st.none() | st.booleans() | st.integers(-3, 70_000) | st.text(max_size=6)
KEYS = st.sampled_from(
    ["metadata", "spec", "containers", "name", "env", "ports", "annotations", "labels", "=a", "/"]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)
GOOD: dict[str, Any] = {
    "metadata": {
        "name": "web",
        "labels": {"app": "web"},
        "annotations": {
            "pillion.dev/identity-secret": "tls",
            "config.linkerd.io/skip-inbound-ports": "80,http",
            "config.linkerd.io/proxy-cpu-limit": "1",
            "config.linkerd.io/proxy-additional-env": '[{"name": "A", "value": "b"}]',
        },
    },
    "spec": {
        "securityContext": {"runAsUser": 1000},
        "terminationGracePeriodSeconds": 30,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "initContainers": [{"name": "one", "image": "one", "env": [{"name": "X", "value": "y"}]}],
        "containers": [
            {
                "name": "web",
                "image": "web",
                "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}],
                "env": [{"name": "NO_PROXY", "value": "x"}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "securityContext": {"runAsUser": 1000},
            }
        ],
        "volumes": [{"name": "data", "emptyDir": {}}],
    },
}
OPTIONS = [
    Options(),
    Options(native_sidecar=False, capture="explicit", identity_secret="x"),
    Options(controller="10.96.0.20", needs_annotation=True),
]


def places(value: Json, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the way to every value in ``value``."""
    found = [path]
    pairs: list[tuple[str, Json]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = [(str(index), each) for index, each in enumerate(value)]
    for key, each in pairs:
        found += places(each, (*path, key))
    return found


def changed(pod: dict[str, Json], path: tuple[str, ...], value: Json) -> dict[str, Json]:
    """Return a copy with another value at ``path``."""
    copied: Any = copy.deepcopy(pod)
    place = copied
    for token in path[:-1]:
        place = place[int(token)] if isinstance(place, list) else place[token]
    last: Any = int(path[-1]) if isinstance(place, list) else path[-1]
    place[last] = value
    return copied if isinstance(copied, dict) else {}


def holds(pod: dict[str, Json], options: Options, namespace: dict[str, str]) -> None:
    """Inject: a patch that applies and can be undone, or a reason, or problems."""
    kept = copy.deepcopy(pod)
    around = Surroundings(namespace="shop", annotations=namespace, owner_kind="Job", owner_name="j")
    done = inject_pod(pod, around, options)
    assert pod == kept
    assert bool(done.operations) + (done.skipped is not None) + bool(done.problems) == 1
    if done.operations:
        after: Any = apply_patch(pod, done.operations)
        assert inject_pod(after, around, options).operations == ()
        assert apply_patch(after, undo(after) or ()) == pod


@given(st.dictionaries(KEYS, JSON, max_size=4), st.sampled_from(OPTIONS))
def test_any_json_is_answered(pod: dict[str, Json], options: Options) -> None:
    """Never an exception."""
    holds(pod, options, {})


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(places(GOOD)[1:]), JSON, st.sampled_from(OPTIONS))
def test_a_pod_with_one_other_value_is_answered(
    path: tuple[str, ...], value: Json, options: Options
) -> None:
    """Whatever stands where something else belongs."""
    holds(changed(GOOD, path, value), options, {})


@given(st.text(max_size=40), st.sampled_from(sorted(GOOD["metadata"]["annotations"])))
def test_any_text_of_an_annotation_is_answered(text: str, name: str) -> None:
    """On the pod, or on its namespace."""
    holds(changed(GOOD, ("metadata", "annotations", name), text), Options(), {})
    holds(GOOD, Options(), {name: text})


@given(JSON)
def test_any_document_is_looked_through(document: Json) -> None:
    """Objects are found, or what is wrong is said."""
    for found in find_objects(document):
        assert found.problem or found.value


@given(st.lists(st.lists(KEYS | st.just("=web"), max_size=4).map(pointer), max_size=5))
def test_any_mark_is_undone_or_refused(paths: list[str]) -> None:
    """What it names is taken away, if it is there; nothing else happens."""
    mark = '{"added": [' + ", ".join(f'"{path}"' for path in paths) + "]}"
    pod: dict[str, Any] = copy.deepcopy(GOOD)
    pod["metadata"]["annotations"][MARK] = mark
    try:
        operations = undo(pod)
    except ValueError:
        return
    assert operations is not None
    apply_patch(pod, operations)
