"""Where vectors stand against the vocabulary: Mahalanobis radii as quantiles of the tokens' own."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.geometry import quantile_among
from softprior.models.protocol import FrozenLM
from softprior.prompt import Place
from softprior.statistics.gaussian import Gaussian, fit_gaussian
from softprior.statistics.moments import Moments


class VocabularyRadius:
    """The vocabulary at the model's input, as a Gaussian and the radii of its own tokens.

    For cut places everything is taken after the block's norm, the only way such a prompt is seen.
    """

    def __init__(self, host: FrozenLM, place: Place, tokens: int) -> None:
        self._host = host
        self._place = place
        vocabulary = self._seen(host.embed(torch.arange(min(tokens, host.info().vocabulary))))
        self._gaussian: Gaussian = fit_gaussian(
            Moments.empty(vocabulary.shape[1]).update(vocabulary)
        ).gaussian
        self._reference = self._gaussian.radius(vocabulary)

    def _seen(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
        cut = self._place.after == "cut"
        return (self._host.normalise(self._place, vectors) if cut else vectors).cpu()

    def quantile(self, vectors: Float[Tensor, "P H"]) -> float:
        """Mean over vectors of the share of tokens that lie at most as far out."""
        return float(quantile_among(self._gaussian.radius(self._seen(vectors)), self._reference).mean())


def vocabulary_radius(host: FrozenLM, place: Place, tokens: int) -> VocabularyRadius:
    """The same for the same host and place, fitted once a process; `tokens` are the tokenizer's."""
    known = _fitted.setdefault(host, {})
    if place not in known:
        known[place] = VocabularyRadius(host, place, tokens)
    return known[place]


_fitted: WeakKeyDictionary[FrozenLM, dict[Place, VocabularyRadius]] = WeakKeyDictionary()
