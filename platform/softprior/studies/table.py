"""The study's own files: study.json, and trials.parquet with one row per trial and declared columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from softprior.errors import UserError
from softprior.inputs.entry_texts import names
from softprior.inputs.labels import NO_TERMS, Axes, axes, labels
from softprior.inputs.specs import REPEATS, Probe, TrialSpec
from softprior.results.digested import write_digested
from softprior.results.entries import ENTRIES, entries_of
from softprior.results.examples import NAMES as EXAMPLE_COLUMNS
from softprior.results.folder import StudyFolder
from softprior.results.means import over_places
from softprior.results.probed import PROBE_NUMBERS
from softprior.results.provenance import code
from softprior.results.records import Cost, Record, Score, read_study
from softprior.results.tables import save_table
from softprior.studies.components import Components
from softprior.tasks import TASKS, Task
from softprior.training.environment import versions

STUDY_FORMAT = 1
"""Version of the layout of study.json."""

CLAIMS = "claims"
"""Key of study.json: the rule of each claim that the study will judge, by name, written before its trials."""

DESIGN = "design"
"""Key of study.json: the seeds and priors that were planned, written with the claims."""

FIRST_COLUMNS = (
    ("trial", pa.string()),
    ("label", pa.string()),
    ("status", pa.string()),
    ("error", pa.string()),
    ("task", pa.string()),
    ("method", pa.string()),
    ("prior", pa.string()),
    ("rate", pa.float64()),
    ("rate_relative", pa.bool_()),
    ("seed", pa.int64()),
    ("task_label", pa.string()),
    ("method_label", pa.string()),
    ("prior_label", pa.string()),
    ("regularisers_label", pa.string()),
    ("pairing", pa.string()),
    ("task_parameters", pa.string()),
    ("method_parameters", pa.string()),
    ("prior_parameters", pa.string()),
    ("regularisers", pa.string()),
    ("model", pa.string()),
    ("model_fingerprint", pa.string()),
    ("data_fingerprint", pa.string()),
    ("steps", pa.int64()),
    ("baseline_loss", pa.float64()),
    ("initial_validation_loss", pa.float64()),
    ("validation_loss", pa.float64()),
    ("untrained_loss", pa.float64()),
    ("test_loss", pa.float64()),
    ("test_accuracy", pa.float64()),
    ("shuffled_loss", pa.float64()),
    ("headline", pa.string()),
)
"""Columns in front of the tasks' metrics; docs/results.md says what each means. Missing values are null."""

LAST_COLUMNS = (
    ("moved", pa.float64()),
    ("reach", pa.float64()),
    ("moved_over_reach", pa.float64()),
    ("initial_radius_quantile", pa.float64()),
    ("final_radius_quantile", pa.float64()),
    ("seconds", pa.float64()),
    ("trained_values", pa.int64()),
    ("positions_per_second", pa.float64()),
    ("peak_memory", pa.int64()),
    ("peak_gpu_memory", pa.int64()),
    *((kind, pa.string()) for kind in REPEATS),
)
"""Columns behind them."""

IN_MLFLOW = {"loss", "accuracy", "shuffled_loss"}
"""Names that MLflow's `test_NAME` already uses."""


ALSO = ("loss", "baseline_loss", "accuracy", "shuffled_loss")
"""Columns of every other task that prompts are measured on, as `also/TASK/loss`; its metrics follow."""


def columns(tasks: Iterable[Task], also: Iterable[Task] = (), probes: Iterable[Probe] = ()) -> pa.Schema:
    """The columns of a study's table.

    Args:
        also: the other tasks that final prompts are measured on.
        probes: of final prompts.

    Raises:
        UserError: a task's metric has a name that is taken, or its headline is not one of its metrics.
    """
    tasks, also = list(tasks), list(also)
    taken = IN_MLFLOW | EXAMPLE_COLUMNS | {name for name, _ in (*FIRST_COLUMNS, *LAST_COLUMNS)}
    for task in (*tasks, *also):
        name = TASKS.name(task)
        headline = getattr(task, "headline", None)
        if headline not in (task.metrics if task.generates else ("loss",)):
            what = f"one of its metrics ({', '.join(task.metrics)})" if task.generates else "'loss'"
            raise UserError(f"the headline of the task {name} must be {what}, not {headline!r}")
        for metric in task.metrics:
            if metric in taken:
                raise UserError(
                    f"the task {name} has a metric '{metric}', but results have another column of that name; "
                    "give the metric another name"
                )
    metrics = dict.fromkeys(metric for task in tasks for metric in task.metrics)
    others = also_names(also)
    found = [
        f"also/{others[TASKS.entry(task).canonical()]}/{number}"
        for task in also
        for number in dict.fromkeys((*ALSO, *task.metrics))
    ]
    found += [f"{probe}/{number}" for probe in probes for number in PROBE_NUMBERS[probe]]
    numbers = dict.fromkeys((*metrics, *found))
    return pa.schema([*FIRST_COLUMNS, *((name, pa.float64()) for name in numbers), *LAST_COLUMNS])


def also_names(also: Iterable[Task]) -> dict[str, str]:
    """The names of other tasks in columns, by the canonical texts of their entries."""
    return names(map(TASKS.entry, also))


def require_own(folder: StudyFolder, name: str) -> None:
    """Checks that a results folder is free, or that of the same study.

    Raises:
        UserError: it contains another study, or its study.json is damaged.
    """
    if folder.study.exists():
        found = read_study(folder.study)["spec"]["name"]
        if found != name:
            raise UserError(
                f"{folder.root} contains the study '{found}', not '{name}'; choose another --results folder"
            )


def write_study(folder: StudyFolder, spec: Mapping[str, object], trials: Sequence[TrialSpec]) -> None:
    """Writes study.json; claims, seeds and priors that were planned when the study started stay as they were.

    Args:
        spec: the study's file, every default written out.
        trials: those that are known.

    Raises:
        UserError: the folder contains another study.
    """
    require_own(folder, str(spec["name"]))
    kept = read_study(folder.study) if folder.study.exists() else {}
    value = {
        "format": STUDY_FORMAT,
        "spec": spec,
        "trials": [trial.id for trial in trials],
        "model_fingerprint": trials[0].model_fingerprint,
        "data_fingerprints": {_task_key(trial): trial.data_fingerprint for trial in trials},
        "versions": versions(),
        **code(),
        **{key: kept[key] for key in (CLAIMS, DESIGN) if key in kept},
        ENTRIES: entries_of(trials),
    }
    write_digested(folder.study, value)


def write_table(
    folder: StudyFolder, trials: Sequence[TrialSpec], components: Components, records: Mapping[str, Record]
) -> None:
    """Writes trials.parquet beside study.json; trials that have not ended have the status `pending`."""
    known, shown = labels(trials), axes(trials)
    also = {entry.canonical(): entry for t in trials for entry in t.evaluation.also}
    read = {text: components.task_of(entry) for text, entry in also.items()}
    others = also_names(read.values())
    tasks, alone = {_task_key(t): components.task(t) for t in trials}, _alone(trials, records)
    rows = []
    for trial in trials:
        key = _task_key(trial)
        row = _row(trial, records.get(trial.id), alone.get(key), tasks[key].metrics)
        row |= _others(records.get(trial.id), others, alone)
        row |= {"label": known[trial.id], "headline": tasks[key].headline, **_shown(shown[trial.id])}
        rows.append(row)
    probes = dict.fromkeys(probe for trial in trials for probe in trial.evaluation.probes)
    schema = columns(tasks.values(), read.values(), probes)
    table = pa.Table.from_pylist(rows, schema=schema)
    known_as = {"study": read_study(folder.study)["spec"]["name"]} if folder.study.exists() else None
    save_table(folder.table, table, known_as)


def _shown(own: Axes) -> dict[str, str | None]:
    terms = " + ".join(own.regularisers) or NO_TERMS
    return {
        "task_label": own.task,
        "method_label": own.method,
        "prior_label": own.prior,
        "regularisers_label": None if own.prior is None else terms,
    }


def _task_key(trial: TrialSpec) -> str:
    return trial.task.canonical()


def _row(
    trial: TrialSpec, record: Record | None, baseline: float | None, metrics: Sequence[str]
) -> dict[str, object]:
    row: dict[str, object] = {
        "trial": trial.id,
        "status": "pending" if record is None else record.status,
        "task": TASKS.named(trial.task),
        "method": trial.method.name,
        "task_parameters": trial.task.canonical(),
        "method_parameters": trial.method.canonical(),
        "model": trial.model,
        "model_fingerprint": trial.model_fingerprint,
        "data_fingerprint": trial.data_fingerprint,
        "baseline_loss": baseline,
    }
    row |= {} if trial.repeat is None else {trial.repeat: trial.original}
    if trial.prior is not None and trial.rate is not None:
        row |= {
            "prior": trial.prior.name,
            "prior_parameters": trial.prior.canonical(),
            "regularisers": "[" + ",".join(entry.canonical() for entry in trial.regularisers) + "]",
            "rate": trial.rate.value,
            "rate_relative": trial.rate.relative,
            "seed": trial.seed,
            "pairing": trial.pairing,
        }
    if record is None:
        return row
    row |= {"error": record.error, "steps": len(record.steps), "seconds": record.environment.get("seconds")}
    if record.validation:
        row["initial_validation_loss"] = record.validation[0].loss
        row["validation_loss"] = record.validation[-1].loss
    row["untrained_loss"] = None if record.untrained is None else record.untrained.loss
    if record.test is not None:
        row |= {
            "test_loss": record.test.loss,
            "test_accuracy": record.test.accuracy,
            "shuffled_loss": record.test.shuffled_loss,
            **{name: record.test.metrics.get(name) for name in metrics},
        }
    means = over_places(record.geometry)
    row |= record.probed
    return row | _cost(record.cost) | {name: means[name] for name, _ in LAST_COLUMNS if name in means}


def _cost(cost: Cost | None) -> dict[str, float | None]:
    if cost is None:
        return {}
    return {
        "trained_values": cost.values,
        "positions_per_second": cost.per_second,
        "peak_memory": cost.memory,
        "peak_gpu_memory": cost.gpu_memory,
    }


def _alone(trials: Iterable[TrialSpec], records: Mapping[str, Record]) -> dict[str, float]:
    """Test losses of the model without a prompt, by the canonical text of the task's entry."""
    found: dict[str, float] = {}
    for trial in trials:
        record = records.get(trial.id)
        if record is not None and trial.method.name == "none":
            found |= {text: score.loss for text, score in _scores(record).items()}
    return found


def _scores(record: Record) -> dict[str, Score]:
    """A trial's scores on all test splits, by the canonical text of the task's entry."""
    scores = {found.task.canonical(): found.score for found in record.also}
    scores[_task_key(record.spec)] = record.test
    return {text: score for text, score in scores.items() if score is not None}


def _others(
    record: Record | None, others: Mapping[str, str], alone: Mapping[str, float]
) -> dict[str, float | None]:
    """The columns of the other tasks, of which a trial's own may be one for other trials."""
    scores = {} if record is None else _scores(record)
    row: dict[str, float | None] = {}
    for text, name in others.items():
        numbers: dict[str, float | None] = {"baseline_loss": alone.get(text)}
        if text in scores:
            score = scores[text]
            numbers |= {"loss": score.loss, "accuracy": score.accuracy, "shuffled_loss": score.shuffled_loss}
            numbers |= score.metrics
        row |= {f"also/{name}/{number}": value for number, value in numbers.items()}
    return row
