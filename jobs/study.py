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
from softprior.library.studies import load_study, look, plan, run, study_folder, use_code
from softprior.results.files import require_folder
from softprior.results.folder import StudyFolder
from softprior.results.storage import results_folder
from softprior.studies.again import AGAIN, STARTS_OVER, reused_note
from softprior.studies.cluster import Cluster, elsewhere
from softprior.tracking.client import tracking_uri

if TYPE_CHECKING:
    from softprior.studies.observers import Work
    from softprior.studies.plan import Plan
    from softprior.studies.search.plan import SearchPlan
    from softprior.studies.search.spec import SearchStudy
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
        if isinstance(found, StudySpec):
            _require_places(found, options.results)
            cluster = _cluster(found, ending)
            if not options.dry_run and _first_run(found, options.results):
                cluster.start()  # a first run surely needs Ray, which gets ready while we import and plan

        def rest() -> int:
            planned = _plan(console, found, options)
            if options.dry_run:
                return _dry_run(console, planned, options)
            own = cluster or _cluster(planned.study, ending)
            return _run(console, options, stop, planned, own)

        return status_of(rest)  # prints an error before the cluster takes its time to stop


def _cluster(study: StudySpec, ending: ExitStack) -> Cluster:
    cluster = Cluster(study.resources, study.placement)
    ending.callback(cluster.stop)
    return cluster


def _require_places(study: StudySpec, results: str) -> None:
    """Checks that results and MLflow can be where the command and the study say.

    Raises:
        UserError: it cannot.
    """
    require_folder(study_folder(study, results))
    tracking_uri(study.tracking, results_folder(results))


def _plan(console: Console, study: StudySpec | SearchStudy, options: argparse.Namespace) -> Plan | SearchPlan:
    with console.status("planning the study"):  # seconds, most of them imports
        return plan(study, str(options.study))


def _first_run(study: StudySpec, results: str) -> bool:
    return not StudyFolder(study_folder(study, results)).table.exists()


def _dry_run(console: Console, planned: Plan | SearchPlan, options: argparse.Namespace) -> int:
    from softprior.studies.describe import FEW

    _require_places(planned.study, options.results)
    _require_storage(planned, StudyFolder(study_folder(planned.study, options.results)))
    work = look(planned, options.results, again=options.again)
    lines = [*_described(planned, inf if options.all else FEW), *_evidence(planned, options.results)]
    found = [*_found(planned, work), *_extended(planned, work), *_reused(planned, work)]
    tell(console, [*lines, *_at_hand(planned.study), *found])
    return FINISHED


def _run(
    console: Console, options: argparse.Namespace, stop: Stop, planned: Plan | SearchPlan, cluster: Cluster
) -> int:
    # These bring in torch, Ray and MLflow; a dry run or a wrong key should not wait for all of them.
    from analysis.figures.illustrator import Illustrator
    from analysis.findings.planning import plan_claims
    from jobs.endings import tell_end
    from softprior.studies.progress import Watch
    from softprior.studies.runner import InterruptedStudyError

    folder = StudyFolder(study_folder(planned.study, options.results))
    began: list[Work] = []

    def listen(work: Work) -> Sequence[Observer]:
        began.append(work)
        plan_claims(folder, work)
        _announce(console, planned, work, options.results)
        stop.orderly = True
        return [
            Illustrator(folder, work.trials),
            Watch(console, work.trials, len(work.kept), total=work.total),
        ]

    try:
        results = run(planned, options.results, listen=listen, again=options.again, cluster=cluster)
    except InterruptedStudyError as stopped:
        ended = f"{len(stopped.records)} of {counted(began[0].total, 'trial')} done"
        console.print(f"stopped with {ended}; {how_to_go_on()}", soft_wrap=True)
        raise KeyboardInterrupt from None
    return tell_end(console, planned, began[0], results)


def _described(planned: Plan | SearchPlan, most: float = 0) -> list[str]:
    """The plan in words; see `describe`."""
    from softprior.studies.describe import describe
    from softprior.studies.search import describe as searches
    from softprior.studies.search.plan import SearchPlan

    if isinstance(planned, SearchPlan):
        return searches.describe(planned)
    return describe(planned, most)


def _evidence(planned: Plan | SearchPlan, results: str) -> list[str]:
    """What the seeds of a whole study can show, whatever of it is finished; a search tests nothing."""
    from jobs.evidence import evidence
    from softprior.studies.search.plan import SearchPlan

    if isinstance(planned, SearchPlan):
        return []
    try:
        lines = evidence(planned, StudyFolder(study_folder(planned.study, results)))
    except UserError:
        raise
    except Exception as error:  # a forecast; trials run without it
        lines = [f"note: what the seeds can show could not be computed ({type(error).__name__}: {error})"]
    return [f"  {line}" for line in lines]


def _announce(console: Console, planned: Plan | SearchPlan, work: Work, results: str) -> None:
    """Says what is finished already, and what will run."""
    from softprior.studies.search.plan import SearchPlan

    for line in _found(planned, work):
        console.print(line)
    if isinstance(planned, SearchPlan):
        tell(console, _described(planned))
    elif work.new:
        tell(console, [*_described(planned._replace(trials=work.new)), *_evidence(planned, results)])
    for line in (*_extended(planned, work), *_reused(planned, work)):
        console.print(line)


def _found(planned: Plan | SearchPlan, work: Work) -> list[str]:
    """Lines about what is finished already, and what of it will run again."""
    name, again = planned.study.name, len(work.superseded)
    done = len(work.reused)
    lines = []
    if again:
        lines.append(f"study {name}: {counted(again, 'earlier trial')} made by other code will run again")
    if done:
        state = "finished" if all(r.status == "finished" for r in work.reused.values()) else "done"
        of = f"{done} of {counted(work.total, 'trial')} {by_number(done, 'is', 'are')}"
        lines.append(f"study {name}: {of} {state} already")
    return lines


def _extended(planned: Plan | SearchPlan, work: Work) -> list[str]:
    """The line about finished trials that are measured on other tasks or probed, if there are any."""
    from softprior.studies.describe import extending

    trials = [record.spec for record in work.extended.values()]
    return [f"study {planned.study.name}: {extending(trials, planned.components)}"] if trials else []


def _reused(planned: Plan | SearchPlan, work: Work) -> list[str]:
    """The line about results of other code, if there are any."""
    from softprior.studies.search.plan import SearchPlan

    note = reused_note(work.reused.values(), STARTS_OVER if isinstance(planned, SearchPlan) else "")
    return [] if note is None else [note]


def _require_storage(planned: Plan | SearchPlan, folder: StudyFolder) -> None:
    """Checks that a search can write down what it proposes, and read what it starts from.

    Raises:
        UserError: it cannot.
    """
    from softprior.studies.search.plan import SearchPlan
    from softprior.studies.search.storage import read_search, require_storage

    if isinstance(planned, SearchPlan):
        require_storage(planned.search.storage, folder)
        if planned.search.warm_start is not None:
            read_search(planned.search.warm_start.study)


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
