"""Tables from real results."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
from rich.console import Console, RenderableType

from analysis.tables import failures_table, results_table
from softprior.errors import UserError
from softprior.inputs.entry_texts import names
from softprior.inputs.specs import EvaluationSpec, StudySpec, TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.library.results import Results
from softprior.methods import METHODS
from softprior.priors import PRIORS
from softprior.results.folder import StudyFolder
from softprior.studies.failures import failed
from softprior.studies.plan import plan_study
from softprior.studies.table import write_study, write_table
from softprior.tasks import TASKS
from softprior.tasks.prepare import prepare
from softprior.tracking.contents import once
from softprior.training.evaluation import Evaluator
from tests.builders import SUMS, run, study_file, tiny


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """A study of which all but the last trial have finished."""
    root = tmp_path_factory.mktemp("tables")
    priors = [{"isotropic": {"scale": 0.02}}, {"isotropic": {"scale": 0.1}}]
    file = study_file(root / "small.yaml", priors=priors, regularisers=["none", "spread"])
    plan = plan_study(load_grid(file))
    folder = StudyFolder(root / "small")
    *finished, last = plan.trials
    records = {spec.id: run(spec, folder.root) for spec in finished}
    records[last.id] = failed(last, "step 3: the loss is nan", {})
    write_study(folder, plan.spec, plan.trials)
    write_table(folder, plan.trials, plan.components, records)
    return Results(folder.root).trials


def printed(table: RenderableType, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(table)
    return console.file.getvalue()


def test_tables_show_finished_trials_and_say_why_others_failed(trials: pd.DataFrame) -> None:
    text = printed(results_table(trials, "small", 1000), 1000)
    finished = trials[trials.status == "finished"]
    for row in finished.to_dict("records"):
        (line,) = [line for line in text.splitlines() if line.startswith(row["trial"][:6])]
        assert f"{row['test_loss']:.3f}" in line
        assert ("isotropic" in line) == (row["method"] == "soft")
    assert text.count("isotropic(scale=0.1)") == 1
    assert len(re.findall(r"soft +isotropic ", text)) == 2, "a default is not shown"
    assert text.startswith("small: rate 0.05, seed 0\n\narithmetic: no prompt "), "once, above"
    why = printed(failures_table(trials), 1000)
    (last,) = trials[trials.status == "failed"].to_dict("records")
    assert last["trial"][:6] in why
    assert "soft · isotropic(scale=0.1) · spread · 0.05 · seed 0" in why
    assert "step 3: the loss is nan" in why
    assert failures_table(finished) is None


def test_other_tasks_have_a_column_each(trials: pd.DataFrame) -> None:
    """Loss with the prompt less that without; neither of the model alone nor of the task itself."""
    other = trials.assign(**{"also/language/loss": 3.25, "also/language/baseline_loss": 3.0})
    own = other.iloc[0]["task_label"]
    text = printed(results_table(other.assign(**{f"also/{own}/baseline_loss": 1.0}), "small", 80), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "on language" in " ".join(text.split())
    assert text.count("+0.250") == (other.prior_label.notna() & (other.status == "finished")).sum()
    assert f"on {own}" not in " ".join(text.split())


def test_of_many_trials_there_is_a_line_per_setting_with_means_over_seeds() -> None:
    table = Results(Path(__file__).parents[2] / "docs" / "studies" / "tiny-priors").table
    text = printed(results_table(table, "large", 1000), 1000)
    own = table[(table.status == "finished") & table.twin.isna() & table.reordered.isna()]
    without = f"{577 - len(own)} repeated trials left out"
    assert f"means over seeds of {len(own)} trials; {without}; trials.parquet has each of them" in text
    lines = [line.split() for line in text.splitlines() if re.match(r"\d+ ", line)]
    assert len(lines) == 1 + 8 * 2 * 2
    own = table[(table.method == "soft") & (table.prior == "vocabulary") & (table.rate == 0.1)]
    assert len(own) == 18, "with its twin and three reordered trials"
    own = own[own.twin.isna() & own.reordered.isna()]
    (line,) = [line for line in lines if line[1:4] == ["soft", "vocabulary", "0.1"]]
    assert line[4:10] == [
        "relative",
        "14",
        f"{own.untrained_loss.mean():.3f}",
        f"{own.test_loss.mean():.3f}",
        "±",
        f"{own.test_loss.std():.3f}",
    ]
    assert f"{own.exact_match.mean():.0%}" in line


@pytest.mark.parametrize("width", [60, 80, 100, 120, 140, 200, 1000])
def test_no_word_of_the_results_is_cut_however_narrow_the_window(trials: pd.DataFrame, width: int) -> None:
    text = printed(results_table(trials, "small", width), width)
    assert max(map(len, text.splitlines())) <= width
    words = set(text.split())
    assert {"isotropic", "untrained", "trained", "quantile"} <= words
    assert {"isotropic(scale=0.1)"} <= words or {"isotropic(", "scale=0.1)"} <= words
    assert {row["trial"][:6] for row in trials.to_dict("records") if row["status"] == "finished"} <= words
    assert "…" not in text


def numbered(study: StudySpec) -> pd.DataFrame:
    """A table as a study leaves it, with the widest numbers there are; ids are counted."""
    axes = ((METHODS, "methods"), (PRIORS, "priors"), (TASKS, "tasks"))
    shown = {}
    for table, axis in axes:
        entries = [table.entry(table.component(e), e.label) for e in getattr(study, axis)]
        shown[axis] = [(entry.name, names(entries)[entry.canonical()]) for entry in entries]
    rows = []
    for (task, of), (method, own), (prior, named), rate, seed in product(
        shown["tasks"], shown["methods"], shown["priors"], study.rates, study.seeds[:2]
    ):
        headline = TASKS[task].headline if task in TASKS.kinds else "exact_match"
        row = {"trial": f"{len(rows):016d}"[::-1], "status": "finished", "headline": headline}
        row |= {"task": task, "method": method, "prior": prior, "task_label": of, "method_label": own}
        row |= {"prior_label": named, "regularisers_label": "none", "seed": seed, "rate": rate.value}
        row |= {"rate_relative": rate.relative, "baseline_loss": 12.345, "untrained_loss": 12.345}
        row |= {"test_loss": 10.002, "exact_match": 1.0, "f1": 1.0, "moved_over_reach": 12.345}
        row |= {"shuffled_loss": 12.002, "twin": None, "reordered": None}
        rows.append({**row, "initial_radius_quantile": 0.5, "final_radius_quantile": 1.0})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("file", "width"), [("quickstart", 80), ("paper", 105), ("tuned", 80), ("every_prior", 80)]
)
def test_the_tables_of_our_studies_fit_a_window(file: str, width: int) -> None:
    """Of eighty columns, unless they have several rates and seeds."""
    study = load_grid(Path(__file__).parents[2] / "jobs" / "studies" / f"{file}.yaml")
    found = numbered(study)
    text = printed(results_table(found, file, width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    rows = [line for line in text.splitlines() if re.match(r"\d+ ", line)]
    settings = found[["task_label", "method_label", "prior_label", "regularisers_label", "rate"]]
    expected = len(settings.drop_duplicates()) if file == "paper" else len(found)
    assert len(rows) == expected, "a line per trial or setting, not a table per few columns"
    whole = r" 12\.345 +10\.002( ± 0\.000)? +\+2\.000 .* 0\.50→1\.00$"
    assert all(re.search(whole, row) for row in rows), "numbers stay whole"
    for prior in set(found.prior_label):
        assert all(part in text for part in re.split(r"(?<=[(=])", prior)), prior


def test_labels_of_a_study_file_are_in_its_table_and_full_entries_stay(tmp_path: Path) -> None:
    near = {"exclusion": {"quantile": 0.95}, "label": "near"}
    sums = {"arithmetic": SUMS, "label": "sums"}
    terms = ["none", {"spread": {"weight": 2.0}, "label": "wide"}, [{"spread": {"weight": 2.0}}, "norm_ball"]]
    changes = {"priors": [near, "exclusion"], "tasks": [sums], "regularisers": terms}
    plan = plan_study(load_grid(study_file(tmp_path / "small.yaml", **changes)))
    folder = StudyFolder(tmp_path / "small")
    changes |= {"priors": [{"exclusion": near["exclusion"]}, "exclusion"], "tasks": [{"arithmetic": SUMS}]}
    before = plan_study(load_grid(study_file(tmp_path / "before.yaml", **changes)))
    assert [t.id for t in plan.trials] == [t.id for t in before.trials]
    # As they are read from files, and from before there were labels.
    records = {
        t.id: failed(TrialSpec.model_validate_json(t.model_dump_json()), "no", {}) for t in before.trials
    }
    write_study(folder, plan.spec, plan.trials)
    write_table(folder, plan.trials, plan.components, records)
    found = Results(folder.root).trials
    assert set(found.prior_label.dropna()) == {"near", "exclusion"}
    assert set(found.task_label) == {"sums"}
    assert set(found.regularisers_label.dropna()) == {"none", "wide", "norm_ball + wide"}
    assert found.label.iloc[1] == "sums · soft · near · 0.05 · seed 0"
    assert set(found.prior.dropna()) == {"exclusion"}
    assert '"quantile":0.95' in found.prior_parameters.iloc[1]
    assert "label" not in found.prior_parameters.iloc[1]
    assert Results(folder.root).study["spec"]["priors"][0] == {
        "name": "exclusion",
        "params": {"quantile": 0.95},
        "label": "near",
    }


def test_a_task_with_a_metric_of_its_own_is_in_the_table_and_on_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Digits(TASKS["arithmetic"]):
        """Additions, with the share of right digits."""

        headline = "right_digits"

        @property
        def metrics(self) -> tuple[str, ...]:
            return ("right_digits", "exact_match")

        def score(self, prediction: str, answers: Sequence[str]) -> dict[str, float]:
            found = zip(prediction.strip(), answers[0], strict=False)
            right = sum(a == b for a, b in found) / len(answers[0])
            return {"right_digits": right, **super().score(prediction, answers)}

    monkeypatch.setitem(TASKS.kinds, "digits", Digits)
    plan = plan_study(
        load_grid(study_file(tmp_path / "small.yaml", tasks=[{"digits": SUMS}, {"arithmetic": SUMS}]))
    )
    folder = StudyFolder(tmp_path / "small")
    records = {spec.id: run(spec, folder.root) for spec in plan.trials if spec.prior is None}
    write_study(folder, plan.spec, plan.trials)
    write_table(folder, plan.trials, plan.components, records)
    found = Results(folder.root).trials.set_index("trial")
    for record in records.values():
        own = found.loc[record.id]
        assert own.headline == ("right_digits" if own.task == "digits" else "exact_match")
        assert own.exact_match == record.test.metrics["exact_match"]
        assert pd.isna(own.right_digits) == (own.task == "arithmetic")
    (digits,) = found[(found.task == "digits") & (found.status == "finished")].right_digits
    text = printed(results_table(found.reset_index(), "small", 1000), 1000)
    assert re.search(rf"trained  +swapped  +right digits\n.*\n.*  +{digits:.0%}", text)
    (own,) = [r for r in records.values() if r.spec.task.name == "digits"]
    assert once(own)["test_right_digits"] == digits, "MLflow has it too"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metrics": ("seed", "exact_match")}, "has a metric 'seed', but results have another"),
        ({"metrics": ("accuracy", "exact_match")}, "has a metric 'accuracy', but results have another"),
        (
            {"headline": "f1", "metrics": ("exact_match",)},
            r"headline of the task digits must be one of its metrics \(exact_match\)",
        ),
        ({"generates": False}, "headline of the task digits must be 'loss', not 'exact_match'"),
    ],
)
def test_metrics_that_cannot_be_columns_are_refused_when_a_study_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], said: str
) -> None:
    class Digits(TASKS["arithmetic"]):
        """Additions under another name."""

    for name, value in changes.items():
        setattr(Digits, name, value)
    monkeypatch.setitem(TASKS.kinds, "digits", Digits)
    with pytest.raises(UserError, match=said):
        plan_study(load_grid(study_file(tmp_path / "small.yaml", tasks=[{"digits": SUMS}])))


def test_a_score_that_is_not_declared_fails_the_trial(tmp_path: Path) -> None:
    class Undeclared(TASKS["arithmetic"]):
        def score(self, prediction: str, answers: Sequence[str]) -> dict[str, float]:
            return {**super().score(prediction, answers), "seconds": 1.0}

    task = Undeclared.model_validate(SUMS)
    evaluator = Evaluator(tiny().host, tiny().tokenizer, task, EvaluationSpec(examples=4, generate=2), [])
    prepared = prepare(TASKS["arithmetic"].model_validate(SUMS), tiny().tokenizer, tiny().fingerprint)
    with pytest.raises(UserError, match="its `score` returns exact_match, seconds; declare what it returns"):
        evaluator.full(None, prepared.test, 0)

    class Short(Undeclared):
        metrics: ClassVar[tuple[str, ...]] = ("exact_match", "seconds", "tries")  # type: ignore[misc]
        optional: ClassVar[tuple[str, ...]] = ()  # type: ignore[misc]

    for optional in ((), ("tries",)):
        Short.optional = optional
        task = Short.model_validate(SUMS)
        evaluator = Evaluator(tiny().host, tiny().tokenizer, task, EvaluationSpec(examples=4, generate=2), [])
        if optional:
            assert set(evaluator.full(None, prepared.test, 0).score.metrics) == {"exact_match", "seconds"}
        else:
            with pytest.raises(UserError, match="`metrics` are exact_match, seconds, tries, but"):
                evaluator.full(None, prepared.test, 0)
