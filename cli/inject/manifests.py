"""Manifests read, changed object by object and written whole: all of them, or none."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar, final

import click

from core.errors import ConfigError
from core.record import dataclass
from inject.document import MAX_BYTES, Document, read_manifest, write_manifest
from inject.patch import Json, Operation, pointer, tokens_of
from inject.patch import change as take
from inject.workload import Found, find_objects
from resources.document import UnreadableError

FORMS: Final = ("yaml", "json")
STDIN: Final = "-"

Command = TypeVar("Command", bound=Callable[..., object])


@final
@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one object: operations on its pod, what to say, what is wrong."""

    operations: tuple[Operation, ...] = ()
    said: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Source:
    """A file's documents."""

    file: str
    documents: list[Document]

    def objects(self) -> Iterator[tuple[int, Found]]:
        """Yield every object with its document's number."""
        for number, document in enumerate(self.documents):
            if document.value is not None:
                for found in find_objects(document.value):
                    yield number, found


def manifest_options(command: Command) -> Command:
    """Give ``command`` its files and the form of what it prints."""
    files = click.argument("files", nargs=-1, type=click.Path(allow_dash=True))
    form = click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(FORMS),
        default="yaml",
        show_default=True,
        help="The form of what is printed: as YAML what is not changed stays as it is written.",
    )
    return files(form(command))


def read_sources(files: Sequence[str]) -> list[Source]:
    """Return the documents of files, or of standard input. Raises ConfigError with all faults."""
    sources, problems = [], []
    for file in files or (STDIN,):
        name = "<stdin>" if file == STDIN else file
        try:
            sources.append(Source(name, read_manifest(name, _read(file))))
        except UnreadableError as error:
            problems.append(str(error.problem))
        except OSError as error:
            problems.append(f"{name}: cannot be read: {error.strerror}")
    if problems:
        raise ConfigError(problems)
    return sources


def change_all(sources: Sequence[Source], change: Callable[[Found], Change], form: str) -> None:
    """Print the changed manifests on stdout, and what was done on stderr.

    Raises ConfigError with every mistake before a byte is written.
    """
    problems: list[str] = []
    said: list[str] = []
    written: list[tuple[str, Json, bool]] = []
    for source in sources:
        changed: set[int] = set()
        for number, found in source.objects():
            place = f"{source.file}:{source.documents[number].line}: {found.name}"
            done = Change(problems=(found.problem,)) if found.problem else change(found)
            problems += [f"{place}: {problem}" for problem in done.problems]
            said += [f"{found.name}: {each}" for each in done.said]
            if done.operations:
                base = (*found.path, *(found.template or ()))
                # In place: a List of a thousand objects is not copied a thousand times.
                for operation in _below(base, done.operations):
                    take(source.documents[number].value, operation)
                changed.add(number)
        for number, document in enumerate(source.documents):
            written.append((document.text, document.value, number in changed))
    if problems:
        raise ConfigError(problems, hint="nothing was written")
    text = _json(written) if form == "json" else write_manifest(written)
    click.echo(text, nl=False)
    for each in said:
        click.echo(each, err=True)


def _read(file: str) -> bytes:
    limit = MAX_BYTES + 1
    if file == STDIN:
        return sys.stdin.buffer.read(limit)
    with Path(file).open("rb") as opened:
        return opened.read(limit)


def _below(base: Sequence[str], operations: Sequence[Operation]) -> Iterator[Operation]:
    for each in operations:
        yield Operation(each.op, pointer((*base, *tokens_of(each.path))), each.value)


def _json(written: Sequence[tuple[str, Json, bool]]) -> str:
    values: list[Json] = [value for _, value, _ in written if value is not None]
    many: Json = {"apiVersion": "v1", "kind": "List", "items": values}
    whole = values[0] if len(values) == 1 else many
    return f"{json.dumps(whole, indent=2, ensure_ascii=False)}\n"
