"""Runs a study file: python -m jobs.study jobs/studies/quickstart.yaml"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.screen import screen, tell_tracking
from jobs.stopping import Stop, how_to_go_on, stoppable
from softprior.errors import InUseError, UserError
from softprior.labels import by_number, counted
from softprior.results import StudyFolder
from softprior.specs import StudySpec
from softprior.storage import results_folder
from softprior.studies.again import AGAIN, known_records, of_other_code, reused_note
from softprior.studies.cluster import Cluster, elsewhere
from softprior.studies.search.spec import SearchStudy, load
from softprior.tracking.client import tracking_uri

if TYPE_CHECKING:
    from softprior.studies.observers import Observer
    from softprior.tracking.mlflow_tracker import MlflowTracker

FINISHED, FAILED, WRONG = 0, 1, 2
"""Exit statuses: all trials finished, some failed, the user's mistake. Ctrl-C gives 130, SIGTERM 143."""

STOPPED = "stopped before any trial was started"
STOPPING = "stopping; running trials go on from their last checkpoint next time (again ends it at once)"

ENDLESS = 10_000
"""Characters on a line of a file, where there is no window to fit in."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = _parser().parse_intermixed_args(arguments)
    with stoppable(STOPPED, STOPPING) as stop:
        try:
            return _main(options, stop)
        except KeyboardInterrupt:
            return stop.status


def _main(options: argparse.Namespace, stop: Stop) -> int:
    console = screen(ENDLESS)
    try:
        for path in options.code:
            from softprior.studies.own_code import read_code, use_code

            use_code(read_code(path))
        found = load(options.study, tuple(options.override))
        if isinstance(found, SearchStudy):
            return _search(console, found, options, stop)
        study, results = found, results_folder(options.results)
        folder = StudyFolder(results / study.name)
        uri = tracking_uri(study.tracking, results)
        if options.dry_run:
            return _describe(console, study, str(options.study))
        cluster = Cluster(study.resources, study.placement)
        if not folder.table.exists():
            cluster.start()  # a first run surely needs Ray, which gets ready while we import and plan
        try:
            return _run(console, study, folder, uri, cluster, options, stop)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)  # before the cluster takes its time to stop
            return WRONG
        finally:
            cluster.stop()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    except Exception as error:
        from softprior.training.failure import full_disk

        reason = full_disk(error)
        if reason is None:
            raise
        kept = "finished trials and checkpoints are kept, so free some space and run the command again"
        print(f"error: {options.results} cannot be written ({reason}); {kept}", file=sys.stderr)
        return WRONG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.study",
        description="Run the trials of a study file. Running it again goes on where it stopped.",
        epilog="Example: python -m jobs.study jobs/studies/quickstart.yaml seeds=[0,1,2] --dry-run",
    )
    parser.add_argument("study", type=Path, help="the study file (YAML)")
    parser.add_argument("override", nargs="*", help="values to change: key.path=value, as training.steps=50")
    parser.add_argument(
        "--code",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a Python file with priors, methods, tasks or regularisers of your own (runs it, here and on "
        "the workers)",
    )
    parser.add_argument("--dry-run", action="store_true", help="list the trials and their cost; run nothing")
    parser.add_argument(
        AGAIN,
        action="store_true",
        help="also rerun finished trials that other code made (another commit, or edits); what they had is "
        "kept until the new record is complete (a search starts over)",
    )
    parser.add_argument(
        "--results",
        metavar="DIR",
        default="results",
        help="where study folders go: a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER (default: results)",
    )
    return parser


def _search(console: Console, template: SearchStudy, options: argparse.Namespace, stop: Stop) -> int:
    from softprior.studies.search.plan import SearchPlan

    plan = SearchPlan(template, str(options.study))
    results = results_folder(options.results)
    folder = StudyFolder(results / plan.study.name)
    uri = tracking_uri(plan.study.tracking, results)
    if options.dry_run:
        from softprior.studies.search.describe import describe
        from softprior.studies.search.storage import require_storage

        require_storage(plan.search.storage, folder)

        if plan.search.warm_start is not None:
            from softprior.studies.search.storage import read_search

            read_search(plan.search.warm_start.study)
        console.print("\n".join([*describe(plan), *_at_hand(plan.study)]))
        return FINISHED
    from jobs.searching import run

    cluster = Cluster(plan.study.resources, plan.study.placement)
    try:
        return FINISHED if run(console, plan, folder, uri, cluster, stop, again=options.again) else FAILED
    finally:
        cluster.stop()


def _describe(console: Console, study: StudySpec, file: str) -> int:
    from softprior.studies.describe import describe
    from softprior.studies.plan import plan_study

    console.print("\n".join([*describe(plan_study(study, file), every_trial=True), *_at_hand(study)]))
    return FINISHED


def _at_hand(study: StudySpec) -> list[str]:
    """A line about the cluster that the study would run on, if it is there already.

    Raises:
        UserError: the study could not run on it.
    """
    from softprior.studies.describe import at_hand

    if not elsewhere():
        return []
    with Cluster(study.resources, study.placement, quiet=True) as cluster:
        return [f"  {at_hand(cluster.nodes, study)}"]


def _run(
    console: Console,
    study: StudySpec,
    folder: StudyFolder,
    uri: str | None,
    cluster: Cluster,
    options: argparse.Namespace,
    stop: Stop,
) -> int:
    # These bring in torch, Ray and MLflow; a dry run or a wrong key should not wait for all of them.
    from analysis.illustrator import Illustrator
    from softprior.records import load_records
    from softprior.studies.describe import closing_notes, describe
    from softprior.studies.plan import plan_study
    from softprior.studies.progress import Watch
    from softprior.studies.runner import InterruptedStudyError, run_study
    from softprior.tracking.mlflow_tracker import MlflowTracker

    plan = plan_study(study, str(options.study))
    wanted = [trial.id for trial in plan.trials]
    kept = {i: r for i, r in known_records(folder).items() if i in wanted and r.status == "finished"}
    if options.again:
        others = {record.id for record in of_other_code(kept.values())}
        if others:
            which = f"{counted(len(others), 'finished trial')} made by other code"
            console.print(f"study {study.name}: {which} will run again")
        kept = {i: r for i, r in kept.items() if i not in others}
    done = len(kept)
    if done:
        of = f"{done} of {counted(len(wanted), 'trial')} {by_number(done, 'is', 'are')}"
        console.print(f"study {study.name}: {of} finished already")
    note = reused_note(kept.values())
    if note:
        console.print(note)
    missing = [trial for trial in plan.trials if trial.id not in kept]
    if missing:
        console.print("\n".join(describe(plan._replace(trials=tuple(missing)), every_trial=False)))

    stop.orderly = True
    illustrator, tracker = Illustrator(folder, plan.trials), None
    if uri is not None:
        tracker = MlflowTracker(uri, study, plan.trials, folder)
    try:
        with Watch(console, plan.trials, done) as watch:
            observers: list[Observer] = [illustrator, *([tracker] if tracker else []), watch]
            run_study(plan, folder, observers, cluster, options.again)
    except InUseError:
        tracker = None  # the runs are another process's
        raise
    except InterruptedStudyError as stopped:
        ended = f"{len(stopped.records)} of {counted(len(wanted), 'trial')} done"
        console.print(f"stopped with {ended}; {how_to_go_on()}", soft_wrap=True)
        raise KeyboardInterrupt from None
    finally:
        records = {i: r for i, r in load_records(folder.records).items() if i in wanted}
        illustrator.complete(records)
        if tracker and folder.study.exists():
            tracker.close(records)
    status = _report(console, folder, tracker, sum(r.status == "failed" for r in records.values()))
    for found in closing_notes(records.values()):
        if not missing or found not in plan.notes:  # which have been printed if anything was missing
            console.print(f"note: {found}", soft_wrap=True)
    if note and missing:  # the table above has them among the new ones
        console.print(note)
    return status


def _report(console: Console, folder: StudyFolder, tracker: MlflowTracker | None, failed: int) -> int:
    from analysis.tables import failures_table, load_trials, results_table

    trials = load_trials(folder.table)
    console.print(results_table(trials, folder.root.name, console.width))
    failures = failures_table(trials)
    if failures is not None:
        console.print(failures)
    console.print(f"results  {folder.root}")
    console.print(f"figures  {folder.root / 'figures'}")
    if tracker:
        tell_tracking(console, tracker)
    if tracker and not tracker.problem and tracker.uri.startswith("http"):
        console.print(f"compare  {tracker.uri}")
    elif tracker and not tracker.problem:
        where = shlex.quote(str(folder.root.parent))
        console.print(f"compare  {sys.executable} -m jobs.ui --results {where}", soft_wrap=True)
    if failed:
        them = by_number(failed, "it", "them")
        of = f"{failed} of {counted(len(trials), 'trial')}"
        console.print(f"{of} failed; the same command again tries {them} again")
    return FAILED if failed or (trials.status != "finished").any() else FINISHED


if __name__ == "__main__":
    sys.exit(main())
