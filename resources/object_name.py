"""Names of other objects, as references carry them."""

from __future__ import annotations

import re
from typing import Final, final

from core.record import dataclass
from identity.name import is_label
from resources.fields import Fields

MAX_NAME: Final = 253
"""Characters of an object's name (RFC 1123 subdomain)."""

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?", re.ASCII)


@final
@dataclass(frozen=True, slots=True)
class Account:
    """A service account."""

    namespace: str
    name: str


def check_name(fields: Fields, name: str) -> str:
    """Return the object name in field ``name``, which must be there."""
    text = fields.text(name, required=True)
    if text and (len(text) > MAX_NAME or not _NAME.fullmatch(text)):
        fields.problem(name, f"{text[:80]!r} is no object's name")
    return text


def check_namespace(fields: Fields, name: str, default: str) -> str:
    """Return the namespace in field ``name``, ``default`` when it is absent."""
    text = fields.text(name, default)
    if not is_label(text):
        fields.problem(name, f"{text[:80]!r} is no namespace's name")
    return text


def group_of(fields: Fields, default: str = "") -> str:
    """Return a reference's API group; the core group is empty, or ``core`` in words."""
    text = fields.text("group", default)
    return "" if text == "core" else text
