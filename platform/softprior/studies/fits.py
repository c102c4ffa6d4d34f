"""What trials fit before they train, once for all of them, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from softprior.inputs.specs import TrialSpec
from softprior.priors import PRIORS, FitKey
from softprior.priors.domain import Domain
from softprior.prompt import Place, Shape
from softprior.studies.components import Components


class Fits(NamedTuple):
    """The fits of trials, whether or not the cache has them already.

    Attributes:
        priors: names of the priors that are fitted, in order.
        number: different fits: one for all embeddings, one for the keys or values of each place.
        tokens: whose vectors the vocabulary's are; None while the model's sizes are not known here.
        flops: operations on CPUs; None as well.
        stores: whether some are fitted to statistics instead.
    """

    priors: tuple[str, ...]
    number: int
    tokens: int | None
    flops: float | None
    stores: bool


def fits(trials: Iterable[TrialSpec], components: Components, shape: Shape | None) -> Fits:
    """The fits that trials need: their priors', and the Gaussians that radii are measured in."""
    known = shape or Shape(1)  # of an unknown model a place that all have
    names: dict[str, None] = {}
    work: dict[FitKey, float | None] = {}
    started = {
        (trial.prior.canonical(), trial.method.canonical()): trial
        for trial in trials
        if trial.prior is not None
    }
    for trial in started.values():
        prior, method = components.prior(trial), components.method(trial)
        assert prior is not None
        for place in method.places(known.blocks, known.stack) if shape else (Place(0),):
            if place.block == 0 or place.kind != "residual":
                work |= Domain().work(place, known)
            found = prior.at(place).work(place, known)
            work |= found
            if found:
                names[PRIORS.name(prior.at(place))] = None
    costs = [flops for flops in work.values() if flops is not None]
    whole = sum(costs) if len(costs) == len(work) else None
    return Fits(tuple(names), len(work), known.vocabulary, whole, any(key.store for key in work))
