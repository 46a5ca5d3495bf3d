"""Filters of routes, by the Gateway API's tables."""

from __future__ import annotations

import pytest

from core.errors import RefusedError, outcome_of
from policy.route import (
    FailureInjector,
    Filter,
    ForbiddenFilter,
    GrpcMatch,
    HeaderModifier,
    HttpMatch,
    InvalidFilter,
    PathMatch,
    PathMatchKind,
    PathRewrite,
    PathRewriteKind,
    Ratio,
    Redirect,
    RequestHeaders,
    ResponseHeaders,
    UrlRewrite,
)
from proxy.http.filter import (
    FIXED,
    edit_fields,
    filter_request,
    filter_response,
    is_chosen,
    location_of,
    rewrite_path,
)
from proxy.wire.http_field import Fields, value_of
from proxy.wire.http_message import HTTP_2, HTTP_11, Form, RequestHead, ResponseHead

FULL, PREFIX = PathRewriteKind.FULL, PathRewriteKind.PREFIX


def mk_head(
    path: bytes = b"/a/b?q=1",
    authority: bytes = b"echo",
    fields: Fields = (),
    *,
    version: int = HTTP_11,
    scheme: bytes = b"",
) -> RequestHead:
    """Return a GET."""
    return RequestHead(
        method=b"GET",
        form=Form.ORIGIN,
        scheme=scheme,
        authority=authority,
        path=path,
        version=version,
        fields=((b"host", authority), *fields),
        length=0,
        keep_alive=True,
        upgrade=b"",
        expects_continue=False,
    )


def mk_match(prefix: str) -> HttpMatch:
    """Return a match of a prefix."""
    return HttpMatch(path=PathMatch(PathMatchKind.PREFIX, prefix))


def run(
    *filters: Filter,
    head: RequestHead | None = None,
    match: HttpMatch | GrpcMatch | None = None,
    roll: float = 0.5,
    is_grpc: bool = False,
    injects: bool = False,
) -> RequestHead | ResponseHead:
    """Filter a request."""
    return filter_request(filters, match, head or mk_head(), roll, is_grpc=is_grpc, injects=injects)


EDITS = [
    pytest.param(
        HeaderModifier(set=(("X-Set", "new"),)),
        ((b"x-set", b"one"), (b"b", b"2"), (b"x-set", b"two")),
        ((b"b", b"2"), (b"x-set", b"new")),
        id="set takes the place of all",
    ),
    pytest.param(
        HeaderModifier(set=(("x-set", "new"),)), (), ((b"x-set", b"new"),), id="set makes one"
    ),
    pytest.param(
        HeaderModifier(add=(("X-Add", "2"), ("x-add", "3"))),
        ((b"x-add", b"1"),),
        ((b"x-add", b"1"), (b"x-add", b"2"), (b"x-add", b"3")),
        id="add stands behind",
    ),
    pytest.param(
        HeaderModifier(remove=("X-GONE", "never")),
        ((b"x-gone", b"1"), (b"b", b"2"), (b"x-gone", b"3")),
        ((b"b", b"2"),),
        id="remove in any case",
    ),
    pytest.param(
        HeaderModifier(set=(("a", "1"),), add=(("b", "2"),), remove=("c",)),
        ((b"c", b"3"), (b"b", b"0"), (b"a", b"0")),
        ((b"b", b"0"), (b"a", b"1"), (b"b", b"2")),
        id="all three",
    ),
    pytest.param(
        HeaderModifier(add=(("x", "a\r\nhost: evil"),)),
        (),
        ((b"x", b"a host: evil"),),
        id="no second line",
    ),
    pytest.param(
        HeaderModifier(add=(("x y", "1"), ("", "1"), ("x\r\ny", "1"))), (), (), id="no name"
    ),
]


@pytest.mark.parametrize(("modifier", "before", "after"), EDITS)
def test_headers_are_edited(modifier: HeaderModifier, before: Fields, after: Fields) -> None:
    """As HTTPHeaderFilter says."""
    assert edit_fields(before, modifier) == after


def test_nothing_to_edit_leaves_the_same_fields() -> None:
    """Heads are shared: what is not changed is not copied."""
    head = mk_head(fields=((b"a", b"1"),))
    modifier = HeaderModifier(remove=("b",))
    assert edit_fields(head.fields, modifier) is head.fields
    assert run(RequestHeaders(modifier), head=head) is head


@pytest.mark.parametrize("name", sorted(FIXED))
def test_what_ends_a_message_is_nobody_s_to_edit(name: bytes) -> None:
    """A filter can neither cut a message short nor send it elsewhere unseen."""
    fields: Fields = ((name, b"old"),)
    text = name.decode().upper()
    for modifier in (
        HeaderModifier(set=((text, "new"),)),
        HeaderModifier(add=((text, "new"),)),
        HeaderModifier(remove=(text,)),
    ):
        assert edit_fields(fields, modifier) == fields


PATHS = [
    ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
    ("/foo", "/foo", "/xyz", "/xyz"),
    ("/foo", "/foo/", "/xyz", "/xyz"),
    ("/foo/", "/foo", "/xyz", "/xyz/"),
    ("/foo/bar", "/foo", "", "/bar"),
    ("/foo/", "/foo", "", "/"),
    ("/foo", "/foo", "", "/"),
    ("/foo/", "/foo", "/", "/"),
    ("/foo", "/foo", "/", "/"),
    ("/foo/bar", "/", "/xyz", "/xyz/foo/bar"),
    ("/foo?a=/foo", "/foo", "/xyz", "/xyz?a=/foo"),
    ("/foo/b%20r", "/foo", "/x%20z", "/x%20z/b%20r"),
    ("/foo", "/foo", "xyz", "/xyz"),
    ("/foo", "/foo", "/a b?c#d\r\n", "/a%20b%3Fc%23d%0D%0A"),
    ("/foo", "/foo", "/ü", "/%C3%BC"),
]


@pytest.mark.parametrize(("path", "prefix", "value", "wanted"), PATHS)
def test_a_matched_prefix_is_replaced(path: str, prefix: str, value: str, wanted: str) -> None:
    """The Gateway API's table of HTTPPathModifier, the query as it was."""
    rewrite = PathRewrite(PREFIX, value)
    assert rewrite_path(rewrite, mk_match(prefix), path.encode()) == wanted.encode()


@pytest.mark.parametrize(
    "match",
    [
        None,
        HttpMatch(),
        GrpcMatch(service="s"),
        HttpMatch(path=PathMatch(PathMatchKind.EXACT, "/foo")),
        HttpMatch(path=PathMatch(PathMatchKind.REGEX, "/foo")),
    ],
)
def test_without_a_matched_prefix_none_is_replaced(match: HttpMatch | GrpcMatch | None) -> None:
    """The policy is at fault, and the request is told so."""
    with pytest.raises(RefusedError, match="invalid server policy") as caught:
        rewrite_path(PathRewrite(PREFIX, "/x"), match, b"/foo")
    assert outcome_of(caught.value).http == 500


def test_a_whole_path_is_replaced_whatever_was_matched() -> None:
    """The query stays."""
    assert rewrite_path(PathRewrite(FULL, "/new"), None, b"/a/b?q=1") == b"/new?q=1"


LOCATIONS = [
    (Redirect(), b"echo", b"/a/b?q=1", b"http://echo/a/b?q=1"),
    (Redirect(host="example.org"), b"echo", b"/h", b"http://example.org/h"),
    (Redirect(host="example.org"), b"echo:8080", b"/h", b"http://example.org:8080/h"),
    (Redirect(port=8083), b"echo", b"/port", b"http://echo:8083/port"),
    (Redirect(port=8083), b"echo:8080", b"/port", b"http://echo:8083/port"),
    (Redirect(host="example.org", port=8083), b"echo", b"/p", b"http://example.org:8083/p"),
    (Redirect(scheme="https"), b"echo", b"/scheme", b"https://echo/scheme"),
    (Redirect(scheme="https"), b"echo:8080", b"/scheme", b"https://echo/scheme"),
    (Redirect(scheme="https", host="example.org"), b"echo:80", b"/s", b"https://example.org/s"),
    (Redirect(scheme="https", port=443), b"echo", b"/s", b"https://echo/s"),
    (Redirect(scheme="https", port=8443), b"echo", b"/s", b"https://echo:8443/s"),
    (Redirect(scheme="http", port=80), b"echo:8080", b"/s", b"http://echo/s"),
    (Redirect(port=80), b"echo:8080", b"/s", b"http://echo/s"),
    (Redirect(), b"echo:80", b"/s", b"http://echo/s"),
    (Redirect(port=443), b"echo", b"/s", b"http://echo:443/s"),
    (Redirect(path=PathRewrite(FULL, "/full")), b"echo", b"/full/path?q", b"http://echo/full?q"),
    (Redirect(path=PathRewrite(PREFIX, "/new")), b"echo", b"/old/lemon", b"http://echo/new/lemon"),
    (
        Redirect(path=PathRewrite(PREFIX, "/new"), host="example.org"),
        b"echo",
        b"/old",
        b"http://example.org/new",
    ),
    (Redirect(), b"[::1]:8080", b"/", b"http://[::1]:8080/"),
    (Redirect(port=81), b"[::1]", b"/", b"http://[::1]:81/"),
    (Redirect(), b"", b"/a?q", b"/a?q"),
    (Redirect(), b"", b"//evil.example/a", b"/evil.example/a"),
    (Redirect(port=81), b"", b"/a", b"/a"),
    (Redirect(host="example.org"), b"", b"/a", b"http://example.org/a"),
    (Redirect(host="exa mple\r\n.org"), b"echo", b"/a", b"http://exa%20mple%0D%0A.org/a"),
    (Redirect(), b"echo", b"*", b"http://echo/"),
    (Redirect(), b"echo", b"", b"http://echo/"),
]


@pytest.mark.parametrize(("redirect", "authority", "path", "wanted"), LOCATIONS)
def test_a_redirect_says_where(
    redirect: Redirect, authority: bytes, path: bytes, wanted: bytes
) -> None:
    """Every field, and what is kept of the request where one is not given."""
    head = mk_head(path, authority)
    assert location_of(redirect, mk_match("/old"), head) == wanted


def test_a_redirect_keeps_the_scheme_of_the_request() -> None:
    """HTTP/2 says it; a port that this scheme has anyway is not written."""
    head = mk_head(b"/", b"echo:443", version=HTTP_2, scheme=b"https")
    assert location_of(Redirect(), None, head) == b"https://echo/"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_answers(status: int) -> None:
    """At once: what stands behind it is not done."""
    found = run(Redirect(status=status), InvalidFilter("not reached"))
    assert isinstance(found, ResponseHead)
    assert (found.status, found.length, found.keep_alive) == (status, 0, True)
    assert found.fields == ((b"location", b"http://echo/a/b?q=1"), (b"content-length", b"0"))


def test_a_redirect_of_a_call_is_not_found() -> None:
    """As gRPC says it: it knows no redirects."""
    found = run(Redirect(), is_grpc=True)
    assert isinstance(found, ResponseHead)
    assert (found.status, value_of(found.fields, b"grpc-status")) == (200, b"5")


def test_filters_act_in_their_order() -> None:
    """One after the other on what the one before has made."""
    found = run(
        RequestHeaders(HeaderModifier(set=(("x", "1"),))),
        UrlRewrite(host="other.example", path=PathRewrite(PREFIX, "/new")),
        RequestHeaders(HeaderModifier(add=(("x", "2"),))),
        ResponseHeaders(HeaderModifier(set=(("not", "here"),))),
        head=mk_head(b"/old/a?q"),
        match=mk_match("/old"),
    )
    assert isinstance(found, RequestHead)
    assert (found.path, found.authority) == (b"/new/a?q", b"other.example")
    assert found.fields == ((b"host", b"other.example"), (b"x", b"1"), (b"x", b"2"))


def test_asterisk_and_connect_have_no_path_to_rewrite() -> None:
    """They go on as they are."""
    for path in (b"*", b""):
        found = run(UrlRewrite(path=PathRewrite(FULL, "/new")), head=mk_head(path))
        assert isinstance(found, RequestHead)
        assert found.path == path


def test_response_headers_are_edited() -> None:
    """In order; without such a filter the head is the same object."""
    head = ResponseHead(200, b"OK", HTTP_11, ((b"a", b"1"), (b"content-length", b"3")), 3, True)
    edited = filter_response(
        (
            RequestHeaders(HeaderModifier(set=(("not", "here"),))),
            ResponseHeaders(HeaderModifier(remove=("a", "content-length"))),
            ResponseHeaders(HeaderModifier(add=(("B", "2"),))),
        ),
        head,
    )
    assert edited.fields == ((b"content-length", b"3"), (b"b", b"2"))
    assert filter_response((Redirect(),), head) is head


@pytest.mark.parametrize(
    ("ratio", "roll", "chosen"),
    [
        (Ratio(1, 1), 0.999_999, True),
        (Ratio(0, 1), 0.0, False),
        (Ratio(1, 2), 0.499, True),
        (Ratio(1, 2), 0.5, False),
        (Ratio(30, 100), 0.299, True),
        (Ratio(30, 100), 0.3, False),
        (Ratio(0, 0), 0.0, False),
    ],
)
def test_a_share_of_requests_is_chosen(ratio: Ratio, roll: float, chosen: bool) -> None:
    """So many of so many."""
    assert is_chosen(ratio, roll) is chosen


def test_an_injected_failure_is_500_inbound() -> None:
    """Linkerd's inbound does not know the error; who is not chosen goes on."""
    injector = FailureInjector(status=418, message="tea", ratio=Ratio(1, 2))
    with pytest.raises(RefusedError, match="tea") as caught:
        run(injector, roll=0.4)
    outcome = outcome_of(caught.value)
    assert (caught.value.code, outcome.http, outcome.grpc) == ("injected", 500, 13)
    assert isinstance(run(injector, roll=0.5), RequestHead)


@pytest.mark.parametrize(
    ("injector", "is_grpc", "status", "grpc"),
    [
        (FailureInjector(status=418, message="tea"), False, 418, None),
        (FailureInjector(status=418, message="tea"), True, 200, b"9"),
        (FailureInjector(status=8, message="tea", is_grpc=True), True, 200, b"8"),
    ],
)
def test_an_injected_failure_is_as_written_outbound(
    injector: FailureInjector, is_grpc: bool, status: int, grpc: bytes | None
) -> None:
    """A status, or a code; an HTTP status for a call is FAILED_PRECONDITION."""
    found = run(injector, is_grpc=is_grpc, injects=True)
    assert isinstance(found, ResponseHead)
    assert (found.status, value_of(found.fields, b"grpc-status")) == (status, grpc)
    said = value_of(found.fields, b"grpc-message" if grpc else b"l5d-proxy-error")
    assert said == b"tea"


@pytest.mark.parametrize(
    ("filter_", "code", "status"),
    [
        (InvalidFilter("no such thing"), "filter-invalid", 500),
        (ForbiddenFilter(), "forbidden-destination", 403),
    ],
)
def test_some_filters_refuse(filter_: Filter, code: str, status: int) -> None:
    """A filter that cannot be carried out is never skipped."""
    with pytest.raises(RefusedError) as caught:
        run(RequestHeaders(HeaderModifier()), filter_)
    assert (caught.value.code, outcome_of(caught.value).http) == (code, status)
