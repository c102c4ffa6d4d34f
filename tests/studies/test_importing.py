"""Imports without the collector of garbage."""

from __future__ import annotations

import gc

from softprior.studies.importing import importing


def test_the_collector_waits_for_imports_and_works_after_them() -> None:
    frozen = gc.get_freeze_count()
    assert frozen, "the suite freezes what it imports; a second time would keep its garbage"
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() <= frozen
