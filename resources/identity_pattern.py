"""Identities as authorizations name them: one, all that end alike, or any.

``*`` is any identity, ``*.a.b`` those that end in ``.a.b``, anything else is one identity: a
DNS name in lower case or a SPIFFE URI, which takes no wildcard (linkerd2,
policy-controller/core/src/identity_match.rs).
"""

from __future__ import annotations

import re
from typing import Final, final

from core.errors import IdentityError
from core.record import dataclass
from identity.name import Identity, parse_identity
from resources.fields import Fields

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PATTERN: Final = re.compile(rf"(?=.{{1,253}}\Z)(?:\*|{_LABEL})(?:\.{_LABEL})*", re.ASCII)


@final
@dataclass(frozen=True, slots=True)
class IdentityPattern:
    """One identity, or a suffix of labels; the empty suffix is any identity."""

    identity: Identity | None = None
    suffix: tuple[str, ...] = ()


ANY_IDENTITY: Final = IdentityPattern()


def parse_patterns(fields: Fields, name: str) -> tuple[IdentityPattern, ...]:
    """Read a list of identity patterns."""
    found = []
    for text in fields.texts(name):
        pattern = try_pattern(text)
        if pattern is None:
            fields.problem(name, f"{text[:80]!r} is no identity: {_advice(text)}")
        else:
            found.append(pattern)
    return tuple(found)


def try_pattern(text: str) -> IdentityPattern | None:
    """Return the pattern ``text`` stands for, or None."""
    if not text.startswith("spiffe://") and not _PATTERN.fullmatch(text):
        return None
    if text.startswith("*"):
        return IdentityPattern(suffix=tuple(text.split(".")[1:]))
    try:
        return IdentityPattern(parse_identity(text))
    except IdentityError:
        return None


def _advice(text: str) -> str:
    if "*" in text and text.startswith("spiffe:"):
        return "a SPIFFE URI takes no wildcard"
    if "*" in text:
        return "the only wildcard is a whole label in front, as in *.ns.serviceaccount.identity"
    return "wanted a DNS name in lower case, spiffe://trust-domain/path, *.suffix or *"
