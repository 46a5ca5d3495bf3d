"""Which step may come when, as a table over states."""

from __future__ import annotations

import itertools

import pytest

from identity.rotation import IssuerInUse, Phase, Root, Rotation, Step

OLD = Root("0" * 64, "CN=root", 2e9, is_trusted=True, is_old=True, is_new=False, issues=False)
NEW = Root("1" * 64, "CN=root", 2e9, is_trusted=True, is_old=False, is_new=True, issues=True)
OTHER = Root("2" * 64, "CN=root", 2e9, is_trusted=True, is_old=False, is_new=False, issues=False)


def _issuer(*roots: Root, leaves: int = 1, name: str = "a") -> IssuerInUse:
    fingerprints = frozenset(root.fingerprint for root in roots)
    return IssuerInUse(name * 64, fingerprints, leaves, 1.8e9, is_current=False)


def _rotation(phase: Phase, *issuers: IssuerInUse) -> Rotation:
    return Rotation("cluster.local", phase, (OLD, NEW, OTHER), issuers)


ALLOWED = {
    Phase.IDLE: {Step.START},
    Phase.STARTED: {Step.START},
    Phase.TRUSTED: {Step.SWITCH},
    Phase.SWITCHED: {Step.FINISH},
}


@pytest.mark.parametrize(("phase", "step"), list(itertools.product(Phase, Step)))
def test_each_phase_allows_its_next_step_alone(phase: Phase, step: Step) -> None:
    """Cut short, the first step is taken again; every other one is refused with words."""
    obstacles = _rotation(phase).obstacles(step)
    assert (not obstacles) is (step in ALLOWED[phase])
    assert (_rotation(phase).next_step is step) is (step in ALLOWED[phase])


@pytest.mark.parametrize(
    ("issuer", "blocks"),
    [
        (_issuer(OLD), True),
        (_issuer(OLD, leaves=0), False),
        (_issuer(NEW), False),
        (_issuer(OTHER), False),
        (_issuer(OLD, NEW), False),  # cross-signed: what it issued stays good
        (_issuer(), True),  # nobody knows what it hangs on
        (_issuer(leaves=0), False),
    ],
)
def test_what_is_in_use_keeps_its_root(issuer: IssuerInUse, *, blocks: bool) -> None:
    """Leaves count whose issuer hangs on no root that stays."""
    assert bool(_rotation(Phase.SWITCHED, issuer).obstacles(Step.FINISH)) is blocks


def test_a_root_that_is_not_trusted_keeps_nothing_good() -> None:
    """It stays on disk, in nobody's bundle."""
    untrusted = Root(
        "3" * 64, "CN=root", 2e9, is_trusted=False, is_old=False, is_new=True, issues=False
    )
    rotation = Rotation("cluster.local", Phase.SWITCHED, (OLD, untrusted), (_issuer(untrusted),))
    assert rotation.obstacles(Step.FINISH)


def test_an_obstacle_says_how_many_leaves_and_until_when() -> None:
    """One for each issuer, so that an operator knows how long to wait."""
    rotation = _rotation(
        Phase.SWITCHED, _issuer(OLD), _issuer(OLD, leaves=7, name="b"), _issuer(name="c")
    )
    assert rotation.obstacles(Step.FINISH) == (
        "1 leaf of the old issuer aaaaaaaaaaaaaaaa may be in use until 2027-01-15T08:00:00Z",
        "7 leaves of the old issuer bbbbbbbbbbbbbbbb may be in use until 2027-01-15T08:00:00Z",
        "1 leaf of the unknown issuer cccccccccccccccc may be in use until 2027-01-15T08:00:00Z",
    )


def test_a_root_s_role_is_said_in_words() -> None:
    """Equal subjects are told apart by it."""
    assert [root.role for root in (OLD, NEW, OTHER)] == ["old", "new, issues", "trusted"]
