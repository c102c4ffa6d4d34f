"""Hartigan's dip test for unimodality along given directions, corrected for how many are tested.

The test takes values as independent, and tokens of one text are not: p stands on one token a document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import diptest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.errors import UserError
from softprior.seeding import numpy_generator
from softprior.statistics.documents import one_of_each


@dataclass(frozen=True)
class Unimodality:
    """Tests of one sample along K directions, float64.

    Attributes:
        dips: largest distance of the empirical distribution from the nearest unimodal one, 0 to 0.25; of the
            whole sample, as the size of the effect.
        p: p-value of each on its own, of the dip of one token a document.
        vectors: in the sample.
        independent: one a document, on which p stands.
    """

    dips: Float[Tensor, "K"]
    p: Float[Tensor, "K"]
    vectors: int
    independent: int


def dip_test(values: Float[Tensor, "N"]) -> tuple[float, float]:
    """The dip and its p-value under unimodality (Hartigan and Hartigan 1985).

    The p-value is read off `diptest`'s table of critical values, linearly in sqrt(N) * dip, without
    bootstrap and so without randomness. The table is of uniform samples, the least favourable unimodal law:
    p-values of a Gaussian are near 1. Beyond its last row, N = 72,000, that row stands for all larger N,
    and the library warns; beyond its last dip p is 0.

    Raises:
        UserError: there are fewer than four values, or some are not finite.
    """
    exact = values.detach().to("cpu", torch.float64)
    if len(exact) < 4 or not bool(exact.isfinite().all()):
        raise UserError(
            f"a dip test takes at least 4 values, all finite, got {len(exact)} of which "
            f"{int(exact.isfinite().sum())} are finite; give it a larger sample of finite vectors"
        )
    dip, p = diptest.diptest(exact.numpy())
    return dip, p


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
        distinct: equal vectors count once. A dip test takes each heap of them for a mode.

    Raises:
        UserError: there are fewer than four vectors or documents.
    """
    own = sample[one_of_each(documents.numpy(), numpy_generator(seed, "dips"))]
    if distinct:
        sample, own = sample.unique(dim=0), own.unique(dim=0)
    all_scores, own_scores = (vectors.double() @ directions.double().T for vectors in (sample, own))
    return Unimodality(
        dips=torch.tensor([dip_test(score)[0] for score in all_scores.T], dtype=torch.float64),
        p=torch.tensor([dip_test(score)[1] for score in own_scores.T], dtype=torch.float64),
        vectors=len(sample),
        independent=len(own),
    )


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
