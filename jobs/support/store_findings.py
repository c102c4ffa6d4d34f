"""What the store of an activation job shows: computed, drawn, printed and sent to MLflow."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.support.screen import tell_unsent
from softprior.activations.findings.record import Findings, load_findings, save_findings
from softprior.activations.findings.summary import by_depth, findings
from softprior.activations.progress import Steps
from softprior.errors import hidden
from softprior.results.digested import read_header
from softprior.results.lease import locked
from softprior.results.provenance import same_code
from softprior.results.storage import local_copy, local_folder, remove_folder, replaced_folder
from softprior.tracking.runs import log_run
from softprior.training.threads import limit_threads

if TYPE_CHECKING:
    from softprior.activations.folder import RunFolder
    from softprior.activations.merging import Summary
    from softprior.activations.plan import RunPlan


def tell_findings(console: Console, plan: RunPlan, folder: RunFolder) -> Findings:
    """Computes and draws what is of an earlier store or made by other code; shows, returns the numbers."""
    # Tables and figures: whoever wants the store alone should not wait for them.
    from analysis.activation_tables import prompt_table, task_table
    from analysis.figures.activation_depth import DEPTH
    from analysis.figures.activations import draw_activations

    limit_threads(plan.spec.resources.cpus * plan.spec.workers)
    path, figures = folder.root / "findings.json", folder.root / "figures"
    found = known(folder)
    if found is None or not (figures / DEPTH).exists():
        with locked(folder.lock), local_folder(folder.store) as store:
            found = known(folder)
            if found is None:
                with Steps(console, "findings") as steps:
                    found = findings(store, steps).amended(summary=_digest(folder))
                remove_folder(figures)  # those of other numbers
                save_findings(path, found)
            with replaced_folder(figures) as new, Steps(console, "figures") as steps:
                draw_activations(store, found, new, steps)
    for task, sites in found.tasks.items():
        console.print(task_table(task, sites, console.width))
    if found.prompts:
        console.print(prompt_table(found.prompts, console.width))
    console.print("\n".join(found.sentences), soft_wrap=True)
    console.print(f"findings {path}", soft_wrap=True)
    console.print(f"figures  {figures}", soft_wrap=True)
    return found


def known(folder: RunFolder) -> Findings | None:
    """What this code has found in the store as it is now; None if it has not looked yet."""
    path = folder.root / "findings.json"
    if not path.exists() or not folder.summary.exists():
        return None
    header = read_header(path)
    # What other code found may have other fields. The times of files say less: the clock may have jumped.
    if not same_code(header) or header.get("summary") != _digest(folder):
        return None
    return load_findings(path)


def track(
    console: Console,
    plan: RunPlan,
    folder: RunFolder,
    uri: str,
    summary: Summary,
    found: Findings | None,
) -> None:
    """Sends numbers by site and figures to MLflow: one run, however often the command is repeated."""
    spec, results = plan.spec, folder.root.parent
    facts = {f"version.{name}": value for name, value in summary["versions"].items()}
    facts |= {"commit": summary["commit"] or "unknown", **plan.identity}
    given = spec.model_dump(mode="json", exclude={"name", "description", "tracking"})
    whole = not summary["failed"]
    with ExitStack() as here:
        files = [here.enter_context(local_copy(folder.summary))]
        if found is not None:
            files.append(here.enter_context(local_copy(folder.root / "findings.json")))
        if (folder.root / "figures").exists():
            files.append(here.enter_context(local_folder(folder.root / "figures")))
        numbers = {} if found is None else by_depth(found)
        problem = log_run(uri, results, spec.name, plan.key, facts, given, numbers, files, whole=whole)
    if problem:
        tell_unsent(console, hidden(uri), problem)


def _digest(folder: RunFolder) -> str:
    """Identifies what the run has merged into its store, which its summary counts."""
    return hashlib.sha256(folder.summary.read_bytes()).hexdigest()
