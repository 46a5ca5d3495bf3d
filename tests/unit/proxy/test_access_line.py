"""Lines of the access log: Linkerd's fields, and texts that cannot leave theirs."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.access_line import MAX_LINE, Entry, Lines, Origin

WEB = "web.shop.serviceaccount.identity.linkerd.cluster.local"
ENTRY = Entry(
    origin=Origin(
        "10.8.0.7:51160",
        WEB,
        server="policy.linkerd.io/Server/api-http",
        route="policy.linkerd.io/HTTPRoute/orders",
        authorization="policy.linkerd.io/AuthorizationPolicy/web",
    ),
    began_at=1_700_000_000.25,
    method=b"GET",
    authority=b"api.shop:8080",
    path=b"/orders/7?x=y",
    version=11,
    user_agent=b"curl/8.1",
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    status=200,
    request_bytes=12,
    response_bytes=3456,
    total_s=0.0025,
    processing_s=0.000125,
    attempts=2,
    error="truncated",
)
JSON = Lines("json")
APACHE = Lines("apache")
APACHE_LINE = re.compile(
    rb'(\S+) (\S+) - \[([0-9T:.Z-]+)\] "(\S+) (\S*) (HTTP/[0-9.]+|-)" (\d+) (\d+)\n'
)
EVIL = b'x" 200 1\n10.0.0.1 - - [now] "GET \\ \x1b[31m\x00\x7f\xff\xe2\x80\xa8'


def test_the_json_form_has_linkerd_s_fields_and_ours() -> None:
    """Numbers of octets and nanoseconds are texts there, so they are here."""
    assert json.loads(JSON.line(ENTRY)) == {
        "timestamp": "2023-11-14T22:13:20.250000Z",
        "client.addr": "10.8.0.7:51160",
        "client.id": WEB,
        "server": "policy.linkerd.io/Server/api-http",
        "route": "policy.linkerd.io/HTTPRoute/orders",
        "authorization": "policy.linkerd.io/AuthorizationPolicy/web",
        "method": "GET",
        "uri": "http://api.shop:8080/orders/7?x=y",
        "version": "HTTP/1.1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "request_bytes": "12",
        "status": 200,
        "response_bytes": "3456",
        "total_ns": "2500000",
        "processing_ns": "125000",
        "user_agent": "curl/8.1",
        "host": "api.shop:8080",
        "attempts": 2,
        "error": "truncated",
    }


def test_the_apache_form_is_linkerd_s() -> None:
    """Client, identity, time, request, status, octets."""
    assert (
        APACHE.line(ENTRY)
        == (
            f"10.8.0.7:51160 {WEB} - [2023-11-14T22:13:20.250000Z] "
            '"GET http://api.shop:8080/orders/7?x=y HTTP/1.1" 200 3456\n'
        ).encode()
    )


def test_who_has_no_identity_is_a_dash() -> None:
    """In both forms."""
    entry = replace(ENTRY, origin=Origin("[fd00::7]:51160"))
    assert json.loads(JSON.line(entry))["client.id"] == "-"
    assert APACHE.line(entry).startswith(b"[fd00::7]:51160 - - [")


@pytest.mark.parametrize(
    ("authority", "path", "uri"),
    [
        (b"api", b"/", "http://api/"),
        (b"", b"/", "/"),
        (b"api:443", b"", "api:443"),
        (b"api", b"*", "*"),
    ],
)
def test_each_form_of_target_has_its_uri(authority: bytes, path: bytes, uri: str) -> None:
    """Origin, origin without host, CONNECT, asterisk."""
    entry = replace(ENTRY, authority=authority, path=path)
    assert json.loads(JSON.line(entry))["uri"] == uri
    found = APACHE_LINE.fullmatch(APACHE.line(entry))
    assert found is not None
    assert found[5] == uri.encode()


def test_times_go_on_when_the_second_changes_and_when_the_clock_is_set_back() -> None:
    """The second's text is kept, and made anew for another."""
    lines = Lines("json")
    stamps = [
        json.loads(lines.line(replace(ENTRY, began_at=at)))["timestamp"]
        for at in (0.0, 0.999999, 1.5, 0.5)
    ]
    assert stamps == [
        "1970-01-01T00:00:00.000000Z",
        "1970-01-01T00:00:00.999999Z",
        "1970-01-01T00:00:01.500000Z",
        "1970-01-01T00:00:00.500000Z",
    ]


def test_no_text_leaves_its_field_in_the_json_form() -> None:
    """One line of ASCII without controls; what was sent is read back octet for octet."""
    text = EVIL.decode("latin-1")
    line = JSON.line(
        replace(
            ENTRY,
            origin=Origin(text, text, server=text, route=text, authorization=text),
            method=EVIL[:9],
            authority=EVIL,
            path=b"/" + EVIL,
            user_agent=EVIL,
            trace_id=text,
            error=text,
        )
    )
    assert re.fullmatch(rb"[ -~]+\n", line)
    read = json.loads(line)
    assert len(read) == 19
    assert read["method"] == text[:9]
    assert read["uri"] == f"http://{text}/{text}"
    for name in ("client.addr", "client.id", "server", "route", "authorization"):
        assert read[name] == text
    for name in ("user_agent", "host", "trace_id", "error"):
        assert read[name] == text


def test_no_text_leaves_its_field_in_the_apache_form() -> None:
    """Nor makes another line, another word or another quote."""
    text = EVIL.decode("latin-1")
    entry = replace(
        ENTRY, origin=Origin(text, text), method=EVIL[:9], authority=EVIL, path=b"/" + EVIL
    )
    line = APACHE.line(entry)
    assert re.fullmatch(rb"[ -~]+\n", line)
    found = APACHE_LINE.fullmatch(line)
    assert found is not None
    assert (found[7], found[8]) == (b"200", b"3456")
    assert b"\\x22" in found[4]
    assert b"\\x0a" in found[1]


@given(st.binary(max_size=1_100), st.binary(max_size=300), st.text(max_size=500))
def test_any_octets_make_one_line_that_reads_back(path: bytes, agent: bytes, name: str) -> None:
    """Cut at most, and then marked."""
    origin = Origin(name, name, server=name, route=name, authorization=name)
    entry = replace(ENTRY, origin=origin, path=b"/" + path, user_agent=agent)
    line = JSON.line(entry)
    assert re.fullmatch(rb"[ -~]+\n", line)
    read = json.loads(line)
    for shown, given_text in (
        (read["user_agent"], agent.decode("latin-1")),
        (read["uri"], f"http://api.shop:8080/{path.decode('latin-1')}"),
        (read["route"], name),
    ):
        assert shown == given_text or (
            shown.endswith("...") and given_text.startswith(shown.removesuffix("..."))
        )
    assert APACHE_LINE.fullmatch(APACHE.line(entry)) is not None


@pytest.mark.parametrize("octet", [b"a", b'"', b"\\", b"\x00", b"\xff", b" "])
def test_the_longest_line_fits_into_a_pipe(octet: bytes) -> None:
    """Whatever it is made of; each text is cut between two of its characters."""
    text = (octet * 5_000).decode("latin-1")
    entry = replace(
        ENTRY,
        origin=Origin(text, text, server=text, route=text, authorization=text),
        method=octet * 5_000,
        authority=octet * 5_000,
        path=b"/" + octet * 5_000,
        user_agent=octet * 5_000,
        trace_id=text,
        error=text,
        status=999,
        request_bytes=1 << 60,
        response_bytes=1 << 60,
        total_s=1e9,
        processing_s=1e9,
        attempts=1_000,
    )
    line = JSON.line(entry)
    assert 2_000 < len(line) <= MAX_LINE
    assert json.loads(line)["user_agent"].endswith("...")
    assert len(APACHE.line(entry)) <= MAX_LINE


@pytest.mark.parametrize(("limit", "name"), [(1_280, "uri"), (256, "user_agent"), (260, "host")])
def test_a_text_of_its_bound_is_whole_and_one_past_it_is_cut(limit: int, name: str) -> None:
    """The bound counts characters as they are written."""
    for size in (limit, limit + 1):
        text = b"a" * size
        entry = replace(ENTRY, authority=b"", path=b"/", user_agent=text)
        if name == "host":
            entry = replace(ENTRY, authority=text)
        elif name == "uri":
            entry = replace(ENTRY, authority=b"", path=b"/" + text[1:])
        shown = json.loads(JSON.line(entry))[name]
        assert len(shown) == limit
        assert shown.endswith("...") is (size > limit)
