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

from softprior.inputs.specs import Rate, TrialSpec
from softprior.models import identity
from softprior.models.encoder_decoder import EncoderDecoderLM
from softprior.models.protocol import Losses, ModelInfo
from softprior.prompt import Batch, Place, Prompt, Row
from softprior.regularisers import REGULARISERS
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.records import Record
from softprior.testing.families import random_model
from softprior.training.checkpoint import TrialState
from softprior.training.cost import Meter
from softprior.training.events import Event, Phase, Report
from softprior.training.row_losses import row_losses
from softprior.training.setup import Setup
from softprior.training.trial import Trial
from softprior.training.untrained import Untrained, _key, _lock
from tests.builders import run, tiny, trial

ROWS = [
    Row(name, [5, 6, 7 + i], [False, True, i > 0], [False, True, False]) for i, name in enumerate(("a", "b"))
]


def start(root: Path, value: float = 1.0, report: Report = lambda _: None) -> Untrained:
    return Untrained({Place(0): torch.full((2, 128), value)}, StudyFolder(root), TrialState(), report)


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
    """Another rate, and regularisers; each number of the record, of each example, and each vector.

    With `own_start` a trial reads nothing of the others, and is the same trial with the same numbers.
    """
    spread = REGULARISERS["spread"](weight=0.1)
    specs = [trial(steps=2), trial(steps=2, rate=Rate(value=0.1)), trial(steps=2, regularisers=[spread])]

    def finished(spec: TrialSpec, root: Path) -> tuple[object, int]:
        passes.clear()
        record, folder = run(spec, root), StudyFolder(root)
        posterior = load_posterior(folder.posterior(spec.id))
        vectors = {place.name: value.tolist() for place, value in posterior.final.items()}
        said, rows = numbers(record, folder)
        del said["spec"]
        return (said, rows, vectors), len(passes)

    alone = [finished(spec, tmp_path / str(i)) for i, spec in enumerate(specs)]
    together = [finished(spec, tmp_path / "study") for spec in specs]
    assert [found for found, _ in together] == [found for found, _ in alone]
    first, *others = (count for _, count in together)
    assert [count for _, count in alone] == [first] * 3
    # Ten examples in batches of five: two passes on the validation split and two on the test split.
    assert others == [first - 4] * 2
    assert len(list((tmp_path / "study" / "untrained").iterdir())) == 2

    evaluation = specs[1].evaluation.model_copy(update={"own_start": True})
    own = specs[1].model_copy(update={"evaluation": evaluation})
    assert own.id == specs[1].id
    assert finished(own, tmp_path / "study") == alone[1]


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


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "other"},
        {"dtype": "bfloat16"},
        {"device": "cuda"},
        {"kernels": "ragged"},
        {"frozen_cache": True},
        {"computing": "other"},
    ],
)
def test_other_computations_have_losses_of_their_own(change: dict[str, Any]) -> None:
    class Host:
        def __init__(self, **change: Any) -> None:
            self.found = tiny().host.info()._replace(**change)

        def info(self) -> ModelInfo:
            return self.found

    class Other(Host):
        pass

    keys = [_key(host, {}, ROWS, 2) for host in (Host(), Host(**change), Other())]  # type: ignore[arg-type]
    assert len(set(keys)) == 3, "what it computes with, and the kind of host"


def test_a_host_says_what_it_computes_with(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = [tiny().host, EncoderDecoderLM(random_model("t5"), "weights")]
    said = [host.info() for host in hosts]
    assert [info.device for info in said] == [host.device.type for host in hosts]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert all(host.info().computing != info.computing for host, info in zip(hosts, said, strict=True))
    monkeypatch.setattr(identity.platform, "node", lambda: "elsewhere")
    assert hosts[1].info().computing.startswith("elsewhere, ")


def test_damaged_files_are_computed_again(tmp_path: Path, passes: list[Batch]) -> None:
    one = start(tmp_path)
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
    other = one.losses(tiny().host, ROWS[:1], 2)
    (second,) = {*(tmp_path / "untrained").iterdir()} - {file}
    shutil.copy(file, second)
    assert one.losses(tiny().host, ROWS[:1], 2) == other, "not the losses of other rows"


def test_a_trial_that_fails_leaves_the_turn_to_the_next(tmp_path: Path, monkeypatch) -> None:
    one = start(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(tiny().host, "loss", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            one.losses(tiny().host, ROWS, 2)
    assert not (tmp_path / "untrained").exists()
    assert one.losses(tiny().host, ROWS, 2) == row_losses(tiny().host, one.sample, ROWS, 2)


def test_a_loss_that_is_not_finite_is_kept_as_it_is(tmp_path: Path) -> None:
    one = start(tmp_path, math.nan)
    assert all(math.isnan(one.losses(tiny().host, ROWS, 2).total) for _ in range(2))


def test_who_asks_second_waits_for_the_first(tmp_path: Path, passes: list[Batch]) -> None:
    """Apart from its work, and from trials of other studies."""
    told: list[Event] = []
    began = threading.Event()

    def report(event: Event) -> None:
        told.append(event)
        began.set()

    one, other, host = start(tmp_path, report=report), start(tmp_path / "elsewhere"), tiny().host
    key, found = _key(host, one.sample, ROWS, 2), []
    second = threading.Thread(target=lambda: found.append(one.losses(host, ROWS, 2)))
    with _lock(one.folder, key):
        second.start()
        assert began.wait(10)
        expected = other.losses(host, ROWS, 2)
        assert not found
        shutil.copytree(other.folder.root, one.folder.root, dirs_exist_ok=True)
        passes.clear()
    second.join()
    assert found == [expected]
    assert not passes
    assert told == [Phase(0, "waiting for another trial")]
    assert list(one.state.meter.seconds) == ["waiting"]
    assert list(other.state.meter.seconds) == ["start"]


def test_waiting_counts_as_no_work_and_an_attempt_before_counts(tmp_path: Path) -> None:
    state = TrialState(seconds=1e6, meter=Meter({"waiting": 5e5}))

    def wait(event: Event) -> None:
        if event == Phase(event.step, "losses of the start"):
            state.meter.seconds["waiting"] += 1e5

    loaded, spec = tiny(), trial(steps=1)
    setup = Setup(spec, loaded.host, loaded.tokenizer, loaded.fingerprint)
    record = Trial(setup, StudyFolder(tmp_path), wait, state).run()
    # Twice in this attempt: no trial takes as long as that.
    assert 8e5 < record.environment["seconds"] < 9e5
    assert record.cost is not None
    assert record.cost.seconds["waiting"] == 7e5


def test_nothing_that_cannot_be_kept_stops_a_trial(tmp_path: Path, monkeypatch) -> None:
    """A results folder and a cache in which no file can be made."""
    (tmp_path / "untrained").write_text("in the way of a folder")
    (tmp_path / "locks").write_text("in the way of a folder")
    monkeypatch.setenv("SOFTPRIOR_CACHE", str(tmp_path))
    one = start(tmp_path)
    assert one.losses(tiny().host, ROWS, 2) == row_losses(tiny().host, one.sample, ROWS, 2)
