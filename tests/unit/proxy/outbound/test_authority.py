"""Requests to a gateway are addressed to what is behind it."""

from __future__ import annotations

from dataclasses import replace

from proxy.outbound.authority import addressed
from proxy.wire.http_message import HTTP_2, HTTP_11, Form, RequestHead

HEAD = RequestHead(
    method=b"GET",
    form=Form.ORIGIN,
    scheme=b"",
    authority=b"api-west.shop",
    path=b"/a?b=c",
    version=HTTP_11,
    fields=((b"x-a", b"b"), (b"host", b"api-west.shop"), (b"l5d-dst-canonical", b"x")),
    length=0,
    keep_alive=True,
    upgrade=b"",
    expects_continue=False,
)
NAME = "api.shop.svc.west.local:80"


def test_authority_and_host_are_the_targets() -> None:
    """In either version; the rest stays, and so does the head it was made of."""
    for version in (HTTP_11, HTTP_2):
        told = addressed(replace(HEAD, version=version), NAME)
        assert told.authority == NAME.encode()
        assert told.fields == ((b"host", NAME.encode()), (b"x-a", b"b"))
        assert (told.path, told.version) == (HEAD.path, version)
    assert HEAD.authority == b"api-west.shop"


def test_connect_says_itself_where_it_goes() -> None:
    """Its authority is no address of ours."""
    head = replace(HEAD, form=Form.AUTHORITY, method=b"CONNECT")
    assert addressed(head, NAME) is head
