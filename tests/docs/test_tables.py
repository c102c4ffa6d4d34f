"""What the docs say of components is what the classes say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from softprior.priors import PRIORS
from tests.docs.tables import AXES, BLOCK, PAGES, ROOT, renewed


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_tables_are_those_of_the_classes(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert renewed(page) == page, "run: python -m tests.docs.tables"


def test_every_axis_has_a_table_and_every_mark_its_end() -> None:
    pages = [path.read_text(encoding="utf-8") for path in PAGES]
    found = [(form, axis) for page in pages for _, form, axis, _, _ in BLOCK.findall(page)]
    assert {axis for form, axis in found if form == "table"} == set(AXES)
    assert sum(len(re.findall("<!-- (?:table|names): ", page)) for page in pages) == len(found)


def test_the_page_of_priors_has_each_in_its_table_and_under_a_heading() -> None:
    page = (ROOT / "docs" / "priors.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[`(\w+)`\]\(#\1\)", page, re.MULTILINE) == list(PRIORS.kinds)
    assert set(PRIORS.kinds) <= set(re.findall(r"^### (\w+)$", page, re.MULTILINE))
