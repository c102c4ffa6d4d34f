"""Where to look at a study that has ended: its report, and MLflow's page that compares its trials."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from analysis.figures.left_out import Drawn
from analysis.report.page import write_report
from jobs.support.screen import tell_unsent
from softprior.errors import UserError, hidden
from softprior.library.results import Results, Tracked
from softprior.tracking.client import default_uri
from softprior.tracking.studies import add_files

LOCAL = "http://127.0.0.1:5000"
"""Where `jobs.ui` and MLflow serve unless told otherwise."""


def tell_report(
    console: Console, results: Results, tracking: str | None, figures: Callable[[], Drawn | None]
) -> None:
    """Writes the report, adds it to the study's run in MLflow, says where it is and what became of claims.

    Args:
        tracking: MLflow's address, with its password; None if nothing is sent there.
        figures: see `write_report`.
    """
    folder = results.folder
    try:
        written = write_report(results, figures=figures)
    except Exception as error:  # the results are complete, whatever their page lacks
        again = f"python -m jobs.report {shlex.quote(str(folder.root))}"
        reason = error if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        console.print(f"note: the report could not be made ({reason}); make it with: {again}", soft_wrap=True)
        return
    tracked = results.tracked
    if tracking is not None and tracked is not None and not tracked.problem:
        problem = add_files(tracking, folder.root.name, (written.page, written.verdicts))
        if problem:
            console.print(f"note: could not send the report to MLflow: {problem}", soft_wrap=True)
    console.print(f"report   {written.page}", soft_wrap=True)
    if written.claims:
        command = f"python -m jobs.compare {shlex.quote(str(folder.root))} prior --findings"
        console.print(f"claims   {written.claims}; {command}", soft_wrap=True)


def tell_tracking(console: Console, results: Results) -> None:
    """What MLflow did not get, what else a user should know about it, and where it compares the trials."""
    tracked = results.tracked
    if tracked is None:
        return
    for note in tracked.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if tracked.problem:
        tell_unsent(console, tracked.uri, tracked.problem)
    elif tracked.page is not None:
        _compare(console, results, tracked, tracked.page)


def _compare(console: Console, results: Results, tracked: Tracked, page: str) -> None:
    """The page that compares the trials, and what serves it."""
    if tracked.uri.startswith("http"):
        console.print(f"compare  {tracked.uri.rstrip('/')}{page}", soft_wrap=True)
        return
    root = results.folder.root.parent
    serve = f"-m jobs.ui --results {shlex.quote(str(root))}"
    if isinstance(root, Path) and tracked.uri != hidden(default_uri(root)):  # a database of the user's own
        serve = f"-m mlflow ui --backend-store-uri {shlex.quote(tracked.uri)}"
    console.print(f"compare  {sys.executable} {serve}", soft_wrap=True)
    console.print(f"         and open {LOCAL}{page}", soft_wrap=True)
