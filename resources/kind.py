"""What every object has, and what a kind is.

To add a kind: write ``resources/<kind>.py`` with a frozen dataclass that has a ``meta`` and a
function ``parse_<kind>(meta, body) -> <Kind>`` that reads ``body`` (the whole document as
``Fields``) and reports mistakes to it, then add one row to ``resources.registry.KINDS``. A parse
function always returns an object: one with problems is never used, but all of its problems are
told at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol, final

from core.record import dataclass
from resources.fields import Fields

_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.ASCII
)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


@final
class ObjectKey(NamedTuple):
    """Which object: group (empty: core), kind, namespace (empty: of the cluster) and name."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {where}"


@final
@dataclass(frozen=True, slots=True)
class Owner:
    """One of an object's owner references."""

    kind: str
    name: str
    is_controller: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """An object's metadata, the parts that the mesh reads."""

    key: ObjectKey
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None
    generation: int | None = None
    """Which state of its spec this is, as the server that holds it counts."""
    is_terminating: bool = False
    """It has a deletionTimestamp."""
    owners: tuple[Owner, ...] = ()

    @property
    def name(self) -> str:
        """The object's name."""
        return self.key.name

    @property
    def namespace(self) -> str:
        """The object's namespace; empty for objects of the cluster."""
        return self.key.namespace

    @property
    def age_order(self) -> tuple[datetime, str, str]:
        """Sorts oldest first; without a creation time youngest; ties by namespace and name."""
        return (self.created or _NEVER, self.key.namespace, self.key.name)


class Resource(Protocol):
    """Any parsed object."""

    @property
    def meta(self) -> Meta:
        """The object's metadata."""
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind that is read: its name, the versions understood, how to parse it."""

    group: str
    name: str
    versions: frozenset[str]
    parse: Callable[[Meta, Fields], Resource]
    is_namespaced: bool = True


def is_name(text: str) -> bool:
    """Whether ``text`` is a DNS-1123 subdomain, as the names of objects are."""
    return _NAME.fullmatch(text) is not None
