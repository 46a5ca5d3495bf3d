"""Names and sentences that logs, explanations and the command line share."""

from __future__ import annotations

from typing import Final

from discovery.model import Metadata
from policy.model import Client, ClientTls, Permit, Verdict
from policy.route import GrpcMatch, HttpMatch, PathMatchKind

_KINDS: Final = {
    "server": "Server",
    "serverauthorization": "ServerAuthorization",
    "authorizationpolicy": "AuthorizationPolicy",
    "denypolicy": "DenyPolicy",
}
"""Kinds that labels carry in lower case."""
_WORDS: Final = {
    "unauthorized": "deny",
    "route-not-found": "not-found",
    "rate-limited": "rate-limited",
    "policy-invalid": "invalid",
}


def verdict_word(verdict: Verdict) -> str:
    """Return a verdict in one word: allow, deny, not-found, rate-limited or invalid."""
    return "allow" if isinstance(verdict, Permit) else _WORDS[verdict.code]


def name_of(metadata: Metadata) -> str:
    """Return a name for a reader: ``namespace/name``, or ``default:name``."""
    if metadata.kind == "default":
        return str(metadata)
    return f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name


def title_of(metadata: Metadata) -> str:
    """Return kind and name for a reader, as ``Server shop/api``."""
    if metadata.kind == "default":
        return str(metadata)
    return f"{_KINDS.get(metadata.kind, metadata.kind)} {name_of(metadata)}"


def describe_client(client: Client) -> str:
    """Say who a client is, as every message about it does."""
    if client.tls is ClientTls.MESH:
        if client.identity is not None:
            return f"{client.identity.name} at {client.ip}"
        return f"{client.ip} with mesh TLS but no identity"
    if client.tls is ClientTls.FOREIGN:
        return f"{client.ip} with TLS for {client.sni or 'another name'} that is not ours"
    return f"{client.ip} without mesh TLS"


def describe_match(match: HttpMatch | GrpcMatch | None) -> str:
    """Return a route's match in a few words."""
    if match is None:
        return "any request"
    if isinstance(match, GrpcMatch):
        call = f"{match.service or '*'}/{match.method or '*'}"
        return _with_headers(f"gRPC {'matching ' if match.is_regex else ''}{call}", match)
    path = "any path"
    if match.path is not None:
        sign = {PathMatchKind.PREFIX: "*", PathMatchKind.REGEX: " (expression)"}
        path = match.path.value + sign.get(match.path.kind, "")
    said = _with_headers(f"{match.method or 'any method'} {path}", match)
    query = [f"{each.name}={each.value}" for each in match.query]
    return f"{said} with ?{'&'.join(query)}" if query else said


def _with_headers(said: str, match: HttpMatch | GrpcMatch) -> str:
    headers = [f"{each.name}: {each.value}" for each in match.headers]
    return f"{said} with {', '.join(headers)}" if headers else said
