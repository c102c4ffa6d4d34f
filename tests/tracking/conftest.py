"""A database of MLflow's for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases import empty_database


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """The address of a database of the test's own, in its folder."""
    return empty_database(tmp_path)
