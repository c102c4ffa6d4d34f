"""What a study or a search prints when it has ended, and the exit status that this gives."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from analysis.comparison_table import comparison_table
from analysis.comparisons import compare, differing
from analysis.findings.study import Study, runs_of, twins_of
from analysis.report.page import write_report
from analysis.search_tables import best_table, importance_table
from analysis.tables import failures_table, results_table
from jobs.exits import FAILED, FINISHED, no_command
from jobs.screen import tell_unsent
from softprior.errors import UserError, hidden
from softprior.inputs.labels import by_number, counted
from softprior.library.results import Results, Tracked
from softprior.library.sanity import verdicts
from softprior.library.twins import in_words
from softprior.results.records import Record
from softprior.studies.again import STARTS_OVER, reused_note
from softprior.studies.describe import closing_notes
from softprior.studies.observers import Work
from softprior.studies.plan import Plan
from softprior.studies.search.plan import SearchPlan
from softprior.studies.search.summary import Summary
from softprior.tracking.client import default_uri, tracking_uri
from softprior.tracking.studies import add_files
from softprior.training.extension import whole

LOCAL = "http://127.0.0.1:5000"
"""Where `jobs.ui` and MLflow serve unless told otherwise."""


def tell_end(console: Console, planned: Plan | SearchPlan, work: Work, results: Results) -> int:
    """Prints tables, places and notes; the status."""
    if isinstance(planned, SearchPlan):
        assert results.summary is not None
        status = _search(console, planned, results, results.summary)
        if not all(map(whole, results.ended.values())):
            status = FAILED
        _notes(console, results, told=())
        _tracking(console, results.tracked)
        _compare(console, results)
        reused = reused_note(work.reused.values(), STARTS_OVER)
    else:
        status = _study(console, results)
        _notes(console, results, told=planned.notes if work.missing else ())
        # The table above lists reused trials among the new ones, if there are any.
        reused = reused_note(work.reused.values()) if work.missing else None
    if reused:
        console.print(reused)
    _report(console, planned, results)
    return status


def _report(console: Console, planned: Plan | SearchPlan, results: Results) -> None:
    """Writes the report, adds it to the study's run in MLflow, and says where it is."""
    folder = results.folder
    try:
        written = write_report(results)
    except Exception as error:  # the results are complete, whatever their page lacks
        again = f"python -m jobs.report {shlex.quote(str(folder.root))}"
        reason = error if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        console.print(f"note: the report was not made ({reason}); make it with: {again}", soft_wrap=True)
        return
    tracked = results.tracked
    if tracked is not None and not tracked.problem:
        # Not `tracked.uri`, in which a password is hidden.
        uri = tracking_uri(planned.study.tracking, folder.root.parent)
        files = (written.page, written.verdicts)
        problem = None if uri is None else add_files(uri, planned.study.name, files)
        if problem:
            console.print(f"note: MLflow did not get the report: {problem}", soft_wrap=True)
    console.print(f"report   {written.page}", soft_wrap=True)


def _notes(console: Console, results: Results, told: Sequence[str]) -> None:
    """What users should know about the trials, except what was said before they ran."""
    for line in closing_notes(results.ended.values()):
        if line not in told:
            console.print(f"note: {line}", soft_wrap=True)


def _study(console: Console, results: Results) -> int:
    trials, folder = results.table, results.folder
    print_results(console, results)
    _failures(console, results)
    print_comparisons(console, results.ended.values())
    console.print(f"results  {folder.root}")
    console.print(f"figures  {folder.root / 'figures'}")
    _tracking(console, results.tracked)
    _compare(console, results)
    faults = _sanity(console, results)
    failed = int((trials.status == "failed").sum())
    if failed:
        them = by_number(failed, "it", "them")
        of = f"{failed} of {counted(len(trials), 'trial')}"
        console.print(f"{of} failed; run the same command again to retry {them}")
    done = all(map(whole, results.ended.values())) and (trials.status == "finished").all()
    return FINISHED if done and not faults else FAILED


def print_results(console: Console, results: Results) -> None:
    """Prints the table of all trials, and how far twins end apart."""
    console.print(results_table(results.table, results.folder.root.name, console.width))
    line = in_words(results.pairs.apart)
    if line:
        console.print(line, soft_wrap=True)


def print_comparisons(console: Console, records: Iterable[Record]) -> None:
    """Prints a table for every axis on which trials have two values and two seeds.

    But for the task: losses on different problems do not compare, unless somebody asks for it.

    Args:
        records: twins among them, which say how much of a difference is rounding.
    """
    known = list(records)
    runs, baselines = runs_of(known)
    study = Study(runs, baselines, twins=twins_of(known, runs))
    for axis in differing(study):
        if axis == "task":
            continue
        console.print(comparison_table(compare(study, axis), axis))


def _search(console: Console, planned: SearchPlan, results: Results, summary: Summary) -> int:
    folder, objective = results.folder, " and ".join(summary.objectives)
    what = "lowest" if len(summary.objectives) == 1 else "beaten by none in"
    console.print(best_table(summary, f"{planned.study.name}: {what} {objective}", console.width))
    importances = importance_table(summary, console.width)
    if importances is not None:
        console.print(importances)
    _failures(console, results)
    states = [point.state for point in summary.points]
    counts = {"finished": "complete", "stopped early": "pruned", "failed": "fail"}
    shown = [f"{states.count(state)} {words}" for words, state in counts.items() if state in states]
    console.print(f"proposals {len(states)}: {', '.join(shown)}")
    console.print(f"results   {folder.root}")
    console.print(f"figures   {folder.search} and {folder.root / 'figures'}")
    if planned.search.storage is None:
        console.print(f"dashboard {_dashboard()} {folder.journal}", soft_wrap=True)
    failed = {i for i, record in results.records.items() if record.status == "failed"}
    for point in summary.points:
        if point.state == "fail" and failed.isdisjoint(point.trials):
            console.print(f"proposal {point.number} failed: {point.reason}", soft_wrap=True)
    if failed:
        lost = counted(len(failed), "trial")
        console.print(f"{lost} failed; the sampler knows, and a search does not retry them")
    done = not _sanity(console, results) and bool(summary.best) and not failed and "fail" not in states
    return FINISHED if done else FAILED


def _sanity(console: Console, results: Results) -> bool:
    """Which trials passed their checks, and which did not and why; whether numbers are wrong."""
    found = verdicts(results.ended, results.labels)
    for line in found.lines:
        console.print(line, soft_wrap=True)
    return found.faults


def _failures(console: Console, results: Results) -> None:
    failures = failures_table(results.table)
    if failures is not None:
        console.print(failures)


def _tracking(console: Console, tracked: Tracked | None) -> None:
    """What MLflow did not get, and what else a user should know about it."""
    if tracked is None:
        return
    for note in tracked.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if tracked.problem:
        tell_unsent(console, tracked.uri, tracked.problem)


def _compare(console: Console, results: Results) -> None:
    """The page that compares the trials, and what serves it."""
    tracked = results.tracked
    if tracked is None or tracked.problem or tracked.page is None:
        return
    if tracked.uri.startswith("http"):
        console.print(f"compare  {tracked.uri.rstrip('/')}{tracked.page}", soft_wrap=True)
        return
    root = results.folder.root.parent
    serve = f"-m jobs.ui --results {shlex.quote(str(root))}"
    if isinstance(root, Path) and tracked.uri != hidden(default_uri(root)):  # a database of the user's own
        serve = f"-m mlflow ui --backend-store-uri {shlex.quote(tracked.uri)}"
    console.print(f"compare  {sys.executable} {serve}", soft_wrap=True)
    console.print(f"         and open {LOCAL}{tracked.page}", soft_wrap=True)


def _dashboard() -> str:
    """Optuna's dashboard command as a shell finds it: it is beside Python where it is installed."""
    name = "optuna-dashboard"
    return shutil.which(name, path=str(Path(sys.executable).parent)) or name


if __name__ == "__main__":
    no_command("jobs.endings")
