"""Losses of the untrained sample: computed by the first trial of a study, the same bits in all others."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from softprior.assets.cache import lock
from softprior.inputs.specs import Rate, TrialSpec
from softprior.models.protocol import Losses, ModelInfo
from softprior.prompt import Batch, Place, Prompt, Row
from softprior.regularisers import REGULARISERS
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.records import Record
from softprior.training.row_losses import row_losses
from softprior.training.untrained import Untrained, _key
from tests.builders import run, tiny, trial

ROWS = [
    Row(name, [5, 6, 7 + i], [False, True, i > 0], [False, True, False]) for i, name in enumerate(("a", "b"))
]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Batch]]:
    """The batches that go through `tiny` without a gradient."""
    host, seen = tiny().host, []
    loss = host.loss

    def counted(prompt: Prompt | None, batch: Batch, *, grad: bool = False) -> Losses:
        if not grad:
            seen.append(batch)
        return loss(prompt, batch, grad=grad)

    monkeypatch.setattr(host, "loss", counted)
    return seen


def numbers(record: Record, folder: StudyFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """Everything that a trial has measured, without what tells its process and its time."""
    said = record.model_dump(mode="json", exclude={"environment", "cost"})
    return said, pq.read_table(folder.examples(record.id)).to_pydict()


def test_trials_that_share_a_start_have_the_numbers_of_trials_alone(
    tmp_path: Path, passes: list[Batch]
) -> None:
    """Another rate, and regularisers; each number of the record, of each example, and each vector."""
    spread = REGULARISERS["spread"](weight=0.1)
    specs = [trial(steps=2), trial(steps=2, rate=Rate(value=0.1)), trial(steps=2, regularisers=[spread])]

    def finished(spec: TrialSpec, root: Path) -> tuple[object, int]:
        passes.clear()
        record, folder = run(spec, root), StudyFolder(root)
        posterior = load_posterior(folder.posterior(spec.id))
        vectors = {place.name: value.tolist() for place, value in posterior.final.items()}
        return (numbers(record, folder), vectors), len(passes)

    alone = [finished(spec, tmp_path / str(i)) for i, spec in enumerate(specs)]
    together = [finished(spec, tmp_path / "study") for spec in specs]
    assert [found for found, _ in together] == [found for found, _ in alone]
    first, *others = (count for _, count in together)
    assert [count for _, count in alone] == [first] * 3
    # Ten examples in batches of five: two passes on the validation split and two on the test split.
    assert others == [first - 4] * 2
    assert len(list((tmp_path / "study" / "untrained").iterdir())) == 2


def test_other_starts_and_other_rows_have_losses_of_their_own() -> None:
    host, sample = tiny().host, {Place(0): torch.zeros(2, 8)}
    other = torch.zeros(2, 8)
    other[1, 3] = 1e-30
    fewer = Row("a", [5, 6, 7], [False, True, False], [False, False, False])
    keys = [
        _key(host, sample, ROWS, 2),
        _key(host, {Place(0): other}, ROWS, 2),
        _key(host, {Place(0, after="cut"): torch.zeros(2, 8)}, ROWS, 2),
        _key(host, {Place(0): torch.zeros(4, 4)}, ROWS, 2),
        _key(host, {}, ROWS, 2),
        _key(host, sample, ROWS[:1], 2),
        _key(host, sample, ROWS[::-1], 2),
        _key(host, sample, [fewer, *ROWS[1:]], 2),
        _key(host, sample, ROWS, 1),
    ]
    assert len(set(keys)) == len(keys)
    assert _key(host, {Place(0): torch.zeros(2, 8)}, [*ROWS], 2) == keys[0]


@pytest.mark.parametrize("change", [{"fingerprint": "other"}, {"dtype": "bfloat16"}, {"kernels": "ragged"}])
def test_other_computations_have_losses_of_their_own(change: dict[str, str]) -> None:
    class Other:
        def info(self) -> ModelInfo:
            return tiny().host.info()._replace(**change)

    class Plain:
        def info(self) -> ModelInfo:
            return tiny().host.info()

    assert _key(Other(), {}, ROWS, 2) != _key(Plain(), {}, ROWS, 2)  # type: ignore[arg-type]


def test_damaged_files_are_computed_again(tmp_path: Path, passes: list[Batch]) -> None:
    one = Untrained({Place(0): torch.ones(2, 128)}, StudyFolder(tmp_path))
    right = one.losses(tiny().host, ROWS, 2)
    assert right == row_losses(tiny().host, one.sample, ROWS, 2)
    (file,) = (tmp_path / "untrained").iterdir()
    whole = file.read_text()
    value = json.loads(whole)
    value["losses"]["nll"][0] += 1.0
    for damage in ("", whole[:-9], "[]", json.dumps(value), json.dumps({**value, "losses": {"nll": []}})):
        file.write_text(damage)
        passes.clear()
        assert one.losses(tiny().host, ROWS, 2) == right
        assert len(passes) == 1
        assert file.read_text() == whole, "and kept again"


def test_a_trial_that_fails_leaves_the_turn_to_the_next(tmp_path: Path, monkeypatch) -> None:
    one = Untrained({Place(0): torch.ones(2, 128)}, StudyFolder(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(tiny().host, "loss", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            one.losses(tiny().host, ROWS, 2)
    assert not (tmp_path / "untrained").exists()
    assert one.losses(tiny().host, ROWS, 2) == row_losses(tiny().host, one.sample, ROWS, 2)


def test_a_loss_that_is_not_finite_is_kept_as_it_is(tmp_path: Path) -> None:
    one = Untrained({Place(0): torch.full((2, 128), math.nan)}, StudyFolder(tmp_path))
    assert all(math.isnan(one.losses(tiny().host, ROWS, 2).total) for _ in range(2))


def test_who_asks_second_waits_for_the_first(tmp_path: Path, passes: list[Batch]) -> None:
    one, host = Untrained({Place(0): torch.ones(2, 128)}, StudyFolder(tmp_path)), tiny().host
    key, found = _key(host, one.sample, ROWS, 2), []
    other = Untrained(one.sample, StudyFolder(tmp_path / "elsewhere"))
    expected = other.losses(host, ROWS, 2)
    second = threading.Thread(target=lambda: found.append(one.losses(host, ROWS, 2)))
    passes.clear()
    with lock(f"untrained/{key[:3]}"):
        second.start()
        second.join(0.1)
        assert not found
        shutil.copytree(other.folder.root, one.folder.root, dirs_exist_ok=True)
    second.join()
    assert found == [expected]
    assert not passes


def test_nothing_that_cannot_be_kept_stops_a_trial(tmp_path: Path, monkeypatch) -> None:
    """A results folder and a cache in which no file can be made."""
    (tmp_path / "untrained").write_text("in the way of a folder")
    (tmp_path / "locks").write_text("in the way of a folder")
    monkeypatch.setenv("SOFTPRIOR_CACHE", str(tmp_path))
    one = Untrained({Place(0): torch.ones(2, 128)}, StudyFolder(tmp_path))
    assert one.losses(tiny().host, ROWS, 2) == row_losses(tiny().host, one.sample, ROWS, 2)
