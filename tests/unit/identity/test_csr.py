from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from core.errors import IdentityError
from identity.csr import MAX_COMMON_NAME, MAX_CSR_BYTES, create_csr, read_csr
from identity.key import create_key, read_key, write_key
from identity.name import Identity, parse_identity

KEY = create_key()
WEB = parse_identity("web.shop.serviceaccount.identity.linkerd.cluster.local")
VM = parse_identity("spiffe://cluster.local/ns/shop/vm")
LONG = parse_identity(f"{'a' * 63}.shop.serviceaccount.identity.linkerd.cluster.local")

DNS = x509.DNSName
URI = x509.UniformResourceIdentifier
ADDRESS = x509.IPAddress(ipaddress.ip_address("10.0.0.1"))
MAIL = x509.RFC822Name("a@b.test")
DIRECTORY = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))
REGISTERED = x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))
OTHER = x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00")


def _csr(
    sans: list[x509.GeneralName],
    common_name: str = "",
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = KEY,
) -> bytes:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("identity", [WEB, VM, LONG], ids=["dns", "uri", "long"])
def test_our_own_requests_are_accepted(identity: Identity) -> None:
    """Each form of identity, also one that does not fit into a common name."""
    assert read_csr(create_csr(KEY, identity), identity) == KEY.public_key()


GOOD = {
    "no common name": (_csr([DNS(WEB.name)]), WEB),
    "an equal common name": (_csr([DNS(WEB.name)], WEB.name), WEB),
    "another case": (_csr([DNS(WEB.name.upper())], WEB.name.upper()), WEB),
    "a URI": (_csr([URI(VM.name)]), VM),
    "a URI with its common name": (_csr([URI(VM.name)], VM.name), VM),
}

BAD = {
    "no alternative name": (_csr([]), WEB, "none"),
    "a common name alone": (_csr([], WEB.name), WEB, "none"),
    "another name": (_csr([DNS("api.test")]), WEB, "api.test"),
    "a name with a trailing dot": (_csr([DNS(f"{WEB.name}.")]), WEB, "the CSR is for"),
    "a wildcard": (_csr([DNS("*.cluster.local")]), WEB, "the CSR is for"),
    "another common name": (_csr([DNS(WEB.name)], "api.test"), WEB, "common name"),
    "two names": (_csr([DNS(WEB.name), DNS("api.test")]), WEB, "DNS name, DNS name"),
    "the name twice": (_csr([DNS(WEB.name), DNS(WEB.name)]), WEB, "DNS name, DNS name"),
    "an address beside": (_csr([DNS(WEB.name), ADDRESS]), WEB, "IP address"),
    "an e-mail address beside": (_csr([DNS(WEB.name), MAIL]), WEB, "e-mail address"),
    "a URI beside": (_csr([DNS(WEB.name), URI(VM.name)]), WEB, "URI"),
    "a directory name beside": (_csr([DNS(WEB.name), DIRECTORY]), WEB, "other name"),
    "a registered name beside": (_csr([DNS(WEB.name), REGISTERED]), WEB, "other name"),
    "an other name beside": (_csr([DNS(WEB.name), OTHER]), WEB, "other name"),
    "a URI for a name": (_csr([URI(VM.name)]), WEB, "wanted one DNS name"),
    "a name for a URI": (_csr([DNS(WEB.name)]), VM, "wanted one URI"),
    "another URI": (_csr([URI("spiffe://cluster.local/x")]), VM, "the CSR is for"),
    "a URI beside a URI": (_csr([URI(VM.name), DNS(WEB.name)]), VM, "URI, DNS name"),
    "a P-384 key": (
        _csr([DNS(WEB.name)], key=ec.generate_private_key(ec.SECP384R1())),
        WEB,
        "not ECDSA P-256",
    ),
    "an RSA key": (
        _csr([DNS(WEB.name)], key=rsa.generate_private_key(65537, 2048)),
        WEB,
        "not ECDSA P-256",
    ),
    "garbage": (b"garbage", WEB, "cannot be parsed"),
    "nothing": (b"", WEB, "cannot be parsed"),
    "bytes after it": (_csr([DNS(WEB.name)]) + b"x", WEB, "cannot be parsed"),
    "half of it": (_csr([DNS(WEB.name)])[:150], WEB, "cannot be parsed"),
    "at the bound": (b"x" * MAX_CSR_BYTES, WEB, "cannot be parsed"),
    "past the bound": (b"x" * (MAX_CSR_BYTES + 1), WEB, "at most"),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_request_by_the_rules_is_accepted(case: str) -> None:
    """One SAN that is the identity; the common name empty or equal."""
    der, identity = GOOD[case]
    assert read_csr(der, identity) == KEY.public_key()


@pytest.mark.parametrize("case", BAD)
def test_a_request_against_the_rules_is_refused(case: str) -> None:
    """The message names the rule."""
    der, identity, words = BAD[case]
    with pytest.raises(IdentityError) as refused:
        read_csr(der, identity)
    assert words in str(refused.value)


def test_a_request_signed_by_another_key_is_refused() -> None:
    """Whoever asks has to hold the key."""
    der = bytearray(create_csr(KEY, WEB))
    der[-1] ^= 1
    with pytest.raises(IdentityError, match=r"signature|parsed"):
        read_csr(bytes(der), WEB)


@pytest.mark.needs("openssl")
def test_openssl_s_requests_are_understood(tmp_path: Path) -> None:
    """An independent maker's request is accepted, and an independent reader takes ours."""
    write_key(tmp_path / "key.pem", KEY)
    made = subprocess.run(
        [
            *("openssl", "req", "-new", "-key", str(tmp_path / "key.pem"), "-outform", "DER"),
            *("-subj", "/", "-addext", f"subjectAltName=DNS:{LONG.name}"),
        ],
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert read_csr(made.stdout, LONG) == KEY.public_key()
    seen = subprocess.run(
        ["openssl", "req", "-inform", "DER", "-noout", "-verify", "-text"],
        input=create_csr(KEY, WEB),
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert f"DNS:{WEB.name}" in seen.stdout.decode()


def test_a_common_name_past_its_bound_is_read_like_any_other() -> None:
    """Go writes such names; equal passes, another is refused."""
    assert len(LONG.name) > MAX_COMMON_NAME
    for name, words in ((LONG.name, ""), (f"{LONG.name}x", "common name")):
        with pytest.warns(UserWarning, match="length"):
            attribute = x509.NameAttribute(NameOID.COMMON_NAME, name, _validate=False)
        der = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([attribute]))
            .add_extension(x509.SubjectAlternativeName([DNS(LONG.name)]), critical=False)
            .sign(KEY, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )
        if not words:
            assert read_csr(der, LONG) == KEY.public_key()
            continue
        with pytest.raises(IdentityError, match=words):
            read_csr(der, LONG)


def test_a_key_is_written_for_its_owner_and_read_again(tmp_path: Path) -> None:
    """PKCS#8 PEM, mode 0600, never over another."""
    path = tmp_path / "key.pem"
    write_key(path, KEY)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert read_key(path).private_numbers() == KEY.private_numbers()
    with pytest.raises(IdentityError, match="not overwritten"):
        write_key(path, create_key())


def test_a_key_of_another_kind_or_none_is_refused(tmp_path: Path) -> None:
    """The message names the file and nothing of what is in it."""
    path = tmp_path / "key.pem"
    for content, words in (
        (b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", "no usable"),
        (b"secret", "no usable"),
    ):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(IdentityError, match=words) as refused:
            read_key(path)
        assert "secret" not in str(refused.value)
        assert "c2Vj" not in str(refused.value)
