"""Merges what the workers of a run have read into its store, and sums up the run."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TypedDict

from softprior.activations.folder import RunFolder
from softprior.activations.plan import RunPlan
from softprior.activations.state import Partial, merged_site
from softprior.activations.store import write_site
from softprior.errors import UserError
from softprior.results.digested import write_digested
from softprior.results.provenance import code
from softprior.results.storage import RemotePath, local_copy, remove_folder, replaced_folder
from softprior.statistics.store import site_order
from softprior.training.environment import versions


class _Total(TypedDict):
    texts: int
    tokens: int
    documents: int
    skipped: int


class TaskSummary(_Total):
    """What was read of one task.

    Attributes:
        seconds: time spent on it, of all workers.
        sites: in the model's order.
        malformed: why the first rows were left out.
        lost: what is wrong with damaged files.
    """

    seconds: float
    sites: list[str]
    malformed: list[str]
    lost: list[str]


class Summary(TypedDict):
    """The summary of a run, `activations.json`.

    Attributes:
        key, spec, identity: of the plan.
        tasks: what was read of each task.
        failed: shards that could not be read, and why.
        missing_tokens: tokens of these, about.
        versions, commit, sources: of the code that made it.
    """

    key: str
    spec: dict[str, object]
    identity: dict[str, str]
    tasks: dict[str, TaskSummary]
    failed: dict[str, str]
    missing_tokens: int
    versions: dict[str, str]
    commit: str | None
    sources: str | None


def saved_shards(plan: RunPlan, folder: RunFolder) -> dict[str, int]:
    """The shards that are on disk before a run has finished, and how many tokens each has."""
    partials = (partial for task in plan.groups for partial in folder.partials(task))
    return {name: facts["tokens"] for partial in partials for name, facts in partial.shards.items()}


def chosen(folder: RunFolder, task: str) -> list[Partial]:
    """Partial states of a task of which no two have a shard in common.

    Two can only if a worker was thought dead and was not; the larger one then counts.
    """
    taken: set[str] = set()
    chosen = []
    for partial in sorted(folder.partials(task), key=lambda p: (-len(p.shards), p.path.name)):
        if taken.isdisjoint(partial.shards):
            taken |= set(partial.shards)
            chosen.append(partial)
        else:
            partial.path.unlink()
    return chosen


def finish(plan: RunPlan, folder: RunFolder, failed: dict[str, str]) -> Summary:
    """Merges the workers' sums into the store, writes the summary, and clears what is not needed again.

    A task of which nothing could be read has no part in the store, and costs the others nothing.

    Raises:
        UserError: no task could be read.
    """
    with replaced_folder(folder.store) as store:
        tasks = _merge(plan, folder, store, failed)
        if isinstance(folder.summary, RemotePath):  # where files are replaced one by one
            folder.summary.unlink(missing_ok=True)
    made = code()
    summary: Summary = {
        "key": plan.key,
        "spec": plan.spec.model_dump(mode="json"),
        "identity": plan.identity,
        "tasks": tasks,
        "failed": failed,
        "missing_tokens": sum(plan.expected(shard) for shard in plan.shards if shard.name in failed),
        "versions": versions(),
        "commit": made["commit"],
        "sources": made["sources"],
    }
    write_digested(folder.summary, summary)
    if not failed:
        remove_folder(folder.parts)
    return summary


def _merge(plan: RunPlan, folder: RunFolder, store: Path, failed: dict[str, str]) -> dict[str, TaskSummary]:
    """Writes the store; returns what was read of each task."""
    tasks: dict[str, TaskSummary] = {}
    none: dict[str, str] = {}
    for task, groups in plan.groups.items():
        partials = chosen(folder, task)
        shards = {name: facts for partial in partials for name, facts in partial.shards.items()}
        total = _Total(
            texts=sum(s["texts"] for s in shards.values()),
            tokens=sum(s["tokens"] for s in shards.values()),
            documents=sum(s["documents"] for s in shards.values()),
            skipped=sum(s["skipped"] for s in shards.values()),
        )
        if not total["tokens"]:
            own = (shard.name for shard in plan.shards if shard.source == task)
            none[task] = next((failed[name] for name in own if name in failed), "no text")
            continue
        sites = sorted({site for partial in partials for site in partial.sites}, key=site_order)
        with ExitStack() as copies:
            here = [Partial(copies.enter_context(local_copy(partial.path))) for partial in partials]
            for site in sites:
                state = merged_site(here, site)
                write_site(store, task, site, state, groups, total["documents"], plan.identity)
        reasons = [reason for name in sorted(shards) for reason in shards[name]["reasons"]]
        lost = [reason for name in sorted(shards) for reason in shards[name].get("lost", [])]
        seconds = round(sum(facts.get("seconds", 0) for facts in shards.values()), 1)
        tasks[task] = {**total, "seconds": seconds, "sites": sites, "malformed": reasons[:10], "lost": lost}
    if tasks.keys().isdisjoint(plan.tasks):
        task = plan.tasks[-1]
        raise UserError(f"nothing of {task} could be read: {none[task]}; correct its data or leave it out")
    return tasks
