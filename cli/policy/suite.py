"""Cases run against a mesh directory, and how their outcome is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final
from xml.etree import ElementTree as ET

import click

from cli.output import Form, Json, write
from cli.policy.case import Case, read_cases
from control.offline import OfflineMesh
from core.errors import ConfigError
from core.nearest import nearest_name
from core.record import dataclass
from policy.explain import explain_verdict
from policy.judge import judge


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a case."""

    case: Case
    got: Mapping[str, Json]
    explanation: str

    @property
    def differing(self) -> list[str]:
        """What was expected and not got."""
        return [name for name, value in self.case.expect.items() if self.got[name] != value]

    @property
    def is_ok(self) -> bool:
        """Whether everything that was expected was got."""
        return not self.differing


def run_suite(mesh: OfflineMesh, files: Sequence[str]) -> list[Result]:
    """Run every case of every file. Raises ConfigError when a file cannot be used."""
    problems: list[str] = []
    cases: list[Case] = []
    for path in files:
        try:
            cases += read_cases(path)
        except ConfigError as error:
            problems += error.problems
    problems += [problem for case in cases if (problem := _unknown_target(mesh, case))]
    if problems:
        raise ConfigError(problems)
    return [_run(mesh, case) for case in cases]


def show_suite(form: Form, results: list[Result]) -> None:
    """Print the outcome."""
    failed = [each for each in results if not each.is_ok]
    summary = f"{len(results) - len(failed)} passed, {len(failed)} failed"

    def table() -> str:
        lines = [f"{'✓' if each.is_ok else '✗'} {each.case.name}" for each in results]
        for each in failed:
            lines += ["", f"✗ {each.case.name}   {each.case.place}"]
            lines += [
                f"    {name}: wanted {_shown(each.case.expect[name])}, got {_shown(each.got[name])}"
                for name in each.differing
            ]
            lines += [f"    {line}" for line in each.explanation.splitlines()]
        return "\n".join([*lines, "", summary])

    data: Json = {
        "passed": len(results) - len(failed),
        "failed": len(failed),
        "cases": [
            {
                "name": each.case.name,
                "ok": each.is_ok,
                "got": each.got,
                "explanation": each.explanation,
            }
            for each in results
        ],
    }
    write(form, data, table=table, short=lambda: summary)


def junit_report(results: list[Result]) -> str:
    """Return the outcome as JUnit XML."""
    suite = ET.Element(
        "testsuite",
        name="pillion policy",
        tests=str(len(results)),
        failures=str(sum(not each.is_ok for each in results)),
        errors="0",
    )
    for each in results:
        place, _, line = each.case.place.rpartition(":")
        case = ET.SubElement(
            suite, "testcase", classname=place, name=_plain(each.case.name), file=place, line=line
        )
        if not each.is_ok:
            said = "; ".join(
                f"{name}: wanted {_shown(each.case.expect[name])}, got {_shown(each.got[name])}"
                for name in each.differing
            )
            failure = ET.SubElement(case, "failure", message=_plain(said))
            failure.text = _plain(each.explanation)
    ET.indent(suite)
    text = ET.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _run(mesh: OfflineMesh, case: Case) -> Result:
    workload = mesh.workload(case.target.namespace, case.target.pod)
    if workload is None:
        raise ConfigError(_unknown_target(mesh, case))
    policy = mesh.policy(workload.pod.meta.key, case.target.port)
    judged = judge(policy, case.client, case.request, is_grpc=case.is_grpc, repeat=case.repeat)
    explanation = explain_verdict(policy, case.client, case.request, judged.verdict)
    return Result(case=case, got=judged.got(), explanation=str(explanation))


def _unknown_target(mesh: OfflineMesh, case: Case) -> str:
    namespace, pod = case.target.namespace, case.target.pod
    if mesh.workload(namespace, pod) is not None:
        return ""
    known = {f"{each.pod.meta.namespace}/{each.pod.meta.name}" for each in mesh.workloads}
    near = nearest_name(f"{namespace}/{pod}", known)
    advice = f"did you mean {near}?" if near else "there is no such pod in the mesh directory"
    return f"{case.place}: when.to: no pod {namespace}/{pod}: {advice}"


def _shown(value: Json) -> str:
    return "null" if value is None else click.unstyle(str(value))


def _plain(text: str) -> str:
    """Leave out what XML 1.0 cannot carry."""
    return "".join(c for c in text if c in "\t\n" or (c >= " " and c not in "\ufffe\uffff"))
