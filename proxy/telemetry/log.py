"""Structured logs on stderr: one line an event, JSON or for a person at a terminal.

Only the composition root makes the logger; everyone else is handed it. Keys and tokens never
reach a log: values that could hold them are never passed. Events and their fields are listed in
docs/logs.md.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, TextIO, final

LEVELS: Final = {"debug": 10, "info": 20, "warn": 30, "error": 40, "off": 100}
FORMS: Final = ("auto", "json", "pretty")
_LINKERD: Final = ("linkerd", "linkerd2_proxy")
"""Targets in Linkerd's filters that stand for the proxy itself."""


def parse_level(text: str) -> str:
    """Return one of LEVELS. Of a filter as Linkerd writes it, the level of the proxy itself.

    ``warn,linkerd=info,hickory=error`` is ``info``: what is said of other targets has no meaning
    here. Raises ValueError.
    """
    levels: dict[str, str] = {}
    for part in text.split(","):
        target, equals, level = part.strip().rpartition("=")
        known = "debug" if level.lower() == "trace" else level.lower()
        if known not in LEVELS:
            raise ValueError(f"{level[:40]!r} is no log level; one of {', '.join(LEVELS)}")
        levels[target if equals else ""] = known
    for target in (*_LINKERD, ""):
        if target in levels:
            return levels[target]
    raise ValueError(f"{text[:80]!r} says nothing of this proxy; write a level alone")


Writer = Callable[[str, str, Mapping[str, object]], None]
"""Writes one event: its level, its name, its fields."""


@final
class Logger:
    """Writes events at or above a level that can be changed at any time."""

    __slots__ = ("_least", "_write", "level")

    def __init__(self, write: Writer, level: str) -> None:
        self._write = write
        self.set_level(level)

    level: str
    """The least level that is written; one of LEVELS."""

    def set_level(self, level: str) -> None:
        """Write events at or above ``level`` from now on."""
        self.level = level
        self._least = LEVELS[level]

    def debug(self, event: str, **fields: object) -> None:
        """Say what only somebody searching for a fault wants to know."""
        if self._least <= 10:
            with contextlib.suppress(OSError):
                self._write("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Say what happened in the ordinary course of things."""
        if self._least <= 20:
            with contextlib.suppress(OSError):
                self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Say what somebody should look at, though things go on."""
        if self._least <= 30:
            with contextlib.suppress(OSError):
                self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Say what failed."""
        if self._least <= 40:
            with contextlib.suppress(OSError):
                self._write("error", event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """Say what failed, with the traceback of the exception that is being handled."""
        if self._least <= 40:
            # Traffic goes on where nobody reads the log any more: a closed pipe, a full disk.
            with contextlib.suppress(OSError):
                self._write("error", event, {**fields, "exc_info": sys.exc_info()[1]})


def make_logger(
    level: str,
    form: str,
    stream: TextIO | None = None,
    *,
    colors: bool | None = None,
    always: Mapping[str, object] | None = None,
) -> Logger:
    """Return the process's logger.

    ``level`` is one of LEVELS; ``form`` is ``json``, ``pretty``, or ``auto``: pretty on a
    terminal, JSON elsewhere. ``colors`` are for the pretty form; None: on a terminal.
    ``always``: fields of every event.
    """
    out = stream if stream is not None else sys.stderr
    if form == "auto":
        form = "pretty" if out.isatty() else "json"
    if form == "json":
        write = _json_writer(out)
    else:
        write = _pretty_writer(out, is_colorful=out.isatty() if colors is None else colors)
    if not always:
        return Logger(write, level)
    return Logger(lambda level, event, fields: write(level, event, {**always, **fields}), level)


def _json_writer(out: TextIO) -> Writer:
    # By hand: structlog would be a third of what happens before the first connection.
    def write(level: str, event: str, fields: Mapping[str, object]) -> None:
        told = dict(fields)
        error = told.pop("exc_info", None)
        told |= {"event": event, "level": level, "timestamp": _now()}
        if isinstance(error, BaseException):
            told["exception"] = "".join(traceback.format_exception(error)).rstrip("\n")
        _write(out, json.dumps(told, default=repr))

    return write


def _write(out: TextIO, line: str) -> None:
    """Write a line and its end in one piece, which ``print`` does not where nothing is buffered.

    Other workers, and the access log, write to the same.
    """
    out.write(f"{line}\n")
    out.flush()


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _pretty_writer(out: TextIO, *, is_colorful: bool) -> Writer:
    # structlog takes rich along where it finds it: 5 MiB that a sidecar would carry for nothing.
    rich = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: PLC0415 - somebody looks at a terminal

    if rich is None:
        del sys.modules["rich"]
    else:
        sys.modules["rich"] = rich
    render = structlog.dev.ConsoleRenderer(colors=is_colorful)

    def write(level: str, event: str, fields: Mapping[str, object]) -> None:
        told = {**fields, "event": event, "level": level, "timestamp": _now()}
        _write(out, render(None, level, told))

    return write
