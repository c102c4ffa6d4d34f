"""Hartigan's dip test for unimodality along given directions, corrected for how many are tested.

The test assumes independent values, but tokens of one text are not independent. So dips are taken of one
token per document, over many draws of that token, and their p-values are combined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import diptest
import numpy as np
import torch
from diptest.consts import Consts
from jaxtyping import Float, Int
from torch import Tensor

from softprior.errors import UserError
from softprior.seeding import numpy_generator
from softprior.statistics.documents import one_of_each

DRAWS = 50
"""Number of draws of one token per document."""

CERTAIN = 0.99
"""A draw's p-value counts as this at most: one near 1 would outweigh all others."""

FINEST = 1e-6
"""The least p-value of a dip: `diptest`'s table is made of 1,000,001 simulated samples of each size."""


@dataclass(frozen=True)
class Unimodality:
    """Tests of one sample along K directions, float64.

    Attributes:
        dips: largest distance of the empirical distribution from the nearest unimodal one, 0 to 0.25; of the
            whole sample, as the size of the effect.
        p: p-value of each on its own, of `DRAWS` draws of one token per document (`cauchy`).
        p_low: the lowest p of a single draw.
        p_high: the highest.
        vectors: in the sample.
        independent: one per document, on which p is based; with `distinct` the fewest of a draw.
    """

    dips: Float[Tensor, "K"]
    p: Float[Tensor, "K"]
    p_low: Float[Tensor, "K"]
    p_high: Float[Tensor, "K"]
    vectors: int
    independent: int


def dip_test(values: Float[Tensor, "N"]) -> tuple[float, float]:
    """The dip and its p-value under unimodality (Hartigan and Hartigan 1985).

    Raises:
        UserError: there are fewer than four values, or some are not finite.
    """
    exact = values.detach().to("cpu", torch.float64)
    if len(exact) < 4 or not bool(exact.isfinite().all()):
        raise UserError(
            f"a dip test needs at least 4 values, all finite, but got {len(exact)} of which "
            f"{int(exact.isfinite().sum())} are finite; give it a larger sample of finite vectors"
        )
    dip = float(diptest.dipstat(exact.numpy()))
    return dip, dip_p(dip, len(exact))


def dip_p(dip: float, count: int) -> float:
    """The p-value of a dip, given the number of values.

    It is interpolated in `diptest`'s table of critical values, linearly in sqrt(N) * dip, without bootstrap
    and so without randomness. The table is for uniform samples, the least favourable unimodal distribution:
    p-values of a Gaussian are near 1. Its last row, N = 72,000, stands for all larger N, with a warning of
    the library; p is never below `FINEST`.
    """
    return max(FINEST, float(Consts.compute_pval_interpolation(count, dip)))


def unimodality(
    sample: Float[Tensor, "N D"],
    directions: Float[Tensor, "K D"],
    documents: Int[Tensor, "N"],
    seed: int,
    distinct: bool = False,
) -> Unimodality:
    """Dip tests of a sample along directions, such as its principal components.

    Args:
        documents: the document of each vector, any integers.
        distinct: equal vectors count once. A dip test would take each group of them for a mode.

    Raises:
        UserError: there are fewer than four vectors or documents.
    """
    exact, axes = sample.double(), directions.double().T
    scores = exact @ axes
    keys = documents.numpy()
    generator = numpy_generator(seed, "dips")
    # Another draw of the same tokens says nothing new.
    draws = DRAWS if len(np.unique(keys)) < len(keys) else 1
    dips, counts = np.empty((draws, len(directions))), []
    for own in dips:
        chosen = torch.from_numpy(one_of_each(keys, generator))
        values = exact[chosen].unique(dim=0) @ axes if distinct else scores[chosen]
        counts.append(len(values))
        own[:] = [dip_test(score)[0] for score in values.T]
    count = min(counts)
    single = np.array([[dip_p(dip, n) for dip in own] for own, n in zip(dips, counts, strict=True)])
    whole = exact.unique(dim=0) @ axes if distinct else scores
    return Unimodality(
        dips=torch.tensor([dip_test(score)[0] for score in whole.T], dtype=torch.float64),
        p=torch.tensor([cauchy(own) for own in single.T], dtype=torch.float64),
        p_low=torch.from_numpy(single.min(0)),
        p_high=torch.from_numpy(single.max(0)),
        vectors=len(whole),
        independent=count,
    )


def cauchy(p: Float[np.ndarray, "R"]) -> float:
    """One p-value of many tests of one hypothesis that depend on each other in any way (Liu and Xie 2020).

    Each becomes a Cauchy value, whose mean is nearly Cauchy in its tail however they depend on each other.
    A mean of p-values has no level, and twice their median finds less than one of them.
    """
    if len(p) == 1:
        return float(p[0])
    mean = np.tan((0.5 - np.clip(p, 1e-15, CERTAIN)) * np.pi).mean()
    return float(0.5 - np.arctan(mean) / np.pi)


def holm(p: Float[Tensor, "K"]) -> Float[Tensor, "K"]:
    """Holm's adjusted p-values (1979): at most `alpha` where the family-wise error is held at `alpha`."""
    order = p.argsort()
    left = torch.arange(len(p), 0, -1)
    adjusted = (p[order] * left).cummax(0).values.clamp(max=1)
    return torch.empty_like(p).index_copy_(0, order, adjusted)


def over_sites(p: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Holm's p-values over all tests of all sites together."""
    adjusted = holm(torch.tensor([value for own in p.values() for value in own], dtype=torch.float64))
    parts = adjusted.split([len(own) for own in p.values()])
    return {site: part.tolist() for site, part in zip(p, parts, strict=True)} if p else {}
