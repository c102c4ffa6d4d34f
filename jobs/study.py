"""Runs a study file: python -m jobs.study jobs/studies/quickstart.yaml"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from math import inf
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.support.exits import FINISHED, status_of
from jobs.support.options import add_code, study_path
from jobs.support.screen import screen, tell
from jobs.support.stopping import Stop, how_to_go_on, stoppable
from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.library.studies import destination, load_study, plan, run, use_code
from softprior.studies.again import AGAIN
from softprior.studies.cluster import Cluster, require_machine
from softprior.studies.importing import importing

if TYPE_CHECKING:
    from analysis.figures.illustrator import Illustrator
    from softprior.library.studies import Destination, Runnable
    from softprior.results.folder import StudyFolder
    from softprior.studies.observers import Work
    from softprior.training.events import Observer

STOPPED = "stopped before any trial was started"
STOPPED_DRY = "stopped; a dry run starts no trial and writes no results"
STOPPING = "stopping; running trials will continue from their last checkpoint next time (again ends it now)"

PREPARING = "preparing the run"
"""What a terminal shows while a run imports what it needs and looks at its folder, which takes seconds."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = _parser().parse_intermixed_args(arguments)
    with stoppable(STOPPED_DRY if options.dry_run else STOPPED, STOPPING) as stop:
        try:
            with ExitStack() as ending:  # an error is printed before the cluster takes its time to stop
                return status_of(lambda: _main(options, stop, ending), options.results)
        except KeyboardInterrupt:
            return stop.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.study",
        description="Run the trials of a study file. Running it again continues where it stopped.",
        epilog="Example: python -m jobs.study jobs/studies/quickstart.yaml seeds=[0,1,2] --dry-run",
    )
    parser.add_argument("study", help="the study file (YAML), or the name of one in jobs/studies")
    parser.add_argument(
        "override",
        nargs="*",
        default=[],  # without it argparse says that overrides are required
        help="values to change: key.path=value, such as training.steps=50",
    )
    add_code(
        parser,
        "a Python file with priors, methods, tasks or regularisers of your own (runs it, here and on the "
        "workers)",
    )
    parser.add_argument("--dry-run", action="store_true", help="list the trials and their cost; run nothing")
    parser.add_argument("--all", action="store_true", help="with --dry-run: list every trial, however many")
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


def _main(options: argparse.Namespace, stop: Stop, ending: ExitStack) -> int:
    console = screen()
    if options.all and not options.dry_run:
        raise UserError("--all lists the trials of a dry run; add --dry-run, or leave it out")
    for code_path in options.code:
        use_code(code_path)
    path = study_path(options.study)
    found = load_study(path, *options.override)
    to = destination(found.name, found.tracking, options.results)
    cluster = Cluster(found.resources, found.placement)
    ending.callback(cluster.stop)
    with console.status("planning the study"):  # seconds, most of them imports
        if not options.dry_run and not to.folder.table.exists():
            require_machine(found.model, found.resources, found.placement)
            cluster.start()  # a first run surely needs Ray, which gets ready while we import and plan
        with importing():
            planned = plan(found, str(path))
    if options.dry_run:
        return _dry_run(console, planned, to.folder, options)
    return _run(console, options, stop, ending, planned, to, cluster)


def _dry_run(console: Console, planned: Runnable, folder: StudyFolder, options: argparse.Namespace) -> int:
    with console.status(PREPARING):
        from jobs.support.beginnings import FEW, tell_dry_run

        work = planned.look(folder, options.again)
    tell_dry_run(console, planned, work, folder, inf if options.all else FEW)
    return FINISHED


def _run(
    console: Console,
    options: argparse.Namespace,
    stop: Stop,
    ending: ExitStack,
    planned: Runnable,
    to: Destination,
    cluster: Cluster,
) -> int:
    began: list[Work] = []
    told: list[str] = []
    drawing: list[Illustrator] = []
    with console.status(PREPARING) as preparing:
        # These bring in torch, Ray and MLflow; a dry run or a wrong key should not wait for all of them.
        from analysis.figures.illustrator import Illustrator
        from analysis.findings.planning import plan_claims
        from jobs.support.beginnings import downloads_of, tell_beginning
        from softprior.studies.downloads import fetch
        from softprior.studies.progress import Watch
        from softprior.studies.runner import InterruptedStudyError

        def listen(work: Work) -> Sequence[Observer]:
            began.append(work)
            plan_claims(to.folder, work)
            wanted = downloads_of(planned, work)
            told.extend(tell_beginning(console, planned, work, to.folder, wanted))
            preparing.stop()  # bars take its place
            try:
                stop.orderly = True
                failures = fetch(wanted)
            except KeyboardInterrupt:
                raise InterruptedStudyError(work.reused) from None
            tell(console, [f"  note: {failure}" for failure in failures])
            done = work.number(work.kept)
            illustrator = Illustrator(
                to.folder,
                work.trials,
                stopped=lambda: stop.signal is not None,
                left=work.total - done if work.designed else None,
            )
            drawing.append(illustrator)
            ending.callback(illustrator.stop)
            watch = Watch(console, work.trials, done, total=work.total, searched=not work.designed)
            return [illustrator, watch]

        try:
            results = run(planned, options.results, listen=listen, again=options.again, cluster=cluster)
        except InterruptedStudyError as stopped:
            ended = f"{len(stopped.records)} of {counted(began[0].total, 'trial')} done"
            console.print(f"stopped with {ended}; {how_to_go_on()}", soft_wrap=True)
            raise KeyboardInterrupt from None
    report = f"python -m jobs.report {shlex.quote(str(to.folder.root))}"
    stop.ended = f"stopped; the study's trials have ended, and what is left is the report: {report}"
    from jobs.support.endings import tell_end  # matplotlib and transformers: no trial should wait for them

    status = tell_end(console, results, began[0], told, to.tracking, drawing[0].figures)
    drawing[0].figures()  # whatever has become of the report
    return status


if __name__ == "__main__":
    sys.exit(main())
