"""How verbs print: data to stdout in the form that was asked for, talk to stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import TypeVar

import click
import yaml

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
"""What can be written as JSON."""

Command = TypeVar("Command", bound=Callable[..., object])


class Form(Enum):
    """The forms of ``-o``."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    SHORT = "short"


def output_option(command: Command) -> Command:
    """Give ``command`` the option ``-o``, as its parameter ``form``."""
    option = click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(Form, case_sensitive=False),
        default=Form.TABLE,
        show_default=True,
        help="The form of what is printed.",
    )
    return option(command)


def write(form: Form, data: Json, *, table: Callable[[], str], short: Callable[[], str]) -> None:
    """Print ``data`` in ``form``; ``table`` and ``short`` say it for people."""
    if form is Form.TABLE:
        click.echo(table())
    elif form is Form.SHORT:
        click.echo(short())
    elif form is Form.JSON:
        click.echo(json.dumps(data, indent=2))
    else:
        click.echo(yaml.safe_dump(data, sort_keys=False), nl=False)
