"""inject.patch and inject.draft: steps over JSON, and how they are undone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inject.draft import MARK, Draft, is_marked, undo
from inject.options import Options, Surroundings
from inject.patch import Json, Operation, apply_patch, pointer, tokens_of
from inject.pod import inject_pod

POD: dict[str, Any] = {
    "metadata": {"name": "web", "annotations": {"pillion.dev/identity-secret": "tls"}},
    "spec": {"containers": [{"name": "web", "image": "web"}]},
}


@given(st.lists(st.text(max_size=8)))
def test_pointers_keep_every_token(tokens: list[str]) -> None:
    """Slashes and tildes included (RFC 6901)."""
    assert tokens_of(pointer(tokens)) == tokens


@pytest.mark.parametrize(
    ("before", "operation", "after"),
    [
        ({}, Operation("add", "/a", 1), {"a": 1}),
        ({"a": 1}, Operation("add", "/a", None), {"a": None}),
        ({"a": [1, 3]}, Operation("add", "/a/1", 2), {"a": [1, 2, 3]}),
        ({"a": [1]}, Operation("add", "/a/1", 2), {"a": [1, 2]}),
        ({"a": [1]}, Operation("add", "/a/-", 2), {"a": [1, 2]}),
        ({"a/b": {"~": 1}}, Operation("remove", "/a~1b/~0"), {"a/b": {}}),
        ({"a": [1, 2]}, Operation("remove", "/a/0"), {"a": [2]}),
    ],
)
def test_operations(before: Json, operation: Operation, after: Json) -> None:
    """Add and remove, in maps and lists (RFC 6902, 4); what was given stays as it is."""
    kept = copy.deepcopy(before)
    assert apply_patch(before, [operation]) == after
    assert before == kept
    value = {} if operation.op == "remove" else {"value": operation.value}
    assert operation.plain() == {"op": operation.op, "path": operation.path, **value}


@pytest.mark.parametrize(
    "operation",
    [
        Operation("remove", "/b"),
        Operation("add", "/b/c", 1),
        Operation("add", "/a/3", 1),
        Operation("add", "/a/x", 1),
        Operation("remove", "/a/-"),
        Operation("remove", "/a/2"),
        Operation("add", "/a/0/x", 1),
    ],
)
def test_paths_that_lead_nowhere_are_refused(operation: Operation) -> None:
    """Nothing is made on the way."""
    with pytest.raises(ValueError, match="leads nowhere"):
        apply_patch({"a": [1, 2]}, [operation])


def test_a_patch_leads_from_the_pod_to_the_injected_pod() -> None:
    """The operations alone say it all: an API server applies them as the CLI does."""
    done = inject_pod(POD, Surroundings(namespace="shop"), Options(version="1"))
    assert done.problems == ()
    assert done.skipped is None
    changed: Any = apply_patch(POD, done.operations)
    assert [each["name"] for each in changed["spec"]["initContainers"]] == [
        "linkerd-init",
        "linkerd-proxy",
    ]
    assert is_marked(changed)
    assert not is_marked(POD)
    again = inject_pod(changed, Surroundings(namespace="shop"), Options(version="2"))
    assert again.operations == ()
    assert apply_patch(changed, undo(changed) or ()) == POD


def test_what_others_added_since_stays() -> None:
    """Elements go by name, and lists that hold others' elements stay."""
    done = inject_pod(POD, Surroundings(), Options())
    changed: Any = apply_patch(POD, done.operations)
    changed["spec"]["initContainers"].insert(0, {"name": "theirs"})
    changed["spec"]["volumes"].append({"name": "theirs"})
    changed["metadata"]["labels"]["theirs"] = "x"
    del changed["spec"]["securityContext"]
    after: Any = apply_patch(changed, undo(changed) or ())
    assert after["spec"]["initContainers"] == [{"name": "theirs"}]
    assert after["spec"]["volumes"] == [{"name": "theirs"}]
    assert after["metadata"]["labels"] == {"theirs": "x"}
    assert MARK not in after["metadata"]["annotations"]


NAMES = st.sampled_from(["a", "b", "~", "/", "=x", "spec"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.lists(st.tuples(st.lists(NAMES, max_size=3), NAMES), max_size=6),
)
def test_every_draft_can_be_undone(
    pod: dict[str, Json], steps: list[tuple[list[str], str]]
) -> None:
    """Whatever stood there before; a step through what is no map is refused."""
    draft = Draft(pod)
    for owner, key in steps:
        try:
            draft.put(owner, key, "new")
        except TypeError:
            continue
    try:
        operations = draft.finish()
    except TypeError:
        return
    changed: Any = apply_patch(pod, operations)
    assert apply_patch(changed, undo(changed) or ()) == pod
