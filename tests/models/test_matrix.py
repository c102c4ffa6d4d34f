"""The matrix of docs/models.md is what small random models of the families do."""

import pytest

from tests.models.matrix import FAMILIES, PAGE, found, table, written

SAID = dict(written(PAGE.read_text(encoding="utf-8")))


def test_the_page_has_every_family_once_and_says_it_as_the_table_is_written():
    assert list(SAID) == list(FAMILIES)
    assert table(SAID) in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_page_says_what_works(name):
    assert found(FAMILIES[name]) == SAID[name], "run: python -m tests.models.matrix"
