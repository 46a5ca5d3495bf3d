"""HTTP/1 heads given to the reader that runs and to its reference, held to the same answers."""

from __future__ import annotations

from core.errors import MeshError
from proxy.wire.http1_head import parse_request_head, parse_response_head
from proxy.wire.http1_limit import LENIENCY, LIMITS, Http1Leniency, Http1Limits
from proxy.wire.http1_reader import RequestReader, ResponseReader
from proxy.wire.http_message import RequestHead, ResponseHead
from proxy.wire.native import read_request, read_response

BEFORE = b"\r\n\r\nGET / HTTP/1.1\r\n"
"""What may lie before a head, and must not be looked at."""


def lines_of(data: bytes) -> bytes:
    """Return the lines that come before a blank one, with their ends; empty: there are none."""
    head = (data.lstrip(b"\r\n") + b"\r\n\r\n").partition(b"\r\n\r\n")[0]
    return head + b"\r\n" if head else b""


def request_of(
    lines: bytes, limits: Http1Limits = LIMITS, leniency: Http1Leniency = LENIENCY
) -> RequestHead | str:
    """Return what both made of a request's lines: a head, or the code of its fault.

    Raises:
        AssertionError: they differ, or the kernel takes a head that has not come whole.

    """
    wanted: RequestHead | str
    try:
        wanted = parse_request_head(lines, limits, leniency)
    except MeshError as error:
        wanted = f"{error.code} {error}"
    for data in (lines + b"\r\n", lines + b"\r\n" + lines + b"\r\n"):
        found: RequestHead | str | None
        reader = RequestReader(limits, leniency)
        reader.feed(data)
        try:
            found = reader.read_head()
        except MeshError as error:
            found = f"{error.code} {error}"
        assert found == wanted, f"{lines!r}: {found} instead of {wanted}"
        assert isinstance(found, str) or reader.buffered == len(data) - len(lines) - 2
    if read_request is not None:
        raw = leniency.raw_target
        assert read_request(lines, 0, limits, raw) is None
        assert read_request(lines + b"\r", 0, limits, raw) is None
        data = BEFORE + lines + b"\r\n"
        found_there = read_request(data, len(BEFORE), limits, raw)
        if found_there is not None:
            assert isinstance(wanted, RequestHead)
            assert found_there[0] == len(data)
            assert found_there[4] == wanted.fields
    return wanted if isinstance(wanted, RequestHead) else wanted.partition(" ")[0]


def response_of(
    lines: bytes,
    method: bytes = b"GET",
    limits: Http1Limits = LIMITS,
    leniency: Http1Leniency = LENIENCY,
) -> ResponseHead | str:
    """Return what both made of a response's lines, as for requests."""
    wanted: ResponseHead | str
    try:
        wanted = parse_response_head(lines, method, limits, leniency)
    except MeshError as error:
        wanted = f"{error.code} {error}"
    found: ResponseHead | str | None
    reader = ResponseReader(limits, leniency)
    reader.expect(method, upgrade=True)
    data = lines + b"\r\nHTTP/1.1 200 OK\r\n\r\n"
    reader.feed(data)
    try:
        found = reader.read_head()
    except MeshError as error:
        found = f"{error.code} {error}"
    assert found == wanted, f"{lines!r}: {found} instead of {wanted}"
    assert isinstance(found, str) or reader.buffered == len(data) - len(lines) - 2
    if read_response is not None:
        bare = leniency.bare_status
        assert read_response(lines, 0, limits, bare, method) is None
        assert read_response(lines + b"\r", 0, limits, bare, method) is None
        data = BEFORE + lines + b"\r\n"
        found_there = read_response(data, len(BEFORE), limits, bare, method)
        if found_there is not None:
            assert isinstance(wanted, ResponseHead)
            assert found_there[0] == len(data)
            assert found_there[4] == wanted.fields
    return wanted if isinstance(wanted, ResponseHead) else wanted.partition(" ")[0]
