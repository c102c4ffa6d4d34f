"""The paper's figures on one's own study: maps by rate, samples of priors, and prompts among activations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.figures.activation_maps import activation_maps, behind_of
from analysis.figures.attention import attention_of, draw_attention
from analysis.figures.posterior_maps import draw_posterior_map, posterior_map_of
from analysis.figures.prior_samples import draw_samples, samples_of
from analysis.figures.style import COLUMN
from analysis.findings.reading import Reading, read
from analysis.findings.simulated import CUT, Truth, simulated
from analysis.findings.study import Cell, Study
from jobs import maps
from softprior.errors import LeftOutWarning, UserError
from softprior.inputs.entries import Entry
from softprior.prompt import Place
from softprior.results.probed import Attended, Probed
from softprior.statistics.store import SiteStatistics, save_statistics
from tests.analysis.figures.overlaps import assert_no_overlap
from tests.analysis.figures.saved import caption_of
from tests.builders import Finished

AT = Place(0)
LOOKED = Attended(
    prompt=0.3,
    prompt_first=0.2,
    text_first=0.1,
    even=0.25,
    untrained_prompt=0.4,
    untrained_prompt_first=0.35,
    untrained_text_first=0.1,
    without_text_first=0.5,
    blocks=((0.2, 0.1, 0.0), (0.4, 0.3, 0.2)),
    untrained_blocks=((0.5, 0.3, 0.0), (0.3, 0.4, 0.2)),
)

PRIORS = [Entry(name="isotropic", params={"scale": 0.01 * i}) for i in range(1, 5)]


def cell_of(study: Study) -> Cell:
    (found,) = study.cells("prior")
    return found


def test_each_rate_has_a_panel_in_one_plane() -> None:
    """Figures 6 to 8 of the paper: where a prior ends at a high and at a low rate."""
    study = simulated(Truth(seeds=2))
    found = posterior_map_of(study, cell_of(study), rates="all")
    assert found is not None
    rates = ["0.01", "0.02", "0.04"]
    assert [(own.prior, own.rate) for own in found.arrows] == [
        (prior, rate) for prior in ("isotropic", "fitted") for rate in rates
    ]
    for own, run in zip(found.arrows, [r for r in study.runs if r.seed == 0], strict=True):
        assert own.loss == run.loss
    figure = draw_posterior_map(found, COLUMN)
    assert "rate with its lowest" not in caption_of(figure)
    assert "Cross: the mean of each kind that lies behind." in caption_of(figure)
    assert_no_overlap(figure)


def test_shares_of_attention_are_means_over_seeds_by_block() -> None:
    study = simulated(Truth(seeds=2, rates=(0.01,)))
    assert attention_of(cell_of(study)) is None
    runs = []
    for run in study.runs:
        more = 0.1 * run.seed
        blocks = tuple((a + more, b, c) for a, b, c in LOOKED.blocks)
        one = Probed(
            probe="attention",
            found=LOOKED.model_copy(update={"blocks": blocks}),
            examples=10 + run.seed,
            sources="s",
        )
        runs.append(replace(run, record=run.record.model_copy(update={"probes": (one,)})))
    found = attention_of(cell_of(Study(runs)))
    assert found is not None
    assert [own.prior for own in found.priors] == ["isotropic", "fitted"]
    for own in found.priors:
        assert own.trained.tolist() == pytest.approx([0.25, 0.45])
        assert own.untrained.tolist() == pytest.approx([0.5, 0.3])
        assert own.first.tolist() == pytest.approx([0.1, 0.3])
    assert (found.even, found.examples) == (0.25, 10)
    figure = draw_attention([found], COLUMN)
    assert "10 test examples at least, and 2 seeds (0 to 1)" in caption_of(figure)
    assert 0.5 < figure.axes[0].get_ylim()[1] < 0.6, "a small share fills its panel"
    assert_no_overlap(figure)


def test_of_many_rates_the_lowest_and_the_highest_are_shown() -> None:
    study = simulated(Truth(seeds=2, priors=PRIORS))
    found = posterior_map_of(study, cell_of(study), rates="all")
    assert found is not None
    assert [own.rate for own in found.arrows] == ["0.01", "0.04"] * 3
    assert found.left_out == 4 * 3 - 6
    assert (
        "The lowest and the highest rate of 3 priors; 6 more combinations of prior and rate not shown."
        in caption_of(draw_posterior_map(found))
    )
    study = simulated(Truth(seeds=2, priors=PRIORS[:3], rates=(0.02, 0.04, 0.01)))
    found = posterior_map_of(study, cell_of(study), rates="all")
    assert found is not None
    assert [own.rate for own in found.arrows] == ["0.01", "0.04"] * 3, "not the first and last of the study"
    assert found.left_out == 3
    study = replace(
        study,
        runs=[
            r for r in study.runs if r.axes["prior"] != "isotropic(scale=0.01)" or r.axes["rate"] == "0.02"
        ],
    )
    found = posterior_map_of(study, cell_of(study), rates="all")
    assert found is not None
    assert ([own.rate for own in found.arrows], found.left_out) == (["0.02"] + ["0.01", "0.04"] * 2, 2)
    one = simulated(Truth(seeds=2, rates=(0.01,)))
    assert posterior_map_of(one, cell_of(one), rates="all") is None, "it would be the map of the chosen rate"


def test_samples_of_all_seeds_stand_in_the_plane_of_the_real_vectors() -> None:
    """Figures 9 and 13: their spread, by the definition, tells a prior that has collapsed."""
    study = simulated(Truth(seeds=3, rates=(0.01,)))
    cell = cell_of(study)
    assert study.vocabulary is not None
    posteriors = dict(study.posteriors)
    for run in study.runs:
        if run.axes["prior"] == "fitted":  # collapsed to a point, nearly
            old = posteriors[run.id]
            initial = {place: 3 + 1e-3 * vectors for place, vectors in old.initial.items()}
            posteriors[run.id] = replace(old, initial=initial)
    study = replace(study, posteriors=posteriors)
    found = samples_of(study, cell)
    assert found is not None
    words = study.vocabulary
    data = np.sqrt(np.cov(words.T).trace())
    centred = words - words.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    for own in found.priors:
        runs = cell.sides[own.prior].runs.values()
        vectors = np.concatenate([posteriors[run.id].initial[AT].numpy() for run in runs])
        assert own.spread == pytest.approx(np.sqrt(np.cov(vectors.T).trace()) / data, rel=1e-5)
        flat = (vectors - words.mean(0)) @ axes.T
        np.testing.assert_allclose(np.abs(own.points), np.abs(flat), atol=1e-4)
    wide, narrow = (own.spread for own in found.priors)
    assert narrow is not None
    assert wide is not None
    assert narrow < 0.01 < wide
    figure = draw_samples(found, COLUMN)
    assert "3 seeds (0 to 2)" in caption_of(figure)
    assert_no_overlap(figure)
    assert samples_of(study, cell, behind={}) is None
    assert samples_of(study, cell, place=Place(1)) is None


def test_a_spread_is_that_within_kinds_and_needs_two_vectors() -> None:
    """Two tasks far apart do not make the data wide, and one vector has not collapsed."""
    study = simulated(Truth(seeds=1, rates=(0.01,)))
    cell = cell_of(study)
    drawn = np.random.default_rng(0).normal(size=(2, 30, study.vocabulary.shape[1]))  # type: ignore[union-attr]
    behind = {"squad": drawn[0], "arithmetic": drawn[1][:5] + 100}
    found = samples_of(study, cell, behind=behind)
    assert found is not None
    scatters = [(len(own) - 1) * np.cov(own.T).trace() for own in behind.values()]
    data = np.sqrt(sum(scatters) / (29 + 4))
    (run,) = cell.sides["isotropic"].runs.values()
    own = study.posteriors[run.id].initial[AT].numpy()
    assert found.priors[0].spread == pytest.approx(np.sqrt(np.cov(own.T).trace()) / data)
    one = {
        trial: replace(known, initial={place: vectors[:1] for place, vectors in known.initial.items()})
        for trial, known in study.posteriors.items()
    }
    found = samples_of(replace(study, posteriors=one), cell)
    assert found is not None
    assert [own.spread for own in found.priors] == [None, None]
    titles = [panel.get_title() for panel in draw_samples(found).axes]
    assert titles == ["isotropic: no spread", "fitted: no spread"]


def test_cut_vectors_are_said_to_be_those_before_the_norm() -> None:
    study = simulated(Truth(seeds=2, rates=(0.01,), methods=(CUT,)))
    cell = cell_of(study)
    place = next(p for p in study.posteriors[study.runs[0].id].initial if p.after == "cut")
    behind = {"squad": np.random.default_rng(0).normal(size=(20, study.vocabulary.shape[1]))}  # type: ignore[union-attr]
    found, samples = (
        make(study, cell, place=place, behind=behind) for make in (posterior_map_of, samples_of)
    )
    assert found is not None
    assert samples is not None
    for figure in (draw_posterior_map(found), draw_samples(samples)):
        assert "Vectors before the block's norm" in caption_of(figure)


@pytest.fixture(scope="module")
def store(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks and the vocabulary at the model's input."""
    reading = read(finished_study.folder.root)
    folder = tmp_path_factory.mktemp("activations")
    width = reading.study.vocabulary.shape[1]  # type: ignore[union-attr]
    for i, task in enumerate(("arithmetic", "squad", "vocabulary")):
        vectors = torch.randn(700, width, generator=torch.Generator().manual_seed(i)) + i
        own = {"all": SiteStatistics.of(vectors)}
        save_statistics(folder, task, "resid.0", str(reading.header["model_fingerprint"]), own)
    return folder


@pytest.fixture(scope="module")
def reading(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return read(finished_study.copy(tmp_path_factory.mktemp("maps")).root)


def test_prompts_are_drawn_among_the_activations_of_tasks(reading: Reading, store: Path) -> None:
    """Figures 10 to 12: the tokens of tasks as often as they occur, not the whole vocabulary."""
    figures = dict(activation_maps(reading, store))
    assert list(figures) == ["posteriors-resid.0", "samples-resid.0"]
    for figure in figures.values():
        assert "arithmetic (n = 600), squad (n = 600)" in caption_of(figure)
    model = str(reading.header["model_fingerprint"])
    assert list(behind_of(store, AT, model, ["squad"])) == ["squad"]
    with pytest.raises(UserError, match=r"has no task math; it has arithmetic, squad, vocabulary"):
        behind_of(store, AT, model, ["math"])
    with pytest.raises(UserError, match="another model"):
        behind_of(store, AT, "0" * 64)


def test_places_that_the_store_has_are_drawn_as_far_as_posteriors_are_there(
    reading: Reading, store: Path, tmp_path: Path
) -> None:
    """Of nine places the store has two, which four even ones would miss; a lost posterior ends nothing."""
    study, model = reading.study, str(reading.header["model_fingerprint"])
    known = {
        run.id: replace(
            study.posteriors[run.id],
            initial={Place(block): study.posteriors[run.id].initial[AT] for block in range(9)},
        )
        for run in study.runs
        if run.axes["prior"] != "fitted"
    }
    width = study.vocabulary.shape[1]  # type: ignore[union-attr]
    for site in ("resid.2", "resid.7"):
        own = {"all": SiteStatistics.of(torch.randn(20, width))}
        save_statistics(tmp_path, "squad", site, model, own)
    lost = replace(reading, study=replace(study, posteriors=known))
    with pytest.warns(LeftOutWarning) as told:
        assert not dict(activation_maps(lost, tmp_path, embedding="t-SNE"))
    (said,) = [str(one.message) for one in told]
    figures = "posteriors-resid.2-t-sne, samples-resid.2, posteriors-resid.7-t-sne, samples-resid.7"
    assert said.startswith(f"the figures {figures} are left out: the study has no posterior of trial")


def test_a_store_without_the_places_of_the_prompts_gets_one_sentence(
    reading: Reading, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "squad").mkdir()
    assert maps.main([str(reading.folder.root), str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path} has no site at which prompts of small stand; add resid.L")
    assert maps.main([str(reading.folder.root), str(store), "--tasks", "squad"]) == 0
    files = [line.split()[-1] for line in capsys.readouterr().out.splitlines()]
    assert [Path(file).name for file in files] == ["posteriors-resid.0.png", "samples-resid.0.png"]
    assert all(Path(file).read_bytes().startswith(b"\x89PNG") for file in files)
