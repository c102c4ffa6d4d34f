"""How widely the radii of a sample spread under the Gaussian that the prior `fitted` would be."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.activations.findings.common import documents_of
from softprior.errors import UserError
from softprior.inputs.labels import by_number, counted
from softprior.results.numbers import Number, Numbers
from softprior.seeding import numpy_generator, torch_generator
from softprior.statistics.documents import LEAST, bootstrap
from softprior.statistics.gaussian import fit_gaussian
from softprior.statistics.moments import Moments
from softprior.statistics.store import SiteStatistics

PER_DIMENSION = 10
"""Tokens per dimension that a fit needs before radii of its own sample mean something."""


class RadiiSpread(Numbers):
    """Standard deviation of the sample's radii under a fit of all its class's tokens, over Gaussian data's.

    The fit is that of the prior `fitted`. Its shrinkage, and that the sample is part of what it is fitted on,
    make radii of Gaussian data spread less than chi. So they are measured too: as many tokens drawn from the
    Gaussian with the class's mean and covariance, fitted in the same way. Radii of a wrong shape spread more.

    Attributes:
        ratio: to the standard deviation of Gaussian data; 1 is "as a Gaussian".
        low: end of its 95% interval over documents (of Gaussian data over draws), the fits held
            (`documents.bootstrap`).
        high: the other end.
        note: why numbers are None; empty if none is.
    """

    ratio: Number = None
    low: Number = None
    high: Number = None
    note: str = ""


def radii_spread(found: SiteStatistics, seed: int) -> RadiiSpread:
    count, dimension = found.moments.count, len(found.moments.mean)
    if count < PER_DIMENSION * dimension:
        tokens = f"{counted(count, 'token')} {by_number(count, 'is', 'are')} fewer"
        return RadiiSpread(note=f"{tokens} than {PER_DIMENSION} for each of {dimension} dimensions")
    drawn, moments = _gaussian_data(found, torch_generator(seed, "radii"))
    try:
        radii = fit_gaussian(found.moments).gaussian.radius(found.sample)
        others = fit_gaussian(moments).gaussian.radius(drawn)
    except UserError as error:
        return RadiiSpread(note=str(error))
    documents = documents_of(found)
    if len(documents.unique()) < LEAST:
        return RadiiSpread(
            note=f"an interval needs {LEAST} documents, but there are {len(documents.unique())}"
        )
    own = _sums(radii, documents)
    sums = np.concatenate([own, _sums(others, torch.arange(len(drawn)))], axis=1)
    is_own = np.arange(sums.shape[1]) < own.shape[1]

    def ratio(weights: Float[np.ndarray, "G R"]) -> Float[np.ndarray, "R"]:
        own = _deviation(sums[:, is_own] @ weights[is_own])
        quotient: Float[np.ndarray, "R"] = own / _deviation(sums[:, ~is_own] @ weights[~is_own])
        return quotient

    low, high = bootstrap(ratio, is_own.astype(np.int64), numpy_generator(seed, "radii"))
    return RadiiSpread(ratio=float(ratio(np.ones((len(is_own), 1)))[0]), low=low, high=high)


def _gaussian_data(found: SiteStatistics, generator: torch.Generator) -> tuple[Float[Tensor, "N D"], Moments]:
    """A Gaussian with the class's mean and covariance: a sample as large, and moments of as many tokens.

    The sample is part of the tokens. The others are not drawn: their scatter follows a Wishart distribution,
    from which Bartlett's decomposition gives one draw.
    """
    dimension, size = len(found.moments.mean), len(found.sample)
    values, axes = torch.linalg.eigh(found.moments.covariance())
    root = axes * values.clamp(min=0).sqrt()

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    drawn = found.moments.mean + noise(size, dimension) @ root.T
    rest = found.moments.count - size
    if rest <= 2 * dimension:
        others = found.moments.mean + noise(rest, dimension) @ root.T
        return drawn, Moments.empty(dimension).update(torch.cat([drawn, others]))
    factor = noise(dimension, dimension).tril(-1)
    freedom = rest - 1 - torch.arange(dimension, dtype=torch.float64)
    # torch's gamma takes no generator. With this many degrees of freedom, chi differs from a normal variable
    # by far less than its spread.
    factor.diagonal().copy_(((freedom - 0.5).sqrt() + noise(dimension) / math.sqrt(2)).clamp(min=0))
    spread = root @ factor
    mean = found.moments.mean + root @ noise(dimension) / math.sqrt(rest)
    return drawn, Moments(rest, mean, spread @ spread.T).merge(Moments.empty(dimension).update(drawn))


def _sums(radii: Float[Tensor, "N"], documents: Int[Tensor, "N"]) -> Float[np.ndarray, "3 G"]:
    """Number, sum and sum of squares of each document's radii, less the mean of all."""
    centred = radii.numpy() - float(radii.mean())  # squares cancel less
    index = np.unique(documents.numpy(), return_inverse=True)[1]
    return np.stack([np.bincount(index, weights=centred**power) for power in range(3)])


def _deviation(sums: Float[np.ndarray, "3 R"]) -> Float[np.ndarray, "R"]:
    number, first, second = sums
    found: np.ndarray = np.sqrt(np.maximum(second / number - (first / number) ** 2, 0))
    return found
