"""Radii of a fit's own vectors as if their documents had not been part of the fit.

A Gaussian lies close to what it was fitted on: radii of its own data are too small, and those of fresh data
are larger, unless there are tens of vectors and documents for each dimension. So every radius is measured
under the covariance without the vector's document. That covariance differs by as many directions as the
document has vectors, so nothing is fitted again: one eigendecomposition serves every document. Folds would
leave out more than a fresh document lacks, and would refit the shrinkage to fewer vectors
(docs/decisions/0014-held-out-radii.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.statistics.gaussian import GaussianFit
from softprior.statistics.moments import Moments
from softprior.statistics.reference import Without
from softprior.statistics.store import SiteStatistics

BLOCK = 128
"""Vectors taken at a time. At D = 2048 larger ones leave 300 MB with the allocator."""

NOTHING_LEFT = 1e-10
"""Share of a variance below which what a document leaves of it is rounding."""

MOST_ESTIMATED = 0.1
"""Share of a squared radius that may lie in what the rest of its document added to the covariance, if that is
estimated from a sample. Up to here the median fresh vector is within 0.05 of the median radius; at 0.15 with
50 vectors per dimension it was at quantile 0.63."""


@dataclass(frozen=True)
class HeldOutRadii:
    """Mahalanobis radii of vectors of a fit, as fresh ones would have them.

    Attributes:
        radii: in the order of the sample, float64.
        without: what the covariance behind them leaves out.
        effective_rank: tr(Sigma^-1 S), the mean squared radius of the data under the fit itself. It is about
            D, or the number of directions in which the data vary at all.
    """

    radii: Float[Tensor, "N"]
    without: Without
    effective_rank: float


def held_out_radii(data: SiteStatistics, fit: GaussianFit) -> HeldOutRadii:
    """Radii of the sampled vectors, each without its document.

    Shrinkage and the scale of its target stay those of the whole fit, whose metric it is. Radii are exact
    where the sample is all that was fitted, or each vector is its own document. Otherwise what a document's
    other vectors added is estimated from the pairs and triples of the sample that share a document, alike for
    all.

    Args:
        data: as many documents as tokens mean that each vector is its own; otherwise the fact `document` says
            which one a vector belongs to.
        fit: `fit_gaussian` of the data's moments.
    """
    whole, vectors = _Whole.of(data.moments, fit), data.sample
    documents = data.facts.get("document")
    without: Without = "document"
    if each_its_own(data):
        radii = whole.without_each(vectors)
    elif documents is None:
        radii = None
    elif len(vectors) == data.moments.count:
        radii = whole.without_documents(vectors, documents)
    else:
        radii = whole.without_sampled(vectors, documents, data.documents)
    if radii is None:
        without, radii = "vector", whole.without_each(vectors)
    if radii is None:
        without, radii = "nothing", whole.as_fitted(vectors)
    return HeldOutRadii(radii, without, whole.effective_rank)


def each_its_own(data: SiteStatistics) -> bool:
    """Whether every vector is a document of its own."""
    documents = data.facts.get("document")
    alone = documents is None or len(documents.unique()) == len(documents)
    return alone and data.documents == data.moments.count


@dataclass(frozen=True)
class _Whole:
    """A fit along the axes of its own covariance S, where it has the variances `weight * values + floor`.

    Attributes:
        count: vectors.
        values: variances of S along the axes.
        axes: in columns.
        weight: of S in the fit.
        floor: what shrinkage and jitter add to every variance.
    """

    count: int
    mean: Float[Tensor, "D"]
    values: Float[Tensor, "D"]
    axes: Float[Tensor, "D D"]
    weight: float
    floor: float

    @classmethod
    def of(cls, moments: Moments, fit: GaussianFit) -> _Whole:
        values, axes = torch.linalg.eigh(moments.covariance())
        values = values.clamp_min(0)  # of fewer vectors than dimensions some are rounding, below zero too
        floor = fit.shrinkage * float(values.mean()) + fit.jitter
        return cls(moments.count, moments.mean, values, axes, 1 - fit.shrinkage, floor)

    @property
    def effective_rank(self) -> float:
        return float((self.values / self._variances(0)).sum())

    def as_fitted(self, vectors: Float[Tensor, "N D"]) -> Float[Tensor, "N"]:
        """Radii under the fit as it is."""
        variances = self._variances(0)
        parts = [(self._along(block).square() / variances).sum(1) for block in vectors.split(BLOCK)]
        return torch.cat(parts).sqrt()

    def without_each(self, vectors: Float[Tensor, "N D"]) -> Float[Tensor, "N"] | None:
        """Radii without the vector itself; None where too little is left.

        Without x the scatter lacks n / (n - 1) times the outer product of x - mean, and the mean moves away
        from x: the inverse is that of Sherman and Morrison (1950).
        """
        rest = self.count - 1
        if rest < 2:
            return None
        variances, moved = self._variances(1), self.count / rest
        parts = [(self._along(block).square() / variances).sum(1) for block in vectors.split(BLOCK)]
        squares = torch.cat(parts)
        left = 1 - self.weight * moved / rest * squares
        return moved * (squares / left).sqrt() if bool((left > NOTHING_LEFT).all()) else None

    def without_documents(
        self, vectors: Float[Tensor, "N D"], documents: Int[Tensor, "N"]
    ) -> Float[Tensor, "N"] | None:
        """Radii without the vector's document, all of which is known; None where too little is left."""
        found = torch.empty(len(vectors), dtype=torch.float64)
        for rows in _by_document(documents):
            own, rest = self._along(vectors[rows]), self.count - len(rows)
            if rest < 2:
                return None
            spread, total = self._variances(len(rows)).sqrt(), own.sum(0)
            # The scatter lacks the document's around the old mean, and what the mean moved by.
            lacking = torch.cat([own, total[None] / math.sqrt(rest)]) * math.sqrt(self.weight / rest) / spread
            squares = _downdated((own + total / rest) / spread, lacking)
            if squares is None:
                return None
            found[rows] = squares
        return found.sqrt()

    def without_sampled(
        self, vectors: Float[Tensor, "N D"], documents: Int[Tensor, "N"], count: int
    ) -> Float[Tensor, "N"] | None:
        """Radii without the vector's document, of which a sample is known; None where that says too little.

        The inverse is a power series in what the document added. Its own vector's part is exact. The
        others' first two terms are sums over pairs and triples, which a sample estimates without bias;
        the rest is taken to be geometric, as it is for documents with a few strong directions beside noise.
        All are means over vectors: a single one's are noise.
        """
        sample, size = len(vectors), self.count / max(count, 1)
        if count < 2 or sample < 3 or self.count - size < 2:
            return None
        pairs = (sample - 1) / (self.count - 1)  # the chance that another vector is in the sample as well
        triples = pairs * (sample - 2) / (self.count - 2)
        share = self.weight / (self.count - size)
        spread = self._variances(size).sqrt()
        squares = torch.empty(sample, dtype=torch.float64)
        first, second, shift = (torch.zeros_like(squares) for _ in range(3))
        for rows in _by_document(documents):
            scaled = self._along(vectors[rows]) / spread
            products = scaled @ scaled.T
            squares[rows] = own = products.diagonal().clone()
            products.fill_diagonal_(0)
            shift[rows] = products.sum(1) / pairs
            powers = products.square()
            first[rows] = powers.sum(1) / pairs
            second[rows] = powers @ own / pairs + (products @ products * products).sum(1) / triples
        one, two, moved = (float((part / squares).mean()) for part in (first, second, shift))
        one, two = share * one, share**2 * two
        left = 1 - share * squares
        if one > MOST_ESTIMATED or two >= one or bool((left <= NOTHING_LEFT).any()):
            return None
        inflation = 1 + one / (1 - two / one) if one > 0 else 1.0
        return (1 + (1 + moved) / (self.count - size)) * (squares * inflation / left).sqrt()

    def _along(self, vectors: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """Distances from the mean along the axes."""
        return (vectors.to(self.mean) - self.mean) @ self.axes

    def _variances(self, left_out: int | float) -> Float[Tensor, "D"]:
        """Variances of the fit, with its scatter over the number of vectors that stay."""
        return self.weight * self.values * (self.count / (self.count - left_out)) + self.floor


def _by_document(documents: Int[Tensor, "N"]) -> Iterator[Int[Tensor, "M"]]:
    """The rows of each document."""
    counts = documents.unique(return_counts=True)[1]
    yield from documents.argsort(stable=True).split(counts.tolist())


def _downdated(target: Float[Tensor, "M D"], lacking: Float[Tensor, "K D"]) -> Float[Tensor, "M"] | None:
    """Squared lengths of rows t in the metric of I - lacking^T lacking; None where that is singular.

    By Woodbury's identity in K dimensions, or directly where D is smaller.
    """
    narrow = len(lacking) < lacking.shape[1]
    product = lacking @ lacking.T if narrow else lacking.T @ lacking
    factor, failed = torch.linalg.cholesky_ex(torch.eye(len(product), dtype=torch.float64) - product)
    if int(failed) or float(factor.diagonal().square().min()) < NOTHING_LEFT:
        return None
    seen = lacking @ target.T if narrow else target.T
    lengths = torch.linalg.solve_triangular(factor, seen, upper=False).square().sum(0)
    found: Tensor = target.square().sum(1) + lengths if narrow else lengths
    return found
