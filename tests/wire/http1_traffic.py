"""Generated HTTP/1 traffic: valid streams, and the mutations that break them in likely places."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

_TOKENS = st.text("!#$%&'*+-.^_`|~0123456789abcdefXYZ", min_size=1, max_size=8)
_VALUES = st.text(
    [chr(code) for code in (9, *range(0x20, 0x7F), *range(0x80, 0x100))], max_size=20
).map(lambda text: text.strip(" \t"))
_BLANKS = st.sampled_from(["", " ", "\t", "  \t "])
_PATHS = st.text("abc/.?%20&=-_~!$'()*+,;:@", max_size=12).map(lambda text: f"/{text}")
_HOSTS = st.sampled_from(["a", "a.b:80", "[::1]:8080", "", "1.2.3.4"])

FRAGMENTS = (
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b";", b",", b"0", b"1", b"-", b"+"),
    *(b"\r\n\r\n", b"HTTP/1.1", b"HTTP/1.0", b"\x0b", b"\x7f", b"\xff", b"\r\n ", b"0\r\n\r\n"),
    *(b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: a\r\n", b"chunked"),
    *(b"Connection: close\r\n", b"Upgrade: h2c\r\n", b'"', b"\\", b"=", b"http://a/", b"*"),
)
"""What a mutation puts in."""


@st.composite
def field_lines(draw: st.DrawFn) -> list[str]:
    """Draw some field lines that mean nothing to the reader."""
    names = draw(st.lists(_TOKENS, max_size=4))
    return [f"x{name}:{draw(_BLANKS)}{draw(_VALUES)}{draw(_BLANKS)}" for name in names]


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    """Draw content in chunks, with extensions and trailers at times."""
    parts: list[bytes] = []
    for piece in draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4)):
        extension = draw(st.sampled_from(["", "", ";a", ";a=b", ';a="b c"', " ; a = b"]))
        size = draw(st.sampled_from(["%x", "%X", "0%x"])) % len(piece)
        parts.append(f"{size}{extension}\r\n".encode() + piece + b"\r\n")
    trailers = draw(st.one_of(st.just([]), field_lines()))
    parts.append(b"0\r\n")
    parts += [line.encode("latin-1") + b"\r\n" for line in trailers]
    return b"".join(parts) + b"\r\n"


@st.composite
def bodies(draw: st.DrawFn) -> tuple[list[str], bytes]:
    """Draw the framing fields and the content that goes with them."""
    kind = draw(st.sampled_from(["none", "length", "chunked"]))
    if kind == "length":
        body = draw(st.binary(max_size=30))
        return [f"Content-Length: {len(body)}"], body
    if kind == "chunked":
        name = draw(st.sampled_from(["Transfer-Encoding: chunked", "transfer-encoding:CHUNKED "]))
        return [name], draw(chunked())
    return [], b""


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw one valid request."""
    framing, body = draw(bodies())
    host = draw(_HOSTS)
    method = draw(st.one_of(st.sampled_from(["GET", "POST", "HEAD"]), _TOKENS))
    connection = draw(st.sampled_from(["", "", "", "Connection: keep-alive", "Connection: X, te"]))
    lines = [*draw(field_lines()), f"Host: {host}", *framing, *([connection] if connection else [])]
    lines = draw(st.permutations(lines))
    start = f"{method} {draw(_PATHS)} HTTP/1.1"
    return "\r\n".join([start, *lines, "", ""]).encode("latin-1") + body


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """Draw one valid response, with interim ones before it at times."""
    framing, body = draw(bodies())
    interim = b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" * draw(st.integers(0, 2))
    status = draw(st.sampled_from([200, 204, 304, 404, 500, 599]))
    lines = draw(st.permutations([*draw(field_lines()), *framing]))
    start = f"HTTP/1.{draw(st.sampled_from('110'))} {status} {draw(_VALUES)}"
    return interim + "\r\n".join([start, *lines, "", ""]).encode("latin-1") + body


@st.composite
def mutated(draw: st.DrawFn, streams: SearchStrategy[bytes]) -> bytes:
    """Draw a stream with one to three small changes."""
    data = draw(streams)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["insert", "delete", "replace", "double"]))
        width = draw(st.integers(1, 4))
        fragment = draw(st.sampled_from(FRAGMENTS)) if kind in {"insert", "replace"} else b""
        if kind == "insert":
            data = data[:place] + fragment + data[place:]
        elif kind == "double":
            data = data[: place + width] + data[place:]
        else:
            data = data[:place] + fragment + data[place + width :]
    return data
