"""``pillion gateway``: a sidecar that stands at a cluster's door, for other clusters' sidecars.

Configured as ``pillion proxy``, its pod being the gateway's own. Exit status: 0 drained,
2 settings, 3 the drain deadline was hit.
"""

from __future__ import annotations

import click

from cli.sidecar import run


@click.command()
def command() -> None:
    """Run the multi-cluster gateway; its settings are in the environment, as the sidecar's."""
    run(is_gateway=True)
