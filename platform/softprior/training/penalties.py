"""Regularisers of a trial: their values and their gradient at the prompt's vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.inputs.entries import Entry
from softprior.inputs.labels import numbered
from softprior.prompt import Place
from softprior.regularisers import REGULARISERS, Setting, Term
from softprior.training.starts import Start


class Penalties:
    """The terms of a trial's regularisers, over all places."""

    def __init__(self, entries: Sequence[Entry], starts: Mapping[Place, Start], answers: int) -> None:
        """`answers` is the number of answer tokens in the training split."""
        self._sources = {place: start.source for place, start in starts.items()}
        self._terms: list[tuple[str, float, dict[Place, Term]]] = []
        for name, entry in zip(numbered([entry.name for entry in entries]), entries, strict=True):
            regulariser = REGULARISERS.component(entry)
            terms = {}
            for place, start in starts.items():
                assert start.distribution is not None
                setting = Setting(start.source, start.distribution, start.sample, answers)
                terms[place] = regulariser.term(setting)
            self._terms.append((name, regulariser.weight, terms))

    def values(
        self, vectors: Mapping[Place, Float[Tensor, "_ _"]]
    ) -> tuple[dict[str, float], dict[Place, Float[Tensor, "_ _"]]]:
        """Each regulariser's sum over places, times its weight, by name; and the gradient of all together.

        A second one of the same name is called, for example, `domain-2`.
        """
        values = {name: 0.0 for name, _, _ in self._terms}
        gradient: dict[Place, Tensor] = {}
        if not self._terms:
            return values, gradient
        for place, source in self._sources.items():
            at = source.unplaced(vectors[place]).detach().requires_grad_(True)
            with torch.enable_grad():
                total = torch.zeros((), dtype=torch.float64)
                for name, weight, terms in self._terms:
                    value = weight * terms[place](at)
                    values[name] += float(value.detach())
                    total = total + value
                (slope,) = torch.autograd.grad(total, at)
            # Turning keys keeps lengths, so gradients turn with them.
            gradient[place] = source.placed(slope)
        return values, gradient
