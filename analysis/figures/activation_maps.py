"""A study's samples and posteriors over activations, at every place that an activation run has read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from analysis.figures.left_out import FILES, PRIORS, Undrawn, left_out
from analysis.figures.palette import Looks
from analysis.figures.posterior_maps import Embedding, draw_posterior_map, posterior_map_of
from analysis.figures.prior_samples import draw_samples, samples_of
from analysis.figures.settings import looks_of
from analysis.figures.style import spread_over
from analysis.findings.reading import Reading
from analysis.findings.study import Cell, Study
from softprior.activations.findings.common import ALL
from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.priors.domain import site_of
from softprior.prompt import Place
from softprior.statistics.store import load_statistics, stored
from softprior.statistics.units import VOCABULARY

TOKENS = 600
"""Most sampled tokens of a task: more hide one another."""

PLACES = 4
"""Most places of a cell, from the first to the last that the store has."""

Behind = Mapping[str, Float[np.ndarray, "N H"]]


def behind_of(store: Path, place: Place, model: str, tasks: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Sampled tokens of tasks at a place's site; sinks and massive tokens are left out.

    Args:
        store: of an activation run.
        model: fingerprint of the study's model.
        tasks: of the store; by default all but the vocabulary, which has every token once.

    Raises:
        UserError: the store lacks a task, or is of another model.
    """
    site = site_of(place)
    found: dict[str, Float[np.ndarray, "N H"]] = {}
    for task, sites in _wanted(store, tasks).items():
        if site in sites:
            found[task] = load_statistics(store, task, site, ALL, model).sample[:TOKENS].numpy()
    return found


def _wanted(store: Path, tasks: Sequence[str]) -> dict[str, Collection[str]]:
    """The sites of each task."""
    known = stored(store)
    missing = [task for task in tasks if task not in known]
    if missing:
        raise UserError(f"{store} has no task {missing[0]}; it has {', '.join(known)}")
    return {task: known[task] for task in tasks or [task for task in known if task != VOCABULARY]}


def activation_maps(
    reading: Reading, store: Path, tasks: Sequence[str] = (), embedding: Embedding = "pca"
) -> Iterator[tuple[str, Figure]]:
    """Maps and samples by the names of their files: of the first `FILES` cells, each at `PLACES` places.

    What is left out is said in a `LeftOutWarning`: cells, places, and figures whose files are missing or
    damaged.

    Raises:
        UserError: no place of the prompts has a site in the store, the store lacks a task, or is of another
            model.
    """
    study, looks = reading.study, looks_of(reading)
    model = str(reading.header.get("model_fingerprint"))
    every = study.cells("prior")
    cells = [cell for cell in every if len(cell.sides) <= PRIORS][:FILES]
    if len(cells) < len(every):
        left_out(
            f"maps show {len(cells)} of {counted(len(every), 'combination')} of task, method and "
            f"regularisers (the first {FILES} with at most {PRIORS} priors)"
        )
    sites = {site for own in _wanted(store, tasks).values() for site in own}
    undrawn = Undrawn()
    found = False
    for i, cell in enumerate(cells, start=1):
        places = [place for place in _places(study, cell) if site_of(place) in sites]
        shown = spread_over(places, PLACES)
        if len(shown) < len(places):
            what = f"{len(shown)} of {counted(len(places), 'place')} that the store has"
            left_out(f"maps of {cell.where} show {what}")
        for place in shown:
            try:
                behind = behind_of(store, place, model, tasks)
            except UserError as error:
                if not found:  # the store is another model's, or damaged from the start
                    raise
                left_out(f"maps at {place.name} are left out: {error}")
                continue
            found = True
            file = f"{site_of(place)}-{i}" if len(every) > 1 else site_of(place)
            suffix = "" if embedding == "pca" else f"-{embedding.lower()}"
            draws: dict[str, Callable[[], Figure | None]] = {
                f"posteriors-{file}{suffix}": partial(_map, study, cell, place, behind, embedding, looks),
                f"samples-{file}": partial(_samples, study, cell, place, behind, looks),
            }
            for name, draw in draws.items():
                try:
                    figure = draw()
                except UserError as error:
                    undrawn.add(name, error)
                    continue
                if figure is not None:
                    yield name, figure
    undrawn.warn()
    if cells and not found:
        raise UserError(
            f"{store} has no site at which prompts of {reading.name} stand; add resid.L for each of their "
            "blocks L to sites, and run the activation job again"
        )


def _places(study: Study, cell: Cell) -> list[Place]:
    """The places of a cell's prompts but keys, which are stored as they are attended.

    All prompts of a cell have the same, so that any posterior that is there tells.
    """
    for run in (run for side in cell.sides.values() for run in side.runs.values()):
        posterior = study.posteriors.get(run.id)
        if posterior is not None:
            return [place for place in sorted(posterior.initial) if place.kind != "key"]
    left_out(f"maps of {cell.where} are left out: no posterior of its trials can be read")
    return []


def _map(
    study: Study, cell: Cell, place: Place, behind: Behind, embedding: Embedding, looks: Looks
) -> Figure | None:
    known = posterior_map_of(study, cell, place=place, behind=behind, embedding=embedding)
    return None if known is None else draw_posterior_map(known, looks=looks)


def _samples(study: Study, cell: Cell, place: Place, behind: Behind, looks: Looks) -> Figure | None:
    known = samples_of(study, cell, place=place, behind=behind)
    return None if known is None else draw_samples(known, looks=looks)
