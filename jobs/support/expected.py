"""What a plan's trials will leave, with invented numbers, so that claims can say what they will test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from analysis.findings.probed import probed
from analysis.findings.rows import forgetting
from analysis.findings.study import Study, runs_of
from softprior.inputs.specs import Probe, TrialSpec
from softprior.methods import Method
from softprior.priors import Assignment
from softprior.priors.domain import Domain
from softprior.prompt import Place, Shape
from softprior.results.posteriors import Posterior
from softprior.results.probed import (
    PROBE_NUMBERS,
    Attended,
    Found,
    NearestTokens,
    Probed,
    Projection,
    Removal,
)
from softprior.results.records import PlaceGeometry, Record, Score, StepPoint, TaskScore
from softprior.seeding import numpy_generator
from softprior.studies.components import Components
from softprior.training.also import other_tasks
from softprior.training.probes import probes_of, why_skipped

WIDTH = 4
"""Coordinates of invented vectors."""

TOKENS = 40
"""Number of tokens in the invented sample of the vocabulary."""

POINTS = 4
"""Most points of an invented validation curve after its first: claims ask for no more."""

UNTRAINED, TRAINED = 4.0, 2.0
"""Losses around which numbers are invented."""

FARTHER = 0.02
"""By which the radius quantiles of one prior's samples are larger than those of the prior before it."""


def expected(trials: Sequence[TrialSpec], components: Components, shape: Shape | None) -> Study:
    """A study in which every trial has finished, and prompts are better than none."""
    generator = numpy_generator(0, "expected study")
    texts = dict.fromkeys(t.prior.canonical() for t in trials if t.prior is not None)
    priors = {text: at for at, text in enumerate(texts)}
    records, posteriors = [], {}
    for trial in trials:
        at = 0 if trial.prior is None else priors[trial.prior.canonical()]
        method = components.method(trial)
        places = [] if trial.prior is None else _places(method, shape)
        direct, count = method.network() is None, method.count()
        radii = [place for place in places if _has_radius(place, components.prior(trial))]
        record = _record(trial, at, places, radii, direct, generator)
        records.append(record.model_copy(update={"probes": _probes(trial, places, count, generator)}))
        first, last = (
            {place: torch.tensor(generator.normal(at, 1, (count, WIDTH))) for place in places}
            for _ in range(2)
        )
        posteriors[trial.id] = Posterior({}, first, last, {})
    runs, baselines = runs_of(records)
    vocabulary = generator.normal(size=(TOKENS, WIDTH))
    numbers = forgetting(runs, baselines) | probed(runs)
    return Study(runs, baselines, posteriors, vocabulary, numbers)


def _places(method: Method, shape: Shape | None) -> list[Place]:
    """One place of each kind, as claims average over them: the first, where tokens' vectors may be."""
    if shape is None:
        return [Place(0, kind) for kind in sorted(method.kinds)]
    kinds: dict[tuple[str, str], Place] = {}
    for place in method.places(shape.blocks, shape.stack):
        kinds.setdefault((place.kind, place.after), place)
    return list(kinds.values())


def _has_radius(place: Place, priors: Assignment | None) -> bool:
    """Whether there are real vectors of a place's kind: the vocabulary's, or those of the prior's fit."""
    if place.block == 0 or place.kind != "residual":
        return True
    return priors is not None and isinstance(priors.at(place), Domain)


def _record(
    trial: TrialSpec,
    prior: int,
    places: Sequence[Place],
    radii: Sequence[Place],
    direct: bool,
    generator: np.random.Generator,
) -> Record:
    last = UNTRAINED if trial.training is None else TRAINED + generator.uniform()
    points = 0 if trial.training is None else min(trial.training.curve, POINTS)
    losses = np.linspace(UNTRAINED, last, points + 1) if points else [UNTRAINED]
    return Record(
        id=trial.id,
        label="expected",
        spec=trial,
        status="finished",
        steps=tuple(
            StepPoint(step=k, loss=loss, labels=1, rate=1.0, gradient=1.0, moved=1.0)
            for k, loss in enumerate(losses[1:], start=1)
        ),
        validation=tuple(_score(k, loss) for k, loss in enumerate(losses)),
        test=_score(points, last),
        also=tuple(
            TaskScore(task=task, fingerprint="", score=_score(points, generator.uniform()), sources="")
            for task in other_tasks(trial)
        ),
        geometry={
            place.name: _geometry(prior if place in radii else None, direct, generator) for place in places
        },
    )


def _probes(
    trial: TrialSpec, places: Sequence[Place], count: int, generator: np.random.Generator
) -> tuple[Probed, ...]:
    """The probes that the prompt can have."""
    wanted = [probe for probe in probes_of(trial) if why_skipped(probe, places, count) is None]
    if not wanted:
        return ()
    found: dict[Probe, Found] = {
        "removal": Removal(removed=1, random_draws=(), **_invented("removal", generator)),
        "projection": Projection(tokens=(), **_invented("projection", generator)),
        "nearest": NearestTokens(
            tokens_l2=(), tokens_cosine=(), tokens_dot=(), **_invented("nearest", generator)
        ),
        "attention": Attended(blocks=(), untrained_blocks=(), **_invented("attention", generator)),
    }
    return tuple(Probed(probe=probe, found=found[probe], sources="") for probe in wanted)


def _invented(probe: Probe, generator: np.random.Generator) -> dict[str, float]:
    return {name: generator.uniform() for name in PROBE_NUMBERS[probe]}


def _score(step: int, loss: float) -> Score:
    return Score(step=step, loss=loss, accuracy=None, examples=1, tokens=1)


def _geometry(prior: int | None, direct: bool, generator: np.random.Generator) -> PlaceGeometry:
    moved = 1 + generator.uniform()
    return PlaceGeometry(
        moved=moved,
        reach=100.0 if direct else None,
        moved_over_reach=moved / 100 if direct else None,
        initial_norm=1.0,
        final_norm=1.0,
        cosine=0.0,
        participation=1.0,
        initial_radius=None if prior is None else FARTHER * prior,
        final_radius=None if prior is None else 0.5,
    )
