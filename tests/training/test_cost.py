"""What a trial costs: phases, positions and memory."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from softprior.methods import METHODS
from softprior.methods.base import Reparameterisation
from softprior.tasks import TASKS
from softprior.tasks.batching import training_batches
from softprior.tasks.prepare import prepare
from softprior.training.cost import Meter, forget_peaks, host_peak
from tests.builders import run, tiny, trial


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_what_is_inside_another_phase_is_not_counted_there(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, meter = Clock(), Meter()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    with meter.phase("training"):
        clock.now += 2
        with meter.phase("validation"):
            clock.now += 5
        clock.now += 1
    with meter.phase("training"):
        clock.now += 4
    assert meter.seconds == {"training": 7, "validation": 5}
    meter.positions = 70
    assert meter.cost(3).per_second == 10
    earlier = Meter({"training": 3.0, "data": 1.0}, 30)
    earlier.add(meter)
    assert (earlier.seconds, earlier.positions) == ({"training": 10, "data": 1, "validation": 5}, 100)


@pytest.mark.skipif(host_peak() is None, reason="the system does not tell a process its peak")
def test_the_peak_of_memory_is_that_since_it_was_forgotten() -> None:
    size = 300 * 2**20
    block = np.ones(size, dtype=np.uint8)
    forget_peaks()
    held = host_peak()
    assert held is not None
    assert held >= size
    del block
    assert (host_peak() or 0) >= size
    forget_peaks()
    assert (host_peak() or 0) < held - size / 2


@pytest.mark.parametrize("network", [None, Reparameterisation(width=3)])
def test_a_record_has_positions_and_values(tmp_path: Path, network: Reparameterisation | None) -> None:
    spec = trial(method=METHODS["soft"](tokens=4, reparameterisation=network), accumulate=2)
    cost = run(spec, tmp_path).cost
    assert cost is not None
    loaded = tiny()
    split = prepare(TASKS.component(spec.task), loaded.tokenizer, loaded.fingerprint).train
    batches = islice(training_batches(split.lengths, 8, 0), 6 * 2)
    assert cost.positions == sum(len(split.row(i).tokens) for batch in batches for i in batch)
    assert cost.values == 4 * 128 + (0 if network is None else 2 * 3 * 128)
    assert set(cost.seconds) == {
        "data",
        "prior",
        "training",
        "checkpoints",
        "start",
        "validation",
        "test",
        "other tasks",
        "geometry",
        "sanity",
    }
    assert cost.per_second == pytest.approx(cost.positions / cost.seconds["training"], rel=0.05)
    assert cost.memory is None or cost.memory > 2**20


def test_a_baseline_trains_nothing(tmp_path: Path) -> None:
    cost = run(trial(method=METHODS["none"]()), tmp_path).cost
    assert cost is not None
    assert (cost.values, cost.positions, cost.per_second) == (0, 0, None)
