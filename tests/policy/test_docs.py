"""The page's example is run: its manifests, its cases, and what it says is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import pillion
from policy.lint import lint
from resources.manifest import parse_manifest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "policy.md"


def fence(kind: str) -> list[str]:
    """Return the page's blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the example where the page's commands find it."""
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "shop.yaml").write_text(fence("yaml mesh")[0])
    (tmp_path / "cases.yaml").write_text(fence("yaml cases")[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", fence("console"))
def test_what_the_page_shows_is_printed(block: str, place: Path) -> None:
    """Letter by letter."""
    first, _, shown = block.partition("\n")
    assert first.startswith("$ pillion ")
    run = CliRunner().invoke(pillion, first.removeprefix("$ pillion ").split())
    assert run.stdout == shown


def test_the_example_has_the_one_mistake_it_shows(place: Path) -> None:
    """The reference, and the object nobody refers to because of it."""
    data = (place / "mesh" / "shop.yaml").read_bytes()
    documents = parse_manifest("shop.yaml", data).documents
    found = lint([each.resource for each in documents if each.resource is not None])
    assert [(each.key.name, each.code) for each in found] == [
        ("allow-web", "dangling-reference"),
        ("web-ids", "no-effect"),
    ]
