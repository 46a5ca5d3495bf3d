from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import pytest

from control.issuer_client import IssuerClient
from control.issuer_frame import MAX_REQUEST_BYTES, decode_answer, frame, read_frame
from control.issuer_server import MAX_PATH_BYTES, IssuerServer
from core.errors import ConfigError, IdentityError
from identity.certify import Certifier
from identity.csr import create_csr
from identity.key import create_key
from identity.ledger import read_entries
from identity.request import INVALID, REFUSED, Certified, CertifyRequest
from proxy.net.loop import Loop
from tests.authority import Mesh, mk_identity, mk_mesh

KEY = create_key()
WEB = mk_identity("shop/web")
CSR = create_csr(KEY, WEB)
CERTIFIED = Certified(b"leaf", (), 1000.0)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """An authority to issue from."""
    return mk_mesh(tmp_path_factory.mktemp("issuer") / "authority")


@final
@dataclass
class Log:
    lines: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, level: str, message: str) -> None:
        self.lines.append((level, message))


@asynccontextmanager
async def _serving(
    path: Path,
    certify: Callable[[CertifyRequest], Certified],
    log: Log | None = None,
    *,
    max_callers: int = 8,
    timeout_s: float = 10.0,
) -> AsyncIterator[Log]:
    log = log or Log()
    server = IssuerServer(path, certify, log, max_callers=max_callers, timeout_s=timeout_s)
    try:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(server.run())
            yield log
            running.cancel()
    finally:
        server.close()


def _issuing(mesh: Mesh) -> Callable[[CertifyRequest], Certified]:
    certifier = Certifier(mesh.authority, warn=lambda message: None)
    return lambda request: certifier.certify(request, time.time())


def _granting(request: CertifyRequest) -> Certified:
    return CERTIFIED


async def _call(path: Path, data: bytes) -> Certified:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, str(path))
        await loop.sock_sendall(connection, data)
        return decode_answer(await read_frame(connection, 1 << 20))


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, Loop])
def test_a_workload_is_given_its_certificate(
    mesh: Mesh, tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """From token and CSR to a leaf in the ledger, on both event loops."""

    async def story() -> None:
        path = tmp_path / "issuer.sock"
        async with _serving(path, _issuing(mesh)) as log:
            assert path.stat().st_mode & 0o777 == 0o666
            token = mesh.authority.create_token(WEB).encode()
            certified = await IssuerClient(path, WEB).certify(CSR, token)
            assert certified.valid_until > time.time()
            assert len(certified.intermediates) == 1
            entries = [entry for entry in read_entries(mesh.authority.ledger) if entry]
            assert entries[-1].identity == WEB.name
        assert [level for level, _ in log.lines] == ["info"]
        assert token.decode() not in str(log.lines)
        assert not path.exists()

    _run(story(), new_loop)


def _run(story: Coroutine[None, None, None], new_loop: Callable[[], object]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:  # type: ignore[arg-type]
        runner.run(story)


async def test_a_wrong_token_and_a_wrong_identity_are_refused(mesh: Mesh, tmp_path: Path) -> None:
    """The refusal's code and words reach the workload; the log names it, never the token."""
    path = tmp_path / "issuer.sock"
    async with _serving(path, _issuing(mesh)) as log:
        api = mk_identity("shop/api")
        for identity, token, csr, code in (
            (WEB, b"garbage", CSR, REFUSED),
            (WEB, mesh.authority.create_token(api).encode(), CSR, REFUSED),
            (api, mesh.authority.create_token(WEB).encode(), create_csr(KEY, api), REFUSED),
            (api, mesh.authority.create_token(api).encode(), CSR, REFUSED),
            (WEB, mesh.authority.create_token(WEB).encode(), b"", INVALID),
        ):
            with pytest.raises(IdentityError) as refused:
                await IssuerClient(path, identity).certify(csr, token)
            assert refused.value.code == code
            assert token.decode() not in str(log.lines) + str(refused.value)
            assert identity.name in log.lines[-1][1]
        assert {level for level, _ in log.lines} == {"warn"}


async def test_garbage_and_oversize_are_answered_and_do_no_harm(tmp_path: Path) -> None:
    """At the bound a request is read, one byte past it refused; then the next is served."""
    path = tmp_path / "issuer.sock"
    async with _serving(path, _granting):
        for data, code in (
            (b"GET / HTTP/1.1\r\n\r\n", "identity"),
            (b"\0\0\0\0", "identity"),
            ((MAX_REQUEST_BYTES + 1).to_bytes(4, "big"), "identity"),
            (frame(b"\xff" * 100), INVALID),
            (frame(b"\xff" * MAX_REQUEST_BYTES), INVALID),
        ):
            with pytest.raises(IdentityError) as refused:
                await _call(path, data)
            assert refused.value.code == code
        assert await IssuerClient(path, WEB).certify(CSR, b"token") == CERTIFIED


async def test_a_fault_of_its_own_ends_one_call_and_not_the_issuer(tmp_path: Path) -> None:
    """What nobody foresaw is logged; the caller is hung up on and the next one served."""
    faults = [RuntimeError("unforeseen")]

    def certify(request: CertifyRequest) -> Certified:
        if faults:
            raise faults.pop()
        return CERTIFIED

    path = tmp_path / "issuer.sock"
    async with _serving(path, certify) as log:
        with pytest.raises(IdentityError, match="hung up"):
            await IssuerClient(path, WEB).certify(CSR, b"token")
        assert await IssuerClient(path, WEB).certify(CSR, b"token") == CERTIFIED
    assert [level for level, _ in log.lines] == ["error", "info"]


async def test_callers_are_bounded_in_number_and_time(tmp_path: Path) -> None:
    """Silent callers fill the places and are hung up on in time; who waited is served then."""
    path = tmp_path / "issuer.sock"
    loop = asyncio.get_running_loop()
    async with _serving(path, _granting, max_callers=2, timeout_s=0.2) as log:
        silent = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        for connection in silent:
            connection.setblocking(False)
            await loop.sock_connect(connection, str(path))
        assert await IssuerClient(path, WEB).certify(CSR, b"token") == CERTIFIED
        for connection in silent:
            assert await loop.sock_recv(connection, 1) == b""
            connection.close()
    assert [line for line in log.lines if "longer than" in line[1]] == [
        ("warn", "a caller took longer than 0.2 s")
    ] * 2


async def test_a_caller_that_leaves_early_does_no_harm(tmp_path: Path) -> None:
    """Before, within and after its request."""
    path = tmp_path / "issuer.sock"
    loop = asyncio.get_running_loop()
    async with _serving(path, _granting):
        for data in (b"", b"\0\0", frame(b"x" * 100)[:50], frame(b"")):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.setblocking(False)
                await loop.sock_connect(connection, str(path))
                await loop.sock_sendall(connection, data)
        assert await IssuerClient(path, WEB).certify(CSR, b"token") == CERTIFIED


async def test_a_client_says_why_it_has_no_answer(tmp_path: Path) -> None:
    """Nobody there, somebody silent, somebody who hangs up, somebody who talks rubbish."""
    path = tmp_path / "issuer.sock"
    with pytest.raises(IdentityError, match="pillion identity serve"):
        await IssuerClient(path, WEB).certify(CSR, b"token")
    with pytest.raises(IdentityError, match="cannot reach"):
        await IssuerClient(tmp_path / ("x" * 200), WEB).certify(CSR, b"token")
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.setblocking(False)
        with pytest.raises(IdentityError, match=r"within 0\.05 s"):
            await IssuerClient(path, WEB, timeout_s=0.05).certify(CSR, b"token")
        (await loop.sock_accept(listener))[0].close()
        for answer, words in (
            (b"", "hung up|cannot reach"),
            (b"\xff\xff\xff\xff", "4294967295"),
            (frame(b"\7"), "neither"),
            (frame(b"\0garbage"), "CertifyResponse"),
        ):
            async with asyncio.TaskGroup() as tasks:
                call = tasks.create_task(_failure(IssuerClient(path, WEB)))
                connection, _ = await loop.sock_accept(listener)
                with connection:
                    await loop.sock_recv(connection, MAX_REQUEST_BYTES)
                    await loop.sock_sendall(connection, answer)
            with pytest.raises(IdentityError, match=words):
                raise call.result()


async def _failure(client: IssuerClient) -> IdentityError:
    try:
        await client.certify(CSR, b"token")
    except IdentityError as error:
        return error
    raise AssertionError("an answer came")


async def test_only_one_issuer_has_the_socket(tmp_path: Path) -> None:
    """A second one is told so; a file left by a killed one is taken over; others' files stay."""
    path = tmp_path / "issuer.sock"
    async with _serving(path, _granting):
        with pytest.raises(ConfigError, match="another issuer"):
            IssuerServer(path, _granting, Log())
        assert await IssuerClient(path, WEB).certify(CSR, b"token") == CERTIFIED
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    async with _serving(path, _granting):
        assert await IssuerClient(path, WEB).certify(CSR, b"token") == CERTIFIED
    path.write_text("precious")
    with pytest.raises(ConfigError, match="no socket"):
        IssuerServer(path, _granting, Log())
    assert path.read_text() == "precious"
    room = MAX_PATH_BYTES - len(str(tmp_path)) - 1
    async with _serving(tmp_path / ("x" * room), _granting):
        assert await IssuerClient(tmp_path / ("x" * room), WEB).certify(CSR, b"t") == CERTIFIED
    for bad in (tmp_path / "missing" / "socket", tmp_path / ("x" * (room + 1))):
        with pytest.raises(ConfigError, match="cannot open"):
            IssuerServer(bad, _granting, Log())
