"""Structured logs on stderr: one line an event, JSON or for a person at a terminal.

Only the composition root configures; everyone else is handed a logger. Keys and tokens never
reach a log: values that could hold them are never passed.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, TextIO

# structlog takes rich along where it finds it: 5 MiB that a sidecar would carry for nothing.
_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402
from structlog.typing import FilteringBoundLogger, Processor  # noqa: E402

if _rich is None:
    del sys.modules["rich"]
else:
    sys.modules["rich"] = _rich

LEVELS: Final = {"debug": 10, "info": 20, "warn": 30, "error": 40, "off": 100}

Logger = FilteringBoundLogger


def make_logger(level: str, form: str, stream: TextIO | None = None) -> Logger:
    """Return the process's logger.

    ``level`` is one of LEVELS; ``form`` is ``json``, ``pretty``, or ``auto``: pretty on a
    terminal, JSON elsewhere.
    """
    out = stream if stream is not None else sys.stderr
    if form == "auto":
        form = "pretty" if out.isatty() else "json"
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if form == "pretty":
        processors.append(structlog.dev.ConsoleRenderer(colors=out.isatty()))
    else:
        processors.append(structlog.processors.JSONRenderer())
    logger: Logger = structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(min(LEVELS[level], logging.CRITICAL)),
        context_class=dict,
    )
    return logger
