"""A manifest file as objects: which documents could be used, and everything wrong with the rest.

Pure: bytes in, values out. A ``List`` (of any kind) is unfolded; kinds nobody registered are left
out. A version of a known kind that is not understood is a mistake, not an unknown kind: leaving
a policy out because of its spelling would open what it was to close.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, final

from core.record import dataclass
from identity.name import is_label
from resources.document import Mapping as MapNode
from resources.document import Node, Problem, UnreadableError, read_documents
from resources.fields import Fields
from resources.kind import Kind, Meta, ObjectKey, Owner, Resource, is_name
from resources.registry import KINDS

Kinds = Mapping[tuple[str, str], Kind]
"""Group and kind → how to read it."""

DEFAULT_NAMESPACE: Final = "default"
"""The namespace of an object that names none, as kubectl has it."""

_LABEL_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", re.ASCII)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a known kind, or one that could not be told."""

    line: int
    key: ObjectKey | None
    """None when it cannot be told which object this is."""
    namespace: str | None
    """Whom it concerns; None when that cannot be told, and then everyone."""
    resource: Resource | None
    """The object; None when there are problems."""
    problems: tuple[Problem, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a file holds; ``unreadable`` when its documents cannot be told apart."""

    documents: tuple[Document, ...] = ()
    unreadable: Problem | None = None


def parse_manifest(file: str, data: bytes, kinds: Kinds = KINDS) -> Manifest:
    """Read a file's bytes; never raises. ``file`` is its name, for messages.

    Objects of other kinds than ``kinds`` are left out, whatever is wrong with them.
    """
    try:
        nodes = read_documents(file, data)
    except UnreadableError as error:
        return Manifest(unreadable=error.problem)
    found: list[Document] = []
    for node in nodes:
        _unfold(file, node, "", "", found, kinds)
    return Manifest(documents=tuple(found))


def _unfold(
    file: str, node: Node, version: str, kind: str, found: list[Document], kinds: Kinds
) -> None:
    """Add the document, or what it lists; ``version`` and ``kind`` are what its list implies."""
    problems: list[Problem] = []
    if not isinstance(node, MapNode):
        problems.append(Problem(file, node.line, "", "is no object; wanted a map"))
        found.append(_broken(node.line, None, None, problems))
        return
    body = Fields(file=file, line=node.line, path="", entries=node.entries, problems=problems)
    for key, line in node.repeated:
        problems.append(Problem(file, line, key, "is given twice"))
    version = body.text("apiVersion", version, required=not version)
    kind = body.text("kind", kind, required=not kind)
    if kind.endswith("List") and body.has("items"):
        for item in body.items("items"):
            _unfold(file, item, version if kind != "List" else "", kind[:-4], found, kinds)
    elif version and kind:
        _read(body, version, kind, problems, found, kinds)
        return
    if problems:
        found.append(_broken(node.line, None, None, problems))


def _read(
    body: Fields,
    version: str,
    kind: str,
    problems: list[Problem],
    found: list[Document],
    kinds: Kinds,
) -> None:
    group, _, number = version.rpartition("/")
    known = kinds.get((group, kind))
    if known is None:
        return
    if number not in known.versions:
        served = ", ".join(sorted(known.versions))
        body.problem("apiVersion", f"{kind} has no version {number[:40]!r} here, but {served}")
    meta, namespace = _meta(body, known, problems)
    resource = None if meta is None else known.parse(meta, body)
    if problems or meta is None:
        found.append(_broken(body.line, meta and meta.key, namespace, problems))
    else:
        found.append(Document(line=body.line, key=meta.key, namespace=namespace, resource=resource))


def _broken(
    line: int, key: ObjectKey | None, namespace: str | None, problems: list[Problem]
) -> Document:
    return Document(
        line=line,
        key=key,
        namespace=namespace,
        resource=None,
        problems=tuple(dict.fromkeys(problems)),
    )


def _meta(body: Fields, kind: Kind, problems: list[Problem]) -> tuple[Meta | None, str | None]:
    """Return the metadata, if the object can be told, and the namespace it concerns, if that."""
    seen = len(problems)
    fields = body.map("metadata", required=True)
    namespace = fields.text("namespace", DEFAULT_NAMESPACE) if kind.is_namespaced else ""
    if namespace and not is_label(namespace):
        fields.problem("namespace", f"{namespace[:80]!r} is no namespace's name")
    is_placed = len(problems) == seen
    name = fields.text("name", required=True)
    is_named = is_name(name)
    if name and not is_named:
        fields.problem("name", f"{name[:80]!r} is no DNS name in lower case")
    concerns = namespace if kind.is_namespaced else name
    labels = fields.text_map("labels")
    for label, value in labels.items():
        if not _LABEL_VALUE.fullmatch(value):
            fields.map("labels").problem(label, f"{value[:80]!r} is no label value")
    meta = Meta(
        key=ObjectKey(kind.group, kind.name, namespace, name),
        labels=labels,
        annotations=fields.text_map("annotations"),
        created=fields.timestamp("creationTimestamp"),
        generation=fields.integer("generation", 0, 2**63 - 1),
        is_terminating=fields.has("deletionTimestamp"),
        owners=tuple(
            Owner(owner.text("kind"), owner.text("name"), owner.flag("controller"))
            for owner in fields.maps("ownerReferences")
        ),
    )
    return (meta if is_named and is_placed else None), (concerns if is_placed else None) or None
