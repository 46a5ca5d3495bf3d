"""Typed getters: what they take, and the problem they note otherwise."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from resources.document import Mapping, Problem, read_documents
from resources.fields import Fields, shortest_address


def fields_of(text: str) -> tuple[Fields, list[Problem]]:
    """Return the fields of one document and the list its problems go to."""
    (node,) = read_documents("a.yaml", text.encode())
    assert isinstance(node, Mapping)
    problems: list[Problem] = []
    return Fields(file="a.yaml", line=1, path="", entries=node.entries, problems=problems), problems


@pytest.mark.parametrize(
    ("text", "read", "wanted"),
    [
        ("x: a", lambda f: f.text("x"), "a"),
        ('x: "80"', lambda f: f.text("x"), "80"),
        ("x: 1.2.3.4", lambda f: f.text("x"), "1.2.3.4"),
        ("x: null", lambda f: f.text("x", "d"), "d"),
        ("y: 1", lambda f: f.text("x", "d"), "d"),
        ("x: b", lambda f: f.choice("x", ("a", "b")), "b"),
        ("x: true", lambda f: f.flag("x"), True),
        ("y: 1", lambda f: f.flag("x", default=True), True),
        ("x: 65535", lambda f: f.port("x"), 65535),
        ("x: 1", lambda f: f.port("x"), 1),
        ("y: 1", lambda f: f.port("x"), None),
        ("x: http", lambda f: f.port_or_name("x"), "http"),
        ("x: 80", lambda f: f.port_or_name("x"), 80),
        (
            "x: 2024-02-29T12:00:00Z",
            lambda f: f.timestamp("x"),
            datetime(2024, 2, 29, 12, tzinfo=UTC),
        ),
        (
            'x: "2024-02-29T12:00:00+01:00"',
            lambda f: f.timestamp("x"),
            datetime(2024, 2, 29, 11, tzinfo=UTC),
        ),
        ("x: FD00::0001", lambda f: f.address("x"), "fd00::1"),
        ("x: '::ffff:10.0.0.1'", lambda f: f.address("x"), "10.0.0.1"),
        ("x: [10.0.0.1, 'fd00::1']", lambda f: f.addresses("x"), ("10.0.0.1", "fd00::1")),
        ("x: [a, b]", lambda f: f.texts("x"), ("a", "b")),
        ("x: {a: b, c: }", lambda f: f.text_map("x"), {"a": "b", "c": ""}),
        ("y: 1", lambda f: f.text_map("x"), {}),
        ("x: {a: b}", lambda f: f.map("x").text("a"), "b"),
        ("x: [{a: b}, {a: c}]", lambda f: [each.text("a") for each in f.maps("x")], ["b", "c"]),
        ("x: 1\ny: null", lambda f: (f.names, f.has("y")), (("x",), False)),
    ],
)
def test_good_values_are_read_without_a_problem(
    text: str, read: Callable[[Fields], object], wanted: object
) -> None:
    """Absent and null give the default."""
    fields, problems = fields_of(text)
    assert read(fields) == wanted
    assert problems == []


@pytest.mark.parametrize(
    ("text", "read", "path", "message"),
    [
        ("x: 80", lambda f: f.text("x"), "x", "wanted a string, got the number 80; write it"),
        ("x: yes", lambda f: f.text("x"), "x", "wanted a string, got the boolean yes"),
        ("x: [1]", lambda f: f.text("x"), "x", "wanted a string, got a list"),
        ("y: 1", lambda f: f.text("x", required=True), "x", "is missing"),
        ("x: al", lambda f: f.choice("x", ("all", "one")), "x", "did you mean all?"),
        ("x: z", lambda f: f.choice("x", ("all", "one")), "x", "wanted one of all, one"),
        ("x: 'true'", lambda f: f.flag("x"), "x", "wanted true or false, got the string 'true'"),
        ("x: 0", lambda f: f.port("x"), "x", "wanted a number from 1 to 65535, got the number 0"),
        ("x: 65536", lambda f: f.port("x"), "x", "got the number 65536"),
        ("x: '80'", lambda f: f.port("x"), "x", "got the string '80'"),
        ("x: 70000", lambda f: f.port_or_name("x"), "x", "got the number 70000"),
        ("x: " + "9" * 400, lambda f: f.port("x"), "x", "…"),
        ("x: noon", lambda f: f.timestamp("x"), "x", "is no RFC 3339 time"),
        ("x: 2024-02-29T12:00:00", lambda f: f.timestamp("x"), "x", "is no RFC 3339 time"),
        ("x: 10.0.0", lambda f: f.address("x"), "x", "is no IP address"),
        ("x: [a]", lambda f: f.addresses("x"), "x[0]", "is no IP address"),
        ("x: a", lambda f: f.texts("x"), "x", "wanted a list, got the string a"),
        ("x: [~]", lambda f: f.texts("x"), "x[0]", "wanted a string, got nothing"),
        ("x: []", lambda f: f.maps("x", required=True), "x", "is empty"),
        ("x: [1]", lambda f: f.maps("x"), "x[0]", "wanted a map, got the number 1"),
        ("x: {a: 1}", lambda f: f.text_map("x"), "x.a", "wanted a string, got the number 1"),
        ("x: {a: b, a: c}", lambda f: f.map("x"), "x.a", "is given twice"),
        ("x: {a/b: 1}", lambda f: f.text_map("x"), "x['a/b']", "wanted a string"),
        ('x: {"a\\nb": 1}', lambda f: f.text_map("x"), "x['a\\nb']", "wanted a string"),
    ],
)
def test_wrong_values_are_noted_with_their_path(
    text: str, read: Callable[[Fields], object], path: str, message: str
) -> None:
    """One problem each: what was seen, what was wanted; never a raw control character."""
    fields, problems = fields_of(text)
    read(fields)
    (problem,) = problems
    assert problem.path == path
    assert message in problem.message
    assert "\n" not in str(problem)
    assert len(str(problem)) < 300


def test_problems_carry_the_line_of_the_value() -> None:
    """An absent field is reported where its map begins."""
    fields, problems = fields_of("a: 1\nspec:\n  b: 1\n  c: 2\n")
    fields.map("spec").text("c")
    fields.map("spec").text("d", required=True)
    assert [(each.line, each.path) for each in problems] == [(4, "spec.c"), (3, "spec.d")]
    assert str(problems[0]).startswith("a.yaml:4: spec.c: wanted a string")


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "fe80::1%eth0", "1", "::g"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Interfaces' scopes mean nothing to another host."""
    with pytest.raises(ValueError):
        shortest_address(text)
