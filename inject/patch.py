"""JSON values, and patches over them (RFC 6902) as far as injection writes them: add and remove."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Final, Literal, final

from core.record import dataclass

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""What JSON can say."""

END: Final = "-"
"""The place after a list's last element (RFC 6902, 4.1)."""


@final
@dataclass(frozen=True, slots=True)
class Operation:
    """One step of a patch."""

    op: Literal["add", "remove"]
    path: str
    """A JSON pointer (RFC 6901)."""
    value: Json = None

    def plain(self) -> dict[str, Json]:
        """Return the operation as a patch document has it."""
        plain: dict[str, Json] = {"op": self.op, "path": self.path}
        return plain if self.op == "remove" else {**plain, "value": self.value}


def pointer(tokens: Iterable[str]) -> str:
    """Return the JSON pointer of these tokens."""
    return "".join("/" + each.replace("~", "~0").replace("/", "~1") for each in tokens)


def tokens_of(path: str) -> list[str]:
    """Return a pointer's tokens; none for the whole document."""
    return [each.replace("~1", "/").replace("~0", "~") for each in path.split("/")[1:]]


def apply_patch(document: Json, operations: Iterable[Operation]) -> Json:
    """Return a changed copy of ``document``.

    Raises ValueError when a path leads nowhere, which a patch made for this document never does.
    """
    changed = copy.deepcopy(document)
    for each in operations:
        change(changed, each)
    return changed


def change(document: Json, operation: Operation) -> None:
    """Take one step in ``document`` itself. Raises ValueError as ``apply_patch`` does."""
    *parents, last = tokens_of(operation.path)
    place = document
    for token in parents:
        place = _child(place, token, operation.path)
    value = copy.deepcopy(operation.value)
    if isinstance(place, dict):
        if operation.op == "add":
            place[last] = value
        elif last in place:
            del place[last]
        else:
            raise ValueError(f"{operation.path} leads nowhere")
    elif isinstance(place, list):
        if operation.op == "add":
            end = len(place)
            place.insert(end if last == END else _index(last, end, operation.path), value)
        else:
            del place[_index(last, len(place) - 1, operation.path)]
    else:
        raise ValueError(f"{operation.path} leads nowhere")  # noqa: TRY004  the path's fault


def _child(place: Json, token: str, path: str) -> Json:
    if isinstance(place, dict) and token in place:
        return place[token]
    if isinstance(place, list):
        return place[_index(token, len(place) - 1, path)]
    raise ValueError(f"{path} leads nowhere")


def _index(token: str, most: int, path: str) -> int:
    if not (token.isascii() and token.isdecimal()) or int(token) > most:
        raise ValueError(f"{path} leads nowhere")
    return int(token)
