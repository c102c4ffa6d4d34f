"""An earlier study's tuned prompts as the start of the next: exact copies, or a Gaussian around them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from softprior.errors import UserError
from softprior.posteriors import load_posterior
from softprior.priors.base import Distribution, Prior, PriorSource, Support


class PosteriorPrior(Prior):
    """The final vectors of a posterior file at the same place, in their order.

    Copies are exact, but for keys, whose positions are taken off and put on again: equal to 1e-6.

    Attributes:
        file: `results/STUDY/posteriors/TRIAL.safetensors`.
        spread: standard deviation of the noise on every coordinate, as a multiple of the vectors' root
            mean square; 0 copies them exactly.
    """

    file: Path
    spread: Annotated[float, Field(ge=0)] = 0.0

    def files(self) -> tuple[Path, ...]:
        load_posterior(self.file)  # says what is wrong with it before anything runs
        return (self.file,)

    def smooth(self) -> bool:
        return self.spread > 0

    def fit(self, source: PriorSource) -> Distribution:
        posterior = load_posterior(self.file)
        fingerprint = posterior.header.get("model", {}).get("fingerprint")
        if fingerprint != source.model:
            raise UserError(
                f"{self.file} was trained on another model ({str(fingerprint)[:12]} instead of "
                f"{source.model[:12]}); its vectors mean nothing in this one"
            )
        if source.place not in posterior.final:
            places = ", ".join(place.name for place in sorted(posterior.final))
            raise UserError(
                f"{self.file} has no vectors at {source.place.name}; it has {places}, so use the same method"
            )
        vectors = posterior.final[source.place]
        if vectors.shape != (source.tokens, source.hidden):
            raise UserError(
                f"{self.file} holds {len(vectors)} vectors of {vectors.shape[1]} dimensions at "
                f"{source.place.name} and this trial has {source.tokens} of {source.hidden}; use as many "
                "tokens"
            )
        vectors = source.unplaced(vectors)
        return _Copies(vectors) if self.spread == 0 else _Around(vectors, self.spread)


class _Copies(Distribution):
    support: Support = "points"
    has_density = False

    def __init__(self, vectors: Float[Tensor, "P H"]) -> None:
        self.vectors = vectors

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:  # noqa: ARG002
        return self.vectors[torch.arange(count) % len(self.vectors)].clone()


class _Around(_Copies):
    """Each vector has its own centre; `log_prob` is that of a vector whose centre is not known."""

    support = "everywhere"
    has_density = True

    def __init__(self, vectors: Float[Tensor, "P H"], spread: float) -> None:
        super().__init__(vectors)
        self.scale = spread * float(vectors.double().square().mean().sqrt())

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        noise = torch.randn(count, self.vectors.shape[1], generator=generator)
        return super().sample(generator, count) + self.scale * noise

    def log_prob(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N"]:
        centred = vectors.double()[:, None] - self.vectors.double()[None]
        squares = (centred / self.scale).square().sum(2)
        count, dimension = self.vectors.shape
        constant = dimension * math.log(self.scale * math.sqrt(2 * math.pi)) + math.log(count)
        return torch.logsumexp(-squares / 2, 1) - constant

    def record(self) -> dict[str, Any]:
        return {"scale": self.scale}
