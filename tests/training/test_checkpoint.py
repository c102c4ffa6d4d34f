"""Checkpoints that cannot be used are passed over, never half-used."""

from __future__ import annotations

from pathlib import Path

import torch

from softprior.prompt import Place
from softprior.results.records import StepPoint
from softprior.training.checkpoint import TrialState, load_checkpoint, save_checkpoint


def saved(path: Path) -> TrialState:
    point = StepPoint(step=1, loss=0.1 + 0.2, rate=0.1, gradient=1.0, moved=0.0)
    progress = TrialState(step=1, steps=[point], snapshots={1: {Place(0): torch.ones(2, 3)}}, seconds=1.5)
    save_checkpoint(path, "trial", progress, {"vectors/decoder.0.residual.keep": torch.zeros(2, 3)})
    return progress


def test_what_is_saved_comes_back_exactly(tmp_path: Path) -> None:
    progress = saved(tmp_path / "c")
    found = load_checkpoint(tmp_path / "c", "trial")
    assert found is not None
    assert (found[0].step, found[0].steps, found[0].seconds) == (1, progress.steps, 1.5)
    assert torch.equal(found[0].snapshots[1][Place(0)], torch.ones(2, 3))
    assert list(found[1]) == ["vectors/decoder.0.residual.keep"]


def test_unusable_checkpoints_are_none(tmp_path: Path) -> None:
    saved(tmp_path / "c")
    assert load_checkpoint(tmp_path / "c", "another trial") is None
    assert load_checkpoint(tmp_path / "nothing", "trial") is None
    whole = (tmp_path / "c").read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    assert load_checkpoint(tmp_path / "half", "trial") is None


def test_a_checkpoint_with_a_changed_bit_is_none(tmp_path: Path) -> None:
    """The numbers of its tensors come last in the file."""
    saved(tmp_path / "c")
    content = bytearray((tmp_path / "c").read_bytes())
    content[-1] ^= 1
    (tmp_path / "c").write_bytes(content)
    assert load_checkpoint(tmp_path / "c", "trial") is None
