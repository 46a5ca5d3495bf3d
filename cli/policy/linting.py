"""``pillion policy lint``."""

from __future__ import annotations

from cli.output import Form, Json, write
from control.offline import OfflineMesh
from policy.lint import Finding, lint
from resources.document import Problem


def lint_mesh(mesh: OfflineMesh) -> list[Finding]:
    """Return everything in a mesh directory that there is to look at."""
    return lint(mesh.resources)


def show_findings(form: Form, findings: list[Finding], problems: tuple[Problem, ...]) -> None:
    """Print findings; broken documents are in the data too, on stderr otherwise."""
    count = len(findings) + len(problems)
    summary = f"{count} to look at" if count else "nothing found"

    def table() -> str:
        return "\n".join([*map(str, findings), summary])

    data: Json = {
        "findings": [
            {
                "kind": each.key.kind,
                "namespace": each.key.namespace,
                "name": each.key.name,
                "code": each.code,
                "message": each.message,
            }
            for each in findings
        ],
        "problems": [
            {"file": each.file, "line": each.line, "path": each.path, "message": each.message}
            for each in problems
        ],
    }
    write(form, data, table=table, short=lambda: summary)
