"""``pillion uninject``: take away from manifests what ``pillion inject`` added."""

from __future__ import annotations

import click

from cli.inject.manifests import Change, change_all, manifest_options, read_sources
from inject.draft import undo
from inject.workload import Found


@click.command()
@manifest_options
def command(*, files: tuple[str, ...], form: str) -> None:
    """Take from the pods of FILES (or standard input) what was injected; print the manifests."""
    change_all(read_sources(files), _change, form)


def _change(found: Found) -> Change:
    if found.template is None:
        return Change()
    try:
        operations = undo(found.pod())
    except ValueError as error:
        return Change(problems=(str(error),))
    if operations is None:
        return Change(said=("skipped: nothing was injected by pillion",))
    return Change(operations, ("uninjected",))
