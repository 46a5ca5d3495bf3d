"""A workload's identity directory: what lies in it under which name, and how it is read.

key.pem      private key, PKCS#8 PEM, mode 0600
csr.der      request for a certificate, PKCS#10 DER
token        what the issuer believes
chain.pem    leaf and intermediates, where they are rotated by others (mode ``files``)
anchors/<trust domain>.pem
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, final

from core.errors import IdentityError
from core.record import dataclass
from identity.anchors import bundle_paths
from identity.files import MAX_FILE_BYTES, open_private, read_bounded
from identity.name import Identity
from identity.pem import split_pem

MAX_TOKEN_BYTES: Final = 16 * 1024
"""The longest token file; a cluster's service-account tokens take some 1 KiB."""
MAX_CSR_BYTES: Final = 16 * 1024


@final
@dataclass(frozen=True, slots=True)
class Material:
    """The paths of one identity directory."""

    directory: Path

    @property
    def key(self) -> Path:
        """The private key."""
        return self.directory / "key.pem"

    @property
    def csr(self) -> Path:
        """The request for a certificate."""
        return self.directory / "csr.der"

    @property
    def token(self) -> Path:
        """What the issuer believes."""
        return self.directory / "token"

    @property
    def chain(self) -> Path:
        """Leaf and intermediates, where others rotate them."""
        return self.directory / "chain.pem"

    @property
    def anchors(self) -> Path:
        """The directory of trust bundles."""
        return self.directory / "anchors"

    def anchor_files(self) -> list[Path]:
        """Return the directory of trust bundles and the bundles that are in it."""
        return [self.anchors, *bundle_paths(self.anchors)]

    def all_files(self) -> list[Path]:
        """Return everything that others may rotate."""
        return [self.chain, self.key, *self.anchor_files()]

    def is_ready_for(self, identity: Identity) -> bool:
        """Whether key and request are there, and the request is for ``identity``.

        Raises IdentityError when the key is there and open to others.
        """
        if not self.key.exists() or not self.csr.exists():
            return False
        open_private(self.key).close()
        # Reading the request properly takes a library that the sidecar does without; its one SAN
        # stands in it as these very bytes. The issuer checks it in full.
        return _encode_san(identity) in self.read_csr()

    def read_csr(self) -> bytes:
        """Return the request, DER. Raises IdentityError."""
        return read_bounded(self.csr, MAX_CSR_BYTES)


def read_token(path: Path) -> bytes:
    """Return a token file's content without blanks around it. Raises IdentityError when empty."""
    token = read_bounded(path, MAX_TOKEN_BYTES).strip()
    if not token:
        raise IdentityError(f"the token {path} is empty")
    return token


def read_chain(path: Path) -> tuple[bytes, ...]:
    """Return a PEM chain as DER, leaf first. Raises IdentityError when any of it is broken."""
    certificates, broken = split_pem(read_bounded(path, MAX_FILE_BYTES))
    if broken:
        raise IdentityError(f"{path} holds {broken} broken PEM blocks")
    if not certificates:
        raise IdentityError(f"{path} holds no certificate in PEM")
    return tuple(certificates)


def _encode_san(identity: Identity) -> bytes:
    # GeneralName (RFC 5280, 4.2.1.6): dNSName is [2], uniformResourceIdentifier is [6].
    name = identity.name.encode()
    size = len(name)
    if size < 128:
        length = bytes([size])
    else:
        length = b"\x81" + bytes([size]) if size < 256 else b"\x82" + size.to_bytes(2, "big")
    return (b"\x86" if identity.is_uri else b"\x82") + length + name
