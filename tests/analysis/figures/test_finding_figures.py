"""Figures of findings, which take plain numbers: equality, forgetting, transfer, connectivity, variance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.figures.components import Variance, components_of, draw_components
from analysis.figures.connectivity import Path, draw_connectivity
from analysis.figures.equivalence import LOOKS, Difference, Equivalence, draw_equivalence, equivalence_of
from analysis.figures.forgetting import Forgetting, Forgot, draw_forgetting, forgetting_of, pareto
from analysis.figures.profile import Profile, draw_profile, profile_of
from analysis.figures.style import COLUMN, PAGE
from analysis.figures.transfer import Transfer, draw_transfer, transfer_of
from analysis.findings import quality
from analysis.findings.judging import judge
from analysis.findings.simulated import NO_PROMPT, PREFIX, SOFT, Truth, simulated
from analysis.findings.study import Run, Study
from analysis.inference.across import interquartile_mean
from analysis.inference.components import shares_of
from analysis.inference.values import PerExample
from analysis.overall import overall
from analysis.spread import HALF_PRECISION, NO_TWINS, TOGETHER
from softprior.inputs.entries import Entry
from softprior.results.records import Record, Score, TaskScore
from tests.analysis.figures.overlaps import assert_no_overlap
from tests.analysis.figures.saved import caption_of

WIDTHS = pytest.mark.parametrize("width", [COLUMN, PAGE])


@WIDTHS
def test_a_difference_is_equal_different_or_undecided_by_its_interval(width: float) -> None:
    rows = {
        "equal": (0.0, -0.05, 0.05),
        "different": (0.4, 0.2, 0.6),
        "undecided": (0.05, 0.0, 0.2),
    }
    differences = [
        Difference(name=f"{name}(quantile=0.95) - isotropic", value=v, low=low, high=high, seeds=9)
        for name, (v, low, high) in rows.items()
    ]
    assert [difference.verdict(0.1) for difference in differences] == list(rows)
    figure = draw_equivalence(Equivalence(differences=tuple(differences), margin=0.1), width)
    assert "over 9 seeds with 90% intervals. Shaded: the margin of equality, ± 0.1 nats." in caption_of(
        figure
    )
    lines = [
        line for line in figure.axes[0].lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 1.5
    ]
    assert [tuple(line.get_xdata()) for line in lines] == [row[1:] for row in rows.values()]
    assert [line.get_color() for line in lines] == [LOOKS[name][0] for name in rows]
    assert_no_overlap(figure)


def test_the_front_is_what_no_other_beats() -> None:
    points = np.array([[1.0, 3.0], [2.0, 2.0], [2.0, 4.0], [3.0, 1.0], [3.0, 3.0], [2.0, 2.0]])
    assert points[pareto(points)].tolist() == [[1, 3], [2, 2], [2, 2], [3, 1]]
    assert pareto(np.zeros((0, 2))).tolist() == []


@WIDTHS
def test_forgetting_has_trials_means_and_their_front(width: float) -> None:
    trials = [
        Forgot(prior=prior, seed=seed, loss=loss + 0.1 * seed, forgetting=forgetting)
        for prior, loss, forgetting in (
            ("isotropic", 1.0, 0.5),
            ("fitted", 2.0, 0.1),
            ("vocabulary", 3.0, 0.7),
        )
        for seed in (0, 1)
    ]
    cell = Forgetting(where="soft", trials=tuple(trials))
    assert cell.means()["isotropic"] == pytest.approx((1.05, 0.5))
    figure = draw_forgetting([cell], width)
    front = figure.axes[0].lines[-1]
    assert front.get_xdata().tolist() == pytest.approx([1.05, 2.05])
    assert "6 trials, 2 seeds (0 to 1) per prior" in caption_of(figure)
    assert_no_overlap(figure)


def test_figures_of_findings_are_filled_from_a_study() -> None:
    """Equality with the intervals of claim 3, forgetting with the numbers of claim 16."""
    study = simulated(Truth(rates=(0.01,), gap=0.2, forgetting=0.3, seeds=5))
    (finding,) = judge(study, (quality.JUDGED,))
    found = equivalence_of(finding)
    assert found is not None
    assert (found.margin, found.where) == (finding.margin, finding.where)
    (difference,), (own,) = found.differences, finding.comparisons
    assert own.equivalence is not None
    assert (difference.low, difference.high) == (own.equivalence.low, own.equivalence.high)
    assert (difference.name, difference.value, difference.seeds) == (own.what, own.value, 5)
    (cell,) = study.cells("prior")
    forgot = forgetting_of(study, cell)
    assert forgot is not None
    for trial in forgot.trials:
        run = cell.sides[trial.prior].runs[trial.seed]
        assert (trial.loss, trial.forgetting) == (run.loss, study.numbers["forgetting"][run.id])
    assert forgetting_of(replace(study, numbers={}), cell) is None
    assert equivalence_of(replace(finding, margin=None)) is None


def test_a_caption_says_why_a_difference_has_no_interval() -> None:
    (finding,) = judge(simulated(Truth(rates=(0.01,), seeds=2)), (quality.JUDGED,))
    found = equivalence_of(finding)
    assert found is not None
    (two,) = found.differences
    assert two.verdict(found.margin) == "without"
    caption = caption_of(draw_equivalence(found))
    assert "Differences over 2 seeds. Shaded:" in caption
    assert caption.endswith(" Two seeds have no interval.")
    equal = replace(two, missing="equal in all 5 seeds", seeds=5)
    caption = caption_of(draw_equivalence(replace(found, differences=(equal,))))
    assert "Differences over 5 seeds. Shaded:" in caption
    assert caption.endswith(" Seeds with equal differences have no interval.")


def test_of_many_pairs_those_with_the_first_prior_are_shown() -> None:
    priors = [Entry(name="isotropic", params={"scale": 0.01 * i}) for i in range(1, 8)]
    (finding,) = judge(simulated(Truth(rates=(0.01,), priors=priors, seeds=3)), (quality.JUDGED,))
    assert len(finding.comparisons) == 21
    found = equivalence_of(finding)
    assert found is not None
    assert len(found.differences) == 6
    assert {own.name.partition(" - ")[2] for own in found.differences} == {"isotropic(scale=0.01)"}
    assert "15 other pairs not shown" in caption_of(draw_equivalence(found))


def test_transfer_is_filled_from_what_prompts_do_on_other_tasks() -> None:
    study = simulated(Truth(rates=(0.01,), seeds=3))
    text = Entry(name="language", params={"length": 24})

    def on_text(record: Record, loss: float) -> Record:
        score = Score(step=20, loss=loss, accuracy=None, examples=4, tokens=40)
        return record.model_copy(
            update={"also": (TaskScore(task=text, fingerprint="f", score=score, sources="s"),)}
        )

    runs = [replace(run, record=on_text(run.record, 3.5 + 0.1 * run.seed)) for run in study.runs]
    baselines = {task: on_text(record, 3.0) for task, record in study.baselines.items()}
    found = transfer_of(Study(runs, baselines))
    assert [one.where for one in found] == ["isotropic · soft", "fitted · soft"]
    for one in found:
        assert (one.trained, one.tested, one.seeds) == (("arithmetic",), ("arithmetic", "language"), 3)
        own = [r.loss - NO_PROMPT for r in runs if r.axes["prior"] in one.where and r.loss is not None]
        assert one.change[0] == pytest.approx([np.mean(own), 0.6])
        assert one.spread[0] == pytest.approx([np.std(own, ddof=1), 0.1])
    assert transfer_of(study) == [], "one task alone has nothing to carry over to"
    (other, *_) = transfer_of(Study(runs, study.baselines))[:1] or [None]
    assert other is None, "the baseline was not measured there"


def _twin(run: Run, apart: float) -> Run:
    """A twin whose test loss is so much higher."""
    record = run.record
    assert record.test is not None
    test = record.test.model_copy(update={"loss": record.test.loss + apart})
    spec = record.spec.model_copy(update={"twin": 1e-6})
    return replace(run, record=record.model_copy(update={"id": spec.id, "spec": spec, "test": test}))


def test_components_are_the_methods_of_moments_of_seeds_by_examples() -> None:
    """Sums of two known effects and a residual, which the mean squares of a table give back."""
    study = simulated(Truth(rates=(0.01,), seeds=4))
    generator = np.random.default_rng(0)
    seeds, examples = generator.normal(0, 1, (4, 1)), generator.normal(0, 2, (1, 30))
    table = 5 + seeds + examples + generator.normal(0, 0.5, (4, 30))
    names = tuple(f"e{i}" for i in range(30))
    rows = {
        run.id: PerExample(3 * table[None, run.seed], np.full(30, 3.0), ("g",) * 30, (run.seed,), names)
        for run in study.runs
    }
    moves = {"isotropic": 0.1, "fitted": -0.3}
    twins = {run.id: _twin(run, moves[run.axes["prior"]]) for run in study.runs if run.seed == 0}
    rounding = (0.1**2 + 0.3**2) / 2 / 2  # half the mean square, over the cell's priors
    known = replace(study, examples=rows, twins=twins)
    (cell,) = known.cells("prior")
    first, second = components_of(known, cell)
    assert (first.name, second.name, first.n) == ("isotropic", "fitted", "4 seeds x 30 examples")
    rest = table - table.mean(0) - table.mean(1)[:, None] + table.mean()
    residual = (rest**2).sum() / (3 * 29)
    of_seeds = table.mean(1).var(ddof=1) - residual / 30
    assert first.parts == pytest.approx(
        {
            "seeds": of_seeds - rounding,
            "examples": table.mean(0).var(ddof=1) - residual / 4,
            "seeds x examples": residual,
            "rounding": rounding,
        }
    )
    assert second.parts == pytest.approx(first.parts), "the same table, and one yardstick"
    lost = {i: replace(run, record=run.record.model_copy(update={"test": None})) for i, run in twins.items()}
    (plain, _), (same, _) = (components_of(replace(known, twins=own), cell) for own in ({}, lost))
    assert plain == same
    assert set(plain.parts) == {"seeds", "examples", "seeds x examples"}
    assert plain.parts["seeds"] == pytest.approx(of_seeds)
    assert components_of(study, cell) == [], "without rows"


def test_reordered_trials_split_seeds_into_draw_and_order() -> None:
    """Pairs differ by an order's effect, and by what the order does to single examples."""
    study = simulated(Truth(rates=(0.01,), seeds=4))
    generator = np.random.default_rng(1)
    names, count = tuple(f"e{i}" for i in range(30)), np.full(30, 3.0)
    table = 5 + generator.normal(0, 1, (4, 1)) + generator.normal(0, 0.5, (4, 30))
    moves = generator.normal(0, 0.4, (4, 1)) + generator.normal(0, 0.3, (4, 30))
    rows, reordered = {}, {}
    for run in study.runs:
        values = table[run.seed] + (run.axes["prior"] == "fitted") * 0.01
        again = replace(run, record=run.record.model_copy(update={"id": f"again {run.id}"}))
        rows[run.id] = PerExample(3 * values[None], count, ("g",) * 30, (run.seed,), names)
        # Of isotropic three pairs, of fitted all four, which differ by far more than the seeds do.
        if run.axes["prior"] == "fitted" or run.seed < 3:
            size = 9 if run.axes["prior"] == "fitted" else 1
            moved = values + size * moves[run.seed]
            rows[again.id] = PerExample(3 * moved[None], count, ("g",) * 30, (run.seed,), names)
            reordered[run.id] = again
    twins = {run.id: _twin(run, 0.1) for run in study.runs if run.seed == 0}
    known = replace(study, examples=rows, reordered=reordered, twins=twins)
    (cell,) = known.cells("prior")
    first, second = components_of(known, cell)
    (whole, _) = components_of(replace(known, reordered={}), cell)
    of_order = np.mean([own.mean() ** 2 - own.var(ddof=1) / 30 for own in moves[:3]]) / 2 - 0.1**2 / 2
    assert first.parts["data order"] == pytest.approx(of_order)
    assert first.parts["prior draw"] == pytest.approx(whole.parts["seeds"] - of_order)
    for name in ("examples", "seeds x examples", "rounding"):
        assert first.parts[name] == pytest.approx(whole.parts[name])
    assert (first.n, first.below) == ("4 seeds x 30 examples (3 reordered trials)", ())
    assert second.below == ("prior draw",)
    of_order = np.mean([(81 * own.mean() ** 2 - 81 * own.var(ddof=1) / 30) for own in moves]) / 2
    assert second.parts["data order"] == pytest.approx(of_order - 0.1**2 / 2), "unchanged"
    assert second.deviation == pytest.approx(first.deviation)
    captions = [caption_of(draw_components(own)) for own in ([first, second], [whole])]
    assert captions[0].endswith(
        "Estimates below 0 are shown as 0, and no other is changed for them: prior draw for fitted."
    )
    for sentence in (TOGETHER, HALF_PRECISION, "it is biased low."):
        assert sentence in captions[0]
    alone = components_of(replace(known, twins={}), cell)
    assert NO_TWINS in caption_of(draw_components(alone))
    assert "cannot be told apart" not in captions[0]
    assert "Within seeds, prior draw and data order cannot be told apart." in captions[1]
    lost = {i: rows[i] for i in rows if not i.startswith("again ")}
    assert components_of(replace(known, examples=lost), cell)[0].parts == whole.parts, "without their rows"


@WIDTHS
def test_transfer_has_every_number_and_frames_a_prompts_own_task(width: float) -> None:
    found = Transfer(
        trained=("squad", "arithmetic"),
        tested=("squad", "arithmetic", "language"),
        change=np.array([[-1.0, 0.2, np.nan], [0.1, -2.0, 0.5]]),
        spread=np.full((2, 3), 0.25),
        seeds=3,
        where="fitted · soft",
    )
    figure = draw_transfer([found], width)
    (panel,) = figure.axes
    words = [text.get_text() for text in panel.texts]
    assert words == [
        "-1.00\n± 0.25",
        "+0.20\n± 0.25",
        "none",
        "+0.10\n± 0.25",
        "-2.00\n± 0.25",
        "+0.50\n± 0.25",
    ]
    assert len(panel.patches) == 2
    assert "n = 3 seeds at least" in caption_of(figure)
    assert_no_overlap(figure)


@WIDTHS
@pytest.mark.parametrize("count", [1, 2])
def test_long_names_of_tasks_have_room_in_a_figure_of_transfer(width: float, count: int) -> None:
    long = "arithmetic(train_examples=200, max_new_tokens=5, modules=[two_digit_addition])"
    found = Transfer(
        trained=(long,),
        tested=(long, "arithmetic(test_examples=8, modules=[mul])"),
        change=np.array([[-5.75, -0.94]]),
        spread=np.full((1, 2), np.nan),
        seeds=1,
        where="fitted · soft",
    )
    assert_no_overlap(draw_transfer([found] * count, width))


@WIDTHS
def test_the_barrier_is_above_the_line_between_the_ends(width: float) -> None:
    at = np.array([0.0, 0.5, 1.0])
    high = Path(name="isotropic to fitted", at=at, losses=np.array([[2.0, 5, 1], [2, 3, 1]]))
    low = Path(name="fitted to fitted", at=at, losses=np.array([[2.0, 1, 1], [2, 1, 1]]))
    assert high.barrier() == pytest.approx(4 - 1.5)
    assert low.barrier() == 0
    figure = draw_connectivity([high, low], nothing=6.0, width=width)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["isotropic to fitted (2.50 nats)", "fitted to fitted (0.00 nats)"]
    assert "mean over 2 pairs of posteriors" in caption_of(figure)
    assert_no_overlap(figure)


@WIDTHS
def test_shares_of_variance_add_up_to_one_bar(width: float) -> None:
    parts = {"prior draw": 0.3, "data order": 0.1, "examples": 0.6, "rounding": 0.0}
    found = Variance(name="fitted", parts=parts, n="9 seeds x 512 examples")
    still = Variance(name="zeros", parts=dict.fromkeys(parts, 0.0), n="9 seeds x 512 examples")
    assert set(shares_of(still.parts).values()) == {0.0}
    assert shares_of({"a": -0.5, "b": 1.0, "c": 3.0}) == {"a": 0.0, "b": 0.25, "c": 0.75}
    figure = draw_components([found, still], width=width)
    (panel,) = figure.axes
    assert [bar.get_width() for bar in panel.patches[:4]] == pytest.approx([0.3, 0.1, 0.6, 0.0])
    assert [text.get_text() for text in panel.texts] == ["30%", "10%", "60%", "1", "0"]
    assert "from 9 seeds x 512 examples" in caption_of(figure)
    assert_no_overlap(figure)


@WIDTHS
def test_a_profile_is_the_share_of_scores_above_each_threshold(width: float) -> None:
    """By hand: 0, 1 and 0.5 in one task, 0.5, 1 and 0.25 in another; two scores of six are at least 1."""
    scores = np.array([[[0.0, 0.5], [1.0, 1.0], [0.5, 0.25]], np.full((3, 2), 0.75)])
    found = Profile(priors=("isotropic", "fitted"), scores=scores, seeds=(0, 1, 2))
    assert found.shares(np.array([-0.1, 0.0, 0.4, 0.5, 0.99, 1.0]))[0] == pytest.approx(
        [1, 5 / 6, 4 / 6, 2 / 6, 2 / 6, 0]
    )
    figure = draw_profile(found, width)
    first, second = figure.axes[0].lines[:2]
    at = dict(zip(first.get_xdata(), first.get_ydata(), strict=True))
    assert [at[x] for x in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([5 / 6, 4 / 6, 2 / 6, 0])
    assert set(second.get_ydata()) == {0.0, 1.0}
    assert "Share of 3 seeds (0 to 2) in 2 combinations of task, method" in caption_of(figure)
    assert_no_overlap(figure)


def test_a_profile_has_the_scores_that_are_compared() -> None:
    study = simulated(Truth(methods=(SOFT, PREFIX), rates=(0.01, 0.02), gap=0.5, spread=0.0, seeds=4))
    found = profile_of(study)
    assert found is not None
    assert interquartile_mean(found.scores) == pytest.approx([one.score for one in overall(study)])
    assert profile_of(Study(study.runs)) is None, "without a baseline nothing is scored"
