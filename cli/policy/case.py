"""Cases: who calls, what is called, what is expected; every mistake by file, line and field."""

from __future__ import annotations

from dataclasses import field
from ipaddress import ip_address
from pathlib import Path
from typing import Final, final

from cli.output import Json
from core.errors import ConfigError
from core.record import dataclass
from identity.name import try_identity
from policy.match import Request
from policy.model import Client, ClientTls
from policy.question import DEFAULT_IP
from resources.document import (
    Mapping,
    Node,
    Problem,
    Sequence,
    UnreadableError,
    read_documents,
)
from resources.fields import Fields
from resources.http_route import METHODS

VERDICTS: Final = ("allow", "deny", "not-found", "rate-limited", "invalid")
EXPECTED: Final = ("verdict", "status", "server", "route", "authorization")
MAX_REPEAT: Final = 100_000
MAX_CASES: Final = 10_000

_TLS: Final = {"mesh": ClientTls.MESH, "no-identity": ClientTls.MESH, "none": ClientTls.NONE}


@final
@dataclass(frozen=True, slots=True)
class Target:
    """A pod's port."""

    namespace: str
    pod: str
    port: int

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod}:{self.port}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case."""

    place: str
    """``file:line``."""
    name: str
    client: Client
    target: Target
    request: Request | None = None
    is_grpc: bool = False
    repeat: int = 1
    expect: dict[str, Json] = field(default_factory=dict)


def read_cases(path: str) -> list[Case]:
    """Read a file of cases. Raises ConfigError with every mistake in it."""
    problems: list[Problem] = []
    try:
        nodes = read_documents(path, Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnreadableError as error:
        raise ConfigError(str(error.problem)) from None
    cases = [_case(path, node, problems) for node in _items(path, nodes, problems)]
    if len(cases) > MAX_CASES:
        problems.append(Problem(path, 0, "", f"has {len(cases)} cases; at most {MAX_CASES}"))
    if problems:
        raise ConfigError([str(each) for each in sorted(problems)])
    return cases


def parse_target(text: str) -> Target | None:
    """Return the target that ``NAMESPACE/POD:PORT`` names, or None."""
    namespace, slash, rest = text.partition("/")
    pod, colon, port = rest.rpartition(":")
    if not (slash and colon and namespace and pod and port.isdecimal() and len(port) < 6):
        return None
    return Target(namespace, pod, int(port)) if 0 < int(port) <= 65_535 else None


def _items(path: str, nodes: list[Node], problems: list[Problem]) -> list[Node]:
    found: list[Node] = []
    for node in nodes:
        if isinstance(node, Sequence):
            found += node.items
        else:
            problems.append(Problem(path, node.line, "", "wanted a list of cases"))
    return found


def _case(path: str, node: Node, problems: list[Problem]) -> Case:
    entries = node.entries if isinstance(node, Mapping) else {}
    if not isinstance(node, Mapping):
        problems.append(Problem(path, node.line, "", "wanted a map: name, given, when, expect"))
    fields = Fields(file=path, line=node.line, path="", entries=entries, problems=problems)
    fields.only("name", "given", "when", "expect")
    when = fields.map("when", required=True)
    when.only("to", "method", "path", "headers", "grpc", "repeat")
    target = parse_target(when.text("to", required=True))
    if target is None and when.has("to"):
        when.problem("to", "wanted NAMESPACE/POD:PORT")
    repeat = when.integer("repeat", 1, MAX_REPEAT)
    return Case(
        place=f"{path}:{node.line}",
        name=fields.text("name", required=True),
        client=_client(fields.map("given")),
        target=target or Target("", "", 0),
        request=_request(when),
        is_grpc=when.flag("grpc"),
        repeat=1 if repeat is None else repeat,
        expect=_expected(fields.map("expect", required=True)),
    )


def _client(given: Fields) -> Client:
    given.only("client", "tls")
    fields = given.map("client")
    fields.only("identity", "ip", "tls")
    ip = fields.text("ip", DEFAULT_IP)
    try:
        ip_address(ip)
    except ValueError:
        fields.problem("ip", f"{ip[:80]!r} is no IP address")
    named = fields.text("identity")
    identity = try_identity(named) if named else None
    if named and identity is None:
        fields.problem("identity", f"{named[:80]!r} is no identity")
    holder = given if given.has("tls") else fields
    tls = holder.choice("tls", _TLS, "mesh" if named else "none")
    if named and tls != "mesh":
        holder.problem("tls", f"{tls} and an identity exclude each other")
    if not named and tls == "mesh":
        holder.problem("tls", "mesh wants an identity; without one it is no-identity")
    return Client(ip, _TLS[tls], identity)


def _request(when: Fields) -> Request | None:
    is_grpc = when.flag("grpc")
    method = when.text("method", "POST" if is_grpc else "")
    if not method:
        for name in ("path", "headers"):
            if when.has(name):
                when.problem(name, "belongs to a request, and a request has a method")
        return None
    if method.upper() in METHODS and method not in METHODS:
        when.problem("method", f"{method} is written {method.upper()}")
    path, _, query = when.text("path", "/").partition("?")
    headers = {name.lower(): value for name, value in when.text_map("headers").items()}
    host = headers.pop(":authority", "") or headers.get("host", "")
    return Request(
        method,
        path,
        host,
        query,
        tuple((name.encode(), value.encode()) for name, value in headers.items()),
    )


def _expected(fields: Fields) -> dict[str, Json]:
    fields.only(*EXPECTED)
    found: dict[str, Json] = {}
    for name in EXPECTED:
        if not fields.is_named(name):
            continue
        if not fields.has(name):
            found[name] = None
        elif name == "status":
            found[name] = fields.integer(name, 0, 999)
        elif name == "verdict":
            found[name] = fields.choice(name, VERDICTS)
        else:
            found[name] = fields.text(name)
    if not found:
        fields.problem("", f"wanted one at least of {', '.join(EXPECTED)}")
    return found
