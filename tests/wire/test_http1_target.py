"""Targets and authorities: the four forms, and when two names are one server."""

from __future__ import annotations

import pytest

from core.errors import ClientProtocolError
from proxy.wire.http1_target import (
    is_authority,
    is_connect_authority,
    is_path,
    is_same_authority,
    split_target,
)
from proxy.wire.http_message import Form


@pytest.mark.parametrize(
    ("method", "target", "parts"),
    [
        (b"GET", b"/a?b", (Form.ORIGIN, b"", b"", b"/a?b")),
        (b"GET", b"HTTP://A:1/b?c", (Form.ABSOLUTE, b"http", b"A:1", b"/b?c")),
        (b"GET", b"https://a?c", (Form.ABSOLUTE, b"https", b"a", b"/?c")),
        (b"OPTIONS", b"http://a", (Form.ABSOLUTE, b"http", b"a", b"*")),
        (b"OPTIONS", b"http://a/", (Form.ABSOLUTE, b"http", b"a", b"/")),
        (b"OPTIONS", b"*", (Form.ASTERISK, b"", b"", b"*")),
        (b"CONNECT", b"a:1", (Form.AUTHORITY, b"", b"a:1", b"")),
    ],
)
def test_a_target_has_one_of_four_forms(
    method: bytes, target: bytes, parts: tuple[Form, bytes, bytes, bytes]
) -> None:
    """RFC 9112 §3.2."""
    assert split_target(method, target, raw=True) == parts


@pytest.mark.parametrize(
    ("method", "target"),
    [
        *((b"GET", each) for each in (b"*", b"a", b"a:1", b"http:/a", b"http://", b"//", b"/#")),
        *((b"GET", each) for each in (b"http://:1/", b"http://a@b/", b"http://a/#", b"x://a/")),
        *((b"CONNECT", each) for each in (b"a", b":1", b"/", b"a:", b"a:1:2", b"http://a:1")),
    ],
)
def test_another_target_is_refused(method: bytes, target: bytes) -> None:
    """With one code, whatever is wrong about it; two slashes are a path."""
    if target == b"//":
        assert split_target(method, target, raw=True)[3] == b"//"
        return
    with pytest.raises(ClientProtocolError) as caught:
        split_target(method, target, raw=True)
    assert caught.value.code == "http1-target"


@pytest.mark.parametrize(
    ("one", "other", "scheme", "same"),
    [
        (b"a", b"a", b"", True),
        (b"a", b"A", b"", True),
        (b"a:80", b"a", b"http", True),
        (b"a:80", b"a", b"https", False),
        (b"a:443", b"A:", b"https", True),
        (b"a:80", b"a", b"", False),
        (b"a:81", b"a", b"http", False),
        (b"a", b"b", b"http", False),
        (b"[::1]:80", b"[::1]", b"http", True),
        (b"", b"a", b"http", False),
    ],
)
def test_two_names_of_one_server_are_known(
    one: bytes, other: bytes, scheme: bytes, same: bool
) -> None:
    """RFC 3986 §6.2.3: case and the scheme's own port do not count."""
    assert is_same_authority(one, other, scheme) is same
    assert is_same_authority(other, one, scheme) is same


@pytest.mark.parametrize(
    ("text", "good"),
    [
        *((each, True) for each in (b"", b"a", b"a.b:1", b"a:", b"[::1]", b"[::1]:65535", b"%41")),
        *((each, True) for each in (b"a_b", b"1.2.3.4:80", b"!$&'()*+,;=~")),
        *((each, False) for each in (b"a:123456", b"a:b", b"[::1", b"::1", b"a/b", b"a b", b"%4")),
        *((each, False) for each in (b"u@a", b"a?b", b"a#b", b"\xc3\xa4", b"a\r", b"[a]b", b"[]")),
    ],
)
def test_an_authority_is_a_host_and_at_most_a_port(text: bytes, good: bool) -> None:
    """RFC 3986 §3.2, without a user."""
    assert is_authority(text) is good


@pytest.mark.parametrize(("port", "good"), [(0, False), (1, True), (65_535, True), (65_536, False)])
def test_a_tunnel_goes_to_a_port_that_there_is(port: int, good: bool) -> None:
    """1 to 65535."""
    assert is_connect_authority(b"a:%d" % port) is good


def test_a_path_begins_with_a_slash() -> None:
    """And the strict one holds only what a URI may hold."""
    assert is_path(b"/", raw=False)
    assert not is_path(b"", raw=True)
    assert not is_path(b"a", raw=True)
    assert is_path(b"/|", raw=True)
    assert not is_path(b"/|", raw=False)
