"""From objects to the policy of one port: the only place where precedence of objects lives.

Pure: a view of the objects and a workload in, a frozen ``ServerPolicy`` out. The rules
(linkerd2, policy-controller/k8s/index/src/inbound and core):

1. Of the Servers that select a port the oldest counts, ties by name. Without one the pod's
   default policy holds.
2. A Server admits whom the AuthorizationPolicies on it, the ServerAuthorizations for it, the
   AuthorizationPolicies on its namespace and its ``accessPolicy`` admit: their union, in this
   order, each by name.
3. Routes attached to the Server carry the authorizations that target them, besides the
   Server's. Without one of its kind the default route and the probes' stand instead.
4. An AuthorizationPolicy one of whose references dangles admits nobody. A DenyPolicy is held as
   if what is missing fitted: losing an object must not let anybody in.
5. DenyPolicies on the namespace hold on every port of it, those without a Server included.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Final

from core.nearest import nearest_name
from discovery.model import Metadata
from identity.name import Identity, try_identity
from policy.default import default_authorizations, default_routes, default_server_policy
from policy.index import View
from policy.model import (
    ALL_NETWORKS,
    Attempt,
    Authentication,
    Authorization,
    Clause,
    InboundRoute,
    NetworkMatch,
    Protocol,
    RateLimit,
    RateLimitOverride,
    ServerPolicy,
    TlsAuthenticated,
    TlsUnauthenticated,
    Unauthenticated,
)
from policy.route_compile import inbound_rules, route_hosts
from resources.authorization_policy import POLICY_GROUP, AuthorizationPolicy
from resources.identity_pattern import IdentityPattern
from resources.kind import Meta, ObjectKey
from resources.mesh_tls_authentication import MeshTlsAuthentication
from resources.network import NetworkRange
from resources.object_name import Account
from resources.rate_limit_policy import RateLimitPolicy
from resources.route import Route
from resources.server import Server
from resources.server_authorization import ServerAuthorization
from resources.workload import Workload

_PROTOCOLS: Final = {
    "unknown": Protocol.DETECT,
    "HTTP/1": Protocol.HTTP1,
    "HTTP/2": Protocol.HTTP2,
    "gRPC": Protocol.GRPC,
    "opaque": Protocol.OPAQUE,
    "TLS": Protocol.TLS,
}
_BYTES: Final = (Protocol.OPAQUE, Protocol.TLS)
_LIMITED: Final = (Protocol.DETECT, Protocol.HTTP1, Protocol.HTTP2)
"""Protocols whose message of the control API can carry a rate limit."""
_EVERYWHERE: Final = tuple(NetworkMatch(each) for each in ALL_NETWORKS)

Grants = tuple[list[Authorization], list[Authorization], list[Attempt]]
"""Authorizations, denials, and authorizations that cannot be used."""


def compile_port(view: View, workload: Workload, port: int) -> ServerPolicy:
    """Return the policy of one port of a workload."""
    server = server_of(view, workload, port)
    namespace = workload.pod.meta.namespace
    in_namespace = view.policies(ObjectKey("", "Namespace", "", namespace))
    allowed, denied, void = _grants(view, workload, in_namespace)
    if server is None:
        policy = default_server_policy(workload, port)
        return replace(policy, denials=tuple(denied)) if denied else policy
    own, own_denied, own_void = _grants(view, workload, view.policies(server.meta.key))
    protocol = _PROTOCOLS[server.protocol]
    return ServerPolicy(
        metadata=server_metadata(server),
        protocol=protocol,
        authorizations=(
            *own,
            *(
                _server_authorization(each, workload)
                for each in view.server_authorizations(server.meta)
                if each.authorizes
            ),
            *allowed,
            *default_authorizations(workload, server.access_policy),
        ),
        denials=(*own_denied, *denied),
        void=(*own_void, *void),
        routes=_routes(view, workload, server, port),
        rate_limit=_rate_limit(view, workload, server) if protocol in _LIMITED else None,
    )


def server_of(view: View, workload: Workload, port: int) -> Server | None:
    """Return the Server that counts for a port."""
    selecting = servers_of(view, workload, port)
    return selecting[0] if selecting else None


def servers_of(view: View, workload: Workload, port: int) -> list[Server]:
    """Return every Server that selects a port; the first counts, the others are shadowed."""
    pod = workload.pod
    return [each for each in view.servers(pod.meta) if port in pod.numbers_of(each.port)]


def server_metadata(server: Server) -> Metadata:
    """Return a Server as labels name it."""
    return _metadata(server.meta, "server")


def authorization_of(
    view: View, workload: Workload, policy: AuthorizationPolicy
) -> Authorization | Attempt:
    """Return what a policy admits or refuses; an Attempt when it cannot be used."""
    metadata = _metadata(policy.meta, policy.meta.key.kind.lower())
    networks = _EVERYWHERE
    authentication: Authentication = Unauthenticated()
    dangling: list[str] = []
    for key in policy.authentications:
        if key.kind == "ServiceAccount":
            authentication = _accounts_authentication((Account(key.namespace, key.name),), workload)
        elif key.kind == "MeshTLSAuthentication":
            mesh_tls = view.mesh_tls(key)
            if mesh_tls is None:
                dangling.append(_dangling(view, key, policy.meta.namespace))
            else:
                authentication = _mesh_authentication(mesh_tls, workload)
        else:
            network = view.network(key)
            if network is None:
                dangling.append(_dangling(view, key, policy.meta.namespace))
            else:
                networks = _networks(network.networks)
    if dangling and not policy.is_denial:
        return Attempt(authorization=metadata, clause=Clause.REFERENCE, failed="; ".join(dangling))
    return Authorization(
        metadata=metadata,
        networks=networks,
        authentication=authentication,
        is_audit=policy.is_audit,
        note=f"{'; '.join(dangling)}, so it denies whoever the rest of it fits" if dangling else "",
    )


def attached_routes(view: View, server: Server) -> list[Route]:
    """Return the routes of a Server that can be used for what it speaks, oldest first."""
    protocol = _PROTOCOLS[server.protocol]
    if protocol in _BYTES:
        return []
    return [
        each
        for each in view.routes(server.meta)
        if each.is_grpc is (protocol is Protocol.GRPC) and inbound_rules(each) is not None
    ]


def _routes(view: View, workload: Workload, server: Server, port: int) -> tuple[InboundRoute, ...]:
    protocol = _PROTOCOLS[server.protocol]
    if protocol in _BYTES:
        return ()
    found = []
    for route in attached_routes(view, server):
        allowed, denied, void = _grants(view, workload, view.policies(route.meta.key))
        found.append(
            InboundRoute(
                metadata=_metadata(route.meta, route.meta.key.kind),
                hosts=route_hosts(route),
                authorizations=tuple(allowed),
                denials=tuple(denied),
                void=tuple(void),
                rules=inbound_rules(route) or (),
            )
        )
    if found or protocol is Protocol.GRPC:
        return tuple(found)
    return default_routes(workload, port)


def _grants(view: View, workload: Workload, policies: list[AuthorizationPolicy]) -> Grants:
    allowed: list[Authorization] = []
    denied: list[Authorization] = []
    void: list[Attempt] = []
    for policy in policies:
        made = authorization_of(view, workload, policy)
        if isinstance(made, Attempt):
            void.append(made)
        elif policy.is_denial:
            denied.append(made)
        else:
            allowed.append(made)
    return allowed, denied, void


def _server_authorization(given: ServerAuthorization, workload: Workload) -> Authorization:
    cluster = tuple(NetworkMatch(each) for each in workload.config.cluster_networks)
    authentication: Authentication = Unauthenticated()
    if given.is_unauthenticated_tls:
        authentication = TlsUnauthenticated()
    elif not given.is_unauthenticated:
        named = _pattern_authentication(given.identities)
        accounts = _accounts_authentication(given.accounts, workload)
        authentication = replace(named, identities=named.identities | accounts.identities)
    return Authorization(
        metadata=_metadata(given.meta, "serverauthorization"),
        networks=_networks(given.networks) or cluster,
        authentication=authentication,
        is_audit=given.is_audit,
    )


def _mesh_authentication(given: MeshTlsAuthentication, workload: Workload) -> TlsAuthenticated:
    named = _pattern_authentication(given.identities)
    accounts = tuple(
        Account(each.namespace, each.name)
        for each in given.references
        if each.kind == "ServiceAccount"
    )
    suffixes = tuple(
        (each.name, *_identity_tail(workload).split("."))
        for each in given.references
        if each.kind == "Namespace"
    )
    return TlsAuthenticated(
        identities=named.identities | _accounts_authentication(accounts, workload).identities,
        suffixes=(*named.suffixes, *suffixes),
    )


def _pattern_authentication(patterns: tuple[IdentityPattern, ...]) -> TlsAuthenticated:
    return TlsAuthenticated(
        identities=frozenset(each.identity for each in patterns if each.identity is not None),
        suffixes=tuple(each.suffix for each in patterns if each.identity is None),
    )


def _accounts_authentication(accounts: tuple[Account, ...], workload: Workload) -> TlsAuthenticated:
    return TlsAuthenticated(identities=frozenset(_identities(accounts, workload)))


def _identities(accounts: tuple[Account, ...], workload: Workload) -> list[Identity]:
    """Return the accounts' identities; a name too long to be one is nobody's."""
    tail = _identity_tail(workload)
    found = [_identity_of(f"{each.name}.{each.namespace}.{tail}") for each in accounts]
    return [each for each in found if each is not None]


@lru_cache(maxsize=8192)
def _identity_of(text: str) -> Identity | None:
    return try_identity(text)


def _identity_tail(workload: Workload) -> str:
    config = workload.config
    return f"serviceaccount.identity.{config.control_namespace}.{config.trust_domain}"


def _networks(ranges: tuple[NetworkRange, ...]) -> tuple[NetworkMatch, ...]:
    return tuple(NetworkMatch(each.network, each.exceptions) for each in ranges)


def _rate_limit(view: View, workload: Workload, server: Server) -> RateLimit | None:
    """Return the oldest of a Server's rate limits; the others are not accepted."""
    found = view.rate_limits(server.meta)
    return _limit(found[0], workload) if found else None


def _limit(given: RateLimitPolicy, workload: Workload) -> RateLimit:
    return RateLimit(
        metadata=_metadata(given.meta, given.meta.key.kind),
        total=given.total,
        identity=given.identity,
        overrides=tuple(
            RateLimitOverride(each.rate, frozenset(_identities(each.accounts, workload)))
            for each in given.overrides
        ),
        is_audit=given.is_audit,
    )


def _dangling(view: View, key: ObjectKey, namespace: str) -> str:
    """Say that a reference leads nowhere, and where it may have been meant to lead."""
    where = f" in namespace {key.namespace}" if key.namespace != namespace else ""
    said = f"it refers to {key.kind} {key.name!r}{where}, which does not exist"
    known = view.authentications(key.kind)
    near = nearest_name(key.name, [each.name for each in known if each.namespace == key.namespace])
    if near is not None:
        return f"{said} (did you mean {near!r}?)"
    elsewhere = sorted(each.namespace for each in known if each.name == key.name)
    if elsewhere:
        return f"{said} (there is one in namespace {elsewhere[0]!r}: say so in the reference)"
    return said


def _metadata(meta: Meta, kind: str) -> Metadata:
    key = meta.key
    group = POLICY_GROUP if kind == "server" else key.group
    return Metadata(group=group, kind=kind, namespace=key.namespace, name=key.name)
