"""Namespace: the annotations and labels its pods inherit."""

from __future__ import annotations

from typing import final

from core.record import dataclass
from resources.fields import Fields
from resources.kind import Meta


@final
@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace; all the mesh reads of it is metadata."""

    meta: Meta


def parse_namespace(meta: Meta, _body: Fields) -> Namespace:
    """Read a Namespace."""
    return Namespace(meta)
