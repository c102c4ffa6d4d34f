"""Figures of a study: their numbers follow from what it leaves, and what they say can be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy import stats

from analysis.figures.learning_curves import Curve, Curves, curves_of, draw_curves
from analysis.figures.left_out import Undrawn
from analysis.figures.losses import draw_losses, losses_of
from analysis.figures.moved import Moved, MovedPoint, draw_moved, moved_of
from analysis.figures.palette import entry_looks
from analysis.figures.posterior_maps import draw_posterior_map, posterior_map_of
from analysis.figures.radii import Radii, RadiiMap, draw_radii, radii_of
from analysis.figures.rates import RateMap, draw_rates, rate_map_of
from analysis.figures.settings import band_text, looks_of, seeds_text
from analysis.figures.single import of_each
from analysis.figures.study import draw_study, figures_of
from analysis.figures.style import COLUMN, PAGE
from analysis.figures.survival import Survival, Waiting, draw_survival, survival_of
from analysis.figures.together import of_all
from analysis.figures.transfer import Transfer
from analysis.findings import speed
from analysis.findings.posteriors import LostPosteriorError
from analysis.findings.reading import Reading, read
from analysis.findings.simulated import Truth, simulated
from analysis.findings.study import Cell, Run, Study
from softprior.errors import LeftOutWarning
from softprior.inputs.entries import Entry
from softprior.inputs.specs import Rate
from softprior.prompt import Place
from softprior.results.digested import read_header
from softprior.statistics.gaussian import oas_shrinkage
from tests.analysis.figures.overlaps import assert_no_overlap
from tests.analysis.figures.saved import COARSE, caption_of, saved
from tests.builders import Finished

PRIORS = ("isotropic", "fitted", "vocabulary", "exclusion", "exclusion(quantile=0.95)", "interpolation")

WIDTHS = pytest.mark.parametrize("width", [COLUMN, PAGE])


@pytest.fixture(scope="module")
def reading(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return read(finished_study.copy(tmp_path_factory.mktemp("figures")).root)


@pytest.fixture(scope="module")
def cell(reading: Reading) -> Cell:
    (found,) = reading.study.cells("prior")
    return found


def made(finished: Finished, *trials: tuple[str, float, int, float, float]) -> Cell:
    """A cell of trials with these priors, rates, seeds, last validation losses and test losses."""
    pattern = next(record for record in finished.records.values() if record.spec.prior is not None)
    runs = []
    for prior, rate, seed, validation, test in trials:
        spec = pattern.spec.model_copy(update={"rate": Rate(value=rate), "seed": seed})
        scores = (pattern.validation[0].model_copy(update={"loss": validation}),)
        score = pattern.test.model_copy(update={"loss": test})  # type: ignore[union-attr]
        update = {"spec": spec, "id": f"{len(runs)}", "validation": scores, "test": score}
        axes = {"task": "sums", "method": "soft", "prior": prior, "regularisers": "none", "rate": f"{rate:g}"}
        runs.append(Run(pattern.model_copy(update=update), axes, seed))
    (found,) = Study(runs).cells("prior")
    return found


ALL = [
    "test-loss",
    "learning-curves",
    "survival",
    "moved-over-reach",
    "radii",
    "posterior-map",
    "prior-samples",
]


def test_a_study_is_drawn_whole_in_place_of_an_earlier_one(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(monkeypatch, COARSE)
    folder = reading.folder.root / "figures" / "study"
    folder.mkdir()
    (folder / "equivalence.png").write_bytes(b"of an earlier run")
    paths = draw_study(reading).files
    assert [path.stem for path in paths] == ALL
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{kind}" for name in ALL for kind in ("png", "pdf")
    }
    for path in paths:
        assert path.parent == folder
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_missing_posterior_leaves_out_its_figures_alone(finished_study: Finished, tmp_path: Path) -> None:
    folder = finished_study.copy(tmp_path)
    lost = next(trial for trial in finished_study.records if folder.posterior(trial).exists())
    folder.posterior(lost).unlink()
    with pytest.warns(UserWarning, match=f"no posterior file .*{lost}.*; copy it there") as told:
        names = [name for name, _ in figures_of(read(folder.root))]
    (said,) = [str(warning.message) for warning in told]
    assert said.startswith("the figures radii, posterior-map, prior-samples are left out: ")
    assert names == ALL[:4]


def test_figures_that_lack_posteriors_are_one_sentence() -> None:
    undrawn = Undrawn()
    for name, error in (
        ("radii", LostPosteriorError("no file a")),
        ("profile", ValueError("no points")),
        ("posterior-map", LostPosteriorError("no file b")),
        ("prior-samples", LostPosteriorError("no file a")),
    ):
        undrawn.add(name, error)
    with pytest.warns(LeftOutWarning) as told:
        undrawn.warn()
    assert [str(one.message) for one in told] == [
        "the figure profile is left out: ValueError: no points",
        "the figures radii, posterior-map, prior-samples are left out: no file a (and 1 more like it)",
    ]


def test_the_rate_is_chosen_on_validation_among_those_with_most_seeds(finished_study: Finished) -> None:
    rates, seeds = [0.1, 0.1, 0.2, 0.2, 0.3, 0.4], [0, 1, 0, 1, 0, 0]
    losses = [2.0, 2.0, 1.0, 1.5, 0.1, 0.1]  # 0.3 and 0.4 lost a seed
    found = made(finished_study, *(("a", r, s, v, 1.0) for r, s, v in zip(rates, seeds, losses, strict=True)))
    assert found.sides["a"].chosen == "0.2"
    tied = made(finished_study, ("a", 0.2, 0, 1.0, 1.0), ("a", 0.1, 0, 1.0, 1.0))
    assert tied.sides["a"].chosen == "0.1", "the smaller of two"


def test_figures_of_a_study_have_the_looks_of_its_entries(reading: Reading) -> None:
    """Also those that show few priors: what a prior looks like does not depend on what else is shown."""
    looks = looks_of(reading)
    entries = [run.record.spec.prior for run in reading.study.runs if run.record.spec.prior is not None]
    assert list(looks.values()) == list(entry_looks(entries).values())
    exclusion = entry_looks(
        [
            e.model_copy(update={"name": "exclusion", "params": {"quantile": q}})
            for e, q in zip(entries, (0.5, 0.95), strict=True)
        ]
    )
    first, second = exclusion.values()
    names = dict(zip(("near", "far"), (first, second), strict=True))
    curve = curves((0,)).curves[0]
    figure = draw_curves([Curves(where="soft", curves=(replace(curve, prior="far"),))], looks=names)
    assert figure.axes[0].lines[0].get_marker() == second.marker != first.marker


def test_a_study_that_is_running_has_the_looks_of_the_whole(finished_study: Finished, tmp_path: Path) -> None:
    """Own priors take the looks that all planned priors leave, whichever of them have ended."""
    folder = finished_study.copy(tmp_path)
    header = read_header(folder.study)
    for one in header["entries"]["known"]:  # both priors of the study are the user's own
        if one["entry"]["name"] in ("isotropic", "fitted"):
            one["entry"] = {"name": f"own_{one['entry']['name']}", "params": {}}
    folder.study.write_text(json.dumps(header), encoding="utf-8")
    whole = looks_of(read(folder.root))
    first = next(record for record in finished_study.records.values() if record.spec.prior is not None)
    folder.record(first.id).unlink()
    (name,) = partial = looks_of(read(folder.root))
    assert partial == {name: whole[name]}
    (alone,) = entry_looks([Entry(name=name)]).values()
    assert alone != whole[name], "it was the look of a study with this prior alone"


def test_what_figures_leave_out_of_many_combinations_is_said(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = [Entry(name="soft", params={"tokens": n}) for n in range(1, 6)]
    study = simulated(Truth(rates=(0.01,), seeds=2, methods=methods))
    matrix = Transfer(trained=(), tested=(), change=np.zeros((0, 0)), spread=np.zeros((0, 0)), seeds=2)
    drawn = "analysis.figures.together"
    monkeypatch.setattr(f"{drawn}.transfer_of", lambda _: [matrix] * 7)
    monkeypatch.setattr(f"{drawn}.draw_transfer", lambda known: len(known))
    with pytest.warns(LeftOutWarning, match="transfer shows 6 of 7 combinations of prior and method"):
        assert of_all(study, study.cells(), {})["transfer"]() == 6
    with pytest.warns(LeftOutWarning, match="single combinations are drawn of the first 4 of 5"):
        assert "posterior-map-4" in of_each(replace(reading, study=study), study.cells(), {})


def test_survival_counts_steps_where_some_trials_count_no_tokens() -> None:
    study = simulated(Truth(rates=(0.01,), later=0.5, seeds=3))
    first, *others = study.runs
    old = tuple(replace(point, labels=None) for point in first.record.steps)
    runs = [replace(first, record=first.record.model_copy(update={"steps": old})), *others]
    ((plain,), (mixed,)) = (one.cells() for one in (study, replace(study, runs=runs)))
    tokens, steps = survival_of(plain), survival_of(mixed)
    assert tokens is not None
    assert steps is not None
    assert (tokens.unit, steps.unit) == ("label tokens", "optimizer steps")
    for one, other in zip(tokens.groups, steps.groups, strict=True):
        assert other.times.tolist() == (one.times / (others[0].record.steps[0].labels or 0)).tolist()
    assert "against label tokens or optimizer steps of training" in caption_of(draw_survival([tokens, steps]))


def test_seeds_in_words() -> None:
    assert seeds_text([(0, 1, 2), (2, 1, 0)]) == "3 seeds (0 to 2)"
    assert seeds_text([(0, 2)]) == "2 seeds (0, 2)"
    assert seeds_text([(0, 1, 2), (0,)]) == "1 to 3 seeds"
    assert seeds_text([(0, 1), (1, 2)]) == "2 seeds"
    assert band_text([(4,)]) == "1 seed (4), so no band"


def test_curves_are_the_records(reading: Reading, cell: Cell) -> None:
    found = {curve.prior: curve for curve in curves_of(cell).curves}
    assert set(found) == {"isotropic", "fitted"}
    for record in reading.records.values():
        if record.spec.prior is not None:
            own = found[record.spec.prior.name]
            assert own.steps.tolist() == [score.step for score in record.validation]
            assert own.mean.tolist() == own.low.tolist() == [score.loss for score in record.validation]


def test_losses_have_students_intervals_over_seeds(finished_study: Finished) -> None:
    own = [1.0, 1.25, 1.75]
    cell = made(finished_study, *(("a", 0.1, seed, 1.0, loss) for seed, loss in enumerate(own)))
    found = losses_of(cell)
    (prior,) = found.priors
    assert prior.mean == pytest.approx(np.mean(own))
    ends = stats.t.interval(0.95, 2, np.mean(own), stats.sem(own))
    assert (prior.interval.low, prior.interval.high) == pytest.approx(ends)
    figure = draw_losses([replace(found, nothing=9.0)], COLUMN)
    whole = (
        "means over 3 seeds (0 to 2) (large marks) with 95% intervals (Student's), and single seeds (small)."
    )
    assert whole in caption_of(figure)
    two = replace(found, priors=(replace(prior, losses=prior.losses[:2]),))
    said = caption_of(draw_losses([two], COLUMN))
    assert "means over 2 seeds (0 to 1) (large marks) and single seeds (small)." in said
    assert "Two seeds have no interval." in said
    assert "Without a prompt the loss is 9, off the axis." in caption_of(figure)
    assert_no_overlap(figure)


def curves(seeds: tuple[int, ...] = (0, 1, 2)) -> Curves:
    steps = np.arange(0, 101, 10)
    mean = 7 * np.exp(-steps / 40)[None] + np.arange(len(PRIORS))[:, None]
    own = [
        Curve(prior=p, rate="0.01", seeds=seeds, steps=steps, mean=m, low=m - 0.2, high=m + 0.3)
        for p, m in zip(PRIORS, mean, strict=True)
    ]
    return Curves(where="soft", curves=tuple(own))


@WIDTHS
def test_bands_of_curves_are_named(width: float) -> None:
    figure = draw_curves([curves(), curves()], width)
    assert "mean over 3 seeds (0 to 2), bands from the lowest to the highest seed" in caption_of(figure)
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((7 * np.exp(-2.5) - 0.2, 7.3))
    assert_no_overlap(figure)
    assert "so no band" in caption_of(draw_curves([curves((0,))]))


def test_points_of_moved_over_reach_are_the_records(reading: Reading, cell: Cell) -> None:
    found = moved_of(cell)
    trials = reading.results[0].trials.set_index("prior")
    for point in found.points:
        row = trials.loc[point.prior]
        assert (point.loss, point.moved_over_reach) == (row.test_loss, row.moved_over_reach)
    assert found.nothing == trials.baseline_loss.iloc[0]
    assert "2 trials: 1 seed (0) per prior and rate" in caption_of(draw_moved([found]))
    far = caption_of(draw_moved([replace(found, nothing=1e3)]))
    assert "Without a prompt the loss is 1e+03, off the axis." in far
    assert "Dotted" not in far


def test_moved_over_reach_over_decades_has_round_ticks() -> None:
    points = [
        MovedPoint(prior=p, rate="0.1", seed=0, moved_over_reach=10.0 ** -(i / 2), loss=1.0 + i)
        for i, p in enumerate(PRIORS)
    ]
    figure = draw_moved([Moved(where="soft", points=tuple(points), nothing=6.5)], COLUMN)
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks == ["0.01", "0.1", "1"]
    assert_no_overlap(figure)


def test_the_map_of_rates_has_means_over_seeds_and_says_where_some_are_missing(
    finished_study: Finished,
) -> None:
    cell = made(
        finished_study,
        ("a", 0.1, 0, 1.0, 1.0),
        ("a", 0.1, 1, 1.0, 3.0),
        ("a", 0.2, 0, 0.5, 0.0042),
        ("b", 0.2, 0, 1.0, 5.0),
    )
    found = rate_map_of(cell)
    assert (found.priors, found.rates) == (("a", "b"), ("0.1", "0.2"))
    np.testing.assert_equal(found.losses, [[2.0, 0.0042], [np.nan, 5.0]])
    np.testing.assert_allclose(found.spreads[0, 0], 2**0.5)
    assert found.seeds.tolist() == [[2, 1], [0, 1]]
    assert found.chosen == (0, 1), "0.2 has a lower validation loss, but of one seed"
    figure = draw_rates([found])
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words == ["2.00\n± 1.41", "0.0042\nn = 1", "none", "5.00\nn = 1"]
    assert "n = 1 to 2 per cell" in caption_of(figure)


@WIDTHS
def test_numbers_of_a_large_map_of_rates_do_not_touch(width: float) -> None:
    losses = np.linspace(0.00123, 30, 24).reshape(6, 4)
    found = RateMap(
        where="soft",
        priors=PRIORS,
        rates=("0.001", "0.005", "0.01 rel", "0.05 rel"),
        losses=losses,
        spreads=losses / 10,
        seeds=np.full((6, 4), 5),
        chosen=(0,) * 6,
    )
    assert_no_overlap(draw_rates([found], width))


def test_survival_is_to_the_loss_of_the_claim() -> None:
    """Half way from no prompt to the best prior's last loss; times are label tokens until then."""
    (first,) = simulated(Truth(rates=(0.01,), later=0.5, noise=0.0, seeds=3)).cells("prior")
    found = survival_of(first)
    assert found is not None
    assert found.target == speed.level(first)
    assert first.baseline is not None
    best = min(np.mean([r.record.validation[-1].loss for r in s.runs.values()]) for s in first.sides.values())
    assert found.target == pytest.approx((first.baseline.validation[0].loss + best) / 2)
    sooner, later = found.groups
    assert sooner.reached.all()
    assert later.times.mean() > sooner.times.mean()
    assert found.unit == "label tokens"
    run = first.sides[sooner.prior].runs[0]
    reached = next(score.step for score in run.record.validation if score.loss <= found.target)
    assert sooner.times[0] == sum(step.labels or 0 for step in run.record.steps[:reached])
    assert survival_of(replace(first, baseline=None)) is None


def test_the_curve_is_kaplan_and_meiers_by_hand() -> None:
    """Of 4 seeds one reaches the loss at 10, one is censored at 15, two reach it at 20 and 30."""
    group = Waiting(
        prior="fitted",
        seeds=(0, 1, 2, 3),
        times=np.array([10.0, 15.0, 20.0, 30.0]),
        reached=np.array([True, False, True, True]),
    )
    times, shares = group.share_waiting()
    assert times.tolist() == [10, 15, 20, 30]
    assert shares == pytest.approx([3 / 4, 3 / 4, 3 / 8, 0])
    nobody = Waiting(prior="xavier", seeds=(0,), times=np.array([30.0]), reached=np.array([False]))
    assert nobody.share_waiting()[1].tolist() == [1.0]
    known = Survival(where="soft", target=2.5, horizon=30.0, groups=(group, nobody))
    figure = draw_survival([known], COLUMN)
    # Areas: 10 + 3/4 of 10 + 3/8 of 10, and all of 30.
    assert group.restricted_mean(30.0) == pytest.approx(21.25)
    assert "restricted mean times, up to 30: fitted 21, xavier 30." in caption_of(figure)
    marks = [line for line in figure.axes[0].lines if list(line.get_ydata()) == [-0.04]]
    assert [line.get_xdata()[0] for line in marks] == pytest.approx([21.25, 30])
    assert "Ticks: training ended before (2 of 5 trials)" in caption_of(figure)
    assert figure.axes[0].get_title() == "soft · loss 2.5"
    assert_no_overlap(figure)


def test_radii_are_those_of_a_gaussian_of_the_sample(reading: Reading, cell: Cell) -> None:
    (found,) = radii_of(reading.study, [cell])
    assert [len(group.initial) for group in found.groups] == [4, 4]
    # By the definition, for one token: left out of mean and covariance, with the shrinkage of the whole fit.
    rows = torch.from_numpy(reading.study.vocabulary).double()
    whole, rest = torch.cov(rows.T, correction=0), rows[1:]
    weight, one = oas_shrinkage(whole, len(rows)), torch.eye(len(whole)).double()
    covariance = (1 - weight) * torch.cov(rest.T, correction=0) + weight * whole.trace() / len(whole) * one
    away = rows[0] - rest.mean(0)
    assert found.data[0] == pytest.approx(float(away @ torch.linalg.solve(covariance, away)) ** 0.5, rel=1e-6)


@WIDTHS
def test_chi_is_shown_only_where_tokens_are_enough(width: float) -> None:
    radii = stats.chi(16).rvs(200, random_state=0)
    groups = [
        Radii(prior=p, seeds=(0, 1), initial=radii[:20], final=radii[20:40] + i) for i, p in enumerate(PRIORS)
    ]
    found = RadiiMap(where="soft", dimension=16, data=radii, groups=tuple(groups))
    figure = draw_radii([found], width)
    dotted = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert dotted == pytest.approx(stats.chi(16).ppf([0.05, 0.5, 0.95]))
    assert "n = 20 vectors per prior, 2 seeds (0 to 1)" in caption_of(figure)
    assert_no_overlap(figure)
    few = RadiiMap(where="soft", dimension=64, data=radii, groups=tuple(groups))
    figure = draw_radii([few], width)
    assert "Chi is left out" in caption_of(figure)
    assert not [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]


@pytest.mark.usefixtures("quick_tsne")
@pytest.mark.parametrize("embedding", ["pca", "t-SNE"])
def test_arrows_go_from_sample_to_posterior_in_one_plane(
    reading: Reading, cell: Cell, embedding: str
) -> None:
    assert reading.study.vocabulary is not None
    few = {"vocabulary": reading.study.vocabulary[:40]}
    found = posterior_map_of(reading.study, cell, embedding=embedding, behind=few)  # type: ignore[arg-type]
    assert found is not None
    assert [arrows.prior for arrows in found.arrows] == ["isotropic", "fitted"]
    figure = draw_posterior_map(found)
    assert "4 vectors per prior, seed 0" in caption_of(figure)
    assert "vocabulary (n = 40)" in caption_of(figure)
    assert_no_overlap(figure)
    if embedding == "t-SNE":
        # Of 40 tokens and 16 ends of arrows: a third of the others, less than the usual 30.
        assert "perplexity 18.3, seed 0" in caption_of(figure)
        return
    # The plane is the first two principal components of all: distances in it are never longer than real ones.
    for arrows in found.arrows:
        posterior = reading.study.posteriors[cell.sides[arrows.prior].runs[0].id]
        moved = (posterior.final[Place(0)] - posterior.initial[Place(0)]).norm(dim=1).numpy()
        assert (np.linalg.norm(arrows.final - arrows.initial, axis=1) <= moved + 1e-5).all()


def test_activations_may_lie_behind_and_a_place_without_vectors_has_no_map(
    reading: Reading, cell: Cell
) -> None:
    hidden = next(iter(reading.results[0].posteriors.values())).initial[Place(0)].shape[1]
    behind = {"squad": np.zeros((5, hidden), np.float32), "arithmetic": np.ones((7, hidden), np.float32)}
    found = posterior_map_of(reading.study, cell, behind=behind)
    assert found is not None
    assert "squad (n = 5), arithmetic (n = 7)" in caption_of(draw_posterior_map(found))
    assert posterior_map_of(reading.study, cell, place=Place(1)) is None


def test_a_figure_that_fails_costs_only_itself(
    finished_study: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises; the others are not drawn here, to save their time."""

    def fails(*_: object, **__: object) -> Figure:
        raise ValueError("no points")

    drawn = "analysis.figures.together"
    for name in ("draw_losses", "draw_survival", "draw_radii", "draw_forgetting"):
        monkeypatch.setattr(f"{drawn}.{name}", lambda *_, **__: None)
    monkeypatch.setattr("analysis.figures.study.of_each", lambda *_: {})
    monkeypatch.setattr(f"{drawn}.draw_curves", fails)
    with pytest.warns(UserWarning, match="the figure learning-curves is left out: ValueError: no points"):
        paths = draw_study(read(finished_study.copy(tmp_path).root)).files
    assert [path.stem for path in paths] == ["moved-over-reach"]
