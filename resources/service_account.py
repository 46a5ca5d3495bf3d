"""ServiceAccount: that it exists; an identity is made of its name and namespace."""

from __future__ import annotations

from typing import final

from core.record import dataclass
from resources.fields import Fields
from resources.kind import Meta


@final
@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A service account."""

    meta: Meta


def parse_service_account(meta: Meta, _body: Fields) -> ServiceAccount:
    """Read a ServiceAccount."""
    return ServiceAccount(meta)
