"""Hartigan's dip test for unimodality along given directions, corrected for how many are tested.

The test takes values as independent. Tokens of one text are not, which makes p too small: give a sample
of few tokens a text (a uniform one of a large corpus is), and read a rejection next to its dip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import diptest
import torch
from jaxtyping import Float
from torch import Tensor

from softprior.errors import UserError


@dataclass(frozen=True)
class Unimodality:
    """Tests of one sample along K directions, float64.

    Attributes:
        dips: largest distance of the empirical distribution from the nearest unimodal one, 0 to 0.25.
        p: p-value of each on its own.
        adjusted: Holm's p-values over the K directions.
    """

    dips: Float[Tensor, "K"]
    p: Float[Tensor, "K"]
    adjusted: Float[Tensor, "K"]


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


def unimodality(sample: Float[Tensor, "N D"], directions: Float[Tensor, "K D"]) -> Unimodality:
    """Dip tests of a sample along directions, such as its principal components."""
    scores = sample.double() @ directions.double().T
    tests = torch.tensor([dip_test(score) for score in scores.T], dtype=torch.float64)
    return Unimodality(tests[:, 0], tests[:, 1], holm(tests[:, 1]))


def holm(p: Float[Tensor, "K"]) -> Float[Tensor, "K"]:
    """Holm's adjusted p-values (1979): at most `alpha` where the family-wise error is held at `alpha`."""
    order = p.argsort()
    left = torch.arange(len(p), 0, -1)
    adjusted = (p[order] * left).cummax(0).values.clamp(max=1)
    return torch.empty_like(p).index_copy_(0, order, adjusted)


def over_sites(tests: Mapping[str, Unimodality]) -> dict[str, Float[Tensor, "K"]]:
    """Holm's p-values over all directions of all sites together; a site's own is its smallest."""
    adjusted = holm(torch.cat([test.p for test in tests.values()]))
    parts = adjusted.split([len(test.p) for test in tests.values()])
    return dict(zip(tests, parts, strict=True))
