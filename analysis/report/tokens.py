"""The tokens that posteriors are nearest to, where the study's model is on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.report.maps import is_embedded
from softprior.assets.examination import quiet
from softprior.assets.models import is_here, known_model
from softprior.assets.tokens import vocabulary_ids
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.inputs.validation import validate
from softprior.results.posteriors import Posterior, Vectors
from softprior.statistics.geometry import nearest
from softprior.training.source import vocabulary

if TYPE_CHECKING:
    from softprior.library.model import Model

NEAREST = 3
"""Tokens that are shown for each vector of a posterior; of its sample there is one."""

LARGEST = 1_000_000_000
"""Weights above which a model is not loaded for a report."""

WORK = 5e11
"""Products of distances that one report computes; then it has the nearest tokens of the best trials only."""

CHUNK = 256
"""Vectors at a time: their distances to the part of the vocabulary that is taken at once take up to 70 MB."""


class Words(NamedTuple):
    """The study's model for looking up tokens, or why there is none."""

    model: Model | None
    reason: str = ""


def open_model(spec: object, fingerprint: object) -> Words:
    """The model of study.json, if it is on this machine and small enough. Nothing is fetched.

    Args:
        spec: the value of `model` in the study's spec.
        fingerprint: that the study ran on.
    """
    try:
        model = validate(ModelSpec, spec, "study.json").model_copy(update={"device": "cpu"})
        if not is_here(model):
            return Words(None, f"the model {model.id} is not on this machine")
        known = known_model(model)
        if known.fingerprint != fingerprint:
            return Words(None, f"the model {model.id} on this machine is not the one that the study ran on")
        if known.parameters is None or known.parameters > LARGEST:
            return Words(
                None, f"the model {model.id} has over {LARGEST:,} weights, which a report does not load"
            )
        from softprior.library.model import load_model  # 100 MB of transformers

        with quiet():
            return Words(load_model(model))
    except UserError as error:
        return Words(None, str(error))


def embedded(posterior: Posterior) -> tuple[Vectors, Vectors]:
    """First and last vectors at the places where they stand beside embeddings of tokens."""
    first, last = (
        {place: vectors for place, vectors in moment.items() if is_embedded(place)}
        for moment in (posterior.initial, posterior.final)
    )
    return first, last


def neighbours(
    model: Model, trials: Mapping[str, tuple[Vectors, Vectors]]
) -> dict[str, list[dict[str, Any]]]:
    """By trial and place: for each vector, the token nearest to its sample and those nearest to its end.

    Args:
        trials: `embedded` vectors by trial id, the best first: `WORK` may not suffice for all.
    """
    table = vocabulary(model.host, model.tokenizer)
    ids = vocabulary_ids(model.tokenizer, model.info.vocabulary)
    rows = int(WORK / (2 * table.numel()))
    parts: list[tuple[str, str, int]] = []
    stacked: list[Tensor] = []
    for trial, (initial, final) in trials.items():
        for place in sorted(final):
            if sum(map(len, stacked)) + 2 * len(final[place]) <= rows:
                parts.append((trial, place.name, len(final[place])))
                stacked += [initial[place], final[place]]
    if not stacked:
        return {}
    distances, indices = _nearest(torch.cat(stacked), table)
    texts = {i: model.tokenizer.decode([ids[i]]) for i in set(indices.flatten().tolist())}

    def told(row: int, count: int) -> list[list[object]]:
        found = zip(indices[row].tolist(), distances[row].tolist(), strict=True)
        return [[texts[i], float(f"{distance:.4g}")] for i, distance in found][:count]

    found: dict[str, list[dict[str, Any]]] = {}
    at = 0
    for trial, name, count in parts:
        pairs = [{"start": told(at + i, 1), "end": told(at + count + i, NEAREST)} for i in range(count)]
        found.setdefault(trial, []).append({"name": name, "vectors": pairs})
        at += 2 * count
    return found


def _nearest(vectors: Float[Tensor, "N H"], table: Float[Tensor, "V H"]) -> Sequence[Tensor]:
    chunks = [nearest(chunk, table, NEAREST) for chunk in vectors.split(CHUNK)]
    return [torch.cat(part) for part in zip(*chunks, strict=True)]
