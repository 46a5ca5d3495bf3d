from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import pytest

from control.identity import LeafRenewal, refresh_delay
from core.errors import IdentityError
from identity.anchors import Anchors, load_anchors
from identity.csr import create_csr
from identity.generation import Generation
from identity.key import create_key, write_key
from identity.material import Material
from identity.pem import join_pem
from identity.request import Certified
from tests.authority import Mesh, mk_identity, mk_mesh
from tests.support.clock import FakeClock

WEB = mk_identity("shop/web")
DAY = 86_400.0


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """An authority to issue from."""
    return mk_mesh(tmp_path_factory.mktemp("renewal") / "authority")


@final
@dataclass
class Issuing:
    """An issuer whose every answer the test decides."""

    mesh: Mesh
    lifetime_s: float = DAY
    fault: Exception | None = None
    change: Callable[[Certified], Certified] = field(default=lambda answer: answer)
    asked: list[tuple[bytes, bytes]] = field(default_factory=list)
    now: float = field(default_factory=time.time)

    async def certify(self, csr: bytes, token: bytes) -> Certified:
        """Answer as told."""
        self.asked.append((csr, token))
        if self.fault is not None:
            raise self.fault
        issuer = self.mesh.authority.load_issuer()
        issued = issuer.issue(csr, WEB, self.mesh.anchors, self.now)
        answer = Certified(issued.leaf, issued.intermediates, self.now + self.lifetime_s)
        return self.change(answer)


@final
@dataclass
class Parts:
    renewal: LeafRenewal
    issuing: Issuing
    clock: FakeClock
    material: Material
    log: list[tuple[str, str]]


def _parts(
    mesh: Mesh,
    directory: Path,
    *,
    load_anchors: Callable[[Anchors | None], Anchors] | None = None,
    min_refresh_s: float = 10.0,
    max_refresh_s: float = DAY,
    sleep: Callable[[float], asyncio.Future[None]] | None = None,
) -> Parts:
    material, key = Material(directory), create_key()
    write_key(material.key, key)
    material.csr.write_bytes(create_csr(key, WEB))
    material.token.write_bytes(b"token\n")
    log: list[tuple[str, str]] = []
    clock = FakeClock()
    issuing = Issuing(mesh, now=clock.seconds)
    renewal = LeafRenewal(
        directory,
        WEB,
        certify=issuing.certify,
        load_anchors=load_anchors or mesh.authority.load_anchors,
        clock=clock,
        log=lambda level, message: log.append((level, message)),
        min_refresh_s=min_refresh_s,
        max_refresh_s=max_refresh_s,
        sleep=sleep,
    )
    return Parts(renewal, issuing, clock, material, log)


def _in_use(parts: Parts) -> Generation | None:
    return parts.renewal.generation.current


@pytest.mark.parametrize(
    ("left_s", "delay_s"),
    [
        (DAY, 60_480.0),
        (100.0, 70.0),
        (15.0, 10.5),
        (14.0, 10.0),
        (1.0, 10.0),
        (0.0, 10.0),
        (-DAY, 10.0),
        (DAY / 0.7, DAY),
        (10 * DAY, DAY),
    ],
)
def test_the_pace_is_seventy_percent_within_its_bounds(left_s: float, delay_s: float) -> None:
    """10 s at least and a day at most, as Linkerd's proxy does."""
    assert refresh_delay(1000 + left_s, 1000, 10.0, DAY) == pytest.approx(delay_s)


async def test_the_first_certificate_makes_the_first_generation(mesh: Mesh, tmp_path: Path) -> None:
    """The token is the file's content without its line end; the next time is at 70 %."""
    parts = _parts(mesh, tmp_path)
    assert _in_use(parts) is None
    delay = await parts.renewal.refresh()
    assert delay == pytest.approx(DAY * 0.7)
    assert parts.issuing.asked == [(parts.material.csr.read_bytes(), b"token")]
    generation = _in_use(parts)
    assert generation is not None
    assert generation.identity == WEB
    status = parts.renewal.status.current
    assert (status.refreshes, status.failures, status.last_error) == (1, 0, "")
    assert status.expires == generation.not_after
    assert status.next_refresh == pytest.approx(parts.clock.seconds + DAY * 0.7)
    assert [level for level, _ in parts.log] == ["info"]


async def test_key_and_request_stay_and_the_token_is_read_anew(mesh: Mesh, tmp_path: Path) -> None:
    """Tokens rotate; the key lives as long as the sidecar's directory."""
    parts = _parts(mesh, tmp_path)
    await parts.renewal.refresh()
    first = _in_use(parts)
    parts.material.token.write_bytes(b"another")
    await parts.renewal.refresh()
    assert [token for _, token in parts.issuing.asked] == [b"token", b"another"]
    assert len({csr for csr, _ in parts.issuing.asked}) == 1
    second = _in_use(parts)
    assert second is not None
    assert first is not None
    assert second.fingerprint != first.fingerprint
    assert parts.renewal.generation.version == 2


def _fails(parts: Parts) -> None:
    parts.issuing.fault = IdentityError("the issuer refuses")


def _unreachable(parts: Parts) -> None:
    parts.issuing.fault = ConnectionRefusedError("nobody there")


def _times_out(parts: Parts) -> None:
    parts.issuing.fault = TimeoutError()


def _no_token(parts: Parts) -> None:
    parts.material.token.write_bytes(b"")


def _no_csr(parts: Parts) -> None:
    parts.material.csr.unlink()


def _open_key(parts: Parts) -> None:
    parts.material.key.chmod(0o644)


def _garbage(parts: Parts) -> None:
    parts.issuing.change = lambda answer: Certified(b"x", (), answer.valid_until)


def _no_chain(parts: Parts) -> None:
    parts.issuing.change = lambda answer: Certified(answer.leaf, (), answer.valid_until)


def _ended(parts: Parts) -> None:
    parts.issuing.lifetime_s = 0.0


def _another_s(parts: Parts) -> None:
    issued = parts.issuing.mesh.leaf(mk_identity("shop/api"), parts.material.directory / "api")
    parts.issuing.change = lambda answer: Certified(
        issued.leaf, issued.intermediates, answer.valid_until
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_fails, "the issuer refuses"),
        (_unreachable, "nobody there"),
        (_times_out, "TimeoutError"),
        (_no_token, "is empty"),
        (_no_csr, "cannot read"),
        (_open_key, "mode 0644"),
        (_garbage, "of no use"),
        (_no_chain, "does not verify"),
        (_ended, "ended before it came"),
        (_another_s, "of no use"),
    ],
)
async def test_a_failure_keeps_what_is_there(
    mesh: Mesh, tmp_path: Path, spoil: Callable[[Parts], None], words: str
) -> None:
    """Without a leaf the next attempt comes after the minimum; with one its end sets the pace."""
    parts = _parts(mesh, tmp_path)
    spoil(parts)
    assert await parts.renewal.refresh() == 10.0
    assert _in_use(parts) is None
    status = parts.renewal.status.current
    assert (status.refreshes, status.failures, status.expires) == (0, 1, 0.0)
    assert words in status.last_error
    assert status.next_refresh == parts.clock.seconds + 10
    level, message = parts.log[-1]
    assert level == "warn"
    assert words in message
    assert "there is none yet" in message


@pytest.mark.parametrize("spoil", [_fails, _no_token, _garbage, _another_s, _open_key])
async def test_the_old_certificate_stays_and_its_end_sets_the_pace(
    mesh: Mesh, tmp_path: Path, spoil: Callable[[Parts], None]
) -> None:
    """After 70 % of a day a failure waits 70 % of what is left, at last the minimum."""
    parts = _parts(mesh, tmp_path)
    await parts.renewal.refresh()
    generation = _in_use(parts)
    spoil(parts)
    parts.clock.seconds += DAY * 0.7
    assert await parts.renewal.refresh() == pytest.approx(DAY * 0.3 * 0.7)
    parts.clock.seconds += DAY
    assert await parts.renewal.refresh() == 10.0
    assert _in_use(parts) is generation
    status = parts.renewal.status.current
    assert (status.refreshes, status.failures) == (1, 2)
    assert generation is not None
    assert status.expires == generation.not_after
    assert "the one in use stays" in parts.log[-1][1]


async def test_after_a_failure_a_good_answer_is_taken(mesh: Mesh, tmp_path: Path) -> None:
    """The error is gone from the status; the counts stay."""
    parts = _parts(mesh, tmp_path)
    _fails(parts)
    await parts.renewal.refresh()
    parts.issuing.fault = None
    assert await parts.renewal.refresh() == pytest.approx(DAY * 0.7)
    status = parts.renewal.status.current
    assert (status.refreshes, status.failures, status.last_error) == (1, 1, "")


async def test_an_issuer_that_promises_too_much_is_not_believed(mesh: Mesh, tmp_path: Path) -> None:
    """The leaf's own end sets the pace when the answer names a later one, and the other way."""
    parts = _parts(mesh, tmp_path, max_refresh_s=30 * DAY)
    parts.issuing.lifetime_s = 20 * DAY
    assert await parts.renewal.refresh() == pytest.approx((DAY + 20) * 0.7, abs=1)
    parts.issuing.lifetime_s = 100.0
    assert await parts.renewal.refresh() == pytest.approx(70.0)


def _anchors(*roots: bytes, problems: tuple[str, ...] = ()) -> Anchors:
    return Anchors("cluster.local", {"cluster.local": frozenset(roots)}, problems)


@final
@dataclass
class Bundle:
    """Anchors that a test changes, as ``load_anchors`` reads them."""

    anchors: Anchors

    def load(self, before: Anchors | None) -> Anchors:
        """Return them as they are now."""
        return self.anchors


def _parts_under(
    mesh: Mesh, directory: Path, *, min_refresh_s: float = 10.0
) -> tuple[Parts, Bundle]:
    directory.mkdir(exist_ok=True)
    bundle = Bundle(_anchors(mesh.root))
    parts = _parts(mesh, directory, load_anchors=bundle.load, min_refresh_s=min_refresh_s)
    return parts, bundle


async def test_anchors_are_read_at_each_attempt(mesh: Mesh, tmp_path: Path) -> None:
    """Problems are logged once and stay in the warnings while they last."""
    parts, bundle = _parts_under(mesh, tmp_path)
    bundle.anchors = _anchors(mesh.root, problems=("one is broken",))
    for _ in range(2):
        await parts.renewal.refresh()
        assert parts.renewal.status.current.warnings == ("trust anchors: one is broken",)
    assert [message for _, message in parts.log].count("trust anchors: one is broken") == 1
    bundle.anchors = _anchors(mesh.root)
    await parts.renewal.refresh()
    status = parts.renewal.status.current
    assert status.warnings == ()
    assert (status.refreshes, status.failures, status.reload_failures) == (3, 0, 1)


async def test_new_anchors_come_into_force_between_two_leaves(mesh: Mesh, tmp_path: Path) -> None:
    """The leaf stays, the generation is another: its contexts, peers and sessions are new."""
    other = mk_mesh(tmp_path / "other")
    parts, bundle = _parts_under(mesh, tmp_path / "web")
    await parts.renewal.refresh()
    first = _in_use(parts)
    parts.renewal.look()
    assert _in_use(parts) is first
    bundle.anchors = _anchors(mesh.root, other.root)
    parts.renewal.look()
    second = _in_use(parts)
    assert first is not None
    assert second is not None
    assert second is not first
    assert second.fingerprint == first.fingerprint
    assert second.anchors == bundle.anchors
    status = parts.renewal.status.current
    assert (status.refreshes, status.reloads, status.reload_failures) == (1, 1, 0)
    assert status.refreshed == parts.clock.seconds
    assert status.warnings == ()
    assert len(parts.issuing.asked) == 1


async def test_broken_anchors_change_nothing_and_say_so(mesh: Mesh, tmp_path: Path) -> None:
    """Truncated on disk: the same generation, a log line, a count, and a warning until repaired."""
    web = tmp_path / "web"
    path = Material(web).anchors / "cluster.local.pem"
    path.parent.mkdir(parents=True)
    path.write_bytes(join_pem([mesh.root]))
    parts = _parts(
        mesh, web, load_anchors=lambda before: load_anchors(path.parent, "cluster.local", before)
    )
    await parts.renewal.refresh()
    before = _in_use(parts)
    path.write_bytes(path.read_bytes()[:-60])
    for _ in range(3):
        parts.renewal.look()
    assert _in_use(parts) is before
    status = parts.renewal.status.current
    assert (status.reloads, status.reload_failures) == (0, 1)
    assert any("cluster.local.pem" in warning for warning in status.warnings)
    assert any("stay" in message for level, message in parts.log if level == "warn")
    path.write_bytes(join_pem([mesh.root]))
    parts.renewal.look()
    assert _in_use(parts) is before
    assert parts.renewal.status.current.warnings == ()


async def test_without_our_root_the_new_anchors_count_and_a_leaf_is_asked_for(
    mesh: Mesh, tmp_path: Path
) -> None:
    """Who trusts only the new root refuses leaves of the old one, our own among them."""
    other = mk_mesh(tmp_path / "other")
    parts, bundle = _parts_under(mesh, tmp_path / "web")
    await parts.renewal.refresh()
    bundle.anchors = _anchors(other.root)
    parts.renewal.look()
    generation = _in_use(parts)
    assert generation is not None
    assert generation.anchors == bundle.anchors
    assert "does not verify" in generation.trouble
    assert "peers refuse us" in parts.renewal.status.current.warnings[0]
    # The issuer still issues under the old root: the pace is the minimum, not that of a day.
    assert await parts.renewal.refresh() == 10.0
    assert "does not verify" in parts.renewal.status.current.last_error
    parts.issuing.mesh = other
    await parts.renewal.refresh()
    healed = _in_use(parts)
    assert healed is not None
    assert healed.trouble == ""
    assert parts.renewal.status.current.warnings == ()


async def test_a_leaf_and_its_root_that_come_together_are_taken_together(
    mesh: Mesh, tmp_path: Path
) -> None:
    """One change for whoever watches: never a leaf with the roots of another time."""
    other = mk_mesh(tmp_path / "other")
    parts, bundle = _parts_under(mesh, tmp_path / "web")
    await parts.renewal.refresh()
    seen: list[Generation | None] = []
    parts.renewal.generation.subscribe(seen.append)
    bundle.anchors = _anchors(other.root)
    parts.issuing.mesh = other
    await parts.renewal.refresh()
    assert seen == [_in_use(parts)]
    assert seen[0] is not None
    assert seen[0].trouble == ""


async def test_anchors_that_change_while_the_issuer_fails_count(mesh: Mesh, tmp_path: Path) -> None:
    """No new leaf is no reason to go on trusting a root that was taken away."""
    other = mk_mesh(tmp_path / "other")
    parts, bundle = _parts_under(mesh, tmp_path / "web")
    await parts.renewal.refresh()
    bundle.anchors = _anchors(other.root)
    _fails(parts)
    await parts.renewal.refresh()
    generation = _in_use(parts)
    assert generation is not None
    assert generation.anchors == bundle.anchors


async def test_a_refused_leaf_wakes_the_loop(mesh: Mesh, tmp_path: Path) -> None:
    """A leaf of a day would be renewed after 17 hours; now it is asked for within the minimum."""
    other = mk_mesh(tmp_path / "other")
    parts, bundle = _parts_under(mesh, tmp_path / "web", min_refresh_s=0.05)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(parts.renewal.run())
        await parts.renewal.generation.changed(0)
        await asyncio.sleep(0)
        bundle.anchors, parts.issuing.mesh = _anchors(other.root), other
        parts.clock.seconds += 0.05
        parts.renewal.look()
        generation = await parts.renewal.generation.changed(2)
        running.cancel()
    assert generation is not None
    assert generation.trouble == ""
    assert len(parts.issuing.asked) == 2


async def test_a_machine_that_slept_asks_when_it_wakes(mesh: Mesh, tmp_path: Path) -> None:
    """The wall clock decides, looked at every half minute, and not how long we meant to sleep."""
    waits: list[float] = []
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        parts.clock.seconds += seconds if len(waits) < 3 else DAY
        parts.issuing.now = parts.clock.seconds
        if len(parts.issuing.asked) == 2:
            done.set()
            await asyncio.Event().wait()

    parts = _parts(mesh, tmp_path, sleep=sleep)  # type: ignore[arg-type]
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(parts.renewal.run())
        await done.wait()
        running.cancel()
    assert waits[:3] == [30.0] * 3
    assert len(parts.issuing.asked) == 2


async def test_what_is_about_to_end_is_logged_once_a_day(mesh: Mesh, tmp_path: Path) -> None:
    """And stands in the warnings all the time, until there is a new leaf."""
    parts, _ = _parts_under(mesh, tmp_path)
    await parts.renewal.refresh()
    _fails(parts)
    parts.clock.seconds += DAY * 0.95
    for _ in range(3):
        parts.renewal.look()
    (warning,) = parts.renewal.status.current.warnings
    assert "is not renewed" in warning
    assert [message for _, message in parts.log].count(warning) == 1
    parts.clock.seconds += DAY
    for _ in range(2):
        parts.renewal.look()
    (over,) = parts.renewal.status.current.warnings
    assert [message for _, message in parts.log].count(over) == 1
    parts.clock.seconds += DAY
    parts.renewal.look()
    assert [message for _, message in parts.log].count(over) == 2


async def test_the_loop_asks_waits_and_asks_again(mesh: Mesh, tmp_path: Path) -> None:
    """Three rounds of a short-lived leaf, by the fake clock, with the settings' minimum."""
    waits: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        parts.clock.seconds += seconds
        parts.issuing.now = parts.clock.seconds
        if len(waits) == 3:
            enough.set()
            await asyncio.Event().wait()

    parts = _parts(mesh, tmp_path, min_refresh_s=1.0, sleep=sleep)  # type: ignore[arg-type]
    parts.issuing.lifetime_s = 3.0
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(parts.renewal.run())
        await enough.wait()
        running.cancel()
    assert waits == [pytest.approx(2.1)] * 3
    assert len(parts.issuing.asked) == 3
    assert parts.renewal.generation.version == 3


async def test_subscribers_see_the_new_generation_only(mesh: Mesh, tmp_path: Path) -> None:
    """A failure is no news to those who use the certificate."""
    parts = _parts(mesh, tmp_path)
    seen: list[Generation | None] = []
    parts.renewal.generation.subscribe(seen.append)
    await parts.renewal.refresh()
    _fails(parts)
    await parts.renewal.refresh()
    assert seen == [_in_use(parts)]
