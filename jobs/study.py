"""Runs a study file: python -m jobs.study jobs/studies/quickstart.yaml"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.exits import FINISHED, status_of
from jobs.screen import screen, tell
from jobs.stopping import Stop, how_to_go_on, stoppable
from softprior.errors import UserError
from softprior.inputs.labels import by_number, counted
from softprior.inputs.specs import StudySpec
from softprior.library.studies import destination, load_study, plan, run, use_code
from softprior.results.folder import StudyFolder
from softprior.studies.again import AGAIN, reused_note
from softprior.studies.cluster import Cluster, elsewhere

if TYPE_CHECKING:
    from softprior.library.studies import Runnable
    from softprior.studies.components import Components
    from softprior.studies.observers import Work
    from softprior.training.events import Observer

STOPPED = "stopped before any trial was started"
STOPPING = "stopping; running trials will continue from their last checkpoint next time (again ends it now)"

ENDLESS = 10_000
"""Characters on a line of a file, where there is no window to fit in."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = _parser().parse_intermixed_args(arguments)
    with stoppable(STOPPED, STOPPING) as stop:
        try:
            return status_of(lambda: _main(options, stop), options.results)
        except KeyboardInterrupt:
            return stop.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.study",
        description="Run the trials of a study file. Running it again continues where it stopped.",
        epilog="Example: python -m jobs.study jobs/studies/quickstart.yaml seeds=[0,1,2] --dry-run",
    )
    parser.add_argument("study", type=Path, help="the study file (YAML)")
    parser.add_argument(
        "override", nargs="*", help="values to change: key.path=value, such as training.steps=50"
    )
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


def _main(options: argparse.Namespace, stop: Stop) -> int:
    console = screen(ENDLESS)
    for path in options.code:
        use_code(path)
    found = load_study(options.study, *options.override)
    with ExitStack() as ending:
        cluster = None
        if isinstance(found, StudySpec):  # of a search, where its results go is known once it is planned
            to = destination(found, options.results)
            cluster = Cluster(found.resources, found.placement)
            ending.callback(cluster.stop)
            if not options.dry_run and not to.folder.table.exists():
                cluster.start()  # a first run surely needs Ray, which gets ready while we import and plan

        def rest() -> int:
            with console.status("planning the study"):  # seconds, most of them imports
                planned = plan(found, str(options.study))
            if options.dry_run:
                return _dry_run(console, planned, options)
            return _run(console, options, stop, planned, cluster)

        return status_of(rest)  # prints an error before the cluster takes its time to stop


def _dry_run(console: Console, planned: Runnable, options: argparse.Namespace) -> int:
    from softprior.studies.describe import FEW

    folder = destination(planned.study, options.results).folder
    planned.require_storage(folder)
    work = planned.look(folder, options.again)
    lines = planned.described(planned.trials, inf if options.all else FEW)
    lines += [*_evidence(planned, work, folder), *_at_hand(planned.study)]
    tell(
        console,
        [*lines, *_found(planned.study.name, work), *_kept(planned.study.name, work, planned.components)],
    )
    return FINISHED


def _run(
    console: Console, options: argparse.Namespace, stop: Stop, planned: Runnable, cluster: Cluster | None
) -> int:
    # These bring in torch, Ray and MLflow; a dry run or a wrong key should not wait for all of them.
    from analysis.figures.illustrator import Illustrator
    from analysis.findings.planning import plan_claims
    from jobs.endings import tell_end
    from softprior.studies.progress import Watch
    from softprior.studies.runner import InterruptedStudyError

    to = destination(planned.study, options.results)
    began: list[Work] = []
    told: list[str] = []

    def listen(work: Work) -> Sequence[Observer]:
        began.append(work)
        plan_claims(to.folder, work)
        told.extend(_announce(console, planned, work, to.folder))
        stop.orderly = True
        return [
            Illustrator(to.folder, work.trials),
            Watch(console, work.trials, len(work.kept), total=work.total),
        ]

    try:
        results = run(planned, options.results, listen=listen, again=options.again, cluster=cluster)
    except InterruptedStudyError as stopped:
        ended = f"{len(stopped.records)} of {counted(began[0].total, 'trial')} done"
        console.print(f"stopped with {ended}; {how_to_go_on()}", soft_wrap=True)
        raise KeyboardInterrupt from None
    return tell_end(console, results, began[0], told, to.tracking)


def _evidence(planned: Runnable, work: Work, folder: StudyFolder) -> list[str]:
    """What the seeds of a whole study can show, whatever of it is finished; a search tests nothing."""
    if not work.designed:
        return []
    from jobs.evidence import evidence

    try:
        lines = evidence(planned, folder)
    except UserError:
        raise
    except Exception as error:  # a forecast; trials run without it
        lines = [f"note: what the seeds can show could not be computed ({type(error).__name__}: {error})"]
    return [f"  {line}" for line in lines]


def _announce(console: Console, planned: Runnable, work: Work, folder: StudyFolder) -> Sequence[str]:
    """Says what is finished already, and what will run; the notes among that."""
    for line in _found(planned.study.name, work):
        console.print(line)
    lines = planned.described(work.new)
    if lines:
        tell(console, [*lines, *_evidence(planned, work, folder)])
    for line in _kept(planned.study.name, work, planned.components):
        console.print(line)
    return planned.notes if lines else ()


def _found(name: str, work: Work) -> list[str]:
    """Lines about what is finished already, and what of it will run again."""
    again, done = len(work.superseded), len(work.reused)
    lines = []
    if again:
        lines.append(f"study {name}: {counted(again, 'earlier trial')} made by other code will run again")
    if done:
        state = "finished" if all(r.status == "finished" for r in work.reused.values()) else "done"
        of = f"{done} of {counted(work.total, 'trial')} {by_number(done, 'is', 'are')}"
        lines.append(f"study {name}: {of} {state} already")
    return lines


def _kept(name: str, work: Work, components: Components) -> list[str]:
    """Lines about finished trials that are measured further, and about results of other code."""
    from softprior.studies.describe import extending

    lines = [f"study {name}: {extending(work.extended.values(), components)}"] if work.extended else []
    note = reused_note(work.reused.values(), work.remedy)
    return lines if note is None else [*lines, note]


def _at_hand(study: StudySpec) -> list[str]:
    """A line about the cluster that the study would run on, if it exists already.

    Raises:
        UserError: the study could not run on it.
    """
    from softprior.studies.describe import at_hand

    if not elsewhere():
        return []
    with Cluster(study.resources, study.placement, quiet=True) as cluster:
        return [f"  {at_hand(cluster.nodes, study)}"]


if __name__ == "__main__":
    sys.exit(main())
