"""What the seeds of a study can show, against the tests that its findings make."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from scipy.stats import wilcoxon

from analysis.findings.claims import JUDGED
from analysis.findings.common import ALSO
from analysis.findings.design import design_of
from analysis.findings.judging import judge
from analysis.findings.simulated import KEEP, PREFIX, SOFT, Truth, simulated
from analysis.findings.study import Study
from analysis.inference.permutation import least_p
from analysis.report import grid
from analysis.report.values import Table
from jobs.support.beginnings import tell_beginning, tell_dry_run
from jobs.support.evidence import claim_tests, forecast, judged_or_not, prospect
from jobs.support.expected import expected
from jobs.support.screen import tell
from softprior.assets.models import KnownModel, known_model
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.inputs.study_files import load_grid
from softprior.results.digested import read_header
from softprior.results.folder import StudyFolder
from softprior.results.records import Record
from softprior.studies.components import Components
from softprior.studies.describe import describe, listed
from softprior.studies.estimate import total_cost, trial_cost
from softprior.studies.grid import Grid
from softprior.studies.plan import Plan, plan_study
from softprior.training import continuing
from softprior.training.checkpoint import TrialState, save_checkpoint
from tests.builders import Finished, study_file

BESIDE = ("words", "near-tokens")
"""Claims on numbers of probes, which simulated studies have beside trials that ask for none."""


def planned(folder: Path, **changes: Any) -> Plan:
    return plan_study(load_grid(study_file(folder / "small.yaml", **changes)))


def results(plan: Plan) -> Study:
    return expected(plan.trials, plan.components, plan.model.shape)


def lines(plan: Plan, folder: Path) -> list[str]:
    return said(plan, StudyFolder(folder / "results" / "small"))


def said(plan: Plan, folder: StudyFolder) -> list[str]:
    return forecast(plan.trials, plan.components, plan.model.shape, folder)


@pytest.fixture(scope="module")
def model() -> KnownModel:
    return known_model(ModelSpec(id="tiny"))


@pytest.mark.parametrize(
    "truth",
    [
        Truth(methods=(SOFT, PREFIX, KEEP), rates=(0.01, 0.02), seeds=3),
        Truth(weights=(0.0, 1.0), rates=(0.01,), seeds=2),
        Truth(seeds=1),
    ],
    ids=["methods", "regularisers", "one seed"],
)
def test_a_plan_has_the_tests_that_its_findings_make(truth: Truth, model: KnownModel) -> None:
    """The simulated study has finished; its plan is asked before."""
    study = simulated(truth)
    records: list[Record] = [*(run.record for run in study.runs), *study.baselines.values()]
    trials = tuple(record.spec for record in records)
    plan: Any = SimpleNamespace(trials=trials, components=Components.of(trials), model=model)
    claims = [judged for judged in JUDGED if judged.claim.name not in (*BESIDE, "forgetting")]
    made = Counter((f.claim.name, f.where) for f in judge(study, claims) for _ in f.comparisons)
    found = claim_tests(prospect(results(plan), claims))
    # A finding of equality compares all pairs, and tests them together and each with the first.
    equal = {"quality", "between", "cut-or-keep"}
    assert Counter((t.claim, t.where) for t in found if t.claim not in equal) == Counter(
        {key: count for key, count in made.items() if key[0] not in equal}
    )
    assert {(t.claim, t.where) for t in found} == set(made)


def test_the_tests_of_a_small_study_by_hand(tmp_path: Path) -> None:
    """Two priors, one rate: memory 1, collapse 2 x 3 metrics, quality 1 + 1, speed 1, forgetting 1."""
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Text {i} says that one may count to {i}." for i in range(9)))
    plan = planned(
        tmp_path,
        seeds=[0, 1],
        training={"steps": 8, "batch": 8, "curve": 4},
        evaluation={"also": [{"language": {"data": str(text), "length": 24}}]},
    )
    found = Counter(test.claim for test in claim_tests(prospect(results(plan), JUDGED)))
    assert found == {"memory": 1, "collapse": 6, "quality": 2, "speed": 1, "forgetting": 1}


def test_a_short_curve_does_not_ask_for_steps_that_are_there(tmp_path: Path) -> None:
    plan = planned(tmp_path, seeds=[0, 1], training={"steps": 8, "batch": 8, "curve": 2})
    told = " ".join(judged_or_not(prospect(results(plan), JUDGED), whole=True))
    assert "2 points after the start; set training.curve to 4 or more" in told


def test_other_tasks_have_a_row_each_with_an_interval(tmp_path: Path) -> None:
    plan = planned(tmp_path, seeds=[0, 1, 2], evaluation={"examples": 10, "also": ["language"]})
    reading: Any = SimpleNamespace(study=results(plan))
    table = grid.section(reading).blocks[-1]
    assert isinstance(table, Table)
    assert [[cell.text for cell in row[:3]] for row in table.rows] == [
        [prior, "arithmetic · soft", "language"] for prior in ("isotropic", "fitted")
    ]
    changes = [
        run.record.also[0].score.loss for run in reading.study.runs if run.axes["prior"] == "isotropic"
    ]
    without = reading.study.baselines["arithmetic"].also[0].score.loss
    assert table.rows[0][3].order == pytest.approx(sum(changes) / 3 - without)
    assert "[" in table.rows[0][3].text


def test_claims_on_probes_count_where_prompts_are_probed(tmp_path: Path) -> None:
    """Two priors, three rates: near-tokens 2 x 2 comparisons, words 1."""

    def counted(probes: list[str], tokens: int = 4, **method: Any) -> dict[str, int]:
        methods = [{"soft": {"tokens": tokens}}, {"prefix": {"tokens": 4}}] if not method else [method]
        plan = planned(
            tmp_path,
            methods=methods,
            seeds=[0, 1],
            rates=[0.01, 0.02, 0.04],
            evaluation={"examples": 10, "probes": probes, "twin": True},
        )
        known = [judged for judged in JUDGED if judged.claim.name in BESIDE]
        tests = claim_tests(prospect(results(plan), known))
        assert all("soft" in test.where or method for test in tests)
        return Counter(test.claim for test in tests)

    assert counted([]) == {}
    assert counted(["removal"]) == {"near-tokens": 4}
    assert counted(["projection"]) == {"words": 1}
    assert counted(["projection", "removal"]) == {"near-tokens": 4, "words": 1}
    with pytest.raises(UserError, match="a prompt of one vector has none to remove"):
        counted(["projection", "removal"], tokens=1)
    kept = {"tokens": 4, "last": 1, "token_level": "keep"}
    assert counted(["removal"], deep=kept) == {"near-tokens": 4}


DEEP = {"deep": {"tokens": 4, "last": 1}}
KEPT = {"deep": {"tokens": 4, "last": 1, "token_level": "keep"}}
"""For the shipped model, which has four blocks."""

HALVES = [{"fitted": {"part": part}} for part in ([0.0, 0.5], [0.5, 1.0])]
"""The two domains that an interpolation is between."""

ADVISED: dict[str, list[dict[str, Any]]] = {
    "use the method soft, or deep with token_level: keep": [
        {"methods": [{"soft": {"tokens": 4}}]},
        {"methods": [KEPT]},
    ],
    "use soft, prefix, or deep with a token level": [
        {"methods": [{"soft": {"tokens": 4}}]},
        {"methods": [{"prefix": {"tokens": 4}}]},
        {"methods": [DEEP]},
    ],
    "use more tokens": [{"methods": [{"soft": {"tokens": 4}}]}],
    "add removal to evaluation.probes": [{"evaluation": {"examples": 10, "probes": ["removal"]}}],
    "add projection to evaluation.probes": [{"evaluation": {"examples": 10, "probes": ["projection"]}}],
    "add language to evaluation.also": [{"evaluation": {"examples": 10, "also": ["language"]}}],
    "add seeds": [{"seeds": [0, 1]}],
    "add rates: 4 of each prior are enough": [{"rates": [0.01, 0.02, 0.04, 0.08]}],
    "add a second rate": [{"rates": [0.01, 0.02]}],
    "add another prior": [{"priors": ["isotropic", "fitted"]}],
    "add a regulariser, and [] for trials without": [{"regularisers": [[], ["spread"]]}],
    "add deep with token_level: cut and with keep": [{"methods": [DEEP, KEPT]}],
    "add the method prefix": [{"methods": [{"prefix": {"tokens": 4}}]}],
    "add prefix without reparameterisation": [{"methods": [{"prefix": {"tokens": 4}}]}],
    "set training.steps and training.curve to 4 or more": [
        {"training": {"steps": 4, "batch": 8, "curve": 4}}
    ],
    "add interpolation with fitted on its two domains": [{"priors": ["interpolation", *HALVES]}],
}
"""What a study becomes that does as it is told, one for each way."""


def advised(missing: str) -> list[dict[str, Any]]:
    """What a study becomes that does all that it is told; advice may be in two parts."""
    ways: list[dict[str, Any]] = [{}]
    for reason in missing.split(ALSO):
        advice = reason.partition("; ")[2]
        first, _, second = advice.partition(", and ")
        parts = [ADVISED[first], ADVISED[second]] if second in ADVISED else [ADVISED[advice]]
        for part in parts:
            ways = [way | changes for way in ways for changes in part]
    return ways


@pytest.mark.parametrize(
    "method",
    [
        {"soft": {"tokens": 1}},
        {"deep": {"tokens": 4, "last": 1, "token_level": "none"}},
        {"prefix": {"tokens": 4, "reparameterisation": {"width": 4}}},
    ],
    ids=["one token", "deeper blocks", "network"],
)
def test_advice_leads_to_a_study_that_is_planned_and_judged(method: dict[str, Any], tmp_path: Path) -> None:
    """All that settles a claim is said at once: a study that does it is not refused, and has a number."""
    poor = {
        "methods": [method],
        "priors": ["isotropic"],
        "seeds": [0],
        "training": {"steps": 2, "batch": 8},
    }
    study = results(planned(tmp_path, **poor))
    known: dict[str, Study] = {}
    for judged in JUDGED:
        for changes in advised(judged.evidence(study)[0].missing):
            name = json.dumps(changes)
            if name not in known:
                known[name] = results(planned(tmp_path, **(poor | changes)))
            assert not all(one.missing for one in judged.evidence(known[name])), (judged.claim.name, changes)


def test_a_dry_run_says_what_the_study_cannot_judge(tmp_path: Path) -> None:
    """Places are named where the reason is not that of all; `deep` without a token level has no radii."""
    deeper = {"deep": {"tokens": 4, "last": 1, "token_level": "none"}}
    plan = planned(
        tmp_path,
        methods=[deeper, {"soft": {"tokens": 4}}],
        seeds=[0, 1],
        training={"steps": 8, "batch": 8, "curve": 4},
    )
    judged, heading, *lines = judged_or_not(prospect(results(plan), JUDGED), whole=True)
    assert judged.startswith("judged by this study: 1 memory, 2 collapse, 3 quality, 4 speed (")
    assert heading == "not judged, unless you do as follows:"
    said = [line.partition(":")[0] for line in lines]
    assert "  2 collapse (arithmetic · deep · isotropic, fitted)" in said
    assert "  4 speed (arithmetic · deep)" in said
    assert "  13 near-tokens (arithmetic · deep · isotropic, fitted)" in said
    assert "  17 routing" in said
    assert not any(line.startswith("  3 quality") for line in lines)
    (radii,) = [line for line in lines if line.startswith("  4 speed")]
    assert radii.endswith("; use soft, prefix, or deep with a token level")
    _, heading, *short = judged_or_not(prospect(results(plan), JUDGED))
    assert heading == "not judged, unless you do as follows (--all says why):"
    assert "  4 speed, in places: use soft, prefix, or deep with a token level" in short
    assert "  17 routing: add the method prefix" in short
    assert len({line.split()[0] for line in short}) == len(short), "one line for each claim"


def test_the_line_is_holms_best(tmp_path: Path) -> None:
    """Nine flips and one test of equality, which counts in Holm's correction as they do."""
    plan = planned(tmp_path, seeds=list(range(7)), training={"steps": 8, "batch": 8, "curve": 4})
    assert len(claim_tests(prospect(results(plan), JUDGED))) == 10
    best = 10 * 2 / 2**7
    assert lines(plan, tmp_path) == [
        f"7 seeds: 9 sign-flip tests of 4 claims can give p = 0.016 at best, {best:.2g} after Holm's "
        "correction as the first of 10 tests (at least 9 seeds are needed for 0.05); 1 test of equality "
        "can give any p",
    ]
    enough = planned(tmp_path, seeds=list(range(9)), training={"steps": 8, "batch": 8, "curve": 4})
    assert len(lines(enough, tmp_path)) == 1
    assert 10 * 2 / 2**9 <= 0.05 < 10 * 2 / 2**8


@pytest.mark.parametrize("seeds", [1, 2, 5, 6, 10])
def test_the_smallest_p_value_is_that_of_an_exact_paired_test(seeds: int) -> None:
    # All differences of one sign and all different: the most extreme outcome of the signed-rank test.
    assert least_p(seeds) == pytest.approx(wilcoxon([1.0 + i for i in range(seeds)], method="exact").pvalue)


@pytest.mark.parametrize(
    ("seeds", "priors", "line"),
    [
        (1, 2, "1 seed: nothing is tested, and there are no intervals over seeds; add seeds"),
        (
            2,
            1,
            "2 seeds: 3 sign-flip tests of 1 claim can give p = 0.5 at best, 1 after Holm's correction "
            "as the first of 3 tests (at least 7 seeds are needed for 0.05)",
        ),
        (
            3,
            5,
            "3 seeds: 24 sign-flip tests of 4 claims can give p = 0.25 at best, 1 after Holm's correction "
            "as the first of 25 tests (at least 10 seeds are needed for 0.05); 1 test of equality can give "
            "any p",
        ),
        (
            9,
            2,
            "9 seeds: 9 sign-flip tests of 4 claims can give p = 0.0039 at best, 0.039 after Holm's "
            "correction as the first of 10 tests; 1 test of equality can give any p",
        ),
    ],
)
def test_what_seeds_can_show_is_one_line(seeds: int, priors: int, line: str, tmp_path: Path) -> None:
    """One fewest number of seeds, which is that of all tests together."""
    known = ["isotropic", "fitted", "vocabulary", "xavier", "exclusion"][:priors]
    training = {"steps": 8, "batch": 8, "curve": 4}
    plan = planned(tmp_path, seeds=list(range(seeds)), priors=known, training=training)
    first, *others = lines(plan, tmp_path)
    assert first == line
    assert [other.partition(";")[0] for other in others] == ["this study judges no claim"] * (seeds == 1)
    assert any("compare them seed by seed" in said for said in describe(plan, plan.trials)) is (priors > 1)


def test_only_the_claims_that_a_study_wrote_down_count(finished_study: Finished, tmp_path: Path) -> None:
    """Until a trial has finished, its start writes all of them down anew."""
    plan, folder = planned(tmp_path, seeds=list(range(5))), finished_study.copy(tmp_path)
    (quality,) = (judged.claim for judged in JUDGED if judged.claim.name == "quality")
    header = {
        "spec": {"name": "small"},
        "trials": [],
        "claims": {"quality": quality.rule, "speed": "another"},
    }
    folder.study.write_text(json.dumps(header))
    assert "5 seeds: 1 sign-flip test of 1 claim can give p = 0.062 at best, 0.12" in said(plan, folder)[0]
    for path in folder.records.iterdir():
        path.unlink()
    assert said(plan, folder) == lines(plan, tmp_path / "new") != []


def test_trials_that_go_on_from_kept_checkpoints_are_told(
    finished_study: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study has 6 steps; a trial of its file with 4 was kept, so that 2 are left to pay for."""
    folder, plan = StudyFolder(tmp_path / "results" / "small"), finished_study.plan
    last = plan.trials[-1]
    assert last.training is not None
    state = TrialState(step=4)
    shorter = last.model_copy(update={"training": last.training.model_copy(update={"steps": 4})})
    save_checkpoint(continuing.kept_checkpoint(folder, shorter), shorter.id, state, {})

    def told() -> str:
        console = Console(width=200, record=True, file=io.StringIO())
        grid = Grid(*plan)
        tell_beginning(console, grid, grid.look(folder, again=False), folder, ())
        return console.export_text()

    whole, left = (total_cost(plan.trials, plan.components, begun) for begun in ({}, {last.id: 4}))
    assert whole.trained - left.trained == trial_cost(last, plan.components).trained * 4 // 6
    assert f"about {left.trained:,} positions trained and {left.evaluated:,} evaluated" in told()
    assert "1 trial goes on from step 4 of an earlier one" in told()
    (line,) = [line for line in listed(plan.trials, plan.components, 99, {last.id: 4}) if last.id in line]
    assert line.endswith("positions, on from step 4")
    monkeypatch.setattr(continuing, "SOURCES", "other")
    assert "note: 1 trial: starts from scratch: the 4-step trial it could have continued was" in told()


def test_a_study_with_more_steps_says_that_no_checkpoint_was_kept(
    finished_study: Finished, tmp_path: Path
) -> None:
    """The baseline is finished and has no steps; the two others end at step 6."""
    folder = finished_study.copy(tmp_path)
    more = plan_study(load_grid(finished_study.file, ("training.steps=8",)))
    for plan, said in (
        (more, "2 finished trials with fewer steps left no checkpoint"),
        (finished_study.plan, None),
    ):
        console = Console(width=200, record=True, file=io.StringIO())
        grid = Grid(*plan)
        tell_dry_run(console, grid, grid.look(folder, again=False), folder)
        assert console.export_text().count(said or "no checkpoint") == (said is not None)


def test_seeds_that_are_added_to_earlier_results_are_told(
    finished_study: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that begins anew takes the next name whose folder is free."""
    monkeypatch.setattr("sys.argv", ["jobs.study", "my.yaml", "name=small", "--dry-run"])
    folder, plan = finished_study.copy(tmp_path), planned(tmp_path, seeds=[0, 1, 2, 5])
    (folder.root.parent / "small-2").mkdir()
    design = design_of(finished_study.plan.trials).model_dump(mode="json")
    header = read_header(folder.study)
    for seeds, has, new in (([0], "seed 0", "seeds 1, 2, 5"), ([0, 1, 2], "seeds 0 to 2", "seed 5")):
        folder.study.write_text(json.dumps(header | {"design": design | {"seeds": seeds}}))
        note, command, *_ = said(plan, folder)
        assert note == (
            f"the design in {folder.root} has {has}, and results of it have been seen; findings that rest on "
            f"{new} are exploratory; to plan all of it and train it from the start, run:"
        )
        assert command == f"  {sys.executable} -m jobs.study my.yaml name=small-3"
        narrow = Console(width=30, record=True, file=io.StringIO())
        tell(narrow, [note, command])
        assert command in narrow.export_text().splitlines()[3:]
    folder.study.write_text(json.dumps(header | {"design": design | {"seeds": [0, 1, 2, 5]}}))
    assert said(plan, folder)[0].startswith("4 seeds: ")
    longer = planned(tmp_path, seeds=[0, 1, 2, 5], training={"steps": 50, "batch": 8})
    assert said(longer, folder)[0].startswith(f"the design in {folder.root} has other training.steps, and")
    folder.study.write_text(json.dumps(header | {"design": design | {"seeds": [0]}}))
    assert "has seed 0 and other training.steps, and" in said(longer, folder)[0]
    assert "findings that rest on seeds 1, 2, 5 or the new steps are exploratory" in said(longer, folder)[0]
    others = planned(tmp_path, priors=["isotropic", "fitted", "vocabulary", "xavier"])
    assert "has other priors, and results of it have been seen" in said(others, folder)[0]
    assert "findings that rest on the priors vocabulary, xavier are exploratory" in said(others, folder)[0]


def test_claims_that_few_seeds_leave_undecided_are_named(tmp_path: Path) -> None:
    """Equality, which `quality` can show, has no fewest number of seeds."""
    few = "; undecided below 9 seeds, whatever the numbers: 1 memory, 2 collapse"
    for seeds, told in ((3, few), (9, "")):
        plan = planned(tmp_path, seeds=list(range(seeds)))
        assert judged_or_not(prospect(results(plan), JUDGED))[0].partition(")")[2] == told


def test_a_study_that_goes_on_counts_all_its_seeds(finished_study: Finished, tmp_path: Path) -> None:
    """One of its seeds is finished, five are left."""
    folder, plan = finished_study.copy(tmp_path), planned(tmp_path, seeds=list(range(6)))
    console = Console(width=200, record=True, file=io.StringIO())
    grid = Grid(*plan)
    tell_beginning(console, grid, grid.look(folder, again=False), folder, ())
    printed = console.export_text()
    assert "study small: 3 of 13 trials are finished already" in printed
    assert "study small: 10 trials on tiny" in printed
    assert "6 seeds: 8 sign-flip tests of 3 claims can give p = 0.031 at best" in printed
