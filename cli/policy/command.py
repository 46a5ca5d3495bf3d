"""``pillion policy``: ask a mesh directory who may call whom, without a cluster.

Every answer comes from the code that decides in the sidecar. Exit status: 0 good, 1 when a case
fails, a caller is refused, something was found or somebody's access changes, 2 usage.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from cli.output import Form, output_option
from cli.policy.asking import Question, answer, show_answer
from cli.policy.auditing import audit_mesh, show_audit
from cli.policy.difference import compare, show_changes
from cli.policy.linting import lint_mesh, show_findings
from cli.policy.suite import junit_report, run_suite, show_suite
from control.offline import OfflineMesh


def load(directory: str) -> OfflineMesh:
    """Read a mesh directory; what is wrong with it is said on stderr."""
    mesh = OfflineMesh(directory, datetime.now(UTC))
    for problem in mesh.problems:
        click.echo(f"pillion: {problem}", err=True)
    return mesh


mesh_option = click.option(
    "--mesh",
    "directory",
    required=True,
    envvar="PILLION_MESH",
    type=click.Path(exists=True, file_okay=False),
    help="The mesh directory.",
)


@click.group("policy")
def command() -> None:
    """Explain, test, lint, compare and audit policy over a mesh directory."""


@command.command("test")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@mesh_option
@click.option("--junit", type=click.Path(dir_okay=False), help="Write a JUnit report here too.")
@output_option
def test(files: tuple[str, ...], directory: str, junit: str | None, form: Form) -> None:
    """Run cases of who may call what; the explanation of each that fails is shown."""
    results = run_suite(load(directory), files)
    if junit is not None:
        Path(junit).write_text(junit_report(results), encoding="utf-8")
    show_suite(form, results)
    raise SystemExit(0 if all(each.is_ok for each in results) else 1)


@command.command("explain")
@mesh_option
@click.option("--from", "source", required=True, help="Pod or account NS/NAME, identity or IP.")
@click.option("--to", "destination", required=True, help="NAMESPACE/POD:PORT, or a Service's.")
@click.option("--ip", default="", help="The address the caller comes from.")
@click.option(
    "--tls",
    type=click.Choice(["mesh", "no-identity", "none"]),
    help="What the caller's connection is; by default what its pod would have.",
)
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="Repeatable.")
@click.option("--grpc", "is_grpc", is_flag=True, help="The request is a gRPC call.")
@click.argument("method", required=False)
@click.argument("path", required=False)
@output_option
def explain(  # noqa: PLR0913, PLR0917 - one parameter an option
    directory: str,
    source: str,
    destination: str,
    ip: str,
    tls: str | None,
    headers: tuple[str, ...],
    is_grpc: bool,  # noqa: FBT001 - click's own
    method: str | None,
    path: str | None,
    form: Form,
) -> None:
    """Say whether a caller is admitted, why, and what would change it.

    With METHOD and PATH a request is asked about, otherwise a connection.
    """
    question = Question(
        source=source,
        destination=destination,
        ip=ip,
        tls=tls or "",
        headers=headers,
        is_grpc=is_grpc,
        method=method or "",
        path=path or "",
    )
    found = answer(load(directory), question)
    show_answer(form, found)
    raise SystemExit(0 if found.explanation.word == "allow" else 1)


@command.command("lint")
@mesh_option
@output_option
def lint(directory: str, form: Form) -> None:
    """Find policies that do not do what their author may think."""
    mesh = load(directory)
    findings = lint_mesh(mesh)
    show_findings(form, findings, mesh.problems)
    raise SystemExit(1 if findings or mesh.problems else 0)


@command.command("diff")
@click.argument("old", type=click.Path(exists=True, file_okay=False))
@click.argument("new", type=click.Path(exists=True, file_okay=False))
@output_option
def diff(old: str, new: str, form: Form) -> None:
    """Say whose access differs between two mesh directories."""
    changes = compare(load(old), load(new))
    show_changes(form, changes)
    raise SystemExit(1 if changes else 0)


@command.command("audit")
@mesh_option
@click.option("--policy", "wanted", default="", help="Only this policy, NAMESPACE/NAME.")
@click.option(
    "--metrics",
    multiple=True,
    metavar="URL|FILE",
    help="A sidecar's /metrics, for what was seen; repeatable.",
)
@output_option
def audit(directory: str, wanted: str, metrics: tuple[str, ...], form: Form) -> None:
    """Say what the policies in audit mode would refuse, if they were enforced."""
    reports = audit_mesh(load(directory), wanted, metrics)
    show_audit(form, reports)
    raise SystemExit(1 if any(each.refused or each.seen_denied for each in reports) else 0)
