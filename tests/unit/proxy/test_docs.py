"""What the sidecar logs and answers is on a page, and nothing is on a page that it does not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from proxy.admin.pages import MAX_SHOWN
from tools.pages import ROOT

LEVELS = {"debug", "info", "warning", "error", "exception"}
SOURCES = [
    *sorted((ROOT / "proxy").rglob("*.py")),
    *(ROOT / "cli" / name for name in ("sidecar.py", "workers.py")),
]


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def logged() -> Iterator[tuple[str, str, set[str]]]:
    """Yield (event, level, fields) of every call that logs."""
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        facts = {
            str(key.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.name == "facts"
            for each in ast.walk(node)
            if isinstance(each, ast.Dict)
            for key in each.keys
            if isinstance(key, ast.Constant)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr not in LEVELS or _name(node.func.value) not in {"log", "_log"}:
                continue
            fields = {word.arg for word in node.keywords if word.arg}
            if any(word.arg is None for word in node.keywords):
                fields |= facts
            level = node.func.attr
            if level == "exception":
                fields, level = {*fields, "exception"}, "error"
            event = node.args[0]
            if isinstance(event, ast.Constant):
                yield str(event.value), level, fields
                continue
            # One function is handed the event: whoever calls it says which.
            for call in (
                each for source in SOURCES for each in ast.walk(ast.parse(source.read_text()))
            ):
                if isinstance(call, ast.Call) and _name(call.func) == "log_denial":
                    for argument in call.args:
                        if isinstance(argument, ast.Constant):
                            yield str(argument.value), level, fields


def documented() -> dict[str, tuple[str, str]]:
    """Return event → (levels, fields) of docs/logs.md."""
    page = (ROOT / "docs/logs.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| ([a-z, ]+) \|(.*?) \| .+ \|$", page, re.MULTILINE)
    return {event: (levels, fields) for event, levels, fields in rows}


def test_every_event_is_on_the_page_with_its_fields_and_the_other_way_round() -> None:
    """Somebody writes an alert for it."""
    page = documented()
    found = list(logged())
    assert len(found) > 20
    assert {event for event, _, _ in found} | {"identity"} == set(page)
    for event, level, fields in found:
        levels, said = page[event]
        assert level in levels, event
        if said.strip().startswith("as `"):
            said = page[said.split("`")[1]][1]
        missing = {field for field in fields if f"`{field}`" not in said}
        assert not missing, (event, missing)


def test_every_admin_page_is_on_the_page() -> None:
    """With its methods."""
    page = (ROOT / "docs/admin.md").read_text()
    rows = set(re.findall(r"^\| `(/[a-z-]+)` \| ([A-Z]+) \|", page, re.MULTILINE))
    source = (ROOT / "proxy/admin/pages.py").read_text()
    shown = set(re.findall(r'"(/[a-z-]+)": (?:self\._|policies\.)', source))
    changed = set(re.findall(r'"(/[a-z-]+)": \("([A-Z]+)",', source))
    assert rows == {*((path, "GET") for path in shown), *changed}
    assert f"the {MAX_SHOWN} oldest" in page
