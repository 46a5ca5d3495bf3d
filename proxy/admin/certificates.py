"""What /certs says: our leaf with its intermediates, and the anchors, never a key."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator, Mapping
from typing import Final

from core.clock import utc_text
from identity.generation import Generation
from identity.handshake import Facts, sent_chain

MAX_ANCHORS: Final = 100
"""Anchors that are shown; a rotation of a mesh of ten clusters has twenty."""
_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
}

Shown = dict[str, object]


def describe_certificates(generation: Generation) -> Shown:
    """Return who we are to others, and whom we believe."""
    chain = generation.credential.chain
    facts = sent_chain(generation.server_context(direct=False))
    leaf, *rest = (_describe(der, each) for der, each in zip(chain, facts, strict=False))
    anchors = list(_anchors(generation))
    context = generation.client_context(direct=False)
    trusted = dict(zip(context.get_ca_certs(binary_form=True), context.get_ca_certs(), strict=True))
    return {
        "identity": generation.identity.name,
        "server_name": generation.server_name,
        "trouble": generation.trouble,
        "leaf": leaf,
        "intermediates": rest,
        "anchors": [
            {"trust_domain": domain, **_describe(der, trusted.get(der, {}))}
            for domain, der in anchors[:MAX_ANCHORS]
        ],
        "anchors_in_all": len(anchors),
    }


def write_certificates(generation: Generation) -> bytes:
    """Return the same as one PEM bundle, with a line before each that says what it is."""
    anchors = list(_anchors(generation))[:MAX_ANCHORS]
    leaf, *rest = generation.credential.chain
    named = [
        (f"leaf of {generation.identity}", leaf),
        *(("intermediate", each) for each in rest),
        *((f"anchor of {domain}", der) for domain, der in anchors),
    ]
    return "".join(f"# {name}\n{ssl.DER_cert_to_PEM_cert(der)}" for name, der in named).encode()


def _anchors(generation: Generation) -> Iterator[tuple[str, bytes]]:
    """Yield (trust domain, root), ours first."""
    anchors = generation.anchors
    own = anchors.own_domain
    for domain in sorted(anchors.roots, key=lambda each: (each != own, each)):
        for der in sorted(anchors.roots[domain]):
            yield domain, der


def _describe(der: bytes, facts: Facts) -> Shown:
    shown: Shown = {
        "subject": _name(facts, "subject"),
        "names": [f"{kind}:{text}" for kind, text in facts.get("subjectAltName", ())],
        "issuer": _name(facts, "issuer"),
        "serial": str(facts.get("serialNumber", "")).lower(),
        "fingerprint": hashlib.sha256(der).hexdigest(),
        "pem": ssl.DER_cert_to_PEM_cert(der),
    }
    times: Mapping[str, str] = {"not_before": "notBefore", "not_after": "notAfter"}
    for name, key in times.items():
        if key in facts:
            shown[name] = utc_text(ssl.cert_time_to_seconds(str(facts[key])))
    return shown


def _name(facts: Facts, key: str) -> str:
    parts = [part for group in facts.get(key, ()) for part in group]
    return ",".join(f"{_SHORT.get(kind, kind)}={text}" for kind, text in parts)
