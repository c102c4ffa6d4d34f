"""How far the vectors of a place have moved, and what the set of them looks like afterwards."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from softprior.results.posteriors import Vectors
from softprior.results.records import PlaceGeometry
from softprior.statistics import geometry
from softprior.training.optimizer import PromptOptimizer, schedule_sum
from softprior.training.setup import Setup
from softprior.training.source import SeenSource


def geometry_of(
    setup: Setup, initial: Vectors, final: Vectors, optimizer: PromptOptimizer
) -> dict[str, PlaceGeometry]:
    """The numbers of every place of a trained prompt, by its name."""
    training = optimizer.training
    factors = schedule_sum(training.steps, training)
    direct = setup.method.network() is None
    result = {}
    for place, start in initial.items():
        end = final[place]
        reach = geometry.reach(optimizer.rates[place], factors, end.shape[1]) if direct else None
        source = SeenSource(setup.host, setup.tokenizer, place, len(end))
        result[place.name] = place_geometry(source, start, end, reach)
    return result


def place_geometry(
    source: SeenSource, start: Float[Tensor, "P H"], end: Float[Tensor, "P H"], reach: float | None
) -> PlaceGeometry:
    """The numbers of one place.

    Args:
        source: the model, seen from the place.
        start, end: as the prompt has them, keys turned to their positions.
        reach: see `geometry.reach`; None for reparameterised prompts.
    """
    moved = float(geometry.distance_moved(start, end).mean())
    start, end = source.unplaced(start), source.unplaced(end)
    seen = source.seen(end)
    return PlaceGeometry(
        moved=moved,
        reach=reach,
        moved_over_reach=None if reach is None else moved / reach,
        initial_norm=float(start.double().norm(dim=1).mean()),
        final_norm=float(end.double().norm(dim=1).mean()),
        cosine=_or_none(geometry.mean_pairwise_cosine(seen)),
        participation=_or_none(geometry.participation_ratio(seen)),
        initial_radius=float(source.quantiles(start).mean()) if source.known else None,
        final_radius=float(source.quantiles(end).mean()) if source.known else None,
    )


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
