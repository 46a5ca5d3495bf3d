"""The forms that the admin server answers in."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"

Answer = tuple[int, str, bytes]
"""Status, content type, body."""
Page = Callable[[str, bytes], Answer]
"""Takes the request's query and body."""
LongPage = Callable[[str, bytes], Awaitable[Answer]]
"""A page during which others have their turn."""


def say(status: int, text: str) -> Answer:
    """Return a line or more of text."""
    return status, TEXT, f"{text}\n".encode()


def show(data: Mapping[str, object]) -> Answer:
    """Return data as JSON."""
    return 200, JSON, json.dumps(data, default=str, indent=2).encode() + b"\n"
