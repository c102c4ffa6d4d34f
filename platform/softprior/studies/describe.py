"""A plan in words: what will run, what it costs and what it can show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from softprior.assets.models import KnownModel
from softprior.inputs.entries import Entry
from softprior.inputs.entry_texts import names, short_names
from softprior.inputs.labels import (
    Axes,
    axes,
    by_number,
    common,
    common_in_words,
    counted,
    in_line,
    labels,
)
from softprior.inputs.specs import Pairing, PlacementSpec, ResourcesSpec, TrialSpec
from softprior.priors import PRIORS, Prior, assignment
from softprior.priors.mixture import Mixture
from softprior.results.records import Record
from softprior.studies.cluster import elsewhere
from softprior.studies.components import Components
from softprior.studies.estimate import (
    NOTHING,
    Cost,
    hours,
    other_cost,
    total_cost,
    trial_cost,
    trials_at_once,
    work_in_words,
)
from softprior.studies.fits import Fits, fits
from softprior.studies.memory import memory_lines
from softprior.studies.placement import (
    concurrent,
    has_shared_hosts,
    machine_cpus,
    room,
    trial_threads,
)
from softprior.studies.plan import Plan
from softprior.tasks import TASKS
from softprior.tasks import notes as told
from softprior.tasks.base import Look, Quarantined
from softprior.training.also import other_tasks
from softprior.training.extension import Extension, lacking
from softprior.training.loop import STILL
from softprior.training.threads import CORE_FLOPS

DRAWS: dict[Pairing, str] = {
    "noise": "pairing: noise: one seed gives all priors the same random numbers; compare them seed by seed",
    "none": "pairing: none: the draws of two priors are independent, even for one seed",
}


def describe(
    plan: Plan,
    trials: Sequence[TrialSpec],
    most: float | None = None,
    begun: Mapping[str, int] = NOTHING,
) -> list[str]:
    """Lines for the terminal.

    Args:
        trials: those that are to run, which may be a part of the study's.
        most: also lists the trials, one by one if there are no more than this.
        begun: steps that trials go on from, by trial id.
    """
    study, model, cost = plan.study, plan.model, total_cost(trials, plan.components, begun)
    resources, placement = study.resources, study.placement
    lines = [f"study {study.name}: {counted(len(trials), 'trial')} on {study.model.id}"]
    if most is not None:
        lines += [f"  {line}" for line in listed(trials, plan.components, most, begun)]
    lines += [f"  note: {note}" for note in plan.notes]
    lines += [f"  {line}" for line in (*_twins(trials), *_reordered(trials, plan.components))]
    memory = memory_lines(study, model, trials, plan.components)
    lines += [f"  {line}" for line in (*sizes(model), *memory)]
    lines.append(f"  {work_in_words(cost, trials, plan.components)}")
    lines += [f"  {line}; only the steps after it are counted" for line in going_on(trials, begun)]
    lines.append(f"  {running(cost, len(trials), model, resources, placement)}")
    made = fits(trials, plan.components, model.shape)
    lines += [f"  {line}" for line in fitting(made, trial_threads(resources, placement))]
    if len({trial.prior.canonical() for trial in plan.trials if trial.prior is not None}) > 1:
        lines.append(f"  {DRAWS[study.pairing]}")
    return [*lines, *(f"  {line}" for line in _same_starts(plan.trials))]


def _same_starts(trials: Sequence[TrialSpec]) -> list[str]:
    """Which priors, or components of priors, start all seeds from the same vectors."""
    if len({trial.seed for trial in trials if trial.seed is not None}) < 2:
        return []
    entries = {trial.prior.canonical(): trial.prior for trial in trials if trial.prior is not None}
    whole, lines = [], []
    for prior in map(PRIORS.component, entries.values()):
        name = f"`{PRIORS.name(prior)}`"
        fixed = dict.fromkeys(f"`{PRIORS.name(part)}`" for part in _components(prior) if part.fixed())
        if prior.fixed():
            whole.append(name)
        elif fixed:
            lines.append(f"what {name} takes from {' and '.join(fixed)} is the same for all seeds")
    if whole:
        of = " and ".join(dict.fromkeys(whole))
        networks = any(trial.method.params.get("reparameterisation") for trial in trials)
        what = "the data's order and the weights of networks" if networks else "the data's order alone"
        lines.append(
            f"trials of {of} start from the same vectors for all seeds, so that their seeds differ in {what}"
        )
    return list(dict.fromkeys(lines))


def _components(prior: Prior) -> list[Prior]:
    """The priors that a prior is made of, at all places."""
    at_places = assignment(prior).priors
    return [part for own in at_places for part in (own.priors if isinstance(own, Mixture) else (own,))]


def sizes(model: KnownModel) -> list[str]:
    """A line with a model's sizes, as far as they are known before it is fetched or converted."""
    found = [] if model.parameters is None else [f"{model.parameters:,} parameters"]
    if model.shape is not None:
        found.append(counted(model.shape.blocks, "block"))
        if model.shape.hidden is not None:
            found.append(counted(model.shape.hidden, "dimension"))
    return [f"the model: {', '.join(found)}"] if found else []


def listed(
    trials: Sequence[TrialSpec], components: Components, most: float, begun: Mapping[str, int] = NOTHING
) -> list[str]:
    """A line per trial, or per task and method if there are more than `most` trials."""
    return (_every if len(trials) <= most else _summary)(trials, components, begun)


def going_on(trials: Sequence[TrialSpec], begun: Mapping[str, int]) -> list[str]:
    """How many trials go on from which step of earlier ones."""
    steps = Counter(begun[trial.id] for trial in trials if begun and trial.id in begun)
    return [
        f"{counted(count, 'trial')} {by_number(count, 'goes', 'go')} on from step {step:,} of an earlier one"
        for step, count in sorted(steps.items())
    ]


def _twins(trials: Sequence[TrialSpec]) -> list[str]:
    """How many of the trials are twins, and what they are for."""
    twins = [trial for trial in trials if trial.twin is not None]
    if not twins:
        return []
    they = by_number(len(twins), "repeats a trial", "repeat trials")
    lines = [
        f"{counted(len(twins), 'twin')} among them {they} of the first seed from a start moved by "
        f"{twins[0].twin:g} of each vector's norm: what differs at the end is rounding, amplified by training"
    ]
    if twins[0].dtype != "float32":
        lines.append(f"note: in {twins[0].dtype} the model rounds far more than that: twins understate it")
    return lines


def _reordered(every: Sequence[TrialSpec], components: Components) -> list[str]:
    """How many of the trials have another order of the data, what they are for and what they cost."""
    trials = [trial for trial in every if trial.repeat == "reordered"]
    if not trials:
        return []
    they = by_number(len(trials), "repeats a trial", "repeat trials")
    seeds, cost = len({trial.seed for trial in trials}), total_cost(trials, components)
    of = by_number(seeds, "the first seed", f"the first {seeds} seeds")
    whole = len({trial.seed for trial in every if trial.seed is not None})
    few = "; one seed has no spread to tell apart" if whole == 1 else ""
    if not few and (seeds < 3 or whole < 4):
        few = "; no intervals below 3 pairs and 4 seeds"
    elif not few and seeds < 5:
        few = f"; {seeds} pairs of a prior hardly bound the part of the order, more bound it better"
    return [
        f"{len(trials):,} reordered among them {they} of {of} from the same start, on the training "
        "examples in another order: they tell the data's order from the prior's draw "
        f"({cost.trained:,} positions trained, {cost.evaluated:,} evaluated){few}"
    ]


def _every(trials: Sequence[TrialSpec], components: Components, begun: Mapping[str, int]) -> list[str]:
    """A line per trial, under what all of them have in common."""
    known = axes(trials)
    same = common(known.values())
    said = common_in_words(known.values(), Axes._fields)
    lines = [said] if said else []
    for trial in trials:
        step = begun.get(trial.id, 0)
        cost = trial_cost(trial, components, step)
        what = in_line(known[trial.id], without=same)
        on = f", on from step {step:,}" if step else ""
        lines.append(f"{trial.id}  {what}  {cost.trained + cost.evaluated:,} positions{on}")
    return lines


def _summary(trials: Sequence[TrialSpec], components: Components, begun: Mapping[str, int]) -> list[str]:
    """The number of trials of each task and method, and of the values on their other axes."""
    cells: dict[tuple[str, str], list[TrialSpec]] = {}
    tasks = names(trial.task for trial in trials)
    methods = names(trial.method for trial in trials)
    for trial in trials:
        cell = tasks[trial.task.canonical()], methods[trial.method.canonical()]
        cells.setdefault(cell, []).append(trial)
    lines = []
    for (task, method), alike in cells.items():
        axes: dict[str, set[object]] = {
            "prior": {trial.prior.canonical() for trial in alike if trial.prior is not None},
            "regulariser choice": {tuple(e.canonical() for e in trial.regularisers) for trial in alike},
            "rate": {trial.rate for trial in alike if trial.rate is not None},
            "seed": {trial.seed for trial in alike if trial.seed is not None},
        }
        several = [counted(len(values), axis) for axis, values in axes.items() if len(values) > 1]
        kinds = Counter(trial.repeat for trial in alike)
        several += [counted(kinds["twin"], "twin")] if kinds["twin"] else []
        several += [f"{kinds['reordered']:,} reordered"] if kinds["reordered"] else []
        of = f" ({', '.join(several)})"
        cost = total_cost(alike, components, begun)
        what = f"{counted(len(alike), 'trial')}{of if several else ''}"
        lines.append(f"{task} · {method}: {what}, {cost.trained + cost.evaluated:,} positions")
    return [*lines, "--all lists every trial"]


def running(
    cost: Cost, count: int, model: KnownModel, resources: ResourcesSpec, placement: PlacementSpec
) -> str:
    """The resources of a trial, how many run at a time, and how long all of them take.

    Args:
        cost: of all trials.
        count: number of trials.
    """
    if has_shared_hosts(placement):
        return _sharing(cost, count, model, resources, placement)
    each = f"each trial takes {counted(resources.cpus, 'CPU')}"
    each += f" and {counted(resources.gpus, 'GPU')}" if resources.gpus else ""
    alone = hours(cost, model, resources.cpus, resources.gpus)
    if elsewhere():
        most = "" if resources.concurrent is None else f", at most {resources.concurrent}"
        return f"{each}; the cluster decides how many run at a time{most}: {_guess(alone)} one after another"
    most_here = trials_at_once(resources)
    if most_here == 0:
        there = f"{counted(machine_cpus(), 'CPU')} and {counted(torch.cuda.device_count(), 'GPU')}"
        return (
            f"{each}, but this machine has {there}, so a run here is refused; lower resources.cpus or "
            f"resources.gpus, or run it on a cluster ({_guess(alone)} one after another)"
        )
    together = max(1, min(most_here, count))
    often = "they run one at a time here" if together == 1 else f"up to {together} run at a time here"
    guess = _guess(None if alone is None else alone / together)
    return f"{each}, so {often}: {guess}; starting up is not counted"


def at_hand(nodes: list[dict[str, float]], resources: ResourcesSpec, placement: PlacementSpec) -> str:
    """What an existing cluster has room for."""
    cpus, gpus = (counted(sum(node.get(name, 0) for node in nodes), name) for name in ("CPU", "GPU"))
    what = "copies of the model" if has_shared_hosts(placement) else "trials at a time"
    number = room(nodes, resources, placement)
    return f"the cluster has {counted(len(nodes), 'node')} with {cpus} and {gpus}: room for {number:,} {what}"


def _sharing(
    cost: Cost, count: int, model: KnownModel, resources: ResourcesSpec, placement: PlacementSpec
) -> str:
    """The same where replicas hold the model."""
    copies, what = placement.replicas, counted(placement.cpus, "CPU")
    what += f" and {counted(placement.gpus, 'GPU')}" if placement.gpus else ""
    most = concurrent(resources, placement) or 1
    together = max(1, min(most, count))
    what += f" in {placement.ranks} ranks" if placement.ranks > 1 else ""
    who = f"one copy of the model on {what} serves"
    if copies > 1:
        who = f"{copies} copies of the model, each on {what}, serve"
    passes = ""
    if placement.tokens is not None:
        passes = f", at most {counted(placement.tokens, 'position')} in a pass"
    line = f"{who} up to {counted(together, 'trial')} at a time{passes}"
    alone = hours(cost, model, placement.cpus, placement.gpus)
    guess = _guess(None if alone is None else alone / min(copies, together))
    if not elsewhere():
        here = room([{"CPU": machine_cpus(), "GPU": torch.cuda.device_count()}], resources, placement)
        if here < copies:
            refused = f"but this machine has room for {here}, so a run here is refused"
            return f"{line}, {refused}; lower placement.replicas, cpus or gpus"
    return f"{line}: {guess}; starting up is not counted"


def fitting(made: Fits, threads: int) -> list[str]:
    """The fits that are not in the estimate; nothing where no trial has a prior.

    Args:
        threads: of the process that makes them.
    """
    if not made.number:
        return []
    what = ", ".join(("radii", *made.priors))
    tokens = "" if made.tokens is None else f" to vectors of {counted(made.tokens, 'token')}"
    tokens += " and of statistics" if tokens and made.stores else ""
    time = None if made.flops is None else made.flops / threads / CORE_FLOPS / 3600
    count = counted(made.number, "fit")
    return [f"not counted: {count}{tokens} ({what}), made once for all trials, then cached: {_guess(time)}"]


def extending(extensions: Iterable[Extension], components: Components) -> str:
    """A line about finished trials that are measured further now, on what they have not been measured on."""
    found = list(extensions)
    trials = [extension.due for extension in found]
    # Named apart from all others of the study, as in its other lines.
    entries = names(entry for extension in found for entry in extension.record.spec.evaluation.also)
    tasks = dict.fromkeys(entries[task.canonical()] for trial in trials for task in trial.evaluation.also)
    wanted = dict.fromkeys(probe for trial in trials for probe in trial.evaluation.probes)
    ways = [f"measured on {', '.join(tasks)} too"] if tasks else []
    ways += [f"probed ({', '.join(wanted)})"] if wanted else []
    cost = other_cost(trials, components)
    return (
        f"{counted(len(trials), 'finished trial')} {' and '.join(ways)}, "
        f"from the saved posteriors: at most {cost.evaluated:,} positions"
    )


def closing_notes(records: Iterable[Record], limits: bool = True) -> list[str]:
    """What users should know about finished trials besides their numbers.

    Args:
        records: with the specs that the study has now.
        limits: whether it says which splits have fewer examples than a default allows.
    """
    known = list(records)
    named = labels([record.spec for record in known])
    return [*data_notes(known, limits), *_few(known), *_still(known, named), *_unmeasured(known, named)]


def _few(records: Sequence[Record]) -> list[str]:
    """Which tasks were tested on so few examples that results say little."""
    found = {
        measured.task.canonical(): (measured.task, record.spec.evaluation, measured.data)
        for record in records
        for measured in record.also
        if measured.score is not None
    }
    found |= {
        record.spec.task.canonical(): (record.spec.task, record.spec.evaluation, record.data)
        for record in records
        if record.test is not None
    }
    named = short_names(entry for entry, _, _ in found.values())
    return [
        note
        for text, (entry, evaluation, data) in found.items()
        for note in told.few_notes(named[text], TASKS.component(entry), evaluation, data)
    ]


def _unmeasured(records: Iterable[Record], named: Mapping[str, str]) -> list[str]:
    """Which trials lack another task or a probe, one sentence for each of these, and the first reason.

    Args:
        named: labels of the study's trials, by id.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    entries = short_names(entry for record in records for entry in record.spec.evaluation.also)
    for record in records:
        for wanted, reason in lacking(record):
            if isinstance(wanted, Entry):
                what = f"measured on {entries[wanted.canonical()]}"
            else:
                what = f"probed ({wanted})"
            found.setdefault(what, []).append((named[record.spec.id], reason))
    return [
        f"{counted(len(lost), 'trial')} not {what}, the first {label}: {reason}"
        for what, lost in found.items()
        for label, reason in lost[:1]
    ]


def _still(records: Iterable[Record], named: Mapping[str, str]) -> list[str]:
    """Which trials had a gradient of exactly zero at the first step.

    Args:
        named: labels of the study's trials, by id.
    """
    found = [named[record.spec.id] for record in records if record.steps and record.steps[0].gradient == 0]
    if not found:
        return []
    others = f" and {counted(len(found) - 1, 'other trial')}" if len(found) > 1 else ""
    return [f"{found[0]}{others}: {STILL}"]


def data_notes(records: Iterable[Record], limits: bool = True) -> list[str]:
    """What trials found of their tasks' data: malformed rows, and fewer examples than asked for or batched.

    Their tasks include the other ones that final prompts are measured on, if the study still names them.
    """
    known = list(records)
    found: dict[str, tuple[Entry, dict[str, Any]]] = {
        record.spec.task.canonical(): (record.spec.task, record.data) for record in known if record.data
    }
    own = set(found)
    for record in known:
        wanted = {entry.canonical(): entry for entry in other_tasks(record.spec)}
        for other in record.also:
            text = other.task.canonical()
            if other.data and text in wanted:
                found.setdefault(text, (wanted[text], other.data))
    named = short_names(entry for entry, _ in found.values())
    specs = [record.spec for record in known]
    batches = {spec.task.canonical(): spec.training.batch for spec in specs if spec.training is not None}
    notes = []
    for text, (entry, data) in found.items():
        task = TASKS.component(entry)
        quarantine = tuple(Quarantined(**row) for row in data.get("quarantine", ()))
        look = Look(
            data.get("quarantined", 0), quarantine, data, data.get("dropped", 0), data.get("firsts", {})
        )
        notes += told.data_notes(named[text], task, look, tested=text not in own, limits=limits)
        notes += told.batch_notes(named[text], task, data, batches.get(text, 0))
    return notes


def _guess(time: float | None) -> str:
    return "time unknown, as the model's size is" if time is None else _duration(time)


def _duration(time: float) -> str:
    if time >= 1:
        return f"about {time:.1f} hours"
    minutes = round(time * 60)
    return f"about {counted(minutes, 'minute')}" if minutes else "less than a minute"
