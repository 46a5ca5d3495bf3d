"""Bytes to documents: every bound, at it and one past it."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.document import (
    MAX_DEPTH,
    MAX_DOCUMENTS,
    MAX_FILE_BYTES,
    MAX_VALUES,
    Mapping,
    Node,
    Scalar,
    Sequence,
    UnreadableError,
    read_documents,
)


def plain(node: Node) -> object:
    """Return a node as lists, dicts and texts; plain nulls as None."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return None if node.is_null else node.text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a: 1", [{"a": "1"}]),
        ("a: 1\n---\nb: 2\n", [{"a": "1"}, {"b": "2"}]),
        ("---\n---\na: 1\n---\n# nothing\n", [{"a": "1"}]),
        ('{"a": [1, {"b": null}], "c": ""}', [{"a": ["1", {"b": None}], "c": ""}]),
        ('{\n\t"a":\t1\n}', [{"a": "1"}]),
        ("a: &x {b: 1}\nc: *x\n", [{"a": {"b": "1"}, "c": {"b": "1"}}]),
        ("x: &x {b: 1, c: 2}\nd: {c: 3, <<: *x}", [{"x": {"b": "1", "c": "2"}}]),
        ("a: 'it''s'\nb: |\n  two\n  lines\n", [{"a": "it's", "b": "two\nlines\n"}]),
        ("\ufeffa: 1", [{"a": "1"}]),
    ],
)
def test_yaml_and_json_become_documents(text: str, wanted: list[dict[str, object]]) -> None:
    """Separators, anchors, block texts and a byte order mark mean what YAML says."""
    documents = [plain(node) for node in read_documents("a.yaml", text.encode())]
    if "<<" in text:
        wanted = [{**wanted[0], "d": {"c": "3", "b": "1"}}]
    assert documents == wanted


@pytest.mark.parametrize(
    ("text", "is_plain", "is_null"),
    [
        ("8080", True, False),
        ('"8080"', False, False),
        ("!!str 8080", False, False),
        ("!!int '8080'", True, False),
        ("~", True, True),
        ("null", True, True),
        ('"null"', False, False),
    ],
)
def test_quotes_tell_strings_from_other_values(text: str, is_plain: bool, is_null: bool) -> None:
    """As in Kubernetes a quoted number is a string."""
    (node,) = read_documents("a.yaml", f"[{text}]".encode())
    assert isinstance(node, Sequence)
    scalar = node.items[0]
    assert isinstance(scalar, Scalar)
    assert (scalar.is_plain, scalar.is_null) == (is_plain, is_null)


def test_a_key_given_twice_is_noted_and_the_first_counts() -> None:
    """YAML forbids it; which one was meant cannot be known."""
    (node,) = read_documents("a.yaml", b"a: 1\nb: 2\na: 3\n")
    assert isinstance(node, Mapping)
    assert node.repeated == [("a", 3)]
    assert plain(node) == {"a": "1", "b": "2"}


def test_json_surrogate_pairs_become_one_character() -> None:
    """Writers that escape everything beyond ASCII write pairs; a quoted backslash is none."""
    text = json.dumps({"a": "\U0001f600", "b": "\\ud83d\\ude00"})
    (node,) = read_documents("a.json", text.encode())
    assert plain(node) == {"a": "\U0001f600", "b": "\\ud83d\\ude00"}


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"", 0, "holds no document"),
        (b"\n\n---\n", 0, "holds no document"),
        (b"# only words\n", 0, "holds no document"),
        (b"a: [1,\n", 2, "is not YAML"),
        (b"a: 1\n\tb: 2", 2, "is not YAML"),
        (b"a: 'x", 1, "is not YAML"),
        (b"\xff\xfe", 0, "is not UTF-8"),
        (b"a: \x00", 0, "is not YAML"),
        (b"a: *x", 1, "*x names no finished value"),
        (b"a: &x [1, *x]", 1, "*x names no finished value"),
        (b"[1]: 2", 1, "a map's key must be a single value"),
        (b"<<: 3", 1, "<< takes a map"),
    ],
)
def test_what_cannot_be_read_says_where_and_why(data: bytes, line: int, message: str) -> None:
    """The caller gets one kind of error and a place to look at."""
    with pytest.raises(UnreadableError, match=message.replace("*", r"\*")) as caught:
        read_documents("dir/a.yaml", data)
    assert caught.value.problem.file == "dir/a.yaml"
    assert caught.value.problem.line == line


def _list_of(values: int) -> bytes:
    """Return a list of so many values, itself included."""
    return b"[" + b"1," * (values - 1) + b"]"


def _laughs(leaves: int) -> bytes:
    """Return a document that grows to ``leaves`` values and some through aliases."""
    lines = ["a: &a [" + ",".join("x" * 999) + "]"]
    lines.append("b: [" + ",".join(["*a"] * (leaves // 1000)) + "]")
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("at", "past"),
    [
        (b"a: " + b"x" * (MAX_FILE_BYTES - 3), b"a: " + b"x" * (MAX_FILE_BYTES - 2)),
        (b"--- 1\n" * MAX_DOCUMENTS, b"--- 1\n" * (MAX_DOCUMENTS + 1)),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)),
        (b"- " * MAX_DEPTH + b"x", b"- " * (MAX_DEPTH + 1) + b"x"),
        (_list_of(MAX_VALUES), _list_of(MAX_VALUES + 1)),
        (_laughs(MAX_VALUES - 2000), _laughs(MAX_VALUES)),
        (
            b"--- ["
            + b"1," * (MAX_VALUES // 2 - 1)
            + b"]\n--- ["
            + b"1," * (MAX_VALUES // 2 - 1)
            + b"]",
            b"--- ["
            + b"1," * (MAX_VALUES // 2 - 1)
            + b"]\n--- ["
            + b"1," * (MAX_VALUES // 2)
            + b"]",
        ),
    ],
    ids=["bytes", "documents", "flow depth", "block depth", "values", "aliases", "values in all"],
)
def test_every_bound_holds_at_it_and_not_past_it(at: bytes, past: bytes) -> None:
    """A file's cost is known from the bounds."""
    assert read_documents("a.yaml", at)
    with pytest.raises(UnreadableError):
        read_documents("a.yaml", past)


def test_a_billion_laughs_end_early() -> None:
    """Ten levels of tenfold aliases are counted, not built."""
    lines = ["a0: &a0 [" + ",".join("x" * 10) + "]"]
    lines += [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 11)]
    with pytest.raises(UnreadableError, match="aliases counted"):
        read_documents("a.yaml", "\n".join(lines).encode())


@pytest.mark.parametrize("opener", [b"[", b"{a: ", b"- ", b"? "])
def test_a_file_of_openers_cannot_exhaust_the_stack(opener: bytes) -> None:
    """A megabyte of nesting is refused by its depth."""
    with pytest.raises(UnreadableError):
        read_documents("a.yaml", opener * (MAX_FILE_BYTES // len(opener) - 1))


@given(st.binary(max_size=200))
def test_any_bytes_become_documents_or_one_error(data: bytes) -> None:
    """No other exception leaves the reader."""
    with suppress(UnreadableError):
        assert read_documents("a.yaml", data)


_values = st.recursive(
    st.none() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key != "<<"), _values, max_size=4))
def test_json_means_what_json_says(value: dict[str, object]) -> None:
    """The json module is the oracle, for escaped text too."""
    text = json.dumps(value)
    (node,) = read_documents("a.json", text.encode())
    assert plain(node) == json.loads(text)


def test_a_stream_of_many_files_has_their_bounds() -> None:
    """Of bytes, documents and values alike."""
    for at_most, one_more in (
        (b"a: " + b"x" * (2 * MAX_FILE_BYTES - 3), b"a: " + b"x" * (2 * MAX_FILE_BYTES - 2)),
        (b"--- 1\n" * (2 * MAX_DOCUMENTS), b"--- 1\n" * (2 * MAX_DOCUMENTS + 1)),
        (_list_of(2 * MAX_VALUES), _list_of(2 * MAX_VALUES + 1)),
    ):
        assert read_documents("a.yaml", at_most, 2)
        with pytest.raises(UnreadableError):
            read_documents("a.yaml", one_more, 2)
