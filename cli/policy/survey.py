"""Whom and what to ask about, when every caller and every kind of request is meant.

Callers: each identity of the directory's pods and of its policies, each pod without one, and
three strangers: plaintext inside and outside the cluster's networks, mesh TLS without identity.
Requests: one for each match of each route, one that no route need match, and the bare connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

from cli.policy.case import Target
from control.offline import OfflineMesh
from core.record import dataclass
from identity.name import Identity
from policy.match import Request
from policy.model import Client, ClientTls, Protocol, ServerPolicy, TlsAuthenticated
from policy.route import GrpcMatch, HostMatch, HttpMatch, PathMatchKind
from resources.regex import Regex, literal_prefix
from resources.workload import Workload

OUTSIDE: Final = "203.0.113.7"
"""An address of nobody (RFC 5737)."""

EVERYTHING: Final = "everything"
"""What a report says where every question has the same answer."""

_ELSEWHERE: Final = "/somewhere-else"


@final
@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may call, as a report names them."""

    name: str
    client: Client


@final
@dataclass(frozen=True, slots=True)
class Ask:
    """Something that may be asked of a port; no request: a bare connection."""

    name: str
    request: Request | None = None
    is_grpc: bool = False


def callers_of(mesh: OfflineMesh, policies: list[ServerPolicy]) -> list[Caller]:
    """Return everybody worth asking for, by name."""
    found: dict[str, Caller] = {}
    inside = str(mesh.config.cluster_networks[0].network_address + 1)
    for workload in mesh.workloads:
        ip = next(iter(workload.pod.ips), inside)
        identity = workload.identity
        if identity is not None:
            named = Caller(identity.name, Client(ip, ClientTls.MESH, identity))
        else:
            name = f"{workload.pod.meta.namespace}/{workload.pod.meta.name} without identity"
            named = Caller(name, Client(ip))
        found.setdefault(named.name, named)
    for identity in sorted(_named_in(policies), key=str):
        client = Client(inside, ClientTls.MESH, identity)
        found.setdefault(identity.name, Caller(identity.name, client))
    return [
        *(found[name] for name in sorted(found)),
        Caller("mesh TLS without identity", Client(inside, ClientTls.MESH)),
        Caller("plaintext inside the cluster", Client(inside)),
        Caller("plaintext from outside", Client(OUTSIDE)),
    ]


def ports_of(mesh: OfflineMesh, workload: Workload) -> list[Target]:
    """Return the ports of a pod that somebody may call: declared, probed, or a Server's."""
    pod = workload.pod
    numbers = {port.number for port in pod.ports} | {probe.port for probe in pod.probes}
    numbers |= mesh.mesh.server_ports(pod)
    meta = pod.meta
    return [Target(meta.namespace, meta.name, number) for number in sorted(numbers)]


def asks_of(*policies: ServerPolicy) -> list[Ask]:
    """Return what may be asked of a port that has, or had, these policies."""
    found: dict[str, Ask] = {}
    for policy in policies:
        if policy.protocol in {Protocol.OPAQUE, Protocol.TLS, Protocol.DETECT}:
            found.setdefault("connection", Ask("connection"))
        if policy.protocol in {Protocol.OPAQUE, Protocol.TLS}:
            continue
        is_grpc = policy.protocol is Protocol.GRPC
        for request in (*_requests(policy), Request("POST" if is_grpc else "GET", _ELSEWHERE)):
            name = f"{request.method} {request.host}{request.path}"
            if request.query:
                name += f"?{request.query}"
            name += "".join(f" {key.decode()}:{value.decode()}" for key, value in request.headers)
            found.setdefault(name, Ask(name, request, is_grpc))
    return list(found.values())


def _named_in(policies: list[ServerPolicy]) -> set[Identity]:
    found: set[Identity] = set()
    for policy in policies:
        for authorizations in (
            policy.authorizations,
            policy.denials,
            *((*each.authorizations, *each.denials) for each in policy.routes),
        ):
            for each in authorizations:
                if isinstance(each.authentication, TlsAuthenticated):
                    found |= each.authentication.identities
    return found


def _requests(policy: ServerPolicy) -> Iterator[Request]:
    for route in policy.routes:
        host = _host(route.hosts)
        for rule in route.rules:
            for match in rule.matches:
                request = _request(match, host)
                if request is not None:
                    yield request


def _host(hosts: tuple[HostMatch, ...]) -> str:
    if not hosts:
        return ""
    return f"any.{hosts[0].name}" if hosts[0].is_suffix else hosts[0].name


def _request(match: HttpMatch | GrpcMatch, host: str) -> Request | None:
    """Return a request that the match is for; None where an expression hides what that is."""
    headers = []
    for header in match.headers:
        value = _example(header.value, is_regex=header.is_regex)
        if value is None:
            return None
        headers.append((header.name.lower().encode(), value.encode()))
    if isinstance(match, GrpcMatch):
        service = _example(match.service or "any.Service", is_regex=match.is_regex)
        method = _example(match.method or "Any", is_regex=match.is_regex)
        if service is None or method is None:
            return None
        return Request("POST", f"/{service}/{method}", host, "", tuple(headers))
    path: str | None = "/"
    if match.path is not None:
        is_regex = match.path.kind is PathMatchKind.REGEX
        path = _example(match.path.value, is_regex=is_regex)
    query = []
    for parameter in match.query:
        value = _example(parameter.value, is_regex=parameter.is_regex)
        if value is None:
            return None
        query.append(f"{parameter.name}={value}")
    if path is None:
        return None
    return Request(match.method or "GET", path, host, "&".join(query), tuple(headers))


def _example(value: str, *, is_regex: bool) -> str | None:
    """Return a text that the value is for; an expression's is guessed, and tried."""
    if not is_regex:
        return value
    regex = Regex(value)
    start = literal_prefix(value)
    for guess in (start, f"{start}a", f"{start}1", f"{start}/", f"{start}a/b"):
        if regex.matches(guess.encode()):
            return guess
    return None
