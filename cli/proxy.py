"""``pillion proxy``: the sidecar, configured by its environment.

Exit status: 0 drained, 2 settings, 3 the drain deadline was hit.
"""

from __future__ import annotations

import click

from cli.sidecar import run


@click.command()
def command() -> None:
    """Run the sidecar; its settings are in the environment, names begin with PILLION_."""
    run(is_gateway=False)
