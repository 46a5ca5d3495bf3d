"""A file's bytes as documents: YAML 1.1 or JSON, every value with its line, everything bounded.

The text goes through libyaml event by event, so nesting and alias expansion are counted before
anything is built: what a file may cost is known from the bounds below, whatever its bytes say.
JSON is read by the same parser, being YAML. A plain scalar means what it means to Kubernetes:
``8080`` is a number and ``"8080"`` a string, ``null`` and nothing at all are absent, and a
mapping's keys are their text. ``<<`` merges as YAML 1.1 says.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import Final, final

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from core.record import dataclass

MAX_FILE_BYTES: Final = 1024 * 1024
"""One manifest file; the API server stores no object larger than this either."""
MAX_DOCUMENTS: Final = 1000
"""Documents in one file."""
MAX_DEPTH: Final = 64
"""Maps and lists inside each other; a Pod needs fewer than 15."""
MAX_VALUES: Final = 200_000
"""Values in one file, with every alias counted as often as it is used."""

_STRING_TAG: Final = "tag:yaml.org,2002:str"
_MERGE: Final = "<<"
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_SURROGATES: Final = re.compile(
    r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
)


@final
@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a manifest: where it stands and what was wanted instead."""

    file: str
    line: int
    """From 1; 0 when the file could not be read at all."""
    path: str
    """The field, as ``spec.ports[0].name``; empty for the file or document as a whole."""
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


@final
@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value's text; ``is_plain`` when it was written without quotes."""

    line: int
    text: str
    is_plain: bool
    size: int = 1

    @property
    def is_null(self) -> bool:
        """Whether it stands for the absence of a value."""
        return self.is_plain and self.text in _NULL


@final
@dataclass(slots=True)
class Sequence:
    """A list of values; ``size`` counts it and all it holds, aliases expanded."""

    line: int
    items: list[Node] = field(default_factory=list)
    size: int = 1


@final
@dataclass(slots=True)
class Mapping:
    """Named values in the order of the text; ``size`` as a Sequence's."""

    line: int
    entries: dict[str, Node] = field(default_factory=dict)
    repeated: list[tuple[str, int]] = field(default_factory=list)
    """Keys that were given again, with their lines; the first value counts."""
    size: int = 1


Node = Scalar | Sequence | Mapping


class UnreadableError(Exception):
    """A file's documents cannot be told apart; ``problem`` says where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem: Final = problem


def read_documents(file: str, data: bytes, files: int = 1) -> list[Node]:
    """Return the documents in ``data``, empty ones left out; ``file`` is for messages.

    A stream that stands for many files has the bounds of as many as ``files``.

    Raises UnreadableError on bad UTF-8 or YAML, on a crossed bound, and when there is no
    document: an empty file is what a writer leaves that was cut short.
    """
    most = MAX_FILE_BYTES * files
    if len(data) > most:
        raise _unreadable(file, 0, f"has more than the {most} bytes that are read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(file, 0, f"is not UTF-8 at byte {error.start}") from None
    if file.endswith(".json") or text.lstrip().startswith("{"):
        text = _SURROGATES.sub(_join_surrogates, text)
    builder = _Builder(file, MAX_DOCUMENTS * files, MAX_VALUES * files)
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            builder.take(event)
    except yaml.YAMLError as error:
        raise _yaml_problem(file, error) from None
    if not builder.documents:
        raise _unreadable(file, 0, "holds no document; write one or delete the file")
    return builder.documents


@final
class _Frame:
    """A map or list that is not closed yet."""

    __slots__ = ("anchor", "is_merge", "key", "merges", "node")

    def __init__(self, node: Mapping | Sequence, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: str | None = None
        """The key whose value comes next."""
        self.is_merge = False
        self.merges: list[Mapping] = []


@final
class _Builder:
    """Turns parser events into nodes, counting as it goes."""

    __slots__ = (
        "_anchors",
        "_file",
        "_max_documents",
        "_max_values",
        "_open",
        "_values",
        "documents",
    )

    def __init__(self, file: str, max_documents: int, max_values: int) -> None:
        self._file = file
        self._max_documents = max_documents
        self._max_values = max_values
        self._anchors: dict[str, Node] = {}
        self._open: list[_Frame] = []
        self._values = 0
        self.documents: list[Node] = []

    def take(self, event: Event) -> None:
        """Add one event. Raises UnreadableError."""
        mark = event.start_mark
        line = mark.line + 1 if mark is not None else 0
        if isinstance(event, ScalarEvent):
            is_plain = event.implicit[0] or event.tag not in {None, "!", _STRING_TAG}
            self._finish(Scalar(line, event.value, is_plain), event.anchor, line)
        elif isinstance(event, MappingStartEvent):
            self._enter(Mapping(line), event.anchor)
        elif isinstance(event, SequenceStartEvent):
            self._enter(Sequence(line), event.anchor)
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            frame = self._open.pop()
            _merge(frame)
            self._finish(frame.node, frame.anchor, line)
        elif isinstance(event, AliasEvent):
            known = self._anchors.get(event.anchor or "")
            if known is None:
                raise _unreadable(self._file, line, f"*{event.anchor} names no finished value")
            self._place(known, line)
        elif isinstance(event, DocumentStartEvent):
            self._anchors.clear()
            most = self._max_documents
            if len(self.documents) == most:
                raise _unreadable(self._file, line, f"has more than {most} documents")

    def _enter(self, node: Mapping | Sequence, anchor: str | None) -> None:
        if len(self._open) == MAX_DEPTH:
            raise _unreadable(self._file, node.line, f"nests deeper than {MAX_DEPTH}")
        self._open.append(_Frame(node, anchor))

    def _finish(self, node: Node, anchor: str | None, line: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        self._place(node, line)

    def _place(self, node: Node, line: int) -> None:
        if not self._open:
            self._values += node.size
            self._bound(self._values, line)
            if not (isinstance(node, Scalar) and node.is_null):
                self.documents.append(node)
            return
        frame = self._open[-1]
        owner = frame.node
        owner.size += node.size
        self._bound(owner.size, line)
        if isinstance(owner, Sequence):
            owner.items.append(node)
        elif frame.key is None:
            if not isinstance(node, Scalar):
                raise _unreadable(self._file, line, "a map's key must be a single value")
            frame.key = node.text
            frame.is_merge = node.is_plain and node.text == _MERGE
        elif frame.is_merge:
            frame.key = None
            self._take_merge(frame, node, line)
        elif frame.key in owner.entries:
            owner.repeated.append((frame.key, node.line))
            frame.key = None
        else:
            owner.entries[frame.key] = node
            frame.key = None

    def _take_merge(self, frame: _Frame, node: Node, line: int) -> None:
        for source in node.items if isinstance(node, Sequence) else [node]:
            if not isinstance(source, Mapping):
                raise _unreadable(self._file, line, "<< takes a map or a list of maps")
            frame.merges.append(source)

    def _bound(self, values: int, line: int) -> None:
        if values > self._max_values:
            raise _unreadable(
                self._file, line, f"has more than {self._max_values} values, aliases counted"
            )


def _merge(frame: _Frame) -> None:
    if isinstance(frame.node, Mapping):
        for source in frame.merges:
            for key, value in source.entries.items():
                frame.node.entries.setdefault(key, value)


def _join_surrogates(found: re.Match[str]) -> str:
    high, low = int(found[2], 16), int(found[3], 16)
    return found[1] + chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


def _unreadable(file: str, line: int, message: str) -> UnreadableError:
    return UnreadableError(Problem(file, line, "", message))


def _yaml_problem(file: str, error: yaml.YAMLError) -> UnreadableError:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 0
        return _unreadable(file, line, f"is not YAML: {error.problem or error.context}")
    return _unreadable(file, 0, f"is not YAML: {str(error).splitlines()[0][:120]}")
