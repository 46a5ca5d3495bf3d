"""TLS engines: each library as client and as server, against each other, in memory."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError, HandshakeError, IdentityError, TruncatedError
from identity.anchors import Anchors
from identity.generation import Credential, Generation
from identity.openssl import BLANK, load_openssl
from proxy.wire.tls import TlsEngine
from proxy.wire.tls_library import (
    AUTO,
    CRYPTOGRAPHY,
    PYTHON,
    OpensslLibrary,
    StandardLibrary,
    TlsLibrary,
    choose_library,
)
from tests.authority import Mesh, mk_mesh
from tests.session.libssl import LibsslClient

_LIBRARIES = (PYTHON, CRYPTOGRAPHY)
_PAIRS = tuple(itertools.product(_LIBRARIES, _LIBRARIES))
_ROOM = memoryview(bytearray(200_000))


class Kept:
    """Keeps the session that came last."""

    def __init__(self) -> None:
        self.session: object | None = None

    def keep(self, session: object) -> None:
        """Keep it."""
        self.session = session


class Mallinfo(ctypes.Structure):
    """What malloc tells of itself (mallinfo2(3))."""

    _fields_ = tuple((f"field_{place}", ctypes.c_size_t) for place in range(10))


def allocated() -> int:
    """Return the bytes that malloc has given out, in small pieces and in mapped ones."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = Mallinfo
    found = ask()
    return int(found.field_4) + int(found.field_7)


class Ends:
    """A client and a server, and the wire between them."""

    def __init__(
        self,
        client: TlsLibrary,
        server: TlsLibrary,
        web: Generation,
        api: Generation,
        session: object | None = None,
        *,
        direct: bool = True,
    ) -> None:
        self.kept = Kept()
        self.client = client.client(
            web,
            direct=direct,
            server_name=api.server_name,
            session=session,
            keeper=self.kept,
        )
        self.server = server.server(api, direct=True)

    def shake(self, piece: int = 100_000) -> None:
        """Complete the handshake; the wire carries so many octets at a time."""
        for _ in range(6):
            for near, far in ((self.client, self.server), (self.server, self.client)):
                if not near.established:
                    near.handshake()
                self.carry(near, far, piece)
        assert self.client.established
        assert self.server.established

    @staticmethod
    def carry(near: TlsEngine, far: TlsEngine, piece: int = 100_000) -> None:
        """Bring what one end has to say to the other."""
        data = near.take()
        for start in range(0, len(data), piece):
            far.feed(data[start : start + piece])
            if not far.established:
                far.handshake()

    def say(self, data: bytes) -> bytes:
        """Let the client say something; returns what the server understands."""
        self.client.write(data)
        self.carry(self.client, self.server)
        return b"".join(read_all(self.server))


def read_all(engine: TlsEngine) -> Iterator[bytes]:
    """Yield what can be read now."""
    while engine.may_read and (size := engine.read(_ROOM)) > 0:
        yield bytes(_ROOM[:size])


@pytest.fixture(scope="module")
def libraries() -> dict[str, TlsLibrary]:
    """Return both, which take sessions up."""
    return {name: choose_library(name, resume=True, hybrid=False) for name in _LIBRARIES}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """Return one authority."""
    return mk_mesh(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def rogue(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """Return another of the same trust domain."""
    return mk_mesh(tmp_path_factory.mktemp("rogue"))


@pytest.fixture(scope="module")
def pair(mesh: Mesh) -> tuple[Generation, Generation]:
    """Return a client's and a server's generation for many examples."""
    return mesh.generation("shop/web"), mesh.generation("shop/api")


@pytest.fixture
def web(mesh: Mesh) -> Generation:
    """Return the client's generation."""
    return mesh.generation("shop/web")


@pytest.fixture
def api(mesh: Mesh) -> Generation:
    """Return the server's generation."""
    return mesh.generation("shop/api")


@pytest.mark.parametrize(("near", "far"), _PAIRS)
@pytest.mark.parametrize("piece", [1, 512, 100_000])
def test_both_ends_know_each_other(
    libraries: dict[str, TlsLibrary],
    web: Generation,
    api: Generation,
    near: str,
    far: str,
    piece: int,
) -> None:
    """The same facts, whichever library finds them."""
    ends = Ends(libraries[near], libraries[far], web, api)
    ends.shake(piece)
    for engine, peer in ((ends.client, api), (ends.server, web)):
        assert engine.version == "TLSv1.3"
        assert engine.alpn == "transport.l5d.io/v1"
        assert engine.peer_der == peer.credential.chain[0]
        assert engine.peer_names == (("DNS", peer.identity.name),)
        assert engine.peer_not_after == min(peer.not_after, peer.authority_not_after)
        assert engine.verified_root in web.anchors.roots[web.anchors.own_domain]
        assert not engine.resumed
    assert ends.say(b"ping") == b"ping"


@pytest.mark.parametrize(("near", "far"), _PAIRS)
def test_bytes_come_as_they_went(
    libraries: dict[str, TlsLibrary], web: Generation, api: Generation, near: str, far: str
) -> None:
    """None, one, a record and one more, and more than any buffer on the way holds."""
    ends = Ends(libraries[near], libraries[far], web, api)
    ends.shake()
    for size in (0, 1, 16_384, 16_385, 150_000):
        data = bytes(range(256)) * (size // 256 + 1)
        for form in (data[:size], bytearray(data[:size]), memoryview(data)[:size]):
            assert ends.say(form) == data[:size]  # type: ignore[arg-type]  # what buffers are
    assert not ends.server.may_read
    assert ends.server.read(_ROOM) == -1


@pytest.mark.parametrize("name", _LIBRARIES)
@given(
    sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=8),
    cuts=st.lists(st.integers(1, 40_000), min_size=1, max_size=8),
)
def test_however_the_wire_is_cut_nothing_waits_that_is_whole(
    libraries: dict[str, TlsLibrary],
    pair: tuple[Generation, Generation],
    name: str,
    sizes: list[int],
    cuts: list[int],
) -> None:
    """After each piece all records that are whole by then have been read."""
    ends = Ends(libraries[PYTHON], libraries[name], *pair)
    ends.shake()
    wire, wholes = b"", [0]
    for size in sizes:
        ends.client.write(bytes(size))
        wire += ends.client.take()
        wholes.append(len(wire))
    said = [0, *itertools.accumulate(sizes)]
    place = heard = 0
    for cut in itertools.cycle(cuts):
        ends.server.feed(wire[place : place + cut])
        place += cut
        heard += sum(len(each) for each in read_all(ends.server))
        assert heard >= max(
            words for words, whole in zip(said, wholes, strict=True) if whole <= place
        )
        assert not ends.server.has_output
        if place >= len(wire):
            break
    assert heard == sum(sizes)


@pytest.mark.parametrize("name", _LIBRARIES)
@pytest.mark.parametrize("piece", [1, 5, 100])
def test_a_new_key_that_is_asked_for_goes_out_with_what_is_said_next(
    libraries: dict[str, TlsLibrary], api: Generation, name: str, piece: int
) -> None:
    """It brings nothing to read, and no more answers than it was asked for."""
    server = libraries[name].server(api, direct=False)
    client = LibsslClient(api.server_name)
    for _ in range(4):
        client.handshake()
        server.feed(client.take())
        if not server.established:
            server.handshake()
        client.feed(server.take())
    assert server.established
    server.write(b"before")
    plain = len(server.take())
    for _ in range(5):
        client.request_key_update()
        wire = client.take()
        for start in range(0, len(wire), piece):
            server.feed(wire[start : start + piece])
            assert list(read_all(server)) == []
        assert server.has_output == bool(answered := server.take())
        assert len(answered) <= plain
    server.write(b"behind")
    assert plain < len(server.take()) <= 2 * plain
    client.close()


@pytest.mark.parametrize("name", _LIBRARIES)
def test_a_session_is_taken_up_again_and_again(
    libraries: dict[str, TlsLibrary], web: Generation, api: Generation, name: str
) -> None:
    """However the connections ended, and with one ticket for each."""
    library = libraries[name]
    session = None
    for count in range(4):
        ends = Ends(library, library, web, api, session)
        ends.shake()
        assert ends.client.resumed == ends.server.resumed == bool(count)
        assert ends.client.peer_der == api.credential.chain[0]
        assert ends.server.peer_der == web.credential.chain[0]
        if count:
            assert ends.client.verified_root is None
            assert ends.client.peer_not_after == 0
        assert ends.client.read(_ROOM) == -1
        ends.client.offer_session()
        session = session or ends.kept.session
        assert session is not None


@pytest.mark.parametrize(("near", "far"), _PAIRS)
@pytest.mark.parametrize("keeps_session", [False, True])
def test_a_connection_goes_on_without_its_peers_certificates(
    web: Generation, api: Generation, near: str, far: str, *, keeps_session: bool
) -> None:
    """So do later ones that take its session up, and the anchors stay what they were."""
    client, server = (choose_library(name, resume=True, hybrid=False) for name in (near, far))
    session = None
    for count in range(3):
        ends = Ends(client, server, web, api, session if keeps_session else None)
        ends.shake()
        assert ends.client.resumed == (keeps_session and bool(count))
        assert ends.client.peer_der == api.credential.chain[0]
        assert ends.server.peer_der == web.credential.chain[0]
        for _ in range(2):
            ends.client.forget_peer(keeps_session=keeps_session)
            ends.server.forget_peer(keeps_session=keeps_session)
        root = ends.client.verified_root
        assert root is None if ends.client.resumed else root in api.anchors.roots["cluster.local"]
        assert ends.say(b"x" * 70_000) == b"x" * 70_000
        assert ends.client.read(_ROOM) == -1
        ends.client.offer_session()
        session = session or ends.kept.session
        assert session is not None


def test_cipher_suites_are_those_of_linkerds_proxies(
    libraries: dict[str, TlsLibrary], web: Generation, api: Generation
) -> None:
    """In their order: AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305 (RFC 8446, B.4)."""
    ends = Ends(libraries[CRYPTOGRAPHY], libraries[CRYPTOGRAPHY], web, api)
    ends.client.handshake()
    assert bytes.fromhex("0006 1301 1302 1303 0100") in ends.client.take()


def test_who_is_forgotten_has_shown_nothing(
    libraries: dict[str, TlsLibrary], web: Generation, api: Generation
) -> None:
    """Should anybody ask again; a leaf stays where a session is kept that is to prove it."""
    library = libraries[CRYPTOGRAPHY]
    for keeps_session in (False, True):
        ends = Ends(library, library, web, api)
        ends.shake()
        ends.client.forget_peer(keeps_session=keeps_session)
        ends.server.forget_peer(keeps_session=keeps_session)
        assert ends.server.peer_der is None
        assert ends.server.peer_names == ()
        assert ends.client.peer_der == (api.credential.chain[0] if keeps_session else None)


def test_a_certificate_that_cannot_be_forgotten_stays_the_connections(
    web: Generation, api: Generation
) -> None:
    """The library lets go of what it could not fill, which the connection frees once more."""
    library = choose_library(CRYPTOGRAPHY, resume=True, hybrid=False)
    assert isinstance(library, OpensslLibrary)
    # In a certificate there is no such type.
    broken = BLANK[:2] + b"\x05" + BLANK[3:]
    library._calls.blank = load_openssl().ffi.from_buffer(broken)
    for _ in range(20):
        ends = Ends(library, library, web, api)
        ends.shake()
        for engine in (ends.client, ends.server) * 4:
            with pytest.raises(MemoryError, match="certificate"):
                engine.forget_peer(keeps_session=False)
        assert ends.say(b"unharmed") == b"unharmed"


def test_forgotten_peers_take_no_room(
    libraries: dict[str, TlsLibrary], web: Generation, api: Generation
) -> None:
    """Three KiB less for each of the two certificates, at either end."""
    held: list[Ends] = []
    sizes: list[int] = []
    for forgets in (False, True):
        for warm in (True, False):
            before = allocated()
            for _ in range(20):
                ends = Ends(libraries[CRYPTOGRAPHY], libraries[CRYPTOGRAPHY], web, api)
                ends.shake()
                if forgets:
                    ends.client.forget_peer(keeps_session=False)
                    ends.server.forget_peer(keeps_session=False)
                held.append(ends)
            if not warm:
                sizes.append(allocated() - before)
    whole, forgotten = sizes
    assert whole - forgotten > 20 * 2 * 2 * 3 * 1024


@pytest.mark.parametrize("name", _LIBRARIES)
def test_who_waits_for_a_ticket_does_not_wait_for_ever(
    web: Generation, api: Generation, name: str
) -> None:
    """Where sessions are not to be taken up, no session that counts comes."""
    library = choose_library(name, resume=False, hybrid=False)
    library.prepare(api)
    session = None
    for _ in range(2):
        ends = Ends(library, library, web, api, session)
        ends.shake()
        assert not ends.client.resumed
        for _ in range(4):
            assert ends.client.read(_ROOM) == -1
            ends.client.offer_session()
        assert ends.client.keeper is None
        session = ends.kept.session


def test_a_server_gives_one_ticket(
    libraries: dict[str, TlsLibrary], web: Generation, api: Generation
) -> None:
    """The second would cost as much as the first, and nobody uses it."""
    said = []
    for name in _LIBRARIES:
        ends = Ends(libraries[PYTHON], libraries[name], web, api)
        ends.client.handshake()
        ends.carry(ends.client, ends.server)
        ends.carry(ends.server, ends.client)
        ends.carry(ends.client, ends.server)
        said.append(len(ends.server.take()))
    assert max(said) < 1.3 * min(said)


@pytest.mark.parametrize(("near", "far"), _PAIRS)
def test_a_stranger_is_refused_by_either_side(
    libraries: dict[str, TlsLibrary],
    mesh: Mesh,
    rogue: Mesh,
    api: Generation,
    near: str,
    far: str,
) -> None:
    """The reason is told to both."""
    stranger = rogue.generation("shop/web")
    trusting = stranger.under(
        Anchors(mesh.anchors.own_domain, {mesh.anchors.own_domain: frozenset({mesh.root})})
    )
    ends = Ends(libraries[near], libraries[far], trusting, api)
    with pytest.raises(HandshakeError, match="does not verify"):
        ends.shake()
    alert = ends.server.take()
    assert alert
    ends.client.feed(alert)
    with pytest.raises(HandshakeError, match="alert"):
        ends.client.read(_ROOM)
    ends = Ends(libraries[near], libraries[far], stranger, api)
    with pytest.raises(HandshakeError, match="does not verify"):
        ends.shake()
    assert ends.client.take()


@pytest.mark.parametrize(("near", "far"), _PAIRS)
def test_an_end_is_told_apart_from_a_cut(
    libraries: dict[str, TlsLibrary], web: Generation, api: Generation, near: str, far: str
) -> None:
    """By close_notify; the other direction stays open."""
    ends = Ends(libraries[near], libraries[far], web, api)
    ends.shake()
    ends.client.close()
    ends.carry(ends.client, ends.server)
    assert ends.server.read(_ROOM) == 0
    ends.server.write(b"still here")
    ends.carry(ends.server, ends.client)
    assert b"".join(read_all(ends.client)) == b"still here"


@pytest.mark.parametrize("name", _LIBRARIES)
def test_a_wire_that_ends_in_a_handshake_says_so(
    libraries: dict[str, TlsLibrary], api: Generation, name: str
) -> None:
    """It is no alert and no bad record."""
    engine = libraries[name].server(api, direct=False)
    assert not engine.handshake()
    engine.feed_end()
    with pytest.raises(HandshakeError, match="ended the connection"):
        engine.handshake()


@pytest.mark.parametrize("name", _LIBRARIES)
def test_what_is_no_tls_is_an_error_and_nobody_elses(
    libraries: dict[str, TlsLibrary], web: Generation, api: Generation, name: str
) -> None:
    """An error of one connection leaves nothing behind for the next call of another."""
    good = Ends(libraries[name], libraries[name], web, api)
    good.shake()
    bad = libraries[name].server(api, direct=False)
    bad.feed(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(HandshakeError):
        bad.handshake()
    assert good.server.read(_ROOM) == -1
    assert good.say(b"unharmed") == b"unharmed"
    torn = Ends(libraries[name], libraries[name], web, api)
    torn.shake()
    torn.client.write(b"x" * 100)
    wire = bytearray(torn.client.take())
    wire[-1] ^= 1
    torn.server.feed(wire)
    with pytest.raises((HandshakeError, TruncatedError)):
        torn.server.read(_ROOM)
    assert good.say(b"unharmed") == b"unharmed"


def test_alpn_is_answered_on_the_direct_port_alone(
    libraries: dict[str, TlsLibrary], web: Generation, api: Generation
) -> None:
    """A client that offers none is taken all the same; enforcing it is another's part."""
    for name in _LIBRARIES:
        ends = Ends(libraries[name], libraries[name], web, api, direct=False)
        ends.shake()
        assert ends.client.alpn == ends.server.alpn == ""


@pytest.mark.parametrize(("hybrid", "group"), [(True, "X25519MLKEM768"), (False, "x25519")])
def test_a_key_exchange_that_outlives_quantum_computers_is_to_be_had(
    web: Generation, api: Generation, hybrid: bool, group: str
) -> None:
    """With a server that does not prefer it, too."""
    near = choose_library(CRYPTOGRAPHY, resume=True, hybrid=hybrid)
    far = choose_library(CRYPTOGRAPHY, resume=True, hybrid=False)
    ends = Ends(near, far, web, api)
    ends.shake()
    openssl = load_openssl()
    pointer = ends.server._ssl  # type: ignore[attr-defined]
    found: bytes = openssl.ffi.string(openssl.lib.SSL_get0_group_name(pointer))
    assert found.decode() == group


def test_the_newer_library_is_chosen_unless_one_is_asked_for() -> None:
    """What cannot be had is an error, not something else."""
    assert isinstance(choose_library(PYTHON, resume=True, hybrid=False), StandardLibrary)
    chosen = choose_library(CRYPTOGRAPHY, resume=True, hybrid=False)
    assert isinstance(chosen, OpensslLibrary)
    assert chosen.version == load_openssl().version
    assert choose_library(AUTO, resume=True, hybrid=False).name in _LIBRARIES
    with pytest.raises(ConfigError, match="PILLION_TLS_HYBRID"):
        choose_library(PYTHON, resume=True, hybrid=True)


def test_contexts_of_two_generations_are_kept(mesh: Mesh, libraries: dict[str, TlsLibrary]) -> None:
    """An older one's are made again when somebody asks."""
    library = libraries[CRYPTOGRAPHY]
    assert isinstance(library, OpensslLibrary)
    made = [mesh.generation("shop/web") for _ in range(3)]
    for generation in made:
        library.prepare(generation)
    assert list(library._contexts) == made[1:]
    library.server(made[0], direct=False)
    assert list(library._contexts) == [made[2], made[0]]


def _with(generation: Generation, credential: Credential) -> Generation:
    """Return a generation as ``ssl`` took it, with a credential that it has not seen."""
    return Generation(
        identity=generation.identity,
        server_name=generation.server_name,
        anchors=generation.anchors,
        credential=credential,
        validity=(generation.not_before, generation.not_after),
        contexts=(
            generation.server_context(direct=False),
            generation.server_context(direct=True),
            generation.client_context(direct=False),
            generation.client_context(direct=True),
        ),
    )


def test_what_the_library_has_no_use_for_is_an_error_that_says_what_to_do(
    libraries: dict[str, TlsLibrary], web: Generation, api: Generation
) -> None:
    """A key of somebody else's, one behind a password that nobody is asked for, and no key."""
    chain, key = web.credential.chain, load_pem_private_key(web.credential.key, None)
    locked = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
    )
    for credential in (
        Credential(chain, api.credential.key),
        Credential(chain, locked),
        Credential(chain, b""),
        Credential((b"\x30\x00", *chain[1:]), web.credential.key),
    ):
        with pytest.raises(IdentityError, match="PILLION_TLS_ENGINE=python") as caught:
            libraries[CRYPTOGRAPHY].prepare(_with(web, credential))
        assert "PRIVATE" not in str(caught.value)
    good = Ends(libraries[CRYPTOGRAPHY], libraries[CRYPTOGRAPHY], web, api)
    good.shake()
    assert good.say(b"unharmed") == b"unharmed"


@pytest.mark.parametrize("settings", [{}, {"OPENSSL_CONF": "/dev/null"}])
def test_a_configuration_of_somebody_elses_stays(settings: dict[str, str]) -> None:
    """It is not replaced, and it is not left changed."""
    script = """
import os
from identity.openssl import load_openssl
before = os.environ.get("OPENSSL_CONF")
openssl = load_openssl()
assert os.environ.get("OPENSSL_CONF") == before
print(openssl.version)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("OpenSSL ")
