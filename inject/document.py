"""Manifests as JSON values and back. A document that is not changed keeps its every character.

A plain scalar means what it means to ``kubectl``, which reads YAML 1.1 into JSON: ``0644`` is 420,
``yes`` is true, a date is text. What is written reads the same to YAML 1.1 and 1.2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final, final

import yaml

from core.record import dataclass
from inject.patch import Json
from resources.document import (
    MAX_FILE_BYTES,
    Mapping,
    Node,
    Problem,
    Scalar,
    UnreadableError,
    read_documents,
)

_TRUE: Final = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE: Final = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)", re.ASCII)
_OCTAL: Final = re.compile(r"([-+]?)0o?([0-7]+)", re.ASCII)
_OTHER_BASE: Final = re.compile(r"[-+]?0(?:x[0-9a-fA-F]+|b[01]+)", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_SAFE: Final = re.compile(r"[A-Za-z/][A-Za-z0-9_./@-]*", re.ASCII)
"""Text that needs no quotes, unless it is one of the words below."""
_WORDS: Final = _TRUE | _FALSE | {"y", "Y", "n", "N", "null", "Null", "NULL", "nan", "inf"}
MAX_DIGITS: Final = 400
MAX_FILES: Final = 8
"""How many files' bounds count: injected manifests are long, and come as one stream."""
MAX_BYTES: Final = MAX_FILES * MAX_FILE_BYTES
"""The longest manifest."""
_WIDTH: Final = 1 << 30


@final
@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file."""

    line: int
    """Where it begins, from 1."""
    text: str
    """As it is written, its ``---`` included."""
    value: Json


def read_manifest(file: str, data: bytes) -> list[Document]:
    """Return a file's documents, empty ones with the value None.

    Raises UnreadableError on what is no YAML, has a key twice, or crosses a bound of
    ``resources.document``.
    """
    nodes = read_documents(file, data, MAX_FILES)
    text = data.decode("utf-8-sig")
    starts = _starts(text)
    found: list[Document] = []
    line, taken = 1, 0
    for start, end in pairwise([*starts, len(text)]):
        following = line + text.count("\n", start, end)
        is_last = end == len(text)
        value: Json = None
        if taken < len(nodes) and (is_last or nodes[taken].line < following):
            value = _value(file, nodes[taken])
            taken += 1
        found.append(Document(line, text[start:end], value))
        line = following
    return found


def write_manifest(documents: Iterable[tuple[str, Json, bool]]) -> str:
    """Return the text of documents: (text, value, whether the value is another than the text's)."""
    parts: list[str] = []
    for text, value, is_changed in documents:
        written = _dump(value) if is_changed else text
        if parts and not written.startswith(("---", "%")):
            written = f"---\n{written}"
        parts.append(written if written.endswith("\n") or not written else f"{written}\n")
    return "".join(parts)


def _starts(text: str) -> list[int]:
    """Return where documents begin: the first one with the text, the others at their ``---``."""
    starts: list[int] = []
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.DocumentStartEvent) and event.start_mark is not None:
                starts.append(event.start_mark.index if starts else 0)
    except yaml.YAMLError:
        # JSON with escapes that are no YAML, read by read_documents all the same: one document.
        return [0]
    return starts


def _value(file: str, node: Node) -> Json:
    if isinstance(node, Scalar):
        return _scalar(node)
    if isinstance(node, Mapping):
        for key, line in node.repeated:
            raise UnreadableError(Problem(file, line, key, "is given twice"))
        return {key: _value(file, each) for key, each in node.entries.items()}
    return [_value(file, each) for each in node.items]


def _scalar(node: Scalar) -> Json:
    text = node.text
    if not node.is_plain:
        return text
    if node.is_null:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    number = _number(text) if len(text) <= MAX_DIGITS else None
    return text if number is None else number


def _number(text: str) -> int | float | None:
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    octal = _OCTAL.fullmatch(text)
    if octal is not None:
        return int(octal[1] + octal[2], 8)
    if _OTHER_BASE.fullmatch(text):
        return int(text, 0)
    number = float(text) if _FLOAT.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None


class _Dumper(yaml.CSafeDumper):
    """Writes text so that no reader takes it for something else."""

    def ignore_aliases(self, data: object) -> bool:
        """Write every value out: half of the tools lose aliases."""
        return True


def _text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    style = None if _SAFE.fullmatch(text) and text not in _WORDS else '"'
    if "\n" in text:
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _dump(value: Json) -> str:
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return f"---\n{text}"
