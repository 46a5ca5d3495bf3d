"""A pod that is being changed: each step is kept as a patch, and told so that it can be undone.

What was added stands in one annotation of the pod: pointers in which an element of a list goes by
its name (``=linkerd-proxy``), since others may add elements too. Lists and maps that had to be
made for what was added are told as well: they go when nothing of others has come into them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Final, final

from inject.patch import END, Json, Operation, change, pointer, tokens_of

MARK: Final = "pillion.dev/injected"
"""The annotation that tells what was added."""
MAX_MARK_BYTES: Final = 64 * 1024
"""The longest such annotation that is read; one pod's takes about a KiB."""

_ANNOTATIONS: Final = ("metadata", "annotations")


@final
class Draft:
    """Changes a copy of a pod (or a pod template), keeping every step."""

    def __init__(self, pod: dict[str, Json]) -> None:
        self._pod: Json = copy.deepcopy(pod)
        self._operations: list[Operation] = []
        self._added: list[str] = []
        self._nulls: list[str] = []

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The patch so far."""
        return tuple(self._operations)

    def put(self, owner: Sequence[str], key: str, value: Json) -> bool:
        """Set ``key`` in the map at ``owner`` unless it is there; return whether it was not."""
        place = self._ensure(owner, {})
        if isinstance(place, dict) and place.get(key) is not None:
            return False
        if isinstance(place, dict) and key in place:
            self._nulls.append(pointer((*owner, key)))
        self._do(Operation("add", pointer((*owner, key)), value))
        self._added.append(pointer((*owner, key)))
        return True

    def append(self, owner: Sequence[str], element: dict[str, Json]) -> None:
        """Add a named element at the end of the list at ``owner``."""
        self._insert(owner, END, element)

    def prepend(self, owner: Sequence[str], element: dict[str, Json], place: int = 0) -> None:
        """Add a named element to the list at ``owner``, before number ``place``."""
        self._insert(owner, str(place), element)

    def finish(self) -> tuple[Operation, ...]:
        """Write the mark, and return the whole patch."""
        self._ensure(_ANNOTATIONS, {})
        told: dict[str, Json] = {"added": [*self._added]}
        if self._nulls:
            told["nulls"] = [*self._nulls]
        text = json.dumps(told, separators=(",", ":"))
        self._do(Operation("add", pointer((*_ANNOTATIONS, MARK)), text))
        return self.operations

    def _insert(self, owner: Sequence[str], place: str, element: dict[str, Json]) -> None:
        self._ensure(owner, [])
        self._do(Operation("add", pointer((*owner, place)), element))
        self._added.append(pointer((*self._named(owner), f"={element['name']}")))

    def _ensure(self, owner: Sequence[str], empty: Json) -> Json:
        """Return the value at ``owner``, made with its parents where there is none."""
        place = self._pod
        for depth, token in enumerate(owner):
            if isinstance(place, list):
                place = place[int(token)]
                continue
            if not isinstance(place, dict):
                raise TypeError(f"{pointer(owner)} is no map")
            if place.get(token) is None:
                here = owner[: depth + 1]
                if token in place:
                    self._nulls.append(pointer(self._named(here)))
                made: Json = {} if depth + 1 < len(owner) else empty
                self._do(Operation("add", pointer(here), made))
                self._added.append(pointer(self._named(here)))
                place = self._at(here)
            else:
                place = place[token]
        if not isinstance(place, type(empty)):
            raise TypeError(f"{pointer(owner)} is another kind of value")
        return place

    def _named(self, tokens: Sequence[str]) -> list[str]:
        """Return the tokens with lists' numbers replaced by their elements' names."""
        named: list[str] = []
        place = self._pod
        for token in tokens:
            if isinstance(place, list):
                element = place[int(token)]
                named.append(f"={element['name']}" if isinstance(element, dict) else token)
                place = element
            else:
                named.append(token)
                place = place.get(token) if isinstance(place, dict) else None
        return named

    def _at(self, tokens: Sequence[str]) -> Json:
        place = self._pod
        for token in tokens:
            if isinstance(place, list):
                place = place[int(token)]
            else:
                place = place[token] if isinstance(place, dict) else None
        return place

    def _do(self, operation: Operation) -> None:
        change(self._pod, operation)
        self._operations.append(operation)


def undo(pod: dict[str, Json]) -> tuple[Operation, ...] | None:
    """Return the patch that takes away what the mark tells; None for a pod without a mark.

    Raises ValueError when the mark cannot be read.
    """
    text = _mark_of(pod)
    if text is None:
        return None
    added, nulls = _read_mark(text)
    operations: list[Operation] = []
    changed: Json = copy.deepcopy(pod)
    mark = pointer((*_ANNOTATIONS, MARK))
    for path in (mark, *reversed(added)):
        for each in _removal(changed, path, is_null=path in nulls):
            change(changed, each)
            operations.append(each)
    return tuple(operations)


def is_marked(pod: dict[str, Json]) -> bool:
    """Whether something was injected into this pod."""
    return _mark_of(pod) is not None


def _mark_of(pod: dict[str, Json]) -> str | None:
    metadata = pod.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    mark = annotations.get(MARK) if isinstance(annotations, dict) else None
    return mark if isinstance(mark, str) else None


def _read_mark(text: str) -> tuple[list[str], frozenset[str]]:
    try:
        told = json.loads(text if len(text) <= MAX_MARK_BYTES else "")
        added, nulls = _pointers(told["added"]), _pointers(told.get("nulls", []))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError(f"the annotation {MARK} is not as `pillion inject` writes it") from None
    return added, frozenset(nulls)


def _pointers(value: object) -> list[str]:
    if not isinstance(value, list) or not all(each.startswith("/") for each in value):
        raise TypeError
    return [pointer(tokens_of(each)) for each in value]


def _removal(pod: Json, path: str, *, is_null: bool) -> list[Operation]:
    """Return what removes the value at ``path``; nothing when it is gone, or holds others'."""
    tokens = tokens_of(path)
    real: list[str] = []
    place: Json = pod
    for token in tokens:
        if isinstance(place, list):
            index = _number(place, token)
            if index is None:
                return []
            real.append(str(index))
            place = place[index]
        elif isinstance(place, dict) and token in place:
            real.append(token)
            place = place[token]
        else:
            return []
    # A list or map was made to hold something; what it holds by now is others'.
    if isinstance(place, dict | list) and place and not tokens[-1].startswith("="):
        return []
    found = [Operation("remove", pointer(real))]
    if is_null:
        found.append(Operation("add", pointer(real), None))
    return found


def _number(elements: list[Json], token: str) -> int | None:
    for index, each in enumerate(elements):
        if isinstance(each, dict) and token == f"={each.get('name')}":
            return index
    return None
