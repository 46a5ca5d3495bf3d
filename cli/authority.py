"""The option that says where the authority is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])


def authority_option(command: Command) -> Command:
    """Give ``command`` the option ``--authority``, as its parameter ``directory``."""
    option = click.option(
        "--authority",
        "directory",
        type=click.Path(path_type=Path, file_okay=False),
        default="authority",
        show_default=True,
        help="The authority's directory.",
    )
    return option(command)
