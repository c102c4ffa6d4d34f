"""Activation statistics of a model: python -m jobs.activations jobs/studies/activations.yaml"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.support.exits import FAILED, FINISHED, status_of
from jobs.support.options import add_code, study_path
from jobs.support.screen import screen
from jobs.support.stopping import Stop, stoppable
from softprior.inputs.study_files import load_spec
from softprior.results.provenance import code, named, same_code
from softprior.results.storage import results_folder

if TYPE_CHECKING:
    from softprior.activations.folder import RunFolder
    from softprior.activations.merging import Summary
    from softprior.activations.plan import RunPlan

STOPPED = "stopped before anything was read"
STOPPING = (
    "stopping; what is on disk stays, and the same command continues from there (again ends it at once)"
)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = _parser().parse_intermixed_args(arguments)
    console = screen()
    with stoppable(STOPPED, STOPPING) as stop:
        try:
            return status_of(lambda: _run(console, options, stop))
        except KeyboardInterrupt:
            return stop.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.activations",
        description="Compute statistics of a frozen model's activations over tasks and files. Running it "
        "again continues where it stopped.",
        epilog="Example: python -m jobs.activations jobs/studies/activations.yaml tokens=20000 --dry-run",
    )
    parser.add_argument("file", help="what to read (YAML), or its name in jobs/studies")
    parser.add_argument(
        "override", nargs="*", default=[], help="values to change: key.path=value, such as sample=500"
    )
    add_code(parser, "a Python file with tasks of your own (runs it, here and on the workers)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be read and what it costs")
    parser.add_argument(
        "--no-findings", action="store_true", help="only the store: no comparisons of tasks, no figures"
    )
    parser.add_argument(
        "--results",
        metavar="DIR",
        default="results",
        help="where it goes: a folder that all workers see, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER "
        "(default: results)",
    )
    return parser


def _run(console: Console, options: argparse.Namespace, stop: Stop) -> int:
    from softprior.activations.spec import ActivationsSpec

    path = study_path(options.file)
    spec = load_spec(ActivationsSpec, path, tuple(options.override))
    # These bring in torch and Ray; a wrong key should not wait for them.
    from softprior.activations.describe import describe, how_far, kept
    from softprior.activations.folder import RunFolder
    from softprior.activations.plan import plan_activations
    from softprior.activations.progress import Watch
    from softprior.activations.run import require_own, run_activations
    from softprior.studies.cluster import Cluster, elsewhere, require_machine
    from softprior.studies.estimate import trials_at_once
    from softprior.tracking.client import tracking_uri
    from softprior.training.own_code import read_code, use_code

    for code_path in options.code:
        use_code(read_code(code_path))
    results = results_folder(options.results)
    server = tracking_uri(spec.tracking, results)
    plan = plan_activations(spec, str(path))
    folder = RunFolder(results / spec.name)
    require_own(folder, plan)
    lines = [*describe(plan, with_findings=not options.no_findings), *_for_a_vae(plan), *kept(plan, folder)]
    console.print("\n".join(lines), soft_wrap=True)
    if options.dry_run:
        if elsewhere():
            with Cluster(spec.resources, quiet=True):
                pass  # it answers, and has room for a worker
        elif not trials_at_once(spec.resources):
            console.print(
                "  this machine has fewer CPUs or GPUs than a worker needs; lower resources.cpus or "
                "resources.gpus"
            )
        return FINISHED
    if not folder.plan.exists():
        require_machine(spec.model, spec.resources)
    # Ray warns of every pool of actors that arguments might be lost, which a new round would fix.
    cluster = Cluster(spec.resources, quiet=True, trials=False)
    stop.orderly = True
    try:
        with Watch(console, plan) as watch:
            summary = run_activations(plan, folder, cluster, watch)
        _tell(console, options, plan, folder, server, summary)
    except KeyboardInterrupt:
        console.print(how_far(plan, folder), soft_wrap=True)
        raise
    return FAILED if summary["failed"] else FINISHED


def _for_a_vae(plan: RunPlan) -> list[str]:
    """A line about a sample that is smaller than a prior fitted on it would use, if any is to be fitted."""
    from softprior.priors.domain import SAMPLE
    from softprior.priors.vae import few

    sample = plan.spec.sample
    tokens = [sum(s.tokens for s in plan.shards if s.source == task) for task in plan.tasks]
    if not few(sample, max(tokens)):
        return []
    return [
        f"  note: a vae is trained on the sample and takes up to {SAMPLE:,} vectors, but sample = {sample:,} "
        "keeps fewer; raise it if one is to be fitted, and name the sites that it needs"
    ]


def _tell(
    console: Console,
    options: argparse.Namespace,
    plan: RunPlan,
    folder: RunFolder,
    server: str | None,
    summary: Summary,
) -> None:
    """Says what was left out, computes and draws findings, and says how to use the store."""
    from softprior.activations.describe import left_out

    for name, reason in summary["failed"].items():
        console.print(f"failed  {name}: {reason}", soft_wrap=True)
    for note in (*left_out(summary["tasks"]), *plan.notes):
        console.print(f"note: {note}", soft_wrap=True)
    if not same_code(summary):
        which = f"{named(summary)}; now {named(code())}"
        console.print(
            f"note: the store was made by other code ({which}); remove {folder.root} to make it again",
            soft_wrap=True,
        )
    from jobs.support.store_findings import known, tell_findings, track

    found = known(folder) if options.no_findings else tell_findings(console, plan, folder)
    if server is not None:
        track(console, plan, folder, server, summary, found)
    _next(console, plan, folder, summary)


def _next(console: Console, plan: RunPlan, folder: RunFolder, summary: Summary) -> None:
    task = next(name for name in plan.tasks if name in summary["tasks"])
    console.print(f"store    {folder.store}", soft_wrap=True)
    console.print(
        f"use it   priors: [{{fitted: {{statistics: {folder.store}, task: {task}}}}}]", soft_wrap=True
    )


if __name__ == "__main__":
    sys.exit(main())
