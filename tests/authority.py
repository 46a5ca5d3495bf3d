"""A real authority and real generations for tests: one root, one issuer, any number of leaves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import final

from identity.anchors import Anchors
from identity.authority import Authority, init_authority
from identity.csr import create_csr
from identity.generation import Generation, build_generation
from identity.issuer import Issued
from identity.key import create_key, write_key
from identity.name import Identity, parse_identity


@final
@dataclass(frozen=True)
class Mesh:
    """One trust domain on disk, as ``pillion identity init`` makes it."""

    authority: Authority

    @property
    def anchors(self) -> Anchors:
        """The anchors in force."""
        return self.authority.load_anchors()

    @property
    def root(self) -> bytes:
        """The one root as DER."""
        (root,) = self.anchors.roots[self.authority.trust_domain]
        return root

    def identity(self, who: str) -> Identity:
        """Return the identity of ``namespace/service-account``, or a name in full."""
        return self.authority.identity_of(who)

    def leaf(
        self,
        identity: Identity,
        directory: Path,
        *,
        now: float | None = None,
        lifetime_s: float = 86_400,
        skew_s: float = 20,
    ) -> Issued:
        """Issue a leaf; its new key is written to ``directory``/key.pem."""
        directory.mkdir(parents=True, exist_ok=True)
        key = create_key()
        (directory / "key.pem").unlink(missing_ok=True)
        write_key(directory / "key.pem", key)
        issuer = self.authority.load_issuer(
            lifetime=timedelta(seconds=lifetime_s), skew=timedelta(seconds=skew_s)
        )
        moment = time.time() if now is None else now
        return issuer.issue(create_csr(key, identity), identity, self.anchors, moment)

    def generation(
        self,
        who: str,
        *,
        anchors: Anchors | None = None,
        server_name: str = "",
        lifetime_s: float = 86_400,
        skew_s: float = 20,
    ) -> Generation:
        """Return a generation of ``who``, ready to use, proved as always."""
        identity = self.identity(who)
        directory = self.authority.directory / "leaves" / identity.name.replace("/", "_")
        issued = self.leaf(identity, directory, lifetime_s=lifetime_s, skew_s=skew_s)
        return build_generation(
            leaf_chain_der=(issued.leaf, *issued.intermediates),
            key_path=directory / "key.pem",
            anchors=anchors or self.anchors,
            identity=identity,
            server_name=server_name,
            now=time.time(),
        )


def mk_mesh(directory: Path, trust_domain: str = "cluster.local") -> Mesh:
    """Make an authority in ``directory``."""
    return Mesh(init_authority(directory, trust_domain=trust_domain, now=time.time()))


def mk_identity(who: str, trust_domain: str = "cluster.local") -> Identity:
    """Return the identity of ``namespace/service-account`` without an authority."""
    namespace, _, service_account = who.partition("/")
    return parse_identity(
        f"{service_account}.{namespace}.serviceaccount.identity.linkerd.{trust_domain}"
    )
