"""Where a prompt's vectors stand against the vocabulary, seen as the model sees them."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from softprior.models.protocol import FrozenLM
from softprior.prompt import Place
from softprior.training.source import PlaceSource


class SeenSource(PlaceSource):
    """The vocabulary as a place's vectors are seen: of cut prompts, after the block's norm."""

    def __init__(self, host: FrozenLM, tokenizer: Any, place: Place, tokens: int) -> None:
        super().__init__(host, tokenizer, place, tokens)
        self._normed = place.after == "cut"

    @property
    def fingerprint(self) -> str:
        return super().fingerprint + (f"-norm.{self.place.block}" if self._normed else "")

    def vocabulary(self) -> Float[Tensor, "V H"]:
        return self.seen(super().vocabulary())

    def seen(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
        """Vectors as priors see them, as the model sees them."""
        return self._host.normalise(self.place, vectors).cpu() if self._normed else vectors

    def quantile(self, vectors: Float[Tensor, "P H"]) -> float:
        """Mean over vectors of the share of the vocabulary that lies at most as far out."""
        return float(self.reference().quantiles(self.seen(vectors)).mean())
