"""Requests by section of RFC 9112, 2 to 5: lines, targets, hosts, fields."""

from __future__ import annotations

from typing import Final

from tests.wire.http1_case import Case, refused, taken

_GET: Final = b"GET / HTTP/1.1\r\nHost: a\r\n"

HEADS: Final[list[Case]] = [
    # 2.1: lines end with CR LF, a head with an empty line
    taken("2.1", "a request without content", _GET + b"\r\n", "GET a / "),
    taken("2.1", "two requests in a row", (_GET + b"\r\n") * 2, "GET a / ", "GET a / "),
    # 2.2: robustness, as far as it is safe
    taken("2.2", "an empty line before the request", b"\r\n" + _GET + b"\r\n", "GET a / "),
    refused("2.2", "two empty lines before it", b"\r\n\r\n" + _GET + b"\r\n", "http1-start-line"),
    refused(
        "2.2",
        "LF alone after the request line",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        "http1-bare-lf",
    ),
    refused("2.2", "LF alone everywhere", b"GET / HTTP/1.1\nHost: a\n\n", "http1-bare-lf"),
    refused(
        "2.2", "LF alone after a field", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "http1-bare-lf"
    ),
    refused(
        "2.2", "LF alone as the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\n", "http1-bare-lf"
    ),
    refused("2.2", "LF CR", b"GET / HTTP/1.1\r\nHost: a\n\r\r\n\r\n", "http1-bare-lf"),
    refused("2.2", "CR inside a field", _GET + b"X: a\rb\r\n\r\n", "http1-bare-cr"),
    refused(
        "2.2", "CR inside the request line", b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", "http1-bare-cr"
    ),
    refused("2.2", "CR CR LF", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", "http1-bare-cr"),
    refused(
        "2.2",
        "a blank between request line and fields",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "http1-obs-fold",
    ),
    # 2.3: versions
    taken("2.3", "HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", "GET  / "),
    refused("2.3", "HTTP/1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "http1-version"),
    refused("2.3", "HTTP/2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "http1-version"),
    refused("2.3", "the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\n", "http1-version"),
    refused("2.3", "HTTP/0.9", b"GET /\r\n\r\n", "http1-start-line"),
    refused("2.3", "http/1.1", b"GET / http/1.1\r\nHost: a\r\n\r\n", "http1-start-line"),
    refused("2.3", "HTTP/1.10", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", "http1-start-line"),
    refused("2.3", "HTTP/1", b"GET / HTTP/1\r\nHost: a\r\n\r\n", "http1-start-line"),
    refused("2.3", "HTTPS/1.1", b"GET / HTTPS/1.1\r\nHost: a\r\n\r\n", "http1-start-line"),
    # 3: the request line
    refused(
        "3",
        "two blanks after the method",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "http1-start-line",
    ),
    refused(
        "3",
        "two blanks before the version",
        b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        "http1-start-line",
    ),
    refused("3", "a tab for a blank", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "http1-start-line"),
    refused("3", "a blank at its end", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "http1-start-line"),
    refused(
        "3", "a blank at its beginning", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "http1-start-line"
    ),
    refused(
        "3", "a blank in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "http1-start-line"
    ),
    refused("3", "no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", "http1-start-line"),
    refused("3", "a vertical tab", b"GET /\x0b HTTP/1.1\r\nHost: a\r\n\r\n", "http1-control"),
    refused("3", "TLS", b"\x16\x03\x01\x02\x00\x01\r\n\r\n", "http1-control"),
    # 3.1: methods
    taken(
        "3.1", "a method of our own", b"M-SEARCH! /x HTTP/1.1\r\nHost: a\r\n\r\n", "M-SEARCH! a /x "
    ),
    taken("3.1", "a method in lower case", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", "get a / "),
    refused(
        "3.1",
        "a method that is no token",
        b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "http1-start-line",
    ),
    refused(
        "3.1", "a method with a colon", b"GET: / HTTP/1.1\r\nHost: a\r\n\r\n", "http1-start-line"
    ),
    refused("3.1", "an empty method", b" / HTTP/1.1\r\nHost: a\r\n\r\n", "http1-start-line"),
    # 3.2: Host
    refused("3.2", "no Host", b"GET / HTTP/1.1\r\n\r\n", "http1-host-missing"),
    refused(
        "3.2",
        "no Host beside other fields",
        b"GET / HTTP/1.1\r\nX: a\r\n\r\n",
        "http1-host-missing",
    ),
    refused(
        "3.2", "two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "http1-host-repeated"
    ),
    refused(
        "3.2",
        "two Hosts in 1.0",
        b"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n",
        "http1-host-repeated",
    ),
    taken("3.2", "an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET  / "),
    taken(
        "3.2", "Host with a port", b"GET / HTTP/1.1\r\nHost: a.b:8080\r\n\r\n", "GET a.b:8080 / "
    ),
    taken("3.2", "Host with an empty port", b"GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "GET a: / "),
    taken(
        "3.2",
        "Host with an IPv6 address",
        b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET [::1]:80 / ",
    ),
    taken(
        "3.2",
        "Host with an encoded octet",
        b"GET / HTTP/1.1\r\nHost: a%2db\r\n\r\n",
        "GET a%2db / ",
    ),
    refused(
        "3.2",
        "Host with a bad encoding",
        b"GET / HTTP/1.1\r\nHost: a%2\r\n\r\n",
        "http1-host-invalid",
    ),
    refused(
        "3.2", "Host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "http1-host-invalid"
    ),
    refused(
        "3.2", "Host with a user", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "http1-host-invalid"
    ),
    refused(
        "3.2", "Host with two members", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "http1-host-invalid"
    ),
    refused(
        "3.2",
        "Host with a port alone",
        b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n",
        "http1-host-invalid",
    ),
    refused(
        "3.2",
        "Host with a name for a port",
        b"GET / HTTP/1.1\r\nHost: a:http\r\n\r\n",
        "http1-host-invalid",
    ),
    refused(
        "3.2",
        "Host beyond ASCII",
        b"GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n",
        "http1-host-invalid",
    ),
    # 3.2.1: origin form
    taken("3.2.1", "a query", b"GET /a?b=c&d HTTP/1.1\r\nHost: a\r\n\r\n", "GET a /a?b=c&d "),
    taken("3.2.1", "two slashes", b"GET //b/c HTTP/1.1\r\nHost: a\r\n\r\n", "GET a //b/c "),
    taken(
        "3.2.1",
        "dot segments stay",
        b"GET /a/../b/%2e HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a /a/../b/%2e ",
    ),
    taken(
        "3.2.1",
        "what browsers leave raw",
        b'GET /?a[]={"|^`\\} HTTP/1.1\r\nHost: a\r\n\r\n',
        'GET a /?a[]={"|^`\\} ',
    ),
    refused("3.2.1", "a fragment", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "http1-target"),
    refused("3.2.1", "angle brackets", b"GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n", "http1-target"),
    refused("3.2.1", "beyond ASCII", b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", "http1-target"),
    refused("3.2.1", "no slash", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", "http1-target"),
    refused("3.2.1", "a query alone", b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", "http1-target"),
    # 3.2.2: absolute form
    taken(
        "3.2.2",
        "to the host it names",
        b"GET http://a:80/b HTTP/1.1\r\nHost: A\r\n\r\n",
        "GET a:80 /b ",
    ),
    taken("3.2.2", "without a path", b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", "GET a / "),
    taken(
        "3.2.2", "with a query alone", b"GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n", "GET a /?b "
    ),
    taken(
        "3.2.2",
        "a scheme in upper case",
        b"GET HTTPS://a/ HTTP/1.1\r\nHost: a:443\r\n\r\n",
        "GET a / ",
    ),
    taken("3.2.2", "in 1.0 without Host", b"GET http://a/ HTTP/1.0\r\n\r\n", "GET a / "),
    refused("3.2.2", "without Host", b"GET http://a/ HTTP/1.1\r\n\r\n", "http1-host-missing"),
    refused(
        "3.2.2", "against Host", b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "http1-host-conflict"
    ),
    refused(
        "3.2.2",
        "against an empty Host",
        b"GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n",
        "http1-host-conflict",
    ),
    refused(
        "3.2.2",
        "against Host's port",
        b"GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "http1-host-conflict",
    ),
    refused(
        "3.2.2",
        "another scheme's port",
        b"GET http://a:443/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "http1-host-conflict",
    ),
    refused(
        "3.2.2", "with a user", b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "http1-target"
    ),
    refused(
        "3.2.2",
        "without an authority",
        b"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n",
        "http1-target",
    ),
    refused("3.2.2", "without a scheme", b"GET ://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "http1-target"),
    refused("3.2.2", "another scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "http1-target"),
    refused("3.2.2", "a fragment", b"GET http://a/#b HTTP/1.1\r\nHost: a\r\n\r\n", "http1-target"),
    refused(
        "3.2.2",
        "an authority that is no host",
        b"GET http://a[/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "http1-target",
    ),
    # 3.2.3: authority form
    taken("3.2.3", "CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "CONNECT a:443  "),
    taken(
        "3.2.3",
        "CONNECT to an address",
        b"CONNECT [::1]:1 HTTP/1.1\r\nHost: [::1]:1\r\n\r\n",
        "CONNECT [::1]:1  ",
    ),
    refused(
        "3.2.3", "CONNECT without a port", b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", "http1-target"
    ),
    refused(
        "3.2.3", "CONNECT to port 0", b"CONNECT a:0 HTTP/1.1\r\nHost: a:0\r\n\r\n", "http1-target"
    ),
    refused(
        "3.2.3",
        "CONNECT to port 65536",
        b"CONNECT a:65536 HTTP/1.1\r\nHost: a:65536\r\n\r\n",
        "http1-target",
    ),
    refused(
        "3.2.3",
        "CONNECT without a host",
        b"CONNECT :443 HTTP/1.1\r\nHost: a\r\n\r\n",
        "http1-target",
    ),
    refused(
        "3.2.3",
        "CONNECT in origin form",
        b"CONNECT /a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        "http1-target",
    ),
    refused(
        "3.2.3",
        "CONNECT in absolute form",
        b"CONNECT http://a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        "http1-target",
    ),
    refused(
        "3.2.3",
        "CONNECT against Host",
        b"CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\n\r\n",
        "http1-host-conflict",
    ),
    refused("3.2.3", "CONNECT in 1.0", b"CONNECT a:443 HTTP/1.0\r\n\r\n", "http1-connect"),
    refused(
        "3.2.3",
        "CONNECT with content",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 1\r\n\r\n",
        "http1-connect",
    ),
    refused(
        "3.2.3",
        "CONNECT with chunks",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nTransfer-Encoding: chunked\r\n\r\n",
        "http1-connect",
    ),
    refused(
        "3.2.3", "another method", b"GET a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "http1-target"
    ),
    # 3.2.4: asterisk form
    taken("3.2.4", "OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS a * "),
    taken(
        "3.2.4",
        "OPTIONS in absolute form",
        b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS a * ",
    ),
    refused("3.2.4", "GET *", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", "http1-target"),
    refused("3.2.4", "OPTIONS *a", b"OPTIONS *a HTTP/1.1\r\nHost: a\r\n\r\n", "http1-target"),
    # 5: field lines
    taken("5", "no value", _GET + b"X:\r\n\r\n", "GET a / "),
    taken("5", "blanks around a value", _GET + b"X: \t a \t\r\n\r\n", "GET a / "),
    taken("5", "octets beyond ASCII in a value", _GET + b"X: \xff\x80\r\n\r\n", "GET a / "),
    refused("5", "no colon", _GET + b"X\r\n\r\n", "http1-field-line"),
    refused("5", "no name", _GET + b": x\r\n\r\n", "http1-field-line"),
    refused("5", "a pseudo-header field", _GET + b":path: /b\r\n\r\n", "http1-field-line"),
    refused("5", "a name with a bracket", _GET + b"X(: a\r\n\r\n", "http1-field-line"),
    refused("5", "a name beyond ASCII", _GET + b"X\xe4: a\r\n\r\n", "http1-field-line"),
    refused("5", "a name with a blank inside", _GET + b"X Y: a\r\n\r\n", "http1-field-line"),
    refused("5.1", "a blank before the colon", _GET + b"X : a\r\n\r\n", "http1-space-before-colon"),
    refused(
        "5.1",
        "a tab before the colon",
        _GET + b"Content-Length\t: 1\r\n\r\n",
        "http1-space-before-colon",
    ),
    refused("5.2", "a folded value", _GET + b"X: a\r\n b\r\n\r\n", "http1-obs-fold"),
    refused("5.2", "a fold with a tab", _GET + b"X: a\r\n\tb: c\r\n\r\n", "http1-obs-fold"),
    refused("5.5", "NUL in a value", _GET + b"X: a\0b\r\n\r\n", "http1-control"),
    refused("5.5", "DEL in a value", _GET + b"X: \x7f\r\n\r\n", "http1-control"),
    refused("5.5", "a control in a name", _GET + b"X\x01: a\r\n\r\n", "http1-control"),
    refused("5", "101 fields", _GET + b"X: y\r\n" * 100 + b"\r\n", "http1-too-many-fields"),
    taken("5", "100 fields", _GET + b"X: y\r\n" * 99 + b"\r\n", "GET a / "),
    # RFC 9110 7.8: upgrades
    taken("7.8", "h2c alone", _GET + b"Connection: upgrade\r\nUpgrade: H2C\r\n\r\n", "GET a / "),
    refused(
        "7.8",
        "h2c among others",
        _GET + b"Connection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
        "http1-upgrade",
    ),
    refused(
        "7.8",
        "h2c in a second field",
        _GET + b"Connection: upgrade\r\nUpgrade: a\r\nUpgrade: h2c\r\n\r\n",
        "http1-upgrade",
    ),
]
