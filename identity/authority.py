"""The issuer's directory: root, issuer, anchors, token secret and ledger of one trust domain.

authority.json   trust domain and control namespace
root.pem root.key                the root; its key is needed only to make another issuer
issuer.pem issuer.key            the issuer, with intermediates and without the root
anchors/<trust domain>.pem       what workloads trust
token-secret                     what workload tokens are made under
ledger.jsonl                     every leaf issued
rotation/ retired/               while roots are exchanged, and afterwards (identity.rotate)
"""

from __future__ import annotations

import json
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Final, final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from core.errors import IdentityError
from core.record import dataclass
from identity.anchors import Anchors, load_anchors
from identity.csr import MAX_COMMON_NAME
from identity.files import make_directory, read_bounded, read_private, write_new
from identity.issuer import (
    DEFAULT_LIFETIME,
    DEFAULT_SKEW,
    ISSUER_LIFETIME,
    ROOT_LIFETIME,
    Issuer,
    create_authority,
    load_issuer,
)
from identity.key import create_key, write_key
from identity.name import Identity, WorkloadName, is_label, is_trust_domain, parse_identity
from identity.pem import join_pem
from identity.token import SECRET_BYTES, create_token

DEFAULT_TRUST_DOMAIN: Final = "cluster.local"
DEFAULT_CONTROL_NAMESPACE: Final = "linkerd"
_SETTINGS: Final = "authority.json"


@final
@dataclass(frozen=True, slots=True)
class Authority:
    """Where one trust domain's authority is kept. Holds paths, never keys."""

    directory: Path
    trust_domain: str
    control_namespace: str

    @property
    def root_certificate(self) -> Path:
        """The root's certificate."""
        return self.directory / "root.pem"

    @property
    def root_key(self) -> Path:
        """The root's key, mode 0600."""
        return self.directory / "root.key"

    @property
    def issuer_certificate(self) -> Path:
        """The issuer's certificate with further intermediates, without the root."""
        return self.directory / "issuer.pem"

    @property
    def issuer_key(self) -> Path:
        """The issuer's key, mode 0600."""
        return self.directory / "issuer.key"

    @property
    def anchors(self) -> Path:
        """The directory of trust bundles."""
        return self.directory / "anchors"

    @property
    def token_secret(self) -> Path:
        """The secret of workload tokens, mode 0600."""
        return self.directory / "token-secret"

    @property
    def ledger(self) -> Path:
        """The ledger of issued leaves."""
        return self.directory / "ledger.jsonl"

    def load_anchors(self, before: Anchors | None = None) -> Anchors:
        """Read the bundles as they are now; ``before`` are those in force. Raises IdentityError."""
        return load_anchors(self.anchors, self.trust_domain, before)

    def load_issuer(
        self, *, lifetime: timedelta = DEFAULT_LIFETIME, skew: timedelta = DEFAULT_SKEW
    ) -> Issuer:
        """Open the issuer's key. Raises IdentityError."""
        return load_issuer(self.issuer_certificate, self.issuer_key, lifetime=lifetime, skew=skew)

    def identity_of(self, who: str) -> Identity:
        """Return the identity of ``namespace/service-account``, or of a name or URI as it is.

        Raises IdentityError, also for a name of another trust domain.
        """
        namespace, found, service_account = who.partition("/")
        if found and is_label(namespace) and is_label(service_account):
            return WorkloadName(
                service_account, namespace, self.control_namespace, self.trust_domain
            ).identity
        try:
            identity = parse_identity(who)
        except IdentityError as error:
            raise IdentityError(
                f"{who[:253]!r} is no workload",
                hint="write NAMESPACE/SERVICE-ACCOUNT, or an identity in full",
            ) from error
        if identity.trust_domain not in {"", self.trust_domain}:
            raise IdentityError(
                f"{identity} is of trust domain {identity.trust_domain}; "
                f"this authority's is {self.trust_domain}"
            )
        return identity

    def create_token(self, identity: Identity, expires: int = 0) -> str:
        """Return a workload token; ``expires`` in seconds since 1970, 0 for never."""
        return create_token(self.load_token_secret(), identity, expires)

    def load_token_secret(self) -> bytes:
        """Read the secret of workload tokens. Raises IdentityError."""
        return read_private(self.token_secret)


def init_authority(
    directory: Path,
    *,
    trust_domain: str = DEFAULT_TRUST_DOMAIN,
    control_namespace: str = DEFAULT_CONTROL_NAMESPACE,
    now: float,
) -> Authority:
    """Make a root (10 years), an issuer under it (1 year) and a token secret.

    Raises IdentityError, also when any of the files is there already: nothing is overwritten.
    """
    if not is_trust_domain(trust_domain) or not is_label(control_namespace):
        raise IdentityError(
            f"trust domain {trust_domain[:80]!r} and control namespace "
            f"{control_namespace[:80]!r} have to be a DNS name and a DNS label in lower case"
        )
    authority = Authority(directory, trust_domain, control_namespace)
    bundle = authority.anchors / f"{trust_domain}.pem"
    for path in (
        directory / _SETTINGS,
        authority.root_certificate,
        authority.root_key,
        authority.issuer_certificate,
        authority.issuer_key,
        authority.token_secret,
        bundle,
    ):
        if path.exists():
            raise IdentityError(f"{path} exists and is not overwritten")
    make_directory(authority.anchors)
    root_key, issuer_key = create_key(), create_key()
    root = make_root(authority, root_key, now)
    issuer = make_issuer(authority, issuer_key, (root, root_key), now)
    root_pem = join_pem([root.public_bytes(Encoding.DER)])
    write_key(authority.root_key, root_key)
    write_new(authority.root_certificate, root_pem, mode=0o644)
    write_key(authority.issuer_key, issuer_key)
    write_new(
        authority.issuer_certificate, join_pem([issuer.public_bytes(Encoding.DER)]), mode=0o644
    )
    write_new(authority.token_secret, secrets.token_bytes(SECRET_BYTES), mode=0o600)
    write_new(bundle, root_pem, mode=0o644)
    settings = {"trustDomain": trust_domain, "controlNamespace": control_namespace}
    write_new(directory / _SETTINGS, (json.dumps(settings) + "\n").encode(), mode=0o644)
    return authority


def make_root(
    authority: Authority, key: ec.EllipticCurvePrivateKey, now: float
) -> x509.Certificate:
    """Return a root for the authority's domain; all of them bear the same name."""
    name = f"root.{authority.control_namespace}.{authority.trust_domain}"[:MAX_COMMON_NAME]
    return create_authority(name, key, lifetime=ROOT_LIFETIME, now=now)


def make_issuer(
    authority: Authority,
    key: ec.EllipticCurvePrivateKey,
    root: tuple[x509.Certificate, ec.EllipticCurvePrivateKey],
    now: float,
) -> x509.Certificate:
    """Return an issuer for the authority's domain under ``root``."""
    name = f"identity.{authority.control_namespace}.{authority.trust_domain}"[:MAX_COMMON_NAME]
    return create_authority(name, key, lifetime=ISSUER_LIFETIME, now=now, parent=root)


def load_authority(directory: Path) -> Authority:
    """Find the authority in ``directory``. Raises IdentityError."""
    path = directory / _SETTINGS
    if not path.exists():
        raise IdentityError(
            f"{directory} holds no authority: {_SETTINGS} is not there",
            hint="make one with `pillion identity init`",
        )
    try:
        settings = json.loads(read_bounded(path, 4096))
        trust_domain, control_namespace = settings["trustDomain"], settings["controlNamespace"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IdentityError(f"{path} is no JSON object of trustDomain, controlNamespace") from error
    if not (
        isinstance(trust_domain, str)
        and isinstance(control_namespace, str)
        and is_trust_domain(trust_domain)
        and is_label(control_namespace)
    ):
        raise IdentityError(f"{path} names no usable trust domain and control namespace")
    return Authority(directory, trust_domain, control_namespace)
