"""``pillion completion``: what a shell needs to complete verbs, options, files and pods."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "_PILLION_COMPLETE"
"""Set by the shell when it asks for completions; click looks for this very name."""
_HELP: Final = """Print the completion script of SHELL.

\b
bash  echo 'source <(pillion completion bash)' >> ~/.bashrc
zsh   pillion completion zsh > "${fpath[1]}/_pillion"
fish  pillion completion fish > ~/.config/fish/completions/pillion.fish
"""


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, *, shell: str) -> None:
    """Print the completion script of a shell."""
    kind = get_completion_class(shell)
    if kind is None:
        raise RuntimeError(f"click knows nothing of {shell}")
    root = context.find_root()
    click.echo(kind(root.command, {}, "pillion", VARIABLE).source())


def complete_pod(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the pods of the mesh directory that the line names so far."""
    mesh = context.params.get("mesh")
    if not isinstance(mesh, Path) or not mesh.is_dir():
        return []
    # Only who completes a pod reads manifests.
    from control.offline import OfflineMesh  # noqa: PLC0415

    pods = (each.pod.meta for each in OfflineMesh(str(mesh), datetime.now(UTC)).workloads)
    names = (f"{pod.namespace}/{pod.name}" for pod in pods)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
