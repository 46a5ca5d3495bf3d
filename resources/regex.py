"""Regular expressions from users: linear time, whole values only, bounded.

The engine is RE2, loaded when the first expression is compiled: most sidecars never see one.
Time is linear in the text and in the compiled program, so both have a bound; a value past it
matches nothing. Syntax is RE2's, which is that of the Go and Rust engines Linkerd uses, without
look-around and back-references.
"""

from __future__ import annotations

import importlib
from typing import Final, Protocol, final

from core.errors import ResourceError

MAX_PATTERN: Final = 1024
"""Characters of an expression (the Gateway API's bound on a path match)."""
MAX_PROGRAM: Final = 1000
"""Instructions of a compiled expression: at both bounds a match takes some 20 ms."""
MAX_TEXT: Final = 4096
"""Bytes of a value that an expression is tried on."""

_MEMORY_BYTES: Final = 1 << 20
_SPECIAL: Final = frozenset("\\.^$|?*+()[]{}")
_OPTIONAL: Final = frozenset("?*{")


class _Engine(Protocol):
    def fullmatch(self, text: bytes) -> object | None: ...

    @property
    def programsize(self) -> int: ...


@final
class Regex:
    """A compiled expression that a whole value must match."""

    __slots__ = ("_compiled", "pattern")

    def __init__(self, pattern: str) -> None:
        """Compile ``pattern``. Raises ResourceError when it cannot be used."""
        self.pattern: Final = pattern
        self._compiled: Final = _compile(pattern)

    def matches(self, value: bytes) -> bool:
        """Whether the whole value matches; values past ``MAX_TEXT`` never do."""
        return len(value) <= MAX_TEXT and self._compiled.fullmatch(value) is not None


def literal_prefix(pattern: str) -> str:
    """Return what every value that matches ``pattern`` starts with, as far as is plain to see."""
    if "|" in pattern:
        return ""
    prefix: list[str] = []
    rest = pattern.removeprefix("^")
    position = 0
    while position < len(rest):
        character = rest[position]
        width = 1
        if character == "\\":
            character = rest[position + 1 : position + 2]
            # Escaped punctuation is itself; an escaped letter or digit is a class or an anchor.
            if not character or character.isalnum() or not character.isascii():
                break
            width = 2
        elif character in _SPECIAL:
            break
        if rest[position + width : position + width + 1] in _OPTIONAL:
            break
        prefix.append(character)
        position += width
    return "".join(prefix)


def _compile(pattern: str) -> _Engine:
    if len(pattern) > MAX_PATTERN:
        raise ResourceError(
            f"a regular expression of {len(pattern)} characters",
            hint=f"at most {MAX_PATTERN}; a prefix or several matches say it better",
        )
    engine = importlib.import_module("re2")
    options = engine.Options()
    options.max_mem = _MEMORY_BYTES
    options.never_capture = True
    options.log_errors = False
    try:
        compiled: _Engine = engine.compile(pattern, options)
    except (engine.error, UnicodeError) as error:
        raise ResourceError(
            f"{pattern[:80]!r} is no regular expression: {_reason(error)}",
            hint="RE2 syntax; look-around and back-references do not exist",
        ) from error
    if compiled.programsize > MAX_PROGRAM:
        raise ResourceError(
            f"the regular expression {pattern[:80]!r} is too large when compiled "
            f"({compiled.programsize} instructions, at most {MAX_PROGRAM})",
            hint="make its repetitions smaller",
        )
    return compiled


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
