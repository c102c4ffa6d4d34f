"""Losses along the lines between posteriors, against prompts mixed by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.connectivity import (
    Connectivity,
    load_connectivity,
    measure,
    pairs_of,
    require_sizes,
    save_connectivity,
)
from analysis.figures.connectivity import connected_of, draw_connected
from analysis.figures.style import caption_of
from analysis.findings.reading import Reading, read
from analysis.findings.simulated import Truth, simulated
from jobs import connectivity
from softprior.errors import UserError
from softprior.prompt import Place, collate
from softprior.results.posteriors import load_posterior
from softprior.tasks import TASKS
from softprior.tasks.prepare import prepare
from tests.builders import Finished, tiny

AT = Place(0)


@pytest.fixture(scope="module")
def reading(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return read(finished_study.copy(tmp_path_factory.mktemp("lines")).root)


@pytest.fixture(scope="module")
def found(reading: Reading) -> Connectivity:
    return measure(reading, tiny(), lambda _: None, seeds=1, points=3)


def test_a_line_has_the_losses_of_mixed_prompts(reading: Reading, found: Connectivity) -> None:
    """Its ends are the trials' own test losses, as these examples are all of the test examples."""
    (line,) = found.lines
    assert (line.name, line.seeds, line.at) == ("isotropic to fitted", (0,), (0.0, 0.5, 1.0))
    ((a, b),) = line.trials
    first, second = (reading.records[trial] for trial in (a, b))
    assert first.test is not None
    assert second.test is not None
    assert found.examples == first.test.examples == 10
    assert (line.losses[0][0], line.losses[0][2]) == pytest.approx(
        (first.test.loss, second.test.loss), rel=1e-5
    )
    (cell,) = reading.study.cells("prior")
    assert cell.baseline is not None
    assert cell.baseline.test is not None
    assert line.nothing == pytest.approx(cell.baseline.test.loss, rel=1e-5)
    ends = [load_posterior(reading.folder.posterior(trial)).final[AT] for trial in (a, b)]
    loaded = tiny()
    test = prepare(TASKS.component(first.spec.task), loaded.tokenizer, loaded.fingerprint).test
    batch = collate([test.row(i) for i in range(10)])
    by_hand = loaded.host.loss({AT: (ends[0] + ends[1]) / 2}, batch)
    assert line.losses[0][1] == pytest.approx(float(by_hand.nll.sum() / by_hand.tokens.sum()), rel=1e-5)


def test_the_lines_of_a_study_are_drawn_and_kept(
    reading: Reading, found: Connectivity, tmp_path: Path
) -> None:
    folder = replace(reading.folder, root=tmp_path)
    assert load_connectivity(folder) is None
    save_connectivity(folder, found)
    assert load_connectivity(folder) == found
    (cell,) = reading.study.cells("prior")
    connected = connected_of(found, cell)
    assert connected is not None
    (path,) = connected.paths
    assert path.prior == "fitted"
    assert path.losses.tolist() == [list(found.lines[0].losses[0])]
    figure = draw_connected(connected)
    assert "The first 10 test examples; exploratory." in caption_of(figure)
    old = found.model_copy(update={"lines": (found.lines[0].model_copy(update={"trials": (("x", "y"),)}),)})
    assert connected_of(old, cell) is None, "of posteriors that are not chosen any longer"
    folder.connectivity.write_text("{")
    with pytest.raises(UserError, match=r"is damaged; run python -m jobs\.connectivity again"):
        load_connectivity(folder)


def test_the_first_prior_is_connected_with_the_others_and_with_itself() -> None:
    (cell,) = simulated(Truth(rates=(0.01,), seeds=4)).cells()
    other, alone = pairs_of(cell, seeds=2)
    assert (other.name, [(a.seed, b.seed) for a, b in other.runs]) == (
        "isotropic to fitted",
        [(0, 0), (1, 1)],
    )
    assert [(a.axes["prior"], b.axes["prior"]) for a, b in other.runs] == [("isotropic", "fitted")] * 2
    assert (alone.name, [(a.seed, b.seed) for a, b in alone.runs]) == (
        "isotropic to another seed",
        [(0, 1), (1, 2)],
    )


def test_the_command_says_what_it_cannot_do(
    reading: Reading, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="would be others; run this where the study ran"):
        measure(reading, tiny()._replace(fingerprint="0"), lambda _: None)
    with pytest.raises(UserError, match="--points 2: a line needs both ends and a prompt between"):
        require_sizes(1, 2)
    assert connectivity.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert connectivity.main([str(reading.folder.root), "--seeds", "1", "--points", "3"]) == 0
    said = capsys.readouterr().out
    assert "line 1 of 1: arithmetic · soft, isotropic to fitted" in said
    assert np.isfinite(float(said.split("barrier ")[1].split()[0]))
    assert reading.folder.connectivity.exists()
