"""A study's samples and posteriors over activations, at every place that an activation run has read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from analysis.figures.posterior_maps import Embedding, draw_posterior_map, posterior_map_of
from analysis.figures.prior_samples import draw_samples, samples_of
from analysis.figures.settings import looks_of
from analysis.figures.style import spread_over
from analysis.findings.posteriors import posterior_of
from analysis.findings.reading import Reading
from softprior.activations.findings.common import ALL
from softprior.errors import UserError
from softprior.priors.domain import site_of
from softprior.prompt import Place
from softprior.statistics.store import load_statistics, stored
from softprior.statistics.units import VOCABULARY

TOKENS = 600
"""Most sampled tokens of a task: more hide one another."""

PLACES = 4
"""Most places of a cell, from the first to the last."""


def behind_of(store: Path, place: Place, model: str, tasks: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Sampled tokens of tasks at a place's site; sinks and massive tokens are left out.

    Args:
        store: of an activation run.
        model: fingerprint of the study's model.
        tasks: of the store; by default all but the vocabulary, which has every token once.

    Raises:
        UserError: the store lacks a task, or is of another model.
    """
    known, site = stored(store), site_of(place)
    missing = [task for task in tasks if task not in known]
    if missing:
        raise UserError(f"{store} has no task {missing[0]}; it has {', '.join(known)}")
    wanted = tasks or [task for task in known if task != VOCABULARY]
    found: dict[str, Float[np.ndarray, "N H"]] = {}
    for task in wanted:
        if site in known[task]:
            found[task] = load_statistics(store, task, site, ALL, model).sample[:TOKENS].numpy()
    return found


def activation_maps(
    reading: Reading, store: Path, tasks: Sequence[str] = (), embedding: Embedding = "pca"
) -> Iterator[tuple[str, Figure]]:
    """Maps and samples of the study's first cell, by the names of their files, place after place.

    Raises:
        UserError: no place of the prompts has a site in the store.
    """
    cells, looks, study = reading.study.cells("prior"), looks_of(reading), reading.study
    model = str(reading.header.get("model_fingerprint"))
    several = len(cells) > 1
    drawn = False
    for i, cell in enumerate(cells, start=1):
        first = next(iter(next(iter(cell.sides.values())).runs.values()))
        places = [place for place in sorted(posterior_of(study, first).initial) if place.kind != "key"]
        by_name = {place.name: place for place in places}
        for name in spread_over(list(by_name), PLACES):
            place = by_name[name]
            behind = behind_of(store, place, model, tasks)
            if not behind:
                continue
            file = f"{site_of(place)}-{i}" if several else site_of(place)
            known = posterior_map_of(study, cell, place=place, behind=behind, embedding=embedding)
            if known is not None:
                drawn = True
                yield f"posteriors-{file}", draw_posterior_map(known, looks=looks)
            samples = samples_of(study, cell, place=place, behind=behind)
            if samples is not None:
                yield f"samples-{file}", draw_samples(samples, looks=looks)
    if not drawn:
        raise UserError(
            f"{store} has no site at which prompts of {reading.name} stand; run the activation job with the "
            "sites resid.L of the blocks L where they do"
        )
