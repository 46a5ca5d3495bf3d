"""A document's maps read field by field: every mistake is noted, none stops the reading.

Each getter returns a usable value even when it notes a Problem (the default, or an empty one), so
that one pass finds them all. Fields nobody asks for are left alone: Kubernetes has many more than
the mesh needs. ``null`` counts as absent, as in the Kubernetes API.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, final

from core.nearest import nearest_name
from resources.document import Mapping, Node, Problem, Scalar, Sequence

MAX_SHOWN: Final = 80
"""How much of a wrong value a message repeats, in characters."""

_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)
_NUMBER: Final = re.compile(
    r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|0x[0-9a-fA-F]+|0o[0-7]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    re.ASCII,
)
_TRUE: Final = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE: Final = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
_SIMPLE_NAME: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@final
class Fields:
    """One map of a document: typed getters that note what is wrong, with field path and line."""

    __slots__ = ("_entries", "_file", "_problems", "line", "path")

    def __init__(
        self, *, file: str, line: int, path: str, entries: dict[str, Node], problems: list[Problem]
    ) -> None:
        self.line: Final = line
        self.path: Final = path
        self._file = file
        self._entries = entries
        self._problems = problems

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that are set, in the order of the text."""
        return tuple(name for name in self._entries if self.has(name))

    def has(self, name: str) -> bool:
        """Whether the field is there and not ``null``."""
        return self._get(name) is not None

    def is_named(self, name: str) -> bool:
        """Whether the field is there, be it as ``null``."""
        return name in self._entries

    def problem(self, name: str, message: str) -> None:
        """Note a mistake in field ``name``; with an empty name, in this map as a whole."""
        node = self._entries.get(name)
        line = node.line if node is not None else self.line
        self._note(line, self._at(name) if name else self.path, message)

    def only(self, *known: str) -> None:
        """Note every set field that is not ``known``.

        For policies: a field that is silently left alone may open what it was to close.
        """
        for name in self.names:
            if name not in known:
                near = nearest_name(name, known)
                wanted = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
                self.problem(name, f"is no field of this; {wanted}")

    def text(self, name: str, default: str = "", *, required: bool = False) -> str:
        """Return a string; numbers and booleans are none unless quoted."""
        node = self._get(name)
        if node is None:
            return self._absent(name, required=required) or default
        return self._text(node, self._at(name), default)

    def choice(
        self, name: str, allowed: Iterable[str], default: str = "", *, required: bool = False
    ) -> str:
        """Return one of the ``allowed`` strings, or ``default``."""
        given = self.text(name, default, required=required)
        known = tuple(allowed)
        if given == default or given in known:
            return given
        near = nearest_name(given, known)
        advice = f"did you mean {near}?" if near else f"wanted one of {', '.join(known)}"
        self.problem(name, f"{_shown(given)} is not known here; {advice}")
        return default

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a boolean."""
        node = self._get(name)
        if node is None:
            return default
        if isinstance(node, Scalar) and node.is_plain:
            if node.text in _TRUE:
                return True
            if node.text in _FALSE:
                return False
        self.problem(name, f"wanted true or false, got {_described(node)}")
        return default

    def integer(self, name: str, low: int, high: int, *, required: bool = False) -> int | None:
        """Return an integer from ``low`` to ``high``; None when absent or wrong."""
        node = self._get(name)
        if node is None:
            self._absent(name, required=required)
            return None
        return self._integer(node, name, low, high)

    def integers(self, name: str, low: int, high: int) -> tuple[int, ...]:
        """Return a list of integers from ``low`` to ``high``; wrong ones are left out."""
        found = [self._integer(node, name, low, high) for node in self.items(name)]
        return tuple(number for number in found if number is not None)

    def port(self, name: str, *, required: bool = False) -> int | None:
        """Return a port number, 1 to 65535; None when absent or wrong."""
        return self.integer(name, 1, 65_535, required=required)

    def port_or_name(self, name: str, *, required: bool = False) -> int | str | None:
        """Return a port's number, or its name; None when absent or wrong."""
        node = self._get(name)
        if node is None:
            self._absent(name, required=required)
            return None
        if isinstance(node, Scalar) and node.is_plain and _INTEGER.fullmatch(node.text):
            return self._integer(node, name, 1, 65_535)
        return self._text(node, self._at(name), "") or None

    def timestamp(self, name: str) -> datetime | None:
        """Return a point in time (RFC 3339), in UTC; None when absent or wrong."""
        given = self.text(name)
        if not given:
            return None
        try:
            moment = datetime.fromisoformat(given)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.problem(name, f"{_shown(given)} is no RFC 3339 time, as 2024-02-29T12:00:00Z is")
            return None
        return moment.astimezone(UTC)

    def address(self, name: str) -> str:
        """Return an IP address in its shortest form; empty when absent or wrong."""
        given = self.text(name)
        return self._address(given, self._at(name), self._line_of(name)) if given else ""

    def addresses(self, name: str) -> tuple[str, ...]:
        """Return a list of IP addresses in their shortest form, wrong ones left out."""
        found = []
        for position, given in enumerate(self.texts(name)):
            address = self._address(given, f"{self._at(name)}[{position}]", self._line_of(name))
            if address:
                found.append(address)
        return tuple(found)

    def texts(self, name: str, *, required: bool = False) -> tuple[str, ...]:
        """Return a list of strings."""
        return tuple(
            self._text(node, f"{self._at(name)}[{position}]", "")
            for position, node in enumerate(self.items(name, required=required))
        )

    def text_map(self, name: str) -> dict[str, str]:
        """Return a map of strings, as labels are."""
        node = self._get(name)
        if node is None:
            return {}
        inner = self._mapping(node, self._at(name))
        return {key: inner.text(key) for key in inner._entries}  # noqa: SLF001 - our own kind

    def map(self, name: str, *, required: bool = False) -> Fields:
        """Return the map in field ``name``; an empty one when absent or wrong."""
        node = self._get(name)
        if node is None:
            self._absent(name, required=required)
            return self._sub(self._at(name), self.line, {})
        return self._mapping(node, self._at(name))

    def maps(self, name: str, *, required: bool = False) -> list[Fields]:
        """Return a list of maps."""
        return [
            self._mapping(node, f"{self._at(name)}[{position}]")
            for position, node in enumerate(self.items(name, required=required))
        ]

    def items(self, name: str, *, required: bool = False) -> list[Node]:
        """Return a list's values as they stand."""
        node = self._get(name)
        if node is None:
            self._absent(name, required=required)
            return []
        if not isinstance(node, Sequence):
            self.problem(name, f"wanted a list, got {_described(node)}")
            return []
        if required and not node.items:
            self.problem(name, "is empty; wanted one entry at least")
        return node.items

    def _get(self, name: str) -> Node | None:
        node = self._entries.get(name)
        return None if isinstance(node, Scalar) and node.is_null else node

    def _line_of(self, name: str) -> int:
        node = self._entries.get(name)
        return self.line if node is None else node.line

    def _at(self, name: str) -> str:
        step = name if _SIMPLE_NAME.fullmatch(name) else f"[{_shown(name)}]"
        if not self.path or step.startswith("["):
            return self.path + step
        return f"{self.path}.{step}"

    def _note(self, line: int, path: str, message: str) -> None:
        self._problems.append(Problem(self._file, line, path, message))

    def _absent(self, name: str, *, required: bool) -> str:
        if required:
            self.problem(name, "is missing")
        return ""

    def _text(self, node: Node, path: str, default: str) -> str:
        is_text = isinstance(node, Scalar) and not node.is_null
        if isinstance(node, Scalar) and is_text and not (node.is_plain and _is_special(node.text)):
            return node.text
        hint = "; write it in quotes" if is_text else ""
        self._note(node.line, path, f"wanted a string, got {_described(node)}{hint}")
        return default

    def _integer(self, node: Node, name: str, low: int, high: int) -> int | None:
        if isinstance(node, Scalar) and node.is_plain and _INTEGER.fullmatch(node.text):
            number = int(node.text)
            if low <= number <= high:
                return number
        self.problem(name, f"wanted a number from {low} to {high}, got {_described(node)}")
        return None

    def _address(self, given: str, path: str, line: int) -> str:
        try:
            return shortest_address(given)
        except ValueError:
            self._note(line, path, f"{_shown(given)} is no IP address")
            return ""

    def _mapping(self, node: Node, path: str) -> Fields:
        if not isinstance(node, Mapping):
            self._note(node.line, path, f"wanted a map, got {_described(node)}")
            return self._sub(path, node.line, {})
        inner = self._sub(path, node.line, node.entries)
        for key, line in node.repeated:
            self._note(line, inner._at(key), "is given twice")  # noqa: SLF001 - our own kind
        return inner

    def _sub(self, path: str, line: int, entries: dict[str, Node]) -> Fields:
        return Fields(
            file=self._file, line=line, path=path, entries=entries, problems=self._problems
        )


def shortest_address(text: str) -> str:
    """Return an IP address in its one shortest form, an IPv4-mapped one as IPv4.

    Raises ValueError.
    """
    address: IPv4Address | IPv6Address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError(f"{text!r} names an interface")
        address = address.ipv4_mapped or address
    return str(address)


def _is_special(text: str) -> bool:
    return text in _TRUE or text in _FALSE or _NUMBER.fullmatch(text) is not None


def _shown(text: str) -> str:
    return repr(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…")


def _described(node: Node) -> str:
    if isinstance(node, Mapping):
        return "a map"
    if isinstance(node, Sequence):
        return "a list"
    if node.is_null:
        return "nothing"
    if not node.is_plain:
        return f"the string {_shown(node.text)}"
    if node.text in _TRUE or node.text in _FALSE:
        return f"the boolean {node.text}"
    kind = "the number" if _NUMBER.fullmatch(node.text) else "the string"
    return f"{kind} {_shown(node.text)[1:-1]}"
