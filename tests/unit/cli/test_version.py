"""cli.version: what runs, and at which speed."""

from __future__ import annotations

import ast
import importlib
import json
import os
import runpy
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
import setuptools
import yaml
from click.testing import CliRunner

from cli.main import pillion
from cli.version import CORE_MODULES, CORE_ROOMS, KERNELS, core_modules, core_speed
from proxy.wire.tls_library import AUTO, choose_library

ROOT = Path(__file__).resolve().parents[3]
MODULES = sorted(core_modules())


def test_version_says_what_runs_as_json() -> None:
    """A script finds the core's speed without reading prose."""
    result = CliRunner().invoke(pillion, ["version", "-o", "json"])
    said = json.loads(result.stdout)
    assert result.exit_code == 0
    tls = choose_library(AUTO, resume=True, hybrid=False)
    assert (said["openssl"], said["tls"]) == (tls.version, tls.name)
    assert said["core"] == core_speed(core_modules())
    assert sorted(said["modules"]) == MODULES


def test_every_form_says_the_same() -> None:
    """YAML holds what JSON holds; the table names each of it; short is the version alone."""
    runner = CliRunner()
    said = json.loads(runner.invoke(pillion, ["version", "-o", "json"]).stdout)
    assert yaml.safe_load(runner.invoke(pillion, ["version", "-o", "yaml"]).stdout) == said
    table = runner.invoke(pillion, ["version"]).stdout
    assert all((said[key] or "unknown") in table for key in ("version", "python", "core"))
    short = runner.invoke(pillion, ["version", "-o", "short"]).stdout
    assert short == f"{said['version'] or 'unknown'}\n"


@pytest.mark.parametrize(
    ("modules", "speed"),
    [
        ({}, "interpreted"),
        ({"a": False, "b": False}, "interpreted"),
        ({"a": True, "b": True}, "compiled"),
        ({"a": True, "b": False}, "mixed"),
    ],
)
def test_the_core_is_compiled_only_when_all_of_it_is(modules: dict[str, bool], speed: str) -> None:
    """A half-compiled core must not pass for a fast one."""
    assert core_speed(modules) == speed


@pytest.mark.parametrize("name", MODULES)
def test_what_is_said_to_be_compiled_is_what_gets_loaded(name: str) -> None:
    """With EXPECT_COMPILED=1, all of it; otherwise as it is said."""
    try:
        place = importlib.import_module(name).__file__ or ""
    except ModuleNotFoundError:
        assert name in KERNELS
        place = ""
    is_compiled = place.endswith(tuple(EXTENSION_SUFFIXES))
    assert is_compiled == core_modules()[name]
    if os.environ.get("EXPECT_COMPILED") == "1":
        assert is_compiled


def test_the_build_compiles_what_the_command_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """setup.py and ``pillion version`` mean the same by the core."""
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    build = runpy.run_path(str(ROOT / "setup.py"))
    rooms = tuple(f"{room.replace('.', '/')}/*.py" for room in CORE_ROOMS)
    modules = tuple(f"{module.replace('.', '/')}.py" for module in CORE_MODULES)
    assert build["CORE"] == (*rooms, *modules)
    kernels = sorted(path.relative_to(ROOT) for path in ROOT.glob(build["KERNELS"]))
    assert tuple(".".join(path.with_suffix("").parts) for path in kernels) == KERNELS


def test_whoever_inherits_from_the_core_is_part_of_it() -> None:
    """A compiled caller passes by what an interpreted subclass puts in a method's place."""
    files = sorted((ROOT / "proxy").rglob("*.py")) + sorted((ROOT / "policy").rglob("*.py"))
    names = {each: ".".join(each.relative_to(ROOT).with_suffix("").parts) for each in files}
    core = core_modules()
    bases = {
        node.name: names[each]
        for each in files
        if names[each] in core
        for node in ast.parse(each.read_text()).body
        if isinstance(node, ast.ClassDef) and not _is_protocol(node)
    }
    outside = [
        f"{names[each]}.{node.name}"
        for each in files
        if names[each] not in core
        for node in ast.parse(each.read_text()).body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id in bases for base in node.bases)
    ]
    assert len(bases) > 100
    assert outside == []


def _is_protocol(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
