"""One generation: a leaf, the anchors it was checked against, and the TLS contexts of both.

Contexts are built once, here, and never changed: a rotation makes a new generation and leaves
connections of the old one alone. Rules of the wire: TLS 1.3 only; the server asks for a client
certificate without insisting; the library checks no host name, because names are compared by
``identity.verify`` (a SPIFFE name is no host name).

A new leaf is taken only when it is proved to work. New anchors are taken in any case, be it with
a leaf that they do not vouch for: whom we trust must not depend on who trusts us.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import BinaryIO, Final, final

from core.clock import utc_text
from core.errors import IdentityError
from core.record import dataclass
from identity.anchors import Anchors, authority_ends, ends_in
from identity.files import read_private
from identity.handshake import ALPN_DIRECT, Proof, prove
from identity.name import Identity, identities_of
from identity.peer import ClientSessions, PeerCache
from identity.pem import join_pem

MAX_CHAIN: Final = 8
"""Certificates in a chain, the leaf included; ours have two."""
MAX_CHAIN_BYTES: Final = 64 * 1024
"""A chain's DER at most."""


@final
@dataclass(frozen=True, slots=True)
class Credential:
    """What a workload proves its identity with."""

    chain: tuple[bytes, ...]
    """DER, the leaf first, then its intermediates."""
    key: bytes = field(repr=False)
    """The leaf's private key in PEM."""


@final
class Generation:
    """A leaf with its anchors, its contexts, and what was learned of peers under it."""

    __slots__ = (
        "_client",
        "_client_direct",
        "_server",
        "_server_direct",
        "anchor_ends",
        "anchors",
        "authority_not_after",
        "credential",
        "fingerprint",
        "identity",
        "not_after",
        "not_before",
        "peers",
        "server_name",
        "sessions",
        "trouble",
    )

    def __init__(
        self,
        *,
        identity: Identity,
        server_name: str,
        anchors: Anchors,
        credential: Credential,
        validity: tuple[float, float],
        contexts: tuple[ssl.SSLContext, ssl.SSLContext, ssl.SSLContext, ssl.SSLContext],
        trouble: str = "",
    ) -> None:
        self.identity: Final = identity
        self.server_name: Final = server_name
        """The SNI that is ours; empty: none is."""
        self.anchors: Final = anchors
        self.anchor_ends: Final = ends_in(contexts[2])
        """Root (DER) → when it ends, in seconds since the epoch."""
        self.credential: Final = credential
        self.not_before: Final = validity[0]
        self.not_after: Final = validity[1]
        """Validity of the leaf, in seconds since the epoch."""
        ends = authority_ends(credential.chain[1:])
        self.authority_not_after: Final = min(ends.values(), default=0.0)
        """When the first of the intermediates ends, in seconds since the epoch; 0: none came."""
        self.trouble: Final = trouble
        """Why a peer with the same anchors would refuse our leaf; empty: it would not."""
        self.fingerprint: Final = hashlib.sha256(credential.chain[0]).hexdigest()
        """SHA-256 of the leaf's DER, in hex."""
        self.peers: Final = PeerCache()
        self.sessions: Final = ClientSessions()
        self._server, self._server_direct, self._client, self._client_direct = contexts

    def __repr__(self) -> str:
        return f"<Generation {self.identity} {self.fingerprint[:16]}>"

    def server_context(self, direct: bool) -> ssl.SSLContext:  # noqa: FBT001  the port's nature
        """Return the context to accept with; ``direct``: on the direct port, with its ALPN."""
        return self._server_direct if direct else self._server

    def client_context(self, direct: bool) -> ssl.SSLContext:  # noqa: FBT001  the port's nature
        """Return the context to dial with; ``direct``: to a direct port, with its ALPN."""
        return self._client_direct if direct else self._client

    def under(self, anchors: Anchors) -> Generation:
        """Return a generation of the same leaf under other anchors, proved or with ``trouble``.

        What was learned of peers stays behind: nothing that was verified against the old anchors
        is believed without a full handshake. Raises IdentityError when no contexts can be built.
        """
        contexts = _build_contexts(self.credential, anchors)
        trouble = ""
        try:
            _check_root(prove(contexts[0], contexts[2], self.server_name), anchors, self.identity)
        except IdentityError as error:
            trouble = str(error)
        return Generation(
            identity=self.identity,
            server_name=self.server_name,
            anchors=anchors,
            credential=self.credential,
            validity=(self.not_before, self.not_after),
            contexts=contexts,
            trouble=trouble,
        )

    def issue_no_tickets(self) -> None:
        """Offer clients no session to take up: each comes with a full handshake."""
        self._server.num_tickets = 0
        self._server_direct.num_tickets = 0


def build_generation(
    *,
    leaf_chain_der: Sequence[bytes],
    key_path: Path,
    anchors: Anchors,
    identity: Identity,
    server_name: str = "",
    now: float,
) -> Generation:
    """Return a generation that is proved to work, its key read from a file.

    Raises IdentityError when the key is open to others, and as ``make_generation`` does.
    """
    return make_generation(
        Credential(tuple(leaf_chain_der), read_private(key_path)),
        anchors=anchors,
        identity=identity,
        server_name=server_name,
        now=now,
    )


def make_generation(
    credential: Credential,
    *,
    anchors: Anchors,
    identity: Identity,
    server_name: str = "",
    now: float,
) -> Generation:
    """Return a generation that is proved to work.

    ``server_name`` defaults to a DNS-like identity itself. Raises IdentityError when the key does
    not match, when ``now`` (seconds since the epoch) lies outside the validity, when the leaf
    does not name ``identity``, or when a peer with the same anchors would not accept it.
    """
    chain = credential.chain
    if not 1 <= len(chain) <= MAX_CHAIN:
        raise IdentityError(f"a chain of {len(chain)} certificates; 1 to {MAX_CHAIN} work")
    size = sum(len(der) for der in chain)
    if size > MAX_CHAIN_BYTES:
        raise IdentityError(f"a chain of {size} bytes; {MAX_CHAIN_BYTES} at most are used")
    domain = anchors.domain_of(identity)
    if domain != anchors.own_domain:
        raise IdentityError(f"{identity} is of trust domain {domain}; ours is {anchors.own_domain}")
    sni = server_name or ("" if identity.is_uri else identity.name)
    contexts = _build_contexts(credential, anchors)
    proof = prove(contexts[0], contexts[2], sni)
    _check(proof, anchors, identity, now)
    return Generation(
        identity=identity,
        server_name=sni,
        anchors=anchors,
        credential=credential,
        validity=(proof.not_before, proof.not_after),
        contexts=contexts,
    )


def _check(proof: Proof, anchors: Anchors, identity: Identity, now: float) -> None:
    if not proof.not_before <= now < proof.not_after:
        raise IdentityError(
            f"the certificate of {identity} is valid from {utc_text(proof.not_before)} to "
            f"{utc_text(proof.not_after)}; now is {utc_text(now)}"
        )
    _check_root(proof, anchors, identity)
    names = identities_of(proof.names)
    if identity not in names:
        seen = ", ".join(str(name) for name in names) or "nobody"
        raise IdentityError(f"the certificate is for {seen}; ours has to be for {identity}")


def _check_root(proof: Proof, anchors: Anchors, identity: Identity) -> None:
    if not anchors.vouches(proof.root, anchors.own_domain):
        raise IdentityError(
            f"the certificate of {identity} hangs on a root that is no anchor of "
            f"{anchors.own_domain}"
        )


def _build_contexts(
    credential: Credential, anchors: Anchors
) -> tuple[ssl.SSLContext, ssl.SSLContext, ssl.SSLContext, ssl.SSLContext]:
    # OpenSSL takes paths only: chain and key go through memory that has one.
    with (
        _memory("chain", join_pem(credential.chain)) as chain,
        _memory("key", credential.key) as key,
    ):
        paths = f"/proc/self/fd/{chain.fileno()}", f"/proc/self/fd/{key.fileno()}"
        union = anchors.union
        try:
            return (
                _server_context(paths, union, direct=False),
                _server_context(paths, union, direct=True),
                _client_context(paths, union, direct=False),
                _client_context(paths, union, direct=True),
            )
        except ssl.SSLError as error:
            raise IdentityError(
                f"the certificate and the key are of no use together: {error.reason or 'no key'}",
                hint="remove key.pem and csr.der; they are made anew at the next start",
            ) from error


def _memory(name: str, data: bytes) -> BinaryIO:
    file = os.fdopen(os.memfd_create(name, os.MFD_CLOEXEC), "wb")
    file.write(data)
    file.flush()
    return file


def _server_context(paths: tuple[str, str], union: bytes, *, direct: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _equip(context, paths, union, direct=direct)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 1  # the second ticket would cost a third of the handshake
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def _client_context(paths: tuple[str, str], union: bytes, *, direct: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _equip(context, paths, union, direct=direct)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _equip(context: ssl.SSLContext, paths: tuple[str, str], union: bytes, *, direct: bool) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    # An anchor is an anchor, self-signed or not, as Go and rustls see it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_cert_chain(*paths, password=_no_password)
    context.load_verify_locations(cadata=union)
    if direct:
        context.set_alpn_protocols([ALPN_DIRECT])


def _no_password() -> str:
    # Without this OpenSSL would ask the terminal for an encrypted key's password, and wait.
    return ""
