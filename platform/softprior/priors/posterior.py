"""An earlier study's tuned prompts as the start of the next: exact copies, or a Gaussian around them."""

from __future__ import annotations

import math
from contextlib import suppress
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
        file: `results/STUDY/posteriors/TRIAL.safetensors`; or `results/STUDY`, whose one posterior with
            vectors for this trial's places is taken.
        spread: standard deviation of the noise on every coordinate, as a multiple of the vectors' root
            mean square; 0 copies them exactly.
    """

    file: Path
    spread: Annotated[float, Field(ge=0)] = 0.0

    def files(self) -> tuple[Path, ...]:
        found = self._candidates()
        for path in found:
            load_posterior(path)  # says what is wrong with it before anything runs
        return found

    def smooth(self) -> bool:
        return self.spread > 0

    def fit(self, source: PriorSource) -> Distribution:
        candidates = self._candidates()
        only = len(candidates) == 1
        vectors = _vectors(candidates[0], source) if only else self._only(candidates, source)
        vectors = source.unplaced(vectors)
        if self.spread == 0:
            return _Copies(vectors)
        if not bool(vectors.any()):
            raise UserError(
                f"the vectors of {self.file} at {source.place.name} are all zero, and spread = "
                f"{self.spread:g} times their size is nothing; set spread to 0"
            )
        return _Around(vectors, self.spread)

    def _candidates(self) -> tuple[Path, ...]:
        if not self.file.is_dir():
            return (self.file,)
        found = tuple(sorted((self.file / "posteriors").glob("*.safetensors")))
        if not found:
            raise UserError(f"the study in {self.file} has no posteriors; run it first, or give a file")
        return found

    def _only(self, candidates: tuple[Path, ...], source: PriorSource) -> Float[Tensor, "P H"]:
        fitting = {}
        for path in candidates:
            with suppress(UserError):
                fitting[path] = _vectors(path, source)
        if len(fitting) == 1:
            return next(iter(fitting.values()))
        raise UserError(
            f"{len(fitting)} of the {len(candidates)} posteriors of {self.file} have {source.tokens} vectors "
            f"of this model at {source.place.name}, and exactly one is needed; give the file of one trial"
        )


def _vectors(path: Path, source: PriorSource) -> Float[Tensor, "P H"]:
    """The final vectors of a posterior file at a place, if they are of this model and size."""
    posterior = load_posterior(path)
    fingerprint = posterior.header.get("model", {}).get("fingerprint")
    if fingerprint != source.model:
        raise UserError(
            f"{path} was trained on another model ({str(fingerprint)[:12]} instead of {source.model[:12]}); "
            "its vectors mean nothing in this one"
        )
    if source.place not in posterior.final:
        places = ", ".join(place.name for place in sorted(posterior.final))
        raise UserError(
            f"{path} has no vectors at {source.place.name}; it has {places}, so use the same method"
        )
    vectors = posterior.final[source.place]
    if vectors.shape != (source.tokens, source.hidden):
        raise UserError(
            f"{path} holds {len(vectors)} vectors of {vectors.shape[1]} dimensions at {source.place.name} "
            f"and this trial has {source.tokens} of {source.hidden}; use as many tokens"
        )
    return vectors


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
