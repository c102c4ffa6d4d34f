"""What trials fit before they train, once for all of them, and what that takes."""

from __future__ import annotations

from typing import NamedTuple

from softprior.assets.models import Shape, model_shape
from softprior.methods import METHODS
from softprior.priors import PRIORS, Prior
from softprior.priors.domain import SAMPLE, Domain, site_of, vectors_at
from softprior.priors.interpolation import Interpolation
from softprior.priors.vae import BATCH, VAE
from softprior.prompt import Place
from softprior.studies.plan import Plan

VAE_STEP = 8
"""Operations a vector and weight: with `CORE_FLOPS` the 25 s measured for 3,000 steps at H = 576."""


class Fits(NamedTuple):
    """The fits of a plan, whether or not the cache has them already.

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


def fits(plan: Plan) -> Fits:
    """The fits that the plan's trials need: their priors', and the Gaussians that radii are measured in."""
    shape = model_shape(plan.study.model)
    known = shape or Shape(1)  # of an unknown model a place that all have
    names: dict[str, None] = {}
    work: dict[tuple[str, str], float | None] = {}
    stores = False
    pairs = {
        (trial.prior.canonical(), trial.method.canonical()): (trial.prior, trial.method)
        for trial in plan.trials
        if trial.prior is not None
    }
    for entry, used in pairs.values():
        prior = PRIORS[entry.name].model_validate(entry.params)
        method = METHODS[used.name].model_validate(used.params)
        for place in method.places(known.blocks, known.stack) if shape else (Place(0),):
            if place.block == 0 or place.kind != "residual":
                work["gaussian", _vectors(Domain(), place)] = _gaussian(Domain(), place, known)
            for part in prior.at(place).components():
                stores |= any(domain.statistics is not None for domain in _domains(part))
                found = _work(part, place, known)
                work |= found
                if found:
                    names[next(name for name, kind in PRIORS.items() if kind is type(part))] = None
    costs = [flops for flops in work.values() if flops is not None]
    whole = sum(costs) if len(costs) == len(work) else None
    return Fits(tuple(names), len(work), known.vocabulary, whole, stores)


def _work(part: Prior, place: Place, shape: Shape) -> dict[tuple[str, str], float | None]:
    """Operations of a simple prior's fits at a place, by kind of fit and what it is fitted to."""
    if isinstance(part, VAE):
        return {(part.canonical(), _vectors(part, place)): _vae(part, place, shape)}
    return {
        ("gaussian", _vectors(domain, place)): _gaussian(domain, place, shape) for domain in _domains(part)
    }


def _domains(part: Prior) -> list[Domain]:
    """What a simple prior is fitted to."""
    parts = (part.first, part.second) if isinstance(part, Interpolation) else (part,)
    return [domain for domain in parts if isinstance(domain, Domain)]


def _vectors(domain: Domain, place: Place) -> str:
    """Names what a domain has at a place; equal where the vectors are."""
    if domain.statistics is not None:
        return f"{domain.statistics} {domain.task} {domain.tokens} {domain.site or site_of(place)}"
    return f"{domain.part} {'embeddings' if place.kind == 'residual' else place.name}"


def _gaussian(domain: Domain, place: Place, shape: Shape) -> float | None:
    """Moments of all vectors and radii of a sample, in float64, which takes twice as long."""
    width, tokens = shape.width(place), shape.vocabulary
    if width is None or tokens is None:
        return None
    share = domain.part[1] - domain.part[0] if domain.statistics is None else 0.0  # a store has moments
    rows = share * vectors_at(place, tokens)
    return 2.0 * width**2 * (2 * rows + min(rows, SAMPLE))


def _vae(vae: VAE, place: Place, shape: Shape) -> float | None:
    """Steps on batches through two layers down and two up."""
    width = shape.width(place)
    weights = None if width is None else vae.width * (2 * width + 3 * vae.latent)
    return None if weights is None else float(VAE_STEP * BATCH * vae.steps * weights)
