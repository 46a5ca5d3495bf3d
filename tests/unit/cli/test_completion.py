"""``pillion completion``: what each shell is given, and what it is answered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.completion import SHELLS
from cli.main import VERBS, pillion
from tests.support.sockets import ENVIRONMENT, PILLION

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop}
spec: {containers: [{name: web, image: web}]}
"""


def asked(shell: str, line: str) -> str:
    """Return what the command answers a shell that completes the last word of ``line``."""
    words = line.split(" ")
    done = subprocess.run(
        PILLION,
        env={
            **os.environ,
            **ENVIRONMENT,
            "_PILLION_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": words[-1] if shell == "fish" else str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_its_script_and_its_answers(shell: str, tmp_path: Path) -> None:
    """Verbs with their help, options, files, and the pods of the mesh that is named."""
    script = CliRunner().invoke(pillion, ["completion", shell])
    assert script.exit_code == 0
    assert f"_PILLION_COMPLETE={shell}_complete" in script.stdout
    verbs = asked(shell, "pillion ")
    assert all(verb in verbs for verb in VERBS)
    assert "check" in asked(shell, "pillion che")
    assert "demo" not in asked(shell, "pillion che")
    assert "--authority" in asked(shell, "pillion run --a")
    (tmp_path / "web.yaml").write_text(POD)
    assert "shop/web-0" in asked(shell, f"pillion run --mesh {tmp_path} --as shop/")
    assert asked(shell, "pillion run --mesh /nowhere --as shop/").strip() in {"", "_"}


def test_verbs_are_completed_without_loading_them() -> None:
    """A key press is no time to import everything."""
    program = (
        "import sys, click\nfrom cli.main import pillion\n"
        "pillion.shell_complete(click.Context(pillion), '')\n"
        "print(sorted(name for name in sys.modules if name.startswith('cli.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "['cli.main']"


def test_bash_completes(tmp_path: Path) -> None:
    """The script works in the shell that it is for."""
    place = tmp_path / "bin"
    place.mkdir()
    program = place / "pillion"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{PILLION[2]}' \"$@\"\n")
    program.chmod(0o755)
    script = tmp_path / "script"
    script.write_text(CliRunner().invoke(pillion, ["completion", "bash"]).stdout)
    line = (
        f"source {script}; COMP_WORDS=(pillion comp); COMP_CWORD=1; "
        '_pillion_completion pillion; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", line],
        env={**os.environ, **ENVIRONMENT, "PATH": f"{place}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "completion\n", done.stderr


def test_another_shell_is_a_usage_error() -> None:
    """Naming the ones there are."""
    ran = CliRunner().invoke(pillion, ["completion", "tcsh"])
    assert ran.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in ran.stderr
