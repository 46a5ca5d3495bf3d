"""core.record: what its classes do is what the standard library's dataclasses do."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, final

import pytest

from core import record

Decorator = Callable[..., Callable[[type], type]]
LIBRARY: Decorator = dataclasses.dataclass
OURS: Decorator = record.dataclass


def made(decorator: Decorator, **options: bool) -> Any:
    """Return a class of two fields and one that is neither shown nor compared."""

    @decorator(**options)
    class Point:
        """A point."""

        x: int
        y: int = 2
        trace: list[int] = dataclasses.field(default_factory=list, repr=False, compare=False)

    return Point


OPTIONS = [
    {"frozen": True, "slots": True},
    {"frozen": True, "slots": True, "kw_only": True},
    {"frozen": True, "slots": True, "order": True},
    {"frozen": True},
    {"slots": True},
    {"slots": True, "eq": False},
    {"slots": True, "init": False},
]


def told(act: Callable[[], object]) -> str:
    """Return what came of it, result or error; addresses and places of classes left out."""
    try:
        return repr(act()).partition(" at 0x")[0]
    except (TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {str(error).rpartition('.')[2]}"


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
@pytest.mark.parametrize(
    "act",
    [
        lambda kind: kind(x=1),
        lambda kind: kind(1),
        lambda kind: kind(),
        lambda kind: kind(x=1, z=2),
        lambda kind: kind(x=1) == kind(x=1, trace=[9]),
        lambda kind: kind(x=1) == kind(x=2),
        lambda kind: kind(x=1) == (1, 2),
        lambda kind: kind(x=1) < kind(x=2),
        lambda kind: kind(x=1) <= (1, 2),
        lambda kind: kind(x=1) >= kind(x=1),
        lambda kind: len({hash(each) for each in [kind(x=1), kind(x=1)]}),
        lambda kind: setattr(kind(x=1), "x", 3),
        lambda kind: delattr(kind(x=1), "x"),
        lambda kind: kind(x=1).trace is kind(x=1).trace,
        lambda kind: dataclasses.replace(kind(x=1), y=5),
        lambda kind: dataclasses.asdict(kind(x=1)),
        lambda kind: copy.deepcopy(kind(x=1, trace=[7])).trace,
        lambda kind: copy.copy(kind(x=1)),
        lambda kind: kind.__match_args__,
        lambda kind: kind.__dataclass_params__,
        lambda kind: kind.__doc__,
        lambda kind: hasattr(kind(x=1), "__dict__"),
    ],
)
def test_a_class_does_as_the_standard_librarys(
    options: dict[str, bool], act: Callable[[type], object]
) -> None:
    """In the first call, which writes the method, and in the next."""
    library, ours = made(LIBRARY, **options), made(OURS, **options)
    wanted = told(lambda: act(library))
    assert told(lambda: act(ours)) == wanted
    assert told(lambda: act(ours)) == wanted


def test_a_methods_own_stays() -> None:
    """What the class says itself counts."""

    @final
    @record.dataclass(frozen=True, slots=True)
    class Name:
        text: str

        def __post_init__(self) -> None:
            if not self.text:
                raise ValueError("empty")

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Name) and other.text.lower() == self.text.lower()

        def __hash__(self) -> int:
            return hash(self.text.lower())

        def __repr__(self) -> str:
            return f"<{self.text}>"

    assert Name("A") == Name("a")
    assert len({Name("A"), Name("a")}) == 1
    assert repr(Name("A")) == "<A>"
    with pytest.raises(ValueError, match="empty"):
        Name("")


def test_what_holds_itself_can_be_shown() -> None:
    """Without end it would be."""

    @final
    @record.dataclass(slots=True)
    class Node:
        name: str
        next: Node | None = None

    node = Node("a")
    node.next = node
    assert repr(node).endswith("Node(name='a', next=...)")
