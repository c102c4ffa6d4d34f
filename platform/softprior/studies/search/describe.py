"""A search in words: what is searched, what a proposal costs, and what all of them cost at most."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle, islice

from softprior.inputs.labels import counted
from softprior.inputs.specs import TrialSpec
from softprior.studies.describe import fitting, going_on, running, sizes
from softprior.studies.estimate import NOTHING, total_cost, work_in_words
from softprior.studies.fits import fits
from softprior.studies.memory import memory_lines
from softprior.studies.placement import trial_threads
from softprior.studies.search.plan import SearchPlan
from softprior.studies.search.space import in_words


def describe(plan: SearchPlan, begun: Mapping[str, int] = NOTHING) -> list[str]:
    """Lines for the terminal. The cost is that of trials taken in turn from the ends of the ranges.

    Args:
        begun: steps that known trials go on from, by trial id.
    """
    search, study = plan.search, plan.study
    count = search.trials * plan.members
    objective = " and ".join(o.label for o in search.objective)
    each = "" if plan.members == 1 else f", {plan.members} trials each (tasks and seeds)"
    proposals = f"{counted(search.trials, 'proposal')} by {search.sampler}{each}"
    lines = [f"search {study.name}: {proposals} on {study.model.id}"]
    lines.append(f"  for the lowest {objective} on the validation split, {search.concurrent} at a time")
    for name, distribution, condition in plan.space.shown_parameters():
        where = "" if condition is None else f", where {condition[0]} is {condition[1]}"
        lines.append(f"  {name}: {in_words(distribution)}{where}")
    lines += [f"  note: {note}" for note in plan.notes]
    taken = tuple(islice(cycle(_spread(plan)), count))
    trials = (*plan.baselines, *taken)
    cost = total_cost(trials, plan.components)
    said = memory_lines(study, plan.model, trials, plan.components)
    lines += [f"  {line}" for line in (*sizes(plan.model), *said)]
    stopped = "" if search.early_stopping is None else ", fewer with early stopping"
    lines.append(f"  {work_in_words(cost, trials, plan.components)}{stopped}")
    lines += [f"  {line}" for line in going_on(plan.trials, begun)]
    limits = [n for n in (search.concurrent * plan.members, study.resources.concurrent) if n is not None]
    resources = study.resources.model_copy(update={"concurrent": min(limits)})
    lines.append(f"  {running(cost, len(trials), plan.model, resources, study.placement)}")
    made = fits((*plan.baselines, *plan.ends), plan.components, plan.model.shape)
    lines += [f"  {line}" for line in fitting(made, trial_threads(study.resources, study.placement))]
    return lines


def _spread(plan: SearchPlan) -> list[TrialSpec]:
    """Trials at the ends, ordered so that the first few cover all kinds."""
    ends = list(plan.ends)
    step = next(s for s in (7, 5, 3, 2, 1) if len(ends) % s or s == 1)
    return [ends[i * step % len(ends)] for i in range(len(ends))]
