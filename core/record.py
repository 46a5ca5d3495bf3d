"""Dataclasses that are ready at once.

The standard library writes each class's methods as text and compiles that, half a millisecond a
class: with some 240 of them half of a sidecar's start. Here a method is written when it is called
first, which most are late or never, and others are the same for all classes. To the type checker,
and to mypyc, it is the standard library's ``dataclass``. Every field is an argument, and no
dataclass inherits from another.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence
from dataclasses import MISSING, FrozenInstanceError
from operator import attrgetter
from reprlib import recursive_repr
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Final, TypeVar

__all__ = ["dataclass"]
T = TypeVar("T")
Method = Callable[..., object]
_PLACES: Final = (MemberDescriptorType, GetSetDescriptorType)
"""Where a field lies in an object: of a class with slots, of a compiled class."""


def _record(
    *,
    init: bool = True,
    frozen: bool = False,
    slots: bool = False,
    kw_only: bool = False,
    eq: bool = True,
    order: bool = False,
) -> Callable[[type[T]], type[T]]:
    """Do what the standard library's ``dataclass`` does, with these of its options."""

    def decorate(cls: type[T]) -> type[T]:
        own = frozenset(cls.__dict__)
        hashes = cls.__dict__.get("__hash__") is not None
        made = dataclasses.dataclass(
            init=False, repr=False, eq=False, slots=slots, kw_only=kw_only
        )(cls)
        # A class with slots is made anew; of a compiled one the first is kept.
        for each in {cls, made}:
            for name, method in _methods(each, frozen=frozen, eq=eq, order=order).items():
                if name == "__init__" and not init:
                    continue
                if name not in own or (name == "__hash__" and not hashes):
                    setattr(each, name, method)
        parameters = made.__dict__["__dataclass_params__"]
        parameters.init, parameters.repr = init, True
        parameters.frozen, parameters.eq, parameters.order = frozen, eq, order
        return made

    return decorate


if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    dataclass = _record


def _methods(cls: type, *, frozen: bool, eq: bool, order: bool) -> dict[str, Method | None]:
    """Return what a class of these options has, by name."""
    methods: dict[str, Method | None] = {"__repr__": _repr, "__init__": _late(cls, _init)}
    if eq:
        methods["__eq__"] = _late(cls, _eq)
        methods["__hash__"] = _late(cls, _hash) if frozen else None
    if order:
        methods |= _orders(cls)
    if frozen:
        methods |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
        # What copies an object sets its parts, which it could not.
        methods |= {"__getstate__": _parts, "__setstate__": _set_parts}
    return methods


def _late(cls: type, write: Callable[[type], FunctionType]) -> Method:
    """Return a method that puts the real one in its own place when it is called."""

    def first(self: object, *args: object, **kwargs: object) -> object:
        real = write(cls)
        type.__setattr__(cls, real.__name__, real)
        return real(self, *args, **kwargs)

    return first


def _written(cls: type, text: str, scope: dict[str, object]) -> FunctionType:
    """Compile the text of one method."""
    exec(text, scope)  # noqa: S102 - names of fields, as the standard library does it
    method = next(each for each in reversed(scope.values()) if isinstance(each, FunctionType))
    method.__qualname__ = f"{cls.__qualname__}.{method.__name__}"
    return method


def _init(cls: type) -> FunctionType:
    scope: dict[str, object] = {"_set": object.__setattr__, "_missing": MISSING}
    arguments: list[str] = ["self"]
    named: list[str] = []
    lines: list[str] = []
    for each in dataclasses.fields(cls):
        name = argument = value = each.name
        if each.default is not MISSING:
            scope[f"_default_{name}"] = each.default
            argument = f"{name}=_default_{name}"
        elif each.default_factory is not MISSING:
            scope[f"_make_{name}"] = each.default_factory
            argument = f"{name}=_missing"
            value = f"_make_{name}() if {name} is _missing else {name}"
        (named if each.kw_only else arguments).append(argument)
        place = getattr(cls, name, None)
        if isinstance(place, _PLACES):
            scope[f"_set_{name}"] = place.__set__
            lines.append(f" _set_{name}(self, {value})")
        else:
            lines.append(f" _set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    if named:
        arguments += ["*", *named]
    head = f"def __init__({', '.join(arguments)}):"
    return _written(cls, "\n".join([head, *(lines or [" pass"])]), scope)


def _compared(cls: type, owner: str) -> str:
    """Return the text of the tuple that is compared."""
    parts = [f"{owner}.{each.name}, " for each in dataclasses.fields(cls) if each.compare]
    return f"({''.join(parts)})"


def _eq(cls: type) -> FunctionType:
    same = f"{_compared(cls, 'self')} == {_compared(cls, 'other')}"
    text = f" return {same} if other.__class__ is self.__class__ else NotImplemented"
    return _written(cls, f"def __eq__(self, other):\n{text}", {})


def _hash(cls: type) -> FunctionType:
    text = f"def __hash__(self):\n return hash({_compared(cls, 'self')})"
    return _written(cls, text, {})


def _orders(cls: type) -> dict[str, Method | None]:
    """Return the four methods that ``order=True`` asks for."""
    value = attrgetter(*(each.name for each in dataclasses.fields(cls) if each.compare))

    def method(compare: Method) -> Method:
        def ordered(self: object, other: object) -> object:
            if other.__class__ is self.__class__:
                return compare(value(self), value(other))
            return NotImplemented

        return ordered

    return {
        f"__{each.__name__}__": method(each)
        for each in (operator.lt, operator.le, operator.gt, operator.ge)
    }


@recursive_repr("...")
def _repr(self: object) -> str:
    shown = [
        f"{each.name}={getattr(self, each.name)!r}"
        for each in dataclasses.fields(self)  # type: ignore[arg-type]
        if each.repr
    ]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _parts(self: object) -> list[object]:
    return [getattr(self, each.name) for each in dataclasses.fields(self)]  # type: ignore[arg-type]


def _set_parts(self: object, parts: Sequence[object]) -> None:
    for each, part in zip(dataclasses.fields(self), parts, strict=True):  # type: ignore[arg-type]
        object.__setattr__(self, each.name, part)


def _refuse_to_set(_: object, name: str, __: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
