from __future__ import annotations

import pytest

from identity.expiry import AUTHORITY_WARNING_S, anchor_warnings, authority_warning, leaf_warnings
from tests.authority import Mesh

DAY = 86_400.0


def test_a_leaf_is_warned_about_when_nine_tenths_of_its_life_are_gone(mesh: Mesh) -> None:
    """Not before, and in other words once it is over."""
    web = mesh.generation("shop/web")
    late = web.not_before + (web.not_after - web.not_before) * 0.9
    assert list(leaf_warnings(web, late - 1)) == []
    (warning,) = leaf_warnings(web, late)
    assert "is not renewed" in warning
    assert list(leaf_warnings(web, web.not_after - 1)) == [warning]
    (warning,) = leaf_warnings(web, web.not_after)
    assert "peers refuse us" in warning


def test_issuer_and_anchors_are_warned_about_sixty_days_before(mesh: Mesh) -> None:
    """The sentence is the same every day, and another one after the end."""
    web = mesh.generation("shop/web")
    for warnings, end in (
        (leaf_warnings, web.authority_not_after),
        (anchor_warnings, web.anchor_ends[mesh.root]),
    ):
        quiet = list(warnings(web, end - AUTHORITY_WARNING_S))
        assert not [warning for warning in quiet if "60 days" in warning]
        found = [list(warnings(web, end - days * DAY)) for days in (59, 30, 1)]
        assert found[0] == found[1] == found[2]
        assert "in less than 60 days" in found[0][-1]
        assert "pillion identity rotate" in found[0][-1]
        (over,) = (each for each in warnings(web, end) if "nothing under it" in each)
        assert "ended at" in over


def test_anchors_are_named_by_domain_and_fingerprint(mesh: Mesh) -> None:
    """Two roots of equal subject are told apart."""
    web = mesh.generation("shop/web")
    (warning,) = anchor_warnings(web, web.anchor_ends[mesh.root])
    assert "of cluster.local" in warning


@pytest.mark.parametrize(("left_s", "words"), [(1.0, "ends at"), (0.0, "ended at")])
def test_an_authority_s_sentence_has_its_end(left_s: float, words: str) -> None:
    """In UTC, as logs have it."""
    sentence = authority_warning("the issuer", 1_800_000_000.0, 1_800_000_000.0 - left_s)
    assert f"the issuer {words} 2027-01-15T08:00:00Z" in sentence
