"""The house stands as its plan says: rooms, pure rooms, walls, names, codes, no strangers."""

from __future__ import annotations

import importlib.metadata
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from core.errors import OUTCOMES, TcpAction
from tests import house

ROOT = Path(__file__).resolve().parents[2]
GENERATED = "api/gen/"
OWN_TREES = (*house.PACKAGES, "tests", "bench", "tools")


@cache
def tracked() -> tuple[str, ...]:
    """Return the paths of every file that is part of the project and is there."""
    said = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if said.returncode == 0:
        paths = said.stdout.splitlines()
    else:
        trees = [*OWN_TREES, "docs", "requirements", ".ci"]
        found = [path for tree in trees for path in (ROOT / tree).rglob("*") if path.is_file()]
        paths = [str(path.relative_to(ROOT)) for path in (*found, *ROOT.glob("*.*"))]
    return tuple(sorted({path for path in paths if (ROOT / path).is_file()}))


@cache
def python_files() -> dict[str, str]:
    """Return path → text of every Python file written by hand."""
    return {
        path: (ROOT / path).read_text()
        for path in tracked()
        if path.endswith(".py") and not path.startswith(GENERATED)
    }


@cache
def modules() -> dict[str, str]:
    """Return dotted name → text of every module that is installed."""
    return {
        path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): text
        for path, text in python_files().items()
        if path.partition("/")[0] in house.PACKAGES
    }


def test_every_module_keeps_to_its_room() -> None:
    """Who may import whom, which rooms are pure, and who touches sockets and timers."""
    assert len(modules()) > 20
    assert house.broken_rules(modules()) == []


def test_every_row_of_the_table_is_a_room_that_exists() -> None:
    """A row without a room would hold nothing; a model file is always there."""
    missing = [
        room
        for room in house.ROOMS
        if not (ROOT / room.replace(".", "/")).is_dir() and room not in modules()
    ]
    assert missing == []


def test_no_file_passes_the_wall() -> None:
    """A file that long holds more than one noun; kernels and load tools are files as others."""
    files = {
        path: (ROOT / path).read_text()
        for path in tracked()
        if path.endswith((".py", ".pyx", ".pxi", ".c", ".h")) and not path.startswith(GENERATED)
    }
    assert house.size_breaches(files) == []


def test_no_name_says_which_way_a_stream_flows() -> None:
    """Near and far, client and server, inbound and outbound."""
    assert house.direction_breaches(python_files()) == []


def test_every_code_is_in_the_table_and_has_its_section() -> None:
    """What a log line, a metric or a peer shows can be looked up."""
    page = (ROOT / "docs/errors.md").read_text()
    sections = re.findall(r"^## ([a-z0-9-]+)$", page, re.MULTILINE)
    assert sorted(sections) == sorted(OUTCOMES)
    written = {code: name for name, text in modules().items() for code in house.error_codes(text)}
    assert {code: name for code, name in written.items() if code not in OUTCOMES} == {}


@pytest.mark.parametrize("code", OUTCOMES)
def test_every_section_says_what_a_peer_is_told_the_cause_and_the_cure(code: str) -> None:
    """A page that only repeats the message helps nobody; one that says otherwise misleads."""
    page = (ROOT / "docs/errors.md").read_text()
    section = page.partition(f"\n## {code}\n")[2].partition("\n## ")[0]
    told = OUTCOMES[code]
    action = "reset" if told.tcp is TcpAction.RESET else "closed"
    assert section.startswith(f"\nHTTP {told.http}, gRPC {told.grpc}, {action}.\n")
    assert re.search(r"\*\*Cause\.\*\* .+\n\n\*\*Cure\.\*\* ", section, re.DOTALL)


def test_no_file_names_a_place_on_somebody_s_machine() -> None:
    """A path that exists once in the world helps nobody else."""
    place = re.compile("/(work|root|home/[a-z]+|tmp/v|opt/wheels)/")
    found = {}
    for path in tracked():
        data = (ROOT / path).read_bytes()
        if b"\0" in data:
            continue
        match = place.search(data.decode(errors="replace"))
        if match is not None:
            found[path] = match[0]
    assert found == {}


def test_what_is_imported_is_declared() -> None:
    """The code uses its declared dependencies, not what happens to be there.

    What is installed has the project's own; tests, bench and tools those of the groups as well.
    """
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime: list[str] = pyproject["project"]["dependencies"]
    groups = [each for group in pyproject["dependency-groups"].values() for each in group]
    everything = [*runtime, *(each for each in groups if isinstance(each, str))]
    strangers = [
        f"{path}: {top}"
        for path, text in python_files().items()
        for top in _strangers(
            text, runtime if path.partition("/")[0] in house.PACKAGES else everything
        )
    ]
    assert strangers == []


def test_what_compiles_is_bounded_alike_everywhere() -> None:
    """The image is built by the lock, which is made of the groups; others build by themselves."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = {
        each
        for group in pyproject["dependency-groups"].values()
        for each in group
        if isinstance(each, str)
    }
    assert set(pyproject["build-system"]["requires"]) <= groups


@cache
def _owners() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _strangers(text: str, requirements: list[str]) -> set[str]:
    declared = {canonicalize_name(Requirement(each).name) for each in requirements}
    return {
        top
        for top in house.tops_of(text)
        if top not in OWN_TREES
        and top not in sys.stdlib_module_names
        and not declared & {canonicalize_name(owner) for owner in _owners().get(top, [])}
    }


def test_what_packages_hold_is_in_the_wheel() -> None:
    """Files that are not modules reach a user only when they are declared."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = [each.rpartition("/")[2] for each in data["package-data"]["*"]]
    left_out = [
        path
        for path in tracked()
        if path.partition("/")[0] in house.PACKAGES
        and not any(fnmatch(path, pattern) for pattern in ("*.py", "*.pyi", *patterns))
    ]
    assert left_out == []


def test_every_package_goes_into_the_image() -> None:
    """Dockerfile and .dockerignore name what is copied, and they lack none."""
    copied = (ROOT / "Dockerfile").read_text().splitlines()
    let_in = (ROOT / ".dockerignore").read_text().splitlines()
    for package in house.PACKAGES:
        assert f"COPY {package} {package}" in copied
        assert f"!{package}" in let_in


@pytest.mark.parametrize("lock", ["runtime", "dev", "compile", "tools"])
def test_the_locks_hold_what_the_project_asks_for(lock: str) -> None:
    """``make lock`` has been run since pyproject.toml changed."""
    wanted = runpy.run_path(str(ROOT / "tools/lock.py"))["requirements_of"](lock)
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE))
    asked = {canonicalize_name(Requirement(each).name): Requirement(each) for each in wanted}
    unmet = [
        str(requirement)
        for name, requirement in asked.items()
        if name not in pins or not requirement.specifier.contains(pins[name])
    ]
    assert unmet == []
    _, *blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    direct = [block.partition("==")[0] for block in blocks if "pyproject.toml" in block]
    assert sorted(direct) == sorted(asked)
    assert "://" not in text


BAD: dict[str, tuple[dict[str, str], str]] = {
    "an arrow the table lacks": (
        {"redirect.rule": "import policy.model"},
        "redirect may not import policy.model",
    ),
    "an arrow taken twice": (
        {"policy.index": "from discovery.index import Index"},
        "policy may not import discovery.index",
    ),
    "a submodule by its package": (
        {"policy.index": "from discovery import index", "discovery.index": ""},
        "policy may not import discovery.index",
    ),
    "an import inside a function": (
        {"core.drain": "def late() -> None:\n    import identity.name"},
        "core may not import identity.name",
    ),
    "an earlier model that reads a later one": (
        {"policy.route": "from policy.model import Protocol"},
        "policy.route may not import policy.model",
    ),
    "a model that reads a decision": (
        {"policy.model": "from policy.decide import decide"},
        "policy.model may not import policy.decide",
    ),
    "the data plane that compiles policy": (
        {"proxy.inbound.server": "from policy.index import Index"},
        "proxy may not import policy.index",
    ),
    "the wire that reads a socket": (
        {"proxy.wire.hello": "from proxy.net.stream import Stream"},
        "proxy.wire may not import proxy.net.stream",
    ),
    "control that reads the proxy": (
        {"control.local": "import proxy.providers"},
        "control may not import proxy.providers",
    ),
    "anybody who imports the command": (
        {"inject.patch": "from cli.output import write"},
        "inject may not import cli.output",
    ),
    "a second composition root": (
        {"proxy.inbound.server": "from proxy.app import build"},
        "only cli builds the proxy",
    ),
    "a clock on the wire": (
        {"proxy.wire.hello": "from time import monotonic"},
        "a pure module may not import time",
    ),
    "a loop in a decision": (
        {"policy.decide": "import asyncio"},
        "a pure module may not import asyncio",
    ),
    "the environment in a parser": (
        {"resources.pod": "import os\nHOME = os.environ['HOME']"},
        "a pure module may not read os.environ",
    ),
    "the wall clock in a decision": (
        {"policy.limit": "from datetime import datetime\nNOW = datetime.now()"},
        "a pure module may not read datetime.now",
    ),
    "a socket made outside proxy.net": (
        {"proxy.outbound.dial": "import socket\nsocket.socket()"},
        "only proxy.net makes sockets",
    ),
    "a socket option outside proxy.net": (
        {"proxy.outbound.dial": "import socket\nsocket.create_connection(('::1', 1))"},
        "only proxy.net uses socket.create_connection",
    ),
    "a timer without a task": (
        {"control.local": "def f(loop):\n    loop.call_later(1, print)"},
        "only proxy.net uses call_later; await asyncio.sleep in a task",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_the_rules_can_be_broken(case: str) -> None:
    """Each rule finds the module that breaks it: a check that cannot fail checks nothing."""
    sources, breach = BAD[case]
    assert [each.split(": ", 1)[1] for each in house.broken_rules(sources)] == [breach]


@pytest.mark.parametrize(
    "sources",
    [
        {"policy.index": "from resources.server import Server\nfrom identity.name import Identity"},
        {"proxy.net.relay": "import socket\nsocket.socketpair()\nfrom proxy.wire import hello"},
        {"proxy.inbound.server": "import socket\ndef f(sock: socket.socket) -> None: ..."},
        {"resources.sources.directory": "import asyncio"},
        {"cli.demo": "from proxy.app import build"},
        {"multicluster.model": "from policy.model import Protocol"},
    ],
)
def test_what_the_rules_allow_passes(sources: dict[str, str]) -> None:
    """Nor may a check fail everything."""
    assert house.broken_rules(sources) == []


def test_a_room_without_a_row_is_found() -> None:
    """A new package has to be given its place in the table."""
    with pytest.raises(KeyError, match="kube"):
        house.broken_rules({"kube.client": ""})


def test_walls_and_names_can_be_broken() -> None:
    """One line more than the wall; a name in either spelling, in code but not in a text."""
    assert house.size_breaches({"a.py": "\n" * house.LINES}) == []
    assert house.size_breaches({"a.py": "\n" * (house.LINES + 1)}) != []
    assert house.direction_breaches({"a.py": "Up" + "streamPool = 1\ndown" + "_stream = 2\n"}) == [
        "a.py:1: Up" + "streamPool; say near or far",
        "a.py:2: down" + "_stream; say near or far",
    ]
    assert house.direction_breaches({"a.py": "NGINX = 'up" + "stream far {}'\n"}) == []


def test_codes_are_found_where_they_are_written() -> None:
    """In an error's class, where one is raised, in a refusal; not in other calls."""
    source = """
class OddError(MeshError):
    code = "one"
raise errors.OddError("message", code="two")
Refusal(code="three", reason="")
click.Option(code="four")
"""
    assert house.error_codes(source) == {"one", "two", "three"}


def test_every_dataclass_is_one_of_ours() -> None:
    """The standard library's cost every start half a millisecond a class: see core.record."""
    found = [
        module
        for module, source in modules().items()
        if module != "core.record"
        and re.search(
            r"^from dataclasses import .*\bdataclass\b|dataclasses\.dataclass", source, re.MULTILINE
        )
    ]
    assert found == []
