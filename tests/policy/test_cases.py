"""Every decision case, through the decision itself and through the command.

``cases/<setup>.yaml`` are cases as users write them, each over the mesh directory of its setup,
``meshes/<setup>``. The numbers are those of the Linkerd reference's decision table; letters
behind them, and d and a, are ours.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from cli.main import pillion
from cli.policy.case import Case, read_cases
from control.offline import OfflineMesh
from core.errors import OUTCOMES
from policy.decide import decide_connection, decide_request
from policy.explain import explain_connection, explain_request
from policy.limit import RateState
from policy.model import Permit, Protocol
from policy.route import Redirect
from resources.kind import ObjectKey

HERE = Path(__file__).parent
SETUPS = sorted(path.stem for path in (HERE / "cases").glob("*.yaml"))
ELSEWHERE = {84, 85, 86, 87, 88, 89, 90}
"""Remote control, an unusable message, gateways, egress: no mesh directory can pose them."""


@cache
def mesh_of(setup: str) -> OfflineMesh:
    """Return a setup's mesh."""
    mesh = OfflineMesh(str(HERE / "meshes" / setup), datetime(2026, 1, 1, tzinfo=UTC))
    assert mesh.problems == ()
    return mesh


CASES = [
    pytest.param(setup, case, id=f"{setup}: {case.name}")
    for setup in SETUPS
    for case in read_cases(str(HERE / "cases" / f"{setup}.yaml"))
]


@pytest.mark.parametrize(("setup", "case"), CASES)
def test_a_decision_is_as_written(setup: str, case: Case) -> None:
    """Verdict, status and labels, straight from the deciding functions; the explanation agrees."""
    key = ObjectKey("", "Pod", case.target.namespace, case.target.pod)
    policy = mesh_of(setup).policy(key, case.target.port)
    status: int | None = None
    limited = False
    if case.request is None or policy.protocol is Protocol.OPAQUE:
        verdict = decide_connection(policy, case.client)
        told = explain_connection(policy, case.client)
    else:
        verdict = decide_request(policy, case.client, case.request)
        told = explain_request(policy, case.client, case.request)
        status = 0 if case.is_grpc else 200
        if isinstance(verdict, Permit):
            for each in verdict.filters:
                status = each.status if isinstance(each, Redirect) else status
            if policy.rate_limit is not None:
                state = RateState(policy.rate_limit)
                hits = [state.hit(case.client.identity, 7.0) for _ in range(case.repeat)]
                limited = hits[-1] is not None
    assert told.verdict == verdict
    word = "rate-limited" if limited else told.word
    outcome = None
    if limited:
        outcome = OUTCOMES["rate-limited"]
    elif not isinstance(verdict, Permit):
        outcome = OUTCOMES[verdict.code]
    if outcome is not None and status is not None:
        status = outcome.grpc if case.is_grpc else outcome.http
    is_permit = isinstance(verdict, Permit) and not limited
    got = {
        "verdict": word,
        "status": status,
        "server": verdict.server.name,
        "route": verdict.route.name if verdict.route else None,
        "authorization": (
            verdict.authorization.name if isinstance(verdict, Permit) and is_permit else None
        ),
    }
    assert {name: got[name] for name in case.expect} == case.expect, str(told)


@pytest.mark.parametrize("setup", SETUPS)
def test_the_command_says_the_same(setup: str) -> None:
    """``pillion policy test -o json``: every case passes, in the agreed form."""
    path = HERE / "cases" / f"{setup}.yaml"
    mesh = HERE / "meshes" / setup
    arguments = ["policy", "test", str(path), "--mesh", str(mesh), "-o", "json"]
    run = CliRunner().invoke(pillion, arguments)
    said = json.loads(run.stdout)
    assert [each["name"] for each in said["cases"] if not each["ok"]] == []
    assert run.exit_code == 0, run.output
    assert (said["failed"], said["passed"]) == (0, len(read_cases(str(path))))
    for each in said["cases"]:
        assert set(each) == {"name", "ok", "got", "explanation"}
        assert set(each["got"]) == {"verdict", "status", "server", "route", "authorization"}


def test_every_number_of_the_table_has_a_case() -> None:
    """None is left out by accident."""
    names = [case.name for param in CASES for case in param.values if isinstance(case, Case)]
    numbers = {int(found[0]) for name in names if (found := re.match(r"\d+", name))}
    assert set(range(1, 91)) - numbers == ELSEWHERE - {86}


def test_the_installed_command_runs_cases(tmp_path: Path) -> None:
    """As a process of its own: a table, a JUnit file, exit 1 and the story when a case fails."""
    cases = tmp_path / "cases.yaml"
    text = (HERE / "cases" / "identities.yaml").read_text()
    cases.write_text(text.replace("verdict: allow, status: 200", "verdict: deny, status: 200", 1))
    run = subprocess.run(
        [
            *(sys.executable, "-c", "from cli.start import main; main()"),
            *("policy", "test", str(cases), "--mesh", str(HERE / "meshes" / "identities")),
            *("--junit", str(tmp_path / "junit.xml")),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (run.returncode, run.stderr) == (1, "")
    assert "verdict: wanted deny, got allow" in run.stdout
    assert "AuthorizationPolicy app/allow-c admits" in run.stdout
    assert run.stdout.rstrip().endswith("4 passed, 1 failed")
    report = ET.parse(tmp_path / "junit.xml").getroot()
    assert (report.get("tests"), report.get("failures")) == ("5", "1")
    failures = report.findall("testcase/failure")
    assert [each.get("message") for each in failures] == ["verdict: wanted deny, got allow"]
