"""What the docs say of components is what the classes say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.figures.palette import PRIORS as FIXED_LOOKS
from softprior.inputs.specs import StudySpec
from softprior.priors import PRIORS
from softprior.studies.search.spec import Asha, EarlyStopping, Range, SearchSpec, WarmStart
from tests.docs.tables import AXES, BLOCK, PAGES, ROOT, keys_of, renewed


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_tables_are_those_of_the_classes(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert renewed(page) == page, "run: python -m tests.docs.tables"


def test_every_axis_has_a_table_and_every_mark_its_end() -> None:
    pages = [path.read_text(encoding="utf-8") for path in PAGES]
    found = [(form, axis) for page in pages for _, form, axis, _, _ in BLOCK.findall(page)]
    assert {axis for form, axis in found if form == "table"} == set(AXES)
    assert sum(len(re.findall("<!-- (?:table|names|sections|fields): ", page)) for page in pages) == len(
        found
    )


def test_the_page_of_study_files_has_every_key() -> None:
    keys = [key for key, *_ in keys_of(StudySpec)]
    assert {"name", "rates", "training.curve", "training.betas", "model.frozen_cache.disk"} <= set(keys)
    page = (ROOT / "docs" / "study-files.md").read_text(encoding="utf-8")
    assert [key for key in keys if f"\n| `{key}` | " not in page] == []


def test_the_page_of_searches_has_every_key() -> None:
    page = (ROOT / "docs" / "searches.md").read_text(encoding="utf-8")
    kinds = (SearchSpec, Range, Asha, EarlyStopping, WarmStart)
    absent = [name for kind in kinds for name in kind.model_fields if not re.search(rf"\b{name}\b", page)]
    assert absent == []


def test_every_prior_with_a_section_written_by_hand_has_a_row_of_its_law_in_order() -> None:
    page = BLOCK.sub("", (ROOT / "docs" / "priors.md").read_text(encoding="utf-8"))
    sections = set(re.findall(r"^### (\w+)$", page, re.MULTILINE))
    rows = re.findall(r"^\| \[`(\w+)`\]\(#\1\)", page, re.MULTILINE)
    assert set(FIXED_LOOKS) <= sections
    assert rows == [name for name in PRIORS.kinds if name in sections]


def test_a_new_prior_gets_a_row_and_a_section_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wide(PRIORS["isotropic"]):
        """Coordinates farther out."""

    monkeypatch.setitem(PRIORS.kinds, "wide", Wide)
    page = renewed((ROOT / "docs" / "priors.md").read_text(encoding="utf-8"))
    assert "| `wide` | `scale` (0.02; standard deviation) | Coordinates farther out. |" in page
    section = "### wide\n\nCoordinates farther out.\n\nParameters: `scale` (0.02; standard deviation).\n"
    assert section in page
    assert page.count("\n### isotropic\n") == 1
