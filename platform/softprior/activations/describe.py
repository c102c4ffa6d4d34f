"""A run in words: what will be read, what it costs, how far it is, and what it left out."""

from __future__ import annotations

import math

from softprior.activations.folder import RunFolder
from softprior.activations.merging import TaskSummary, saved_shards
from softprior.activations.plan import RunPlan
from softprior.inputs.labels import by_number, counted
from softprior.training.threads import CORE_FLOPS

OVERHEAD = 1.2
"""Time of a pass with all statistics over that of the pass alone; see docs/log.md."""

FINDING = 360 / (32 * (3 + 3))
"""Seconds of findings and figures for a task or a pair of tasks at a site: those of three tasks at 32 sites
of SmolLM2 took six minutes on two busy cores (docs/activations.md)."""

CLASSES = 6
"""Token classes at a site: three parts, last tokens, means and sinks."""


def describe(plan: RunPlan, with_findings: bool) -> list[str]:
    """Lines for the terminal."""
    spec = plan.spec
    lines = [f"activations {spec.name}: {spec.model.id}, {_sites(plan)}"]
    for task in plan.groups:
        shards = [shard for shard in plan.shards if shard.source == task]
        tokens = sum(map(plan.expected, shards))
        if tokens:
            about = "" if shards[0].file == "" else "about "
            lines.append(f"  {task}: {about}{counted(tokens, 'token')} in {counted(len(shards), 'shard')}")
    if spec.prompts:
        names = ", ".join(prompt.name for prompt in spec.prompts)
        lines.append(f"  the states at the positions of {counted(len(spec.prompts), 'prompt')}: {names}")
    if plan.shuffled_tokens:
        lines.append(f"  and about {counted(plan.shuffled_tokens, 'token')} again with their words shuffled")
    lines += [f"  note: {note}" for note in plan.model.notes]
    parameters, shape = plan.model.parameters, plan.model.shape
    speed = spec.resources.cpus * CORE_FLOPS * spec.workers
    workers = counted(spec.workers, "worker")
    if parameters is not None and not spec.resources.gpus:
        seconds = OVERHEAD * 2.0 * parameters * (plan.tokens + plan.shuffled_tokens) / speed
        lines.append(f"  about {_duration(seconds)} with {workers}, starting up not counted")
    if shape is not None and shape.hidden is not None:
        found = FINDING * _findings(plan, shape.blocks)
        if found and with_findings:
            lines.append(
                f"  about {_duration(found)} more for findings and figures, if each takes as long as "
                "with SmolLM2 (none with --no-findings)"
            )
        size = _bytes(plan, shape.blocks, shape.hidden)
        sums = size * spec.workers  # every worker keeps sums of its own until the end
        lines.append(
            f"  at most {size / 1e9:.2g} GB on disk, and {sums / 1e9:.2g} GB more until it has finished"
        )
    return lines


def kept(plan: RunPlan, folder: RunFolder) -> list[str]:
    """A line about what an earlier run has left on disk, if anything."""
    if folder.summary.exists() and not folder.parts.exists():
        return [f"  the store {folder.store} is complete: nothing is read again"]
    done, whole = len(saved_shards(plan, folder)), counted(len(plan.shards), "shard")
    return [f"  an earlier run has left {done:,} of {whole} on disk"] if done else []


def how_far(plan: RunPlan, folder: RunFolder) -> str:
    """What is on disk after it was stopped."""
    if folder.summary.exists() and not folder.parts.exists():
        return (
            f"stopped; the store {folder.store} is complete; run the same command again for what follows it"
        )
    done = saved_shards(plan, folder)
    tokens = sum(done.get(shard.name, 0) for shard in plan.shards if shard.source in plan.tasks)
    return (
        f"stopped with {len(done)} of {counted(len(plan.shards), 'shard')} on disk ({tokens:,} of about "
        f"{counted(plan.tokens, 'token')}); run the same command again to continue"
    )


def left_out(tasks: dict[str, TaskSummary]) -> list[str]:
    """Which rows of files were malformed, and which files are damaged, by what the summary says of each."""
    notes = []
    for name, read in tasks.items():
        if read["skipped"]:
            rows = counted(read["documents"] + read["skipped"], "row")
            were = by_number(read["skipped"], "was", "were")
            left = f"{read['skipped']:,} of {rows} that are not empty {were} left out"
            notes.append(f"{name}: {left}, the first {read['malformed'][0]}")
        notes += [f"{name}: {lost}; mend it or fetch it again" for lost in read.get("lost", ())]
    return notes


def _sites(plan: RunPlan) -> str:
    sites = plan.spec.sites
    if isinstance(sites, str):
        return "all sites, keys and values included" if sites == "all" else "all residual sites"
    return counted(len(sites), "site")


def _findings(plan: RunPlan, blocks: int) -> int:
    """Tasks and pairs of tasks over all sites but keys and values, which have no findings."""
    sites, tasks = plan.spec.sites, len(plan.tasks)
    own = sites if not isinstance(sites, str) else ()
    count = sum(not site.startswith(("key.", "value.")) for site in own) if own else blocks + 2
    return count * (tasks + math.comb(tasks, 2))


def _bytes(plan: RunPlan, blocks: int, hidden: int) -> float:
    """Size of the store, every token class full: half a scatter matrix and a sample each."""
    sites = plan.spec.sites
    count = len(sites) if not isinstance(sites, str) else blocks + 2 + 2 * blocks * (sites == "all")
    each = 4 * hidden**2 + 4 * hidden * plan.spec.sample
    prompts = count * 4 * hidden**2 if plan.spec.prompts else 0  # one class, of few vectors
    return float(len(plan.tasks) * count * CLASSES * each + prompts)


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{seconds / 3600:.1f} hours" if minutes >= 90 else counted(minutes, "minute")
