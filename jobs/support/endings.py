"""What a study or a search prints when it has ended, and the exit status that this gives."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from analysis.figures.left_out import Drawn
from analysis.search_tables import best_table, importance_table
from analysis.tables import failures_table
from jobs.support.exits import FAILED, FINISHED
from jobs.support.outcomes import print_comparisons, print_results
from jobs.support.pages import tell_report, tell_tracking
from jobs.support.screen import tell
from softprior.inputs.labels import by_number, counted
from softprior.library.results import Results
from softprior.library.sanity import verdicts
from softprior.studies.again import reused_note
from softprior.studies.describe import closing_notes
from softprior.studies.observers import Work
from softprior.studies.search.summary import Summary
from softprior.training.extension import lacking


def tell_end(
    console: Console,
    results: Results,
    work: Work,
    told: Sequence[str] = (),
    tracking: str | None = None,
    figures: Callable[[], Drawn | None] = lambda: None,
) -> int:
    """Prints tables, places and notes; the status.

    Args:
        work: what the run found.
        told: notes that were said before it.
        tracking: MLflow's address, with its password.
        figures: see `analysis.report.page.write_report`.
    """
    summary = results.summary
    status = _study(console, results) if summary is None else _search(console, results, summary)
    tell(console, [f"note: {line}" for line in closing_notes(results.ended.values()) if line not in told])
    if not work.over:  # the tables above list reused trials among new ones
        note = reused_note(work.reused.values(), work.remedy)
        if note is not None:
            console.print(note, soft_wrap=True)
    tell_report(console, results, tracking, figures)
    return status


def _study(console: Console, results: Results) -> int:
    trials, folder = results.table, results.folder
    print_results(console, results)
    _failures(console, results)
    print_comparisons(console, results.ended.values(), folder.root)
    console.print(f"results  {folder.root}", soft_wrap=True)
    console.print(f"figures  {folder.root / 'figures'}", soft_wrap=True)
    tell_tracking(console, results)
    faults = _sanity(console, results)
    failed = int((trials.status == "failed").sum())
    if failed:
        them = by_number(failed, "it", "them")
        of = f"{failed} of {counted(len(trials), 'trial')}"
        console.print(f"{of} failed; run the same command again to retry {them}", soft_wrap=True)
    done = not any(map(lacking, results.ended.values())) and (trials.status == "finished").all()
    return FINISHED if done and not faults else FAILED


def _search(console: Console, results: Results, summary: Summary) -> int:
    folder, objective = results.folder, " and ".join(summary.objectives)
    what = "lowest" if len(summary.objectives) == 1 else "beaten by none in"
    console.print(best_table(summary, f"{folder.root.name}: {what} {objective}", console.width))
    importances = importance_table(summary, console.width)
    if importances is not None:
        console.print(importances)
    _failures(console, results)
    states = [point.state for point in summary.points]
    counts = {"finished": "complete", "stopped early": "pruned", "failed": "fail"}
    shown = [f"{states.count(state)} {words}" for words, state in counts.items() if state in states]
    console.print(f"proposals {len(states)}: {', '.join(shown)}")
    console.print(f"results   {folder.root}", soft_wrap=True)
    console.print(f"figures   {folder.search} and {folder.root / 'figures'}", soft_wrap=True)
    if results.study["spec"]["search"]["storage"] is None:
        console.print(f"dashboard {_dashboard()} {folder.journal}", soft_wrap=True)
    failed = {i for i, record in results.records.items() if record.status == "failed"}
    for point in summary.points:
        if point.state == "fail" and failed.isdisjoint(point.trials):
            console.print(f"proposal {point.number} failed: {point.reason}", soft_wrap=True)
    if failed:
        lost = counted(len(failed), "trial")
        console.print(f"{lost} failed; the sampler knows, and a search does not retry them", soft_wrap=True)
    tell_tracking(console, results)
    faults = _sanity(console, results)
    done = bool(summary.best) and "fail" not in states and not any(map(lacking, results.ended.values()))
    return FINISHED if done and not failed and not faults else FAILED


def _sanity(console: Console, results: Results) -> bool:
    """Which trials passed their checks, and which did not and why; whether numbers are wrong."""
    found = verdicts(results.ended, results.labels)
    tell(console, found.lines)
    return found.faults


def _failures(console: Console, results: Results) -> None:
    failures = failures_table(results.table)
    if failures is not None:
        console.print(failures)


def _dashboard() -> str:
    """Optuna's dashboard command as a shell finds it: it is beside Python where it is installed."""
    name = "optuna-dashboard"
    return shutil.which(name, path=str(Path(sys.executable).parent)) or name
