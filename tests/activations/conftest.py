"""A run that nobody disturbed, made once."""

from __future__ import annotations

import pytest

from softprior.activations.folder import RunFolder
from tests.activations.runs import run


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """To be read or copied."""
    folder = RunFolder(tmp_path_factory.mktemp("undisturbed") / "small")
    assert run(folder)["failed"] == {}
    return folder
