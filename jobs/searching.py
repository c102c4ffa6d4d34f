"""The part of `python -m jobs.study` that runs a search."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.screen import tell_tracking
from jobs.stopping import Stop, how_to_go_on
from softprior.errors import InUseError
from softprior.labels import counted
from softprior.results import StudyFolder
from softprior.studies.again import reused_note
from softprior.studies.cluster import Cluster

if TYPE_CHECKING:
    from softprior.studies.observers import SearchObserver
    from softprior.studies.search.plan import SearchPlan
    from softprior.studies.search.summary import Summary


def run(
    console: Console,
    plan: SearchPlan,
    folder: StudyFolder,
    uri: str | None,
    cluster: Cluster,
    stop: Stop,
    again: bool = False,
) -> bool:
    """Runs a search, or goes on with it; whether no trial and no proposal failed.

    Args:
        uri: MLflow's; None for no tracking.
        again: starts it over if other code contributed to it.

    Raises:
        UserError: it cannot run or go on.
        KeyboardInterrupt: it was stopped; its trials go on next time.
    """
    from analysis.illustrator import Illustrator
    from analysis.search_figures import draw_search
    from softprior.files import write_json
    from softprior.records import load_records
    from softprior.studies.describe import closing_notes
    from softprior.studies.progress import Watch
    from softprior.studies.runner import InterruptedStudyError
    from softprior.studies.search.describe import describe
    from softprior.studies.search.run import run_search
    from softprior.studies.search.summary import summarise
    from softprior.tracking.mlflow_tracker import MlflowTracker

    console.print("\n".join(describe(plan)))
    records = {} if again else load_records(folder.records)
    note = reused_note(records.values(), "starts the search over")
    if note:
        console.print(note)
    stop.orderly = True
    study = plan.study
    illustrator, tracker = Illustrator(folder, plan.trials), None
    if uri is not None:
        tracker = MlflowTracker(uri, study, plan.trials, folder)
    metrics: dict[str, float] = {}
    try:
        done = len(records)
        total = len(plan.baselines) + plan.search.trials * plan.members
        with Watch(console, plan.trials, done, total=total) as watch:
            observers: list[SearchObserver] = [illustrator, *([tracker] if tracker else []), watch]
            found, _ = run_search(plan, folder, observers, cluster, again)
        summary = summarise(found)
        write_json(folder.search / "summary.json", _json(summary))
        draw_search(summary, folder, study.name)
        if summary.best:
            lowest = zip(summary.objectives, zip(*(p.values for p in summary.best), strict=True), strict=True)
            metrics = {f"lowest_{name.replace(' ', '_')}": min(values) for name, values in lowest}
    except InUseError:
        tracker = None  # the runs are another process's
        raise
    except InterruptedStudyError as stopped:
        ended = len(stopped.records)
        console.print(f"stopped with {counted(ended, 'trial')} done; {how_to_go_on()}", soft_wrap=True)
        raise KeyboardInterrupt from None
    finally:
        wanted = {trial.id for trial in plan.trials}
        records = {i: r for i, r in load_records(folder.records).items() if i in wanted}
        illustrator.complete(records)
        if tracker and folder.study.exists():
            tracker.close(records, metrics)
    failed = {i for i, record in records.items() if record.status == "failed"}
    _report(console, plan, folder, summary, failed)
    for line in closing_notes(records.values()):
        console.print(f"note: {line}", soft_wrap=True)
    if tracker:
        tell_tracking(console, tracker)
    if note:
        console.print(note)
    return bool(summary.best) and not failed and all(point.state != "fail" for point in summary.points)


def _report(
    console: Console, plan: SearchPlan, folder: StudyFolder, summary: Summary, failed: set[str]
) -> None:
    from analysis.search_tables import best_table, importance_table
    from analysis.tables import failures_table, load_trials

    objective = " and ".join(summary.objectives)
    title = (
        f"{plan.study.name}: lowest {objective}"
        if len(summary.objectives) == 1
        else (f"{plan.study.name}: beaten by none in {objective}")
    )
    console.print(best_table(summary, title))
    importances = importance_table(summary)
    if importances is not None:
        console.print(importances)
    failures = failures_table(load_trials(folder.table))
    if failures is not None:
        console.print(failures)
    states = [point.state for point in summary.points]
    counts = {"finished": "complete", "stopped early": "pruned", "failed": "fail"}
    shown = [f"{states.count(state)} {words}" for words, state in counts.items() if state in states]
    console.print(f"proposals {len(states)}: {', '.join(shown)}")
    console.print(f"results   {folder.root}")
    console.print(f"figures   {folder.search} and {folder.root / 'figures'}")
    if plan.search.storage is None:
        console.print(f"dashboard {_dashboard()} {folder.journal}", soft_wrap=True)
    for point in summary.points:
        if point.state == "fail" and failed.isdisjoint(point.trials):
            console.print(f"proposal {point.number} failed: {point.reason}", soft_wrap=True)
    if failed:
        lost = counted(len(failed), "trial")
        console.print(f"{lost} failed; the sampler knows, and a search tries none of them again")


def _dashboard() -> str:
    """Optuna's own, as a shell finds it: it stands beside Python where it is installed."""
    name = "optuna-dashboard"
    return shutil.which(name, path=str(Path(sys.executable).parent)) or name


def _json(summary: Summary) -> dict:
    points = [point._asdict() for point in summary.points]
    best = [point.number for point in summary.best]
    return {
        "objectives": summary.objectives,
        "best": best,
        "importances": dict(zip(summary.objectives, summary.importances, strict=True)),
        "points": points,
    }
