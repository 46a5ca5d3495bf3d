"""Whom a request is addressed to on its way: a gateway is asked for its own cluster's name.

As linkerd2-proxy does where an endpoint has an authority of its own (http/override-authority).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from proxy.wire.http_message import Form, RequestHead
from proxy.wire.native import without_fields

_REPLACED: Final = frozenset((b"host", b"l5d-dst-canonical"))


def addressed(head: RequestHead, authority: str) -> RequestHead:
    """Return a request as a gateway is sent it, that leads to ``authority``.

    CONNECT stays as it is: its authority is what is asked for.
    """
    if head.form is Form.AUTHORITY:
        return head
    name = authority.encode("ascii")
    fields = ((b"host", name), *without_fields(head.fields, _REPLACED))
    return replace(head, authority=name, fields=fields)
