"""What a trial says when memory or disk run out, from errors that a machine really raises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from softprior.training.failure import shortage
from tests.disk import disk_of


def raised(action: Callable[[], object]) -> Exception:
    try:
        action()
    except Exception as error:
        return error
    pytest.fail("nothing was raised")


@pytest.mark.parametrize("allocate", [lambda: torch.empty(2**57), lambda: np.empty(2**57)])
def test_memory_that_is_refused_is_named_with_what_may_help(allocate: Callable[[], object]) -> None:
    said = shortage(raised(allocate))
    assert said is not None
    assert said.startswith("there was not enough memory (")
    assert "resources.concurrent" in said
    assert "enforce fail" not in said
    assert "\n" not in said


def test_a_disk_that_takes_no_more_is_named_with_what_may_help(tmp_path: Path) -> None:
    with disk_of(5000):
        tensors = raised(lambda: save_file({"x": torch.zeros(10_000)}, tmp_path / "x.safetensors"))
        text = raised(lambda: (tmp_path / "x.txt").write_text("x" * 10_000))
    for error in (tensors, text):
        said = shortage(error)
        assert said is not None
        assert said.startswith("a file cannot be written (File too large); free some space")


def test_other_errors_are_no_shortage() -> None:
    assert shortage(ValueError("")) is None
    assert shortage(RuntimeError("shapes do not fit")) is None
    assert shortage(PermissionError(13, "Permission denied")) is None
