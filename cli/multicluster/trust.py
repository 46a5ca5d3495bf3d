"""What two clusters' roots come to: whether a link may be made, and what it opens."""

from __future__ import annotations

from pathlib import Path
from typing import final

from core.errors import ConfigError
from core.record import dataclass
from identity.anchors import parse_roots
from identity.files import read_bounded


@final
@dataclass(frozen=True, slots=True)
class Trust:
    """Trust domain and roots of one cluster; ``roots`` is None where they are not known."""

    domain: str
    roots: frozenset[bytes] | None


def read_trust(domain: str, file: Path | None) -> Trust:
    """Return a cluster's trust domain with the roots in ``file``. Raises ConfigError."""
    if file is None:
        return Trust(domain, None)
    bundle = parse_roots(read_bounded(file), str(file))
    if not bundle.roots:
        raise ConfigError(f"{file} holds no usable root", hint="; ".join(bundle.problems))
    return Trust(domain, bundle.roots)


def judge_trust(own: Trust, far: Trust) -> str:
    """Return what has to be said of a link between two clusters; empty: nothing.

    Raises ConfigError when it must not be: two roots cannot both speak for one trust domain.
    """
    if own.domain != far.domain:
        if own.roots is not None and far.roots is not None and own.roots & far.roots:
            return (
                f"{own.domain} and {far.domain} share a root: each cluster can issue certificates "
                "for identities of the other"
            )
        return ""
    if own.roots is None or far.roots is None:
        raise ConfigError(
            f"both clusters have trust domain {own.domain}: their roots have to be compared",
            hint="name them: --own-anchors FILE --anchors FILE",
        )
    if own.roots != far.roots:
        raise ConfigError(
            f"both clusters have trust domain {own.domain}, and different roots: whoever is "
            "trusted to name the other's workloads could name ours",
            hint="give one cluster a trust domain of its own (trustDomain of pillion-config), or "
            "both the same root",
        )
    return (
        f"both clusters have trust domain {own.domain} and the same root: each can issue "
        "certificates for identities of the other"
    )
