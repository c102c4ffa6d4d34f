"""The grid of a study as trial specs, with every name resolved and every default written out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import NamedTuple

from softprior.assets.models import KnownModel, known_model, tokenizer_here
from softprior.errors import UserError
from softprior.inputs.specs import StudySpec, TrialSpec
from softprior.priors import assignment
from softprior.studies.cells import Cell, Start
from softprior.studies.components import Components
from softprior.studies.pairing import can_carry, can_start
from softprior.studies.parts import Parts, check, located, repeated, resolve
from softprior.studies.plan_notes import (
    axis_notes,
    frozen_notes,
    kernel_notes,
    looks_at,
    prior_notes,
    samples,
    task_notes,
    training_notes,
)
from softprior.studies.probing import probe_notes
from softprior.studies.table import columns
from softprior.training.corrections import model_facts
from softprior.training.identity import files_fingerprint
from softprior.training.opening import check_opening
from softprior.training.reordered import reordered_of
from softprior.training.twins import twins_of


class Plan(NamedTuple):
    """What a study will run.

    Attributes:
        study: the file, as read.
        trials: baselines first, repeated trials last; no two have one id.
        notes: settings that have no effect and unrequested additions, one sentence each.
        parts: what the file names.
        components: what its trials name.
        model: what is known of the model.
    """

    study: StudySpec
    trials: tuple[TrialSpec, ...]
    notes: tuple[str, ...]
    parts: Parts
    components: Components
    model: KnownModel

    @property
    def spec(self) -> dict[str, object]:
        """The file, every default written out."""
        return self.study.model_dump(mode="json")


def plan_study(study: StudySpec, where: str = "study") -> Plan:
    """Resolves priors, methods and tasks, and lays out the grid.

    The no-prompt baseline of every task is always there. Methods without a trained prompt collapse
    the axes of priors, regularisers, rates and seeds.

    Args:
        where: the file, for error messages.

    Raises:
        UserError: a name is unknown, a parameter is wrong, or a setting refers to nothing.
    """
    parts = resolve(study, where)
    located(f"{where}: tasks", partial(columns, parts.tasks, parts.also))
    notes = axis_notes(parts) + repeated(parts, study.evaluation.probes, study.rates, study.seeds)
    model = located(f"{where}: model", partial(known_model, study.model))
    facts = located(f"{where}: model", partial(model_facts, study.model, model.fingerprint))
    check(parts, model.shape, model.fingerprint, where)
    here = cache(partial(tokenizer_here, study.model))
    own, also = [("tasks", "methods", task) for task in parts.tasks], "evaluation.also"
    for axis, against, task in (*own, *((also, also, task) for task in parts.also)):
        located(f"{where}: {axis}", partial(task.check_tokenizer, here))
        if model.shape is not None:
            for method in parts.methods:
                asked = partial(check_opening, method, model.shape, task, study.model.id, here)
                located(f"{where}: {against}", asked)
    looks = looks_at(parts, model.fingerprint)
    notes += [*training_notes(study.training, parts), *model.notes]
    notes += task_notes(study.training, study.evaluation, parts, looks)
    starts = [
        Start(prior, several, located(f"{where}: priors[{i}]", partial(files_fingerprint, prior, several)))
        for i, prior in enumerate(parts.priors)
        for several in parts.regularisers
    ]
    notes += prior_notes(parts, model, where)
    stack = None if model.shape is None else model.shape.stack
    asked_kernels = partial(kernel_notes, study.model, study.placement, study.resources, stack)
    notes += located(f"{where}: model", asked_kernels)
    notes += frozen_notes(parts, study.model, study.placement, model.shape)
    notes += probe_notes(study.evaluation.probes, parts.methods, model.shape, where)
    trials: dict[str, TrialSpec] = {}
    known = {text: found.notes for text, found in looks.items()}
    lengths = {text: found.lengths for text, found in looks.items()}
    components = Components({}, {}, {}, known, lengths, samples(parts, looks, here))
    for named in sorted(parts.methods, key=lambda m: m.trained):
        for task in parts.tasks:
            method = named.of_task(task.instruction)
            able = [
                start
                for start in starts
                if can_start(assignment(start.prior), method, model.shape)
                and can_carry(assignment(start.prior), method, start.regularisers, model.shape)
            ]
            cell = Cell(method, named, task, able, facts.corrections(method, task))
            components |= cell.components(parts.also)
            for trial in cell.trials(study, parts, model.fingerprint):
                trials.setdefault(trial.id, trial)
    planned = list(trials.values())
    repeats = twins_of(planned, study.seeds[0]) if study.evaluation.twin else []
    repeats += reordered_of(planned, reordered_seeds(study.evaluation.reordered, study.seeds, where))
    planned += repeats
    return Plan(study, tuple(planned), tuple(notes), parts, components, model)


def reordered_seeds(count: int, every: Sequence[int], where: str) -> tuple[int, ...]:
    """The seeds that are trained once more with another order of the data.

    Raises:
        UserError: the study has fewer.
    """
    seeds = tuple(dict.fromkeys(every))
    if count > len(seeds):
        raise UserError(
            f"{where}: evaluation.reordered = {count} asks for the first {count} seeds, but the study has "
            f"{len(seeds)}; lower it to {len(seeds)}, or add seeds"
        )
    return seeds[:count]
