"""What the demo says while it works, to stderr: one line a step, and a spinner at a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

from rich.console import Console
from rich.markup import escape


@final
class Step:
    """A step under way; ``note`` is what it found out."""

    def __init__(self) -> None:
        self.note = ""


@final
class Talk:
    """Tells a person at the terminal what is being done."""

    def __init__(self, console: Console | None = None) -> None:
        self._console: Final = console or Console(stderr=True, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """Announce a step, and say how it ended."""
        step = Step()
        begun = time.monotonic()
        try:
            if self._console.is_terminal:
                with self._console.status(escape(text)):
                    yield step
            else:
                yield step
        except BaseException:
            self._line("[bold red]×[/]", text, begun, step)
            raise
        self._line("[bold green]√[/]", text, begun, step)

    def say(self, text: str) -> None:
        """Say something that is no step."""
        self._console.print(escape(text))

    def _line(self, mark: str, text: str, begun: float, step: Step) -> None:
        note = f"[dim]: {escape(step.note)}[/]" if step.note else ""
        elapsed = time.monotonic() - begun
        self._console.print(f"{mark} {escape(text)}{note} [dim]({elapsed:.1f} s)[/]")
