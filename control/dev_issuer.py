"""Issuing inside the sidecar's own process: for development, and only when asked for by name.

Whoever takes over such a sidecar holds the issuer's key, and with it every identity.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from core.clock import Clock
from core.errors import ConfigError
from identity.authority import load_authority
from identity.certify import Certifier
from identity.files import replace
from identity.material import Material
from identity.name import Identity
from identity.request import Certified, CertifyRequest

SWITCH: Final = "PILLION_DEV_ISSUER"
"""The environment's switch; only ``1`` turns it on."""


def open_dev_issuer(
    authority: Path,
    directory: Path,
    identity: Identity,
    *,
    environment: Mapping[str, str],
    clock: Clock,
    log: Callable[[str, str], None],
) -> Callable[[bytes, bytes], Awaitable[Certified]]:
    """Return what ``LeafRenewal`` asks for certificates, backed by the issuer in ``authority``.

    Writes the token into the workload's ``directory``, so that requests go the usual way.
    Raises ConfigError unless the environment's switch is on, IdentityError without an authority.
    """
    if environment.get(SWITCH) != "1":
        raise ConfigError(
            f"issuing inside the sidecar needs {SWITCH}=1",
            hint="run `pillion identity serve`, which alone opens the issuer's key",
        )
    log("warn", f"{SWITCH}=1: this process holds the issuer's key; never do so in production")
    issuer = load_authority(authority)
    certifier = Certifier(issuer, warn=lambda message: log("warn", message))
    replace(Material(directory).token, issuer.create_token(identity).encode(), mode=0o600)

    async def certify(csr: bytes, token: bytes) -> Certified:
        request = CertifyRequest(identity.name, token, csr)
        return certifier.certify(request, clock.now().timestamp())

    return certify
