"""What a failed command says, and the status it exits with."""

from __future__ import annotations

import sys

from core.errors import ConfigError, MeshError


def tell(error: MeshError) -> int:
    """Say on stderr what was wrong; return 2 for settings and usage, 1 for anything else."""
    if not isinstance(error, ConfigError):
        print(f"pillion: {error}", file=sys.stderr)  # noqa: T201
        return 1
    for told in (*error.problems, error.hint):
        if told:
            print(f"pillion: {told}", file=sys.stderr)  # noqa: T201
    return 2
