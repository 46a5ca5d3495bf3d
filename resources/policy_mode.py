"""Whether a policy is enforced or only tried: annotation ``pillion.dev/mode``."""

from __future__ import annotations

from typing import Final

from resources.fields import Fields

MODE_ANNOTATION: Final = "pillion.dev/mode"
"""``enforce`` (the default) or ``audit``: evaluated and counted, with no effect."""


def parse_is_audit(body: Fields) -> bool:
    """Return whether the object's annotation puts it in audit mode."""
    annotations = body.map("metadata").map("annotations")
    return annotations.choice(MODE_ANNOTATION, ("enforce", "audit"), "enforce") == "audit"
