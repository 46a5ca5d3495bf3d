"""The ``pillion`` command: one verb a module, loaded only when it is called.

Exit status: 0 good, 1 bad, 2 usage or configuration, 3 drain deadline (``proxy``).
"""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click
from click.shell_completion import CompletionItem

from core.errors import MeshError

VERBS: Final[dict[str, tuple[str, str]]] = {
    "check": ("cli.check.command", "what a mesh on this machine needs, and what helps"),
    "completion": ("cli.completion", "the completion script of bash, zsh or fish"),
    "demo": ("cli.demo.command", "build a mesh on this machine and show it working"),
    "gateway": ("cli.gateway", "the door of a cluster for other clusters' sidecars"),
    "identity": ("cli.identity", "make an authority, serve and issue identities, look at them"),
    "inject": ("cli.inject.command", "give the pods of manifests their sidecar"),
    "multicluster": ("cli.multicluster.command", "link clusters, look at links, export Services"),
    "policy": ("cli.policy.command", "explain, test, lint, compare and audit who may call whom"),
    "proxy": ("cli.proxy", "the sidecar itself, configured by its environment"),
    "ready": ("cli.ready", "wait until the sidecar beside us is ready"),
    "redirect": ("cli.redirect", "install, remove or show the capture rules of a pod"),
    "run": ("cli.run.command", "an application with its sidecar, without Kubernetes"),
    "uninject": ("cli.inject.removal", "take from manifests what inject added"),
    "version": ("cli.version", "what runs here, and whether its core is compiled"),
}
"""Verb → (module that holds it as ``command``, one line of help)."""


class LazyVerbs(click.Group):
    """A group whose commands are imported when they are named, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every verb, in the table's order."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and return its command."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(VERBS[cmd_name][0])
        command = module.command
        if not isinstance(command, click.Command):
            raise TypeError(f"{VERBS[cmd_name][0]}.command is not a command")
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the verbs, and our own options, that begin so, without importing modules."""
        verbs = [
            CompletionItem(verb, help=help_text)
            for verb, (_, help_text) in VERBS.items()
            if verb.startswith(incomplete)
        ]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without importing their modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, help_text) for verb, (_, help_text) in VERBS.items()])


def _print_version(context: click.Context, _: click.Parameter, is_asked: bool) -> None:  # noqa: FBT001  click's own form
    if is_asked:
        version = importlib.import_module("cli.version")
        click.echo(f"pillion {version.installed_version()} ({version.commit() or 'no commit'})")
        context.exit()


@click.group(cls=LazyVerbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Say version and commit; `pillion version` says more.",
)
def pillion() -> None:
    """A service-mesh sidecar: identity over mutual TLS, policy, the right endpoint."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    try:
        pillion.main(arguments, prog_name="pillion", standalone_mode=True)
    except MeshError as error:
        from cli.failure import tell  # noqa: PLC0415 - a key press loads this, too

        sys.exit(tell(error))
