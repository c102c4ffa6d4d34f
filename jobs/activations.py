"""Activation statistics of a model: python -m jobs.activations jobs/studies/activations.yaml"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from softprior.errors import UserError
from softprior.study_files import load_spec

if TYPE_CHECKING:
    from softprior.activations.folder import RunFolder
    from softprior.activations.plan import Plan

FINISHED, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses: everything was read, something failed, the user's mistake, Ctrl-C."""

LOG_WIDTH = 160
"""Columns of a table that goes to a file, where there is no window to ask."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = _parser().parse_intermixed_args(arguments)
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else LOG_WIDTH)
    try:
        return _run(console, options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        console.print("stopped; what is on disk stays, and the same command goes on from there")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.activations",
        description="Compute statistics of a frozen model's activations over tasks and files. Running it again "
        "goes on where it stopped.",
        epilog="Example: python -m jobs.activations jobs/studies/activations.yaml tokens=20000 --dry-run",
    )
    parser.add_argument("file", type=Path, help="what to read (YAML)")
    parser.add_argument("override", nargs="*", help="values to change: key.path=value, as sample=500")
    parser.add_argument("--dry-run", action="store_true", help="say what would be read and what it costs")
    parser.add_argument(
        "--no-findings", action="store_true", help="only the store: no comparisons of tasks, no figures"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        default=Path("results"),
        help="where it goes (default: results)",
    )
    return parser


def _run(console: Console, options: argparse.Namespace) -> int:
    from softprior.activations.spec import ActivationsSpec

    spec = load_spec(ActivationsSpec, options.file, tuple(options.override))
    # These bring in torch and Ray; a wrong key should not wait for them.
    from softprior.activations.describe import describe
    from softprior.activations.folder import RunFolder
    from softprior.activations.plan import plan_activations
    from softprior.activations.progress import Watch
    from softprior.activations.run import run_activations
    from softprior.studies.cluster import Cluster

    plan = plan_activations(spec, str(options.file))
    console.print("\n".join(describe(plan)), soft_wrap=True)
    if options.dry_run:
        return FINISHED
    folder = RunFolder(options.results.expanduser().resolve() / spec.name)
    with Watch(console, plan) as watch:
        summary = run_activations(plan, folder, Cluster(spec.resources), watch)
    for name, reason in summary["failed"].items():
        console.print(f"failed  {name}: {reason}", soft_wrap=True)
    if not options.no_findings:
        _findings(console, plan, folder, summary)
    _next(console, plan, folder)
    return FAILED if summary["failed"] else FINISHED


def _findings(console: Console, plan: Plan, folder: RunFolder, summary: dict[str, Any]) -> None:
    console.print(str(summary["tasks"]))


def _next(console: Console, plan: Plan, folder: RunFolder) -> None:
    task = next(name for name in plan.groups if name != "vocabulary")
    console.print(f"store    {folder.store}")
    console.print(
        f"use it   priors: [{{fitted: {{statistics: {folder.store}, task: {task}}}}}]", soft_wrap=True
    )


if __name__ == "__main__":
    sys.exit(main())
