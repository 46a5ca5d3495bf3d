"""What the admin server says of our identity: ready all the same, with words and numbers."""

from __future__ import annotations

from pathlib import Path

from core.watch import Watch
from discovery.model import Address
from identity.anchors import Anchors, short_fingerprint
from identity.generation import Generation
from identity.status import IdentityStatus
from proxy.admin.pages import MAX_WARNINGS
from proxy.net.capture import FixedCapture
from tests.authority import Mesh, mk_mesh
from tests.session.apps import exchange
from tests.sidecars import Control, Running, run_sidecar

NOWHERE = FixedCapture(Address("127.0.0.1", 9))


async def get(running: Running, path: str) -> tuple[int, str]:
    """Return a page's status and body."""
    request = f"GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"
    answer = await exchange(running.config.admin_listen, request.encode(), end=False)
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


async def samples(running: Running) -> dict[str, float]:
    """Return the identity's metrics: name with labels → value."""
    _, body = await get(running, "/metrics")
    found = (line.rpartition(" ") for line in body.splitlines() if "_identity_" in line)
    return {name: float(value) for name, _, value in found if not name.startswith("#")}


async def test_ready_is_a_word_alone_when_there_is_nothing_to_say(web: Generation) -> None:
    """As Linkerd's."""
    async with run_sidecar(web, NOWHERE) as running:
        assert await get(running, "/ready") == (200, "ready\n")


async def test_warnings_stand_below_and_do_not_make_unready(web: Generation) -> None:
    """One a line, up to a bound, and how many more there are."""
    control = Control(Watch(web))
    async with run_sidecar(web, NOWHERE, control=control) as running:
        control.status.publish(IdentityStatus(warnings=("one", "two")))
        assert await get(running, "/ready") == (200, "ready\nwarning: one\nwarning: two\n")
        for count in (MAX_WARNINGS, MAX_WARNINGS + 1):
            warnings = tuple(f"w{number}" for number in range(count))
            control.status.publish(IdentityStatus(warnings=warnings))
            status, body = await get(running, "/ready")
            assert status == 200
            lines = body.splitlines()
            if count == MAX_WARNINGS:
                assert lines[-1] == f"warning: w{count - 1}"
            else:
                assert lines[-2:] == [f"warning: w{count - 2}", "warning: and 1 more"]
            assert len(lines) == count + 1


async def test_who_waits_for_a_certificate_says_why(web: Generation) -> None:
    """Not ready, with the latest failure; ready once it is there."""
    control = Control(Watch(None))
    async with run_sidecar(None, NOWHERE, control=control) as running:
        status, body = await get(running, "/ready")
        assert (status, body) == (503, "not ready: no certificate has been issued to us yet\n")
        control.status.publish(IdentityStatus(failures=1, last_error="cannot reach the issuer"))
        status, body = await get(running, "/ready")
        assert status == 503
        assert body.endswith("issued to us yet: cannot reach the issuer\n")
        control.generation.publish(web)
        assert (await get(running, "/ready"))[0] == 200


async def test_the_countdowns_are_those_of_the_generation_in_use(
    mesh: Mesh, web: Generation, tmp_path: Path
) -> None:
    """Linkerd's names where it has one; each anchor under its domain and fingerprint."""
    other = mk_mesh(tmp_path / "other")
    control = Control(Watch(web))
    control.status.publish(
        IdentityStatus(refreshes=7, failures=2, refreshed=5.0, reloads=3, reload_failures=1)
    )
    async with run_sidecar(web, NOWHERE, control=control) as running:
        now = running.sidecar.runtime.clock.now().timestamp()
        found = await samples(running)
        assert found['control_identity_cert_refreshes_total{result="ok"}'] == 7
        assert found['control_identity_cert_refreshes_total{result="error"}'] == 2
        assert found["control_identity_cert_refresh_timestamp_seconds"] == 5
        assert found["control_identity_cert_expiration_timestamp_seconds"] == web.not_after
        assert found['pillion_identity_anchor_reloads_total{result="ok"}'] == 3
        assert found['pillion_identity_anchor_reloads_total{result="error"}'] == 1
        assert found["pillion_identity_warnings"] == 0
        anchor = _anchor(mesh.root)
        for name, end in (
            ("pillion_identity_cert_ttl_seconds", web.not_after),
            ("pillion_identity_issuer_ttl_seconds", web.authority_not_after),
            (anchor, web.anchor_ends[mesh.root]),
        ):
            assert end - now - 60 < found[name] <= end - now
        roots = {"cluster.local": frozenset({other.root})}
        control.generation.publish(web.under(Anchors("cluster.local", roots)))
        found = await samples(running)
        assert anchor not in found
        assert _anchor(other.root) in found


def _anchor(root: bytes) -> str:
    labels = f'trust_domain="cluster.local",fingerprint="{short_fingerprint(root)}"'
    return f"pillion_identity_anchor_ttl_seconds{{{labels}}}"
