"""Write the pages of docs/ that are made from tables in the code: ``python -m tools.pages``.

A test compares each page with its table, so neither can be changed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from proxy.config import ELSEWHERE, LINKERD_PREFIX, PREFIX, TABLE
from proxy.setting import Setting

ROOT: Final = Path(__file__).resolve().parent.parent

_CONFIGURATION: Final = f"""\
# Configuration

The sidecar (`pillion proxy`) is configured by its environment, once, at its start. This page is
made from the table in `proxy/config.py` by `make docs`.

- An empty value is the same as none: the default counts.
- Where the meaning is the same, Linkerd's name (`{LINKERD_PREFIX}…`) is taken too; ours wins, then
  the first in its cell that is set. A value of Linkerd's that cannot be read is a mistake like any
  other.
- Every mistake is reported, not only the first, and the exit status is 2. A name that begins with
  `{PREFIX}` and is not in the table is a mistake, and the nearest name is offered.
- Durations are an integer and a unit, as in Linkerd: `300ms`, `10s`, `2m`, `1h`, `1d`; `0` needs
  none.
- `/config` of the admin server shows what the sidecar runs with.

| setting | type | unit | default | Linkerd's name | what it decides |
|---|---|---|---|---|---|
"""

_ELSEWHERE: Final = f"""
## Linkerd's other names

A pod that Linkerd's injector has prepared carries many more names. They are no mistake: names
without a meaning here are listed once, at the start, by the event `settings ignored`. These matter,
and are decided elsewhere:

| Linkerd's name | read instead |
|---|---|
| `{LINKERD_PREFIX}IDENTITY_DISABLED` | nothing: no mesh without identity; set, it is a mistake |
"""

_REST: Final = """
## Colors

Logs have colors on a terminal. `NO_COLOR`, set and not empty, takes them away, `FORCE_COLOR` brings
them where there is no terminal; `NO_COLOR` wins.
"""


def render_configuration() -> str:
    """Return docs/configuration.md."""
    rows = [_row(_setting_cells(row)) for row in TABLE]
    elsewhere = [_row((f"`{LINKERD_PREFIX}{name}`", text)) for name, text in ELSEWHERE.items()]
    return "".join([_CONFIGURATION, *rows, _ELSEWHERE, *elsewhere, _REST])


def _setting_cells(row: Setting[object]) -> Iterable[str]:
    yield f"`{PREFIX}{row.name}`"
    yield row.form.name
    yield row.form.unit
    yield f"`{row.default}`" if row.default else "**required**" if row.required else "none"
    yield " ".join(f"`{LINKERD_PREFIX}{alias}`" for alias in row.aliases)
    yield row.reason


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


PAGES: Final[Mapping[str, Callable[[], str]]] = {"docs/configuration.md": render_configuration}
"""Page → what renders it."""


def main() -> None:
    """Write every page."""
    for path, render in PAGES.items():
        (ROOT / path).write_text(render())


if __name__ == "__main__":
    main()
