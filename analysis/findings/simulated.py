"""Studies with known truth: records and posteriors as trials leave them, with simulated numbers.

For the contract suite of claims and for the proof of their rules; nothing is trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float

from analysis.findings.study import Study, runs_of, weight_of
from softprior.inputs.entries import Entry
from softprior.inputs.specs import EvaluationSpec, Rate, TrainingSpec, TrialSpec
from softprior.prompt import Place
from softprior.results.posteriors import Posterior
from softprior.results.records import PlaceGeometry, Record, Score, StepPoint
from softprior.seeding import numpy_generator

NO_PROMPT = 4.0
"""Test loss without a prompt."""

TRAINED = 2.0
"""Mean test loss of the first prior."""

VECTORS, WIDTH, TOKENS = 8, 12, 300
"""Vectors of a prompt, dimensions, and number of tokens in the vocabulary."""

STEPS = 20
"""Optimizer steps of a trial."""

CURVE = 5
"""Points of a validation curve after the first."""

SOFT = Entry(name="soft", params={"tokens": VECTORS})
PREFIX = Entry(name="prefix", params={"tokens": VECTORS, "blocks": None})
CUT, KEEP = (
    Entry(name="deep", params={"tokens": VECTORS, "token_level": level}) for level in ("cut", "keep")
)

TASK = Entry(name="arithmetic", params={"modules": ["two_digit_addition"]})


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a study is made of, and what is true in it.

    Attributes:
        priors: by label; the first is the reference.
        rates, methods, weights, seeds: the other axes; weights are the regulariser's (`spread`), 0 is none.
        gap: how much higher each prior's test loss is than the one before it, in nats.
        method_gap: the same of methods.
        spread: standard deviation of a seed's loss, beside what all priors of the seed share.
        memory: how far posteriors keep the difference of their samples: 1 all, 0 nothing.
        inside: whether posteriors end among the tokens.
        later: how much longer each prior takes than the one before it, as a share of the training.
        slope: how distance moved grows with the logarithm of the rate.
        pull: how distance moved grows with a regulariser's weight.
        routing: logarithm of values' over keys' distance over reach.
        forgetting: how much more each prior forgets than the one before it, in nats.
        words: slope of the projection's divergence on the loss.
        near: how much less the nearest vectors are missed than the farthest, in nats.
        noise: relative noise of all numbers but losses.
    """

    priors: Sequence[Entry] = (Entry(name="isotropic", params={"scale": 0.02}), Entry(name="fitted"))
    rates: Sequence[float] = (0.01, 0.02, 0.04)
    methods: Sequence[Entry] = (SOFT,)
    weights: Sequence[float] = (0.0,)
    seeds: int = 9
    gap: float = 0.0
    method_gap: float = 0.0
    spread: float = 0.02
    memory: float = 1.0
    inside: bool = False
    later: float = 0.0
    slope: float = 0.0
    pull: float = 0.0
    routing: float = 0.0
    forgetting: float = 0.0
    words: float = 0.0
    near: float = 0.0
    noise: float = 0.1


def simulated(truth: Truth, seed: int = 0) -> Study:
    """A study of which every trial has finished."""
    generator = numpy_generator(seed, "simulated study")
    shared = generator.normal(0, 0.3, truth.seeds)
    vocabulary = generator.normal(size=(TOKENS, WIDTH))
    vocabulary[:, 1] += 6  # tokens lie in a cone, so that directions tell them from other vectors too
    records, posteriors = [_baseline()], {}
    numbers: dict[str, dict[str, float]] = {
        name: {} for name in ("forgetting", "projection", "without_near", "without_far", "without_random")
    }
    axes = (enumerate(truth.methods), enumerate(truth.priors), truth.weights, truth.rates)
    for (m, method), (i, prior), weight, rate in product(*axes):
        for s in range(truth.seeds):
            spec = _spec(method, prior, weight, rate, s)
            loss = (
                TRAINED + truth.gap * i + truth.method_gap * m + shared[s] + generator.normal(0, truth.spread)
            )
            record = _record(truth, spec, i, loss, generator)
            records.append(record)
            start = _start(s, i)
            end = _end(truth, s, start, vocabulary)
            places = _places(method)
            posteriors[record.id] = Posterior(
                {}, dict.fromkeys(places, start), dict.fromkeys(places, end), {}
            )
            jitter = generator.normal(0, truth.noise, 3)
            numbers["forgetting"][record.id] = 0.5 + truth.forgetting * i + jitter[0]
            numbers["projection"][record.id] = 1 + truth.words * (loss - shared[s]) + 0.01 * jitter[1]
            numbers["without_near"][record.id] = loss + 0.5
            numbers["without_far"][record.id] = loss + 0.5 + truth.near + jitter[2]
            numbers["without_random"][record.id] = loss + 0.5 + truth.near / 2 + jitter[2] / 2
    runs, baselines = runs_of(records)
    return Study(runs, baselines, posteriors, vocabulary, numbers)


def _places(method: Entry) -> list[Place]:
    if method.name == "prefix":
        return [Place(0, "key"), Place(0, "value")]
    return [Place(0, after="cut" if method == CUT else "keep")]


def _spec(method: Entry, prior: Entry | None, weight: float, rate: float, seed: int) -> TrialSpec:
    term = Entry(name="spread", params={"weight": weight})
    trained = prior is not None
    return TrialSpec(
        model="simulated",
        model_fingerprint="simulated",
        dtype="float32",
        method=method,
        prior=prior,
        regularisers=(term,) if trained and weight else (),
        task=TASK,
        data_fingerprint="simulated",
        rate=Rate(value=rate) if trained else None,
        seed=seed if trained else None,
        training=TrainingSpec(steps=STEPS, batch=4, curve=CURVE) if trained else None,
        evaluation=EvaluationSpec(examples=10),
    )


def _score(step: int, loss: float) -> Score:
    return Score(step=step, loss=loss, accuracy=None, examples=10, tokens=30)


def _baseline() -> Record:
    spec = _spec(Entry(name="none"), None, 0.0, 0.0, 0)
    score = _score(0, NO_PROMPT)
    return Record(id=spec.id, label="none", spec=spec, status="finished", validation=(score,), test=score)


def _record(truth: Truth, spec: TrialSpec, prior: int, loss: float, generator: np.random.Generator) -> Record:
    """The loss falls in a straight line and is flat after a third of the training, later for later priors."""
    fall = (1 + truth.later * 3 * prior) / 3 + generator.normal(0, 0.05 * truth.noise)
    losses = [NO_PROMPT - (NO_PROMPT - loss) * min(1.0, k / (STEPS * fall)) for k in range(STEPS + 1)]
    assert spec.rate is not None
    weight = sum(map(weight_of, spec.regularisers))
    moved = 3 + truth.slope * math.log(spec.rate.value) + truth.pull * weight
    moved *= 1 + generator.normal(0, truth.noise)
    log_ratio = truth.routing + generator.normal(0, truth.noise)
    geometry = {
        place.name: _geometry(moved * (math.exp(log_ratio) if place.kind == "value" else 1), prior)
        for place in _places(spec.method)
    }
    points = range(0, STEPS + 1, STEPS // CURVE)
    return Record(
        id=spec.id,
        label="simulated",
        spec=spec,
        status="finished",
        steps=tuple(
            StepPoint(step=k, loss=losses[k], labels=10, rate=spec.rate.value, gradient=1.0, moved=moved)
            for k in range(1, STEPS + 1)
        ),
        validation=tuple(_score(k, losses[k]) for k in points),
        test=_score(STEPS, loss),
        geometry=geometry,
    )


def _geometry(moved: float, prior: int) -> PlaceGeometry:
    return PlaceGeometry(
        moved=moved,
        reach=50.0,
        moved_over_reach=moved / 50,
        initial_norm=1.0,
        final_norm=1.0,
        cosine=0.0,
        participation=5.0,
        initial_radius=0.3 + 0.2 * prior,
        final_radius=0.5,
    )


def _start(seed: int, prior: int) -> torch.Tensor:
    """The same normal numbers for every prior, far from the tokens and from each other's."""
    drawn = numpy_generator(seed, "samples").normal(size=(VECTORS, WIDTH))
    drawn[:, 0] += 20 + 5 * prior
    return torch.tensor(drawn)


def _end(truth: Truth, seed: int, start: torch.Tensor, vocabulary: Float[np.ndarray, "N H"]) -> torch.Tensor:
    """A share of the way to where all priors would end: among the tokens, or far off."""
    goal = torch.tensor(vocabulary[seed * VECTORS : (seed + 1) * VECTORS])
    if not truth.inside:
        goal = goal + 15
    return truth.memory * start + (1 - truth.memory) * goal if not truth.inside else goal
