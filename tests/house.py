"""The rules of the house, as a table and functions over source text.

Every module of a room may import what its row names, nothing else of ours. Rows are not
transitive: that ``policy`` may read ``resources`` opens ``resources`` to nobody who reads
``policy``. The longest row that fits a module counts, so ``policy.model`` has rules of its own.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, final

OPEN: Final = ("core", "identity.name")
"""Open to every room."""

MODELS: Final = ("discovery.model", "policy.route", "policy.model", "multicluster.model")
"""The model files, in their order: each may import the ones before it, and what is open."""

_PROXY: Final = (
    *("identity", *MODELS, "multicluster.liveness"),
    *("policy.decide", "policy.explain", "policy.limit", "policy.match", "policy.describe"),
    *("policy.judge", "policy.question", "policy.retry_condition"),
)
_CONTROL: Final = (
    *("identity", "resources", "discovery", "policy", "multicluster"),
    *("api", "redirect", "inject", "control"),
)

ROOMS: Final[Mapping[str, tuple[str, ...]]] = {
    "core": ("core",),
    "identity.name": (),
    "identity": ("identity",),
    "resources": ("resources",),
    **{model: MODELS[:place] for place, model in enumerate(MODELS)},
    "discovery": ("discovery", "resources"),
    "policy": ("policy", "resources", "discovery.model"),
    "multicluster": ("multicluster", "resources", "discovery", "policy"),
    "api": ("api", "identity", *MODELS),
    "redirect": ("redirect",),
    "inject": ("inject", "resources"),
    "proxy": ("proxy", *_PROXY),
    "proxy.wire": ("proxy.wire", *_PROXY),
    "proxy.telemetry": ("proxy.telemetry", *_PROXY),
    "proxy.net": ("proxy.net", "proxy.wire", "proxy.telemetry", *_PROXY),
    "control": _CONTROL,
    "cli": (*_CONTROL, "proxy", "cli"),
}
"""Module or package → what of ours it may import, itself included where it is a room."""

PACKAGES: Final = tuple(sorted({name.partition(".")[0] for name in ROOMS}))
"""The top-level packages: what is installed."""

PURE: Final = (
    *("proxy.wire", "identity.name", "policy", "discovery", "multicluster", "inject"),
    *("resources", "redirect.options", "redirect.iptables", "redirect.nftables"),
    *("redirect.backend", "redirect.rule", "core.duration", "core.errors"),
)
"""Bytes and values in, values out; what they need to know of the world they are given."""
IMPURE: Final = ("resources.sources",)
"""Rooms inside pure ones that read the world for them."""
WORLD: Final = (
    *("asyncio", "socket", "selectors", "select", "threading", "multiprocessing"),
    *("subprocess", "signal", "time", "random", "secrets", "logging", "structlog"),
)
"""What a pure module may not import."""
WORLD_CALLS: Final = ("os.environ", "os.getenv", "datetime.now", "datetime.today", "date.today")
"""What a pure module may not name."""

LINES: Final = 600
"""The longest a file may be."""
_DIRECTION: Final = re.compile(r"(up|down)_?stream", re.IGNORECASE)
TIMERS: Final = ("call_later", "call_at")
"""Loop methods that only ``proxy.net`` may use: elsewhere a timer outlives its task."""


@final
@dataclass(frozen=True, slots=True)
class Import:
    """One imported name, and the line it is imported on."""

    name: str
    line: int


def is_under(name: str, room: str) -> bool:
    """Whether ``name`` is ``room`` or lies in it."""
    return name == room or name.startswith(f"{room}.")


def row_of(module: str) -> str:
    """Return the longest row of ``ROOMS`` that fits; raises KeyError for a room without one."""
    fitting = [room for room in ROOMS if is_under(module, room)]
    if not fitting:
        raise KeyError(module)
    return max(fitting, key=len)


@cache
def parse(source: str) -> ast.Module:
    """Return the tree of ``source``; several rules read the same one."""
    return ast.parse(source)


def tops_of(source: str) -> set[str]:
    """Return the top-level names of everything that ``source`` imports."""
    return {each.name.partition(".")[0] for each in imports_of(parse(source), {})}


def imports_of(tree: ast.AST, modules: Mapping[str, object]) -> Iterator[Import]:
    """Yield every import, wherever it stands; ``from a import b`` is ``a.b`` if that is one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield Import(whole if whole in modules else str(node.module), node.lineno)


def broken_rules(modules: Mapping[str, str]) -> list[str]:
    """Return every breach of the rules in ``modules`` (dotted name → source text)."""
    breaches: list[str] = []
    for module, source in sorted(modules.items()):
        tree = parse(source)
        found = [
            *_wrong_imports(module, tree, modules),
            *_impurities(module, tree, modules),
            *_sockets(module, tree),
            *_timers(module, tree),
        ]
        breaches += [f"{module}:{line}: {what}" for line, what in sorted(found)]
    return breaches


def size_breaches(files: Mapping[str, str]) -> list[str]:
    """Return the files that are longer than the wall (path → text)."""
    sizes = {path: text.count("\n") for path, text in sorted(files.items())}
    return [
        f"{path}: {size} lines, {LINES} at most" for path, size in sizes.items() if size > LINES
    ]


def direction_breaches(files: Mapping[str, str]) -> list[str]:
    """Return names that say up or down the stream, which half of the readers reverse."""
    breaches: list[str] = []
    # Only a text that holds the letters at all is worth its tokens.
    for path, text in sorted(files.items()):
        if not _DIRECTION.search(text):
            continue
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME and _DIRECTION.search(token.string):
                breaches.append(f"{path}:{token.start[0]}: {token.string}; say near or far")
    return breaches


def error_codes(source: str) -> set[str]:
    """Return the error codes a module writes down, in a class of errors, an error or a refusal."""
    values: list[ast.expr] = []
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
            for line in node.body:
                if isinstance(line, ast.Assign) and _name(line.targets[0]) == "code":
                    values.append(line.value)
                elif isinstance(line, ast.AnnAssign) and _name(line.target) == "code":
                    values += [line.value] if line.value else []
        elif isinstance(node, ast.Call) and _name(node.func).endswith(("Error", "Refusal")):
            values += [word.value for word in node.keywords if word.arg == "code"]
    return {
        each.value
        for value in values
        for each in ast.walk(value)
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value
    }


def _wrong_imports(
    module: str, tree: ast.AST, modules: Mapping[str, object]
) -> Iterator[tuple[int, str]]:
    row = row_of(module)
    allowed = (*OPEN, *ROOMS[row]) if row not in OPEN else (*ROOMS[row], "core")
    for each in imports_of(tree, modules):
        if each.name.partition(".")[0] not in PACKAGES:
            continue
        if not any(is_under(each.name, room) for room in allowed):
            yield each.line, f"{row} may not import {each.name}"
        if each.name == "proxy.app" and not is_under(module, "cli"):
            yield each.line, "only cli builds the proxy"


def _impurities(
    module: str, tree: ast.AST, modules: Mapping[str, object]
) -> Iterator[tuple[int, str]]:
    is_pure = any(is_under(module, room) for room in PURE)
    if not is_pure or any(is_under(module, room) for room in IMPURE):
        return
    for each in imports_of(tree, modules):
        if each.name.partition(".")[0] in WORLD:
            yield each.line, f"a pure module may not import {each.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _dotted(node) in WORLD_CALLS:
            yield node.lineno, f"a pure module may not read {_dotted(node)}"


def _sockets(module: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Outside ``proxy.net`` the data plane names sockets as types and does nothing with them."""
    if not is_under(module, "proxy") or is_under(module, "proxy.net"):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "socket":
            yield node.lineno, "import socket as a module, for its type alone"
        elif isinstance(node, ast.Call) and _dotted(node.func) == "socket.socket":
            yield node.lineno, "only proxy.net makes sockets"
        elif isinstance(node, ast.Attribute) and re.fullmatch(
            r"socket\.(?!socket$).*", _dotted(node)
        ):
            yield node.lineno, f"only proxy.net uses {_dotted(node)}"


def _timers(module: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    if is_under(module, "proxy.net"):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in TIMERS:
            yield node.lineno, f"only proxy.net uses {node.attr}; await asyncio.sleep in a task"


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""
