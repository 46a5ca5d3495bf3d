"""A mutual TLS handshake in memory: how a new generation is proved before it is used."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final, final

from core.errors import IdentityError
from core.record import dataclass
from identity.validity import certificate_seconds

ALPN_DIRECT: Final = "transport.l5d.io/v1"
"""The protocol of the direct port (linkerd2-proxy, transport-header)."""
_MAX_TURNS: Final = 8

Facts = Mapping[str, Any]
"""A certificate as the ``ssl`` module decodes it."""


@final
@dataclass(frozen=True, slots=True)
class Proof:
    """What each side's library saw of the other's certificate."""

    not_before: float
    not_after: float
    """Validity of the leaf, in seconds since the epoch."""
    names: tuple[tuple[str, str], ...]
    """The leaf's SANs in certificate order, as (kind, text)."""
    root: bytes
    """The last certificate of the verified chain, as DER."""


def prove(server: ssl.SSLContext, client: ssl.SSLContext, server_name: str) -> Proof:
    """Let the two contexts of one generation shake hands, each verifying the other.

    Raises IdentityError when either side would not accept the other.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    # Bytes: for text the standard library loads what writes names of other alphabets.
    name = server_name.encode("ascii") or None
    near = client.wrap_bio(to_client, to_server, server_hostname=name)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    pending = [near, far]
    try:
        for _ in range(_MAX_TURNS):
            pending = [end for end in pending if not _step(end)]
            if not pending:
                break
    except ssl.SSLCertVerificationError as error:
        raise IdentityError(
            f"our own certificate does not verify against our anchors: {error.verify_message}",
            hint="anchors/<trust domain>.pem has to hold the root that it was issued under",
        ) from error
    except ssl.SSLError as error:
        raise IdentityError(f"our own certificate is of no use for TLS: {error.reason}") from error
    certificate = near.getpeercert()
    root = verified_root(near)
    if pending or not certificate or root is None or far.getpeercert(binary_form=True) is None:
        raise IdentityError("a handshake with our own certificate does not come to an end")
    return Proof(
        not_before=certificate_seconds(str(certificate["notBefore"])),
        not_after=certificate_seconds(str(certificate["notAfter"])),
        names=tuple((str(name[0]), str(name[1])) for name in certificate.get("subjectAltName", ())),
        root=root,
    )


def verified_root(connection: ssl.SSLObject) -> bytes | None:
    """Return the DER of the verified chain's last certificate; None: resumed or not verified."""
    # Public as get_verified_chain from Python 3.13; the private one is the same call.
    chain = connection._sslobj.get_verified_chain()  # type: ignore[attr-defined]  # noqa: SLF001
    if not chain:
        return None
    pem: str = chain[-1].public_bytes()
    return ssl.PEM_cert_to_DER_cert(pem)


def verified_end(connection: ssl.SSLObject) -> float | None:
    """Return when the first certificate of the verified chain ends; None as ``verified_root``.

    In seconds since the epoch: a leaf is worth no more than what vouches for it.
    """
    chain = connection._sslobj.get_verified_chain()  # type: ignore[attr-defined]  # noqa: SLF001
    if not chain:
        return None
    return min(certificate_seconds(each.get_info()["notAfter"]) for each in chain)


def sent_chain(server: ssl.SSLContext) -> tuple[Facts, ...]:
    """Return what the certificates say that ``server`` sends, leaf first, believed or not."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_MAX_TURNS):
        if _step(near) and _step(far):
            break
        _step(far)
    # As above: public from Python 3.13, without what a certificate says.
    chain = near._sslobj.get_unverified_chain()  # type: ignore[attr-defined]  # noqa: SLF001
    return tuple(each.get_info() for each in chain or ())


def _step(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
