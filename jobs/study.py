"""Runs a study file: python -m jobs.study jobs/studies/quickstart.yaml"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from softprior.errors import UserError
from softprior.specs import load_study
from softprior.studies.plan import Plan, plan_study

INTERRUPTED = 130

LOG_WIDTH = 160
"""Columns of a table that goes to a file, where there is no window to ask."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0 all finished, 1 a trial failed, 2 user error."""
    options = _parser().parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=LOG_WIDTH)
    try:
        study = load_study(options.study, tuple(options.override))
        plan = plan_study(study, str(options.study))
        if options.dry_run:
            _describe(console, plan, detailed=True)
            return 0
        return _run(console, plan, options)
    except UserError as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]error:[/red] {error}", highlight=False)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.study",
        description="Run the trials of a study file. Running it again goes on where it stopped.",
        epilog="Example: python -m jobs.study jobs/studies/quickstart.yaml seeds=[0,1,2] --dry-run",
    )
    parser.add_argument("study", type=Path, help="the study file (YAML)")
    parser.add_argument(
        "override", nargs="*", help="values to change, as key.path=value, for example training.steps=50"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list the trials and what they cost; run nothing"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        default=Path("results"),
        help="where study folders go (default: results)",
    )
    return parser


def _describe(console: Console, plan: Plan, detailed: bool) -> None:
    from softprior.studies.estimate import hours, smallest_p, total_cost, trial_cost

    study, cost = plan.study, total_cost(plan.trials)
    console.print(f"study {study.name}: {len(plan.trials)} trials on {study.model.id}", highlight=False)
    if detailed:
        for trial in plan.trials:
            own = trial_cost(trial)
            console.print(
                f"  {trial.id}  {trial.label}  {own.trained + own.evaluated:,} positions", highlight=False
            )
    for note in plan.notes:
        console.print(f"  note: {note}", highlight=False)
    resources = study.resources
    time = hours(cost, study.model, resources.cpus, resources.gpus)
    guess = "unknown until the model is here" if time is None else _duration(time)
    one = f"{resources.cpus} CPU{'s' * (resources.cpus > 1)}"
    one += f" and {resources.gpus:g} GPU" if resources.gpus else ""
    console.print(
        f"  about {cost.trained:,} positions trained and {cost.evaluated:,} evaluated; one trial at a time on {one}: "
        f"{guess}",
        highlight=False,
    )
    if any(trial.prior is not None for trial in plan.trials):
        smallest = smallest_p(plan)
        seeds = len(set(study.seeds))
        verdict = (
            "" if smallest <= 0.05 else " — too few to call a difference significant at 5%; six seeds can"
        )
        console.print(
            f"  {seeds} seed{'s' * (seeds > 1)}: the smallest p-value of a paired comparison is {smallest:.2g}{verdict}",
            highlight=False,
        )


def _duration(time: float) -> str:
    minutes = max(1, round(time * 60))
    return f"{time:.1f} hours" if time >= 1 else f"{minutes} minute{'s' * (minutes > 1)}"


def _run(console: Console, plan: Plan, options: argparse.Namespace) -> int:
    from analysis.figures import draw_trial
    from analysis.tables import failures_table, load_trials, results_table
    from softprior.records import Record, load_records
    from softprior.results import StudyFolder
    from softprior.studies.progress import Watch
    from softprior.studies.runner import Interrupted, run_study
    from softprior.tracking.mlflow_tracker import MlflowTracker, default_uri

    results = options.results.expanduser().resolve()
    folder = StudyFolder(results / plan.study.name)
    wanted = {trial.id for trial in plan.trials}
    done = {i: r for i, r in load_records(folder.records).items() if i in wanted and r.status == "finished"}
    _describe(console, plan, detailed=False)
    if done:
        console.print(f"  {len(done)} of {len(wanted)} trials are finished already", highlight=False)
    command = f"python -m jobs.study {options.study} {' '.join(options.override)}".strip()

    class Illustrator:
        def progress(self, trial: object, points: object) -> None:
            pass

        def ended(self, record: Record) -> None:
            draw_trial(record, folder)

    tracker = None
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
        observers: list = [Illustrator()]
        if plan.study.tracking.enabled:
            uri = plan.study.tracking.uri or default_uri(results)
            tracker = MlflowTracker(uri, plan.study, plan.trials, folder)
            observers.append(tracker)
        with Watch(console, len(wanted), len(done)) as watch:
            records = run_study(plan, folder, [*observers, watch])
    except Interrupted:
        kept = {i: r for i, r in load_records(folder.records).items() if i in wanted}
        if tracker is not None:
            tracker.close(kept)
        console.print(
            f"stopped; {len(kept)} of {len(wanted)} trials are done. Go on with: {command}", highlight=False
        )
        return INTERRUPTED

    if tracker is not None:
        tracker.close(records)
        if tracker.problem:
            console.print(
                f"note: MLflow at {tracker.uri} could not be written ({tracker.problem}); the results folder has "
                "everything, and running the same command again sends it",
                highlight=False,
            )
    trials = load_trials(folder.table)
    console.print(results_table(trials, plan.study.name))
    failures = failures_table(trials)
    if failures is not None:
        console.print(failures)
    console.print(f"results:  {folder.root}", highlight=False)
    console.print(f"figures:  {folder.root / 'figures'}", highlight=False)
    if tracker is not None:
        console.print(f"compare:  python -m jobs.ui --results {results}", highlight=False)
    failed = sum(record.status == "failed" for record in records.values())
    if failed:
        console.print(
            f"{failed} of {len(wanted)} trials failed; running the command again tries them again",
            highlight=False,
        )
    return 1 if failed or len(records) < len(wanted) else 0


if __name__ == "__main__":
    sys.exit(main())
