"""What a prior is: parameters that a study file gives, and the distribution they make at a place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.specs import Spec


@runtime_checkable
class PriorSource(Protocol):
    """What a prior may be fitted on: the embedding layer of the frozen model.

    Attributes:
        hidden: H, the dimension of the vectors to sample.
        tokens: P, how many vectors the prompt has at the place (xavier's bound depends on it).
    """

    @property
    def hidden(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    def vocabulary(self) -> Float[Tensor, "V H"]:
        """What the embedding layer returns for every token of the vocabulary."""

    def encode(self, text: str) -> Int[Tensor, "T"]:
        """Token ids of a text, without special tokens."""


class Distribution(ABC):
    """A prior at a place, ready to sample.

    Attributes:
        has_density: whether `log_prob` exists; sampling from a finite set of vectors has none.
    """

    has_density: bool = True

    @abstractmethod
    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        """Draws `count` float32 vectors; the generator is the only source of randomness."""

    def log_prob(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N"]:  # noqa: ARG002
        """Log-density of each vector in nats, float64; -inf outside of the support.

        Raises:
            ValueError: when `has_density` is False.
        """
        raise ValueError(f"{type(self).__name__} samples from finitely many vectors and has no density")

    def record(self) -> dict[str, Any]:
        """Facts about the fit that stand with every result (JSON values)."""
        return {}


class Prior(Spec, ABC):
    """Parameters of a prior. `fit` makes the distribution; a prior itself holds no data.

    In this version a prior is fitted on the embedding layer (`resid.0`) and the same law is used at
    every place of the prompt, with independent draws.
    """

    @abstractmethod
    def fit(self, source: PriorSource) -> Distribution:
        """The distribution for one place of the prompt.

        Raises:
            UserError: the source cannot carry this prior with these parameters.
        """
