from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import IdentityError
from identity.name import (
    MAX_NAME_BYTES,
    MAX_URI_BYTES,
    Identity,
    WorkloadName,
    identities_of,
    is_label,
    is_trust_domain,
    parse_identity,
    parse_workload,
    try_identity,
)

WEB = "web.shop.serviceaccount.identity.linkerd.cluster.local"
LONGEST = ".".join(["a" * 63] * 3 + ["b" * 61])
LONGEST_URI = "spiffe://td/" + "x" * (MAX_URI_BYTES - len("spiffe://td/"))

GOOD = {
    WEB: (WEB, False, "cluster.local"),
    WEB.upper(): (WEB, False, "cluster.local"),
    "web.shop.serviceaccount.identity.linkerd.west.example": (
        "web.shop.serviceaccount.identity.linkerd.west.example",
        False,
        "west.example",
    ),
    "web.shop.serviceaccount.identity.linkerd": (
        "web.shop.serviceaccount.identity.linkerd",
        False,
        "",
    ),
    "a": ("a", False, ""),
    "under_score.test": ("under_score.test", False, ""),
    "1a.2b": ("1a.2b", False, ""),
    "10.test": ("10.test", False, ""),
    LONGEST: (LONGEST, False, ""),
    "spiffe://td/ns/shop/sa/web": ("spiffe://td/ns/shop/sa/web", True, "td"),
    "spiffe://west.example/Web": ("spiffe://west.example/Web", True, "west.example"),
    "spiffe://td": ("spiffe://td", True, "td"),
    LONGEST_URI: (LONGEST_URI, True, "td"),
}

BAD = {
    "empty": "",
    "a trailing dot": f"{WEB}.",
    "an empty label": "a..b",
    "a leading dot": ".a",
    "a hyphen at an edge": "-a.test",
    "a wildcard": "*.test",
    "a label too long": "a" * 64,
    "a name too long": f"{LONGEST}b",
    "blanks": " a",
    "a line end": "a\n",
    "a zero byte": "a\0b",
    "an address": "10.0.0.1",
    "a number": "7",
    "letters that fold into ASCII": "\u212aube.test",
    "other letters": "bücher.test",
    "another scheme": "https://td/web",
    "an upper-case scheme": "SPIFFE://td/web",
    "an upper-case trust domain": "spiffe://TD/web",
    "no trust domain": "spiffe:///web",
    "a port": "spiffe://td:443/web",
    "a user": "spiffe://me@td/web",
    "a query": "spiffe://td/web?x=1",
    "a fragment": "spiffe://td/web#x",
    "an escape": "spiffe://td/a%2fb",
    "an empty segment": "spiffe://td//web",
    "a slash at the end": "spiffe://td/web/",
    "a dot segment": "spiffe://td/./web",
    "a dot-dot segment": "spiffe://td/../web",
    "a URI too long": f"{LONGEST_URI}x",
}


@pytest.mark.parametrize("text", GOOD, ids=lambda text: str(text)[:40])
def test_identities_are_read(text: str) -> None:
    """Linkerd's names, plain DNS names and SPIFFE URIs, up to their bounds."""
    name, is_uri, trust_domain = GOOD[text]
    identity = parse_identity(text)
    assert identity == Identity(name, is_uri)
    assert identity.trust_domain == trust_domain
    assert str(identity) == name
    assert parse_identity(str(identity)) == identity


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_identity_is_refused(case: str) -> None:
    """Every other text, one past each bound included; the message quotes a part of it only."""
    with pytest.raises(IdentityError) as refused:
        parse_identity(BAD[case])
    assert refused.value.code == "identity"
    assert len(str(refused.value)) < 500
    assert try_identity(BAD[case]) is None


def test_the_bounds_are_the_standards() -> None:
    """The longest names of the table are exactly at the bound."""
    assert len(LONGEST) == MAX_NAME_BYTES
    assert len(LONGEST_URI) == MAX_URI_BYTES


def test_names_compare_whole_and_paths_by_case() -> None:
    """A DNS name has no case; the path of a SPIFFE URI has one."""
    assert parse_identity("A.test") == parse_identity("a.TEST")
    assert parse_identity("a.test") != parse_identity("a.test.b")
    assert parse_identity("spiffe://td/Web") != parse_identity("spiffe://td/web")


def test_a_workload_name_is_taken_apart_and_put_together() -> None:
    """Service account, namespace, control namespace and trust domain."""
    parts = WorkloadName("web", "shop", "linkerd", "cluster.local")
    assert parts.identity.name == WEB
    assert parse_workload(parts.identity) == parts
    for other in ("web.test", "web.serviceaccount.identity.linkerd.td", "spiffe://td/web"):
        assert parse_workload(parse_identity(other)) is None


@pytest.mark.parametrize(
    ("text", "label", "domain"),
    [
        ("a", True, True),
        ("a-b", True, True),
        ("a.b", False, True),
        ("A", False, False),
        ("-a", False, False),
        ("", False, False),
        ("a_b", False, True),
        ("a" * 63, True, True),
        ("a" * 64, False, False),
        ("a.", False, False),
        ("../a", False, False),
        ("a\n", False, False),
    ],
)
def test_labels_and_trust_domains(text: str, label: bool, domain: bool) -> None:
    """What may name a namespace, and what a trust domain and its file."""
    assert is_label(text) is label
    assert is_trust_domain(text) is domain


def test_identities_of_keep_the_certificate_s_order() -> None:
    """Kinds other than DNS and URI do not count, nor a text of the other kind."""
    names = (
        ("IP Address", "10.0.0.1"),
        ("DNS", "b.test"),
        ("URI", "a.test"),
        ("DNS", "spiffe://td/x"),
        ("URI", "spiffe://td/y"),
        ("DNS", "a.test."),
        ("DNS", "A.test"),
    )
    assert [name.name for name in identities_of(names)] == ["b.test", "spiffe://td/y", "a.test"]


@given(st.text(max_size=300))
def test_any_text_is_an_identity_or_none(text: str) -> None:
    """Nothing but a value or the one error, and what is read is ASCII without blanks."""
    found = try_identity(text)
    if found is not None:
        assert found.name.isascii()
        assert not set(found.name) & set(" \t\r\n\0*")
        assert try_identity(found.name) == found
