"""How well a fitted Gaussian describes data it has not seen: log-likelihood and radii, by document."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import chi, kstest
from torch import Tensor

from softprior.errors import UserError
from softprior.results.numbers import Number, Numbers
from softprior.seeding import numpy_generator, torch_generator
from softprior.statistics.documents import RESAMPLES, bootstrap, held_out
from softprior.statistics.gaussian import GaussianFit, fit_gaussian
from softprior.statistics.moments import Moments

DOCUMENTS = 4
"""Documents that a split needs: two to fit on, two held out."""

QUANTILES = (0.05, 0.5, 0.95)
"""Quantiles of radii that are compared, as shares."""


class FitQuality(Numbers):
    """Held-out vectors under a fitted Gaussian.

    The distance from chi has no p-value: tokens of one text are not independent, so the table's p would be
    far too small. Read it next to the same number of Gaussian data (`HeldOutFit.gaussian`).

    Attributes:
        tokens: held-out vectors.
        documents: held-out documents.
        log_likelihood: mean log-density of the held-out vectors over D, in nats per dimension.
        low: end of its 95% interval over held-out documents (`documents.bootstrap`); None for few of them.
        high: the other end.
        own: the same mean for the Gaussian's own draws, exactly: minus its entropy over D. The two are equal
            for data of *any* distribution with the fit's mean and covariance: their difference shows a wrong
            covariance (shrinkage, too few vectors), and only the radii show a wrong shape.
        ks: Kolmogorov-Smirnov distance in [0, 1] of the Mahalanobis radii from chi with D degrees.
        radii: 5%, 50% and 95% quantiles of the radii.
        chi_radii: the same of chi, which the Gaussian's own draws follow.
    """

    tokens: int
    documents: int
    log_likelihood: Number
    low: Number
    high: Number
    own: Number
    ks: Number
    radii: tuple[Number, Number, Number]
    chi_radii: tuple[Number, Number, Number]


def fit_quality(
    fit: GaussianFit,
    vectors: Float[Tensor, "N D"],
    documents: Int[Tensor, "N"],
    seed: int,
    resamples: int = RESAMPLES,
) -> FitQuality:
    """Measures a fit on vectors of documents that it was not fitted on.

    Args:
        vectors: of the held-out documents, one at least.
        documents: the document of each vector.
        resamples: bootstrap samples of the documents.
    """
    dimension = vectors.shape[1]
    densities = fit.gaussian.log_prob(vectors).numpy() / dimension
    radii = fit.gaussian.radius(vectors).numpy()
    distribution = chi(dimension)

    names, index = np.unique(documents.numpy(), return_inverse=True)
    sums, sizes = np.bincount(index, weights=densities), np.bincount(index)
    low, high = bootstrap(
        lambda weights: (sums @ weights) / (sizes @ weights),
        np.zeros(len(names), np.int64),
        numpy_generator(seed, "fit quality"),
        resamples,
    )
    log_det = float(fit.gaussian.factor.diagonal().log().sum())
    return FitQuality(
        tokens=len(vectors),
        documents=len(names),
        log_likelihood=float(densities.mean()),
        low=low,
        high=high,
        own=-log_det / dimension - (math.log(2 * math.pi) + 1) / 2,
        ks=float(kstest(radii, distribution.cdf).statistic),
        radii=_three(np.quantile(radii, QUANTILES)),
        chi_radii=_three(distribution.ppf(QUANTILES)),
    )


class HeldOutFit(Numbers):
    """A Gaussian fitted on some documents of a sample and measured on the others.

    Attributes:
        fit_tokens: vectors the Gaussian was fitted on.
        fit_documents: their documents.
        shrinkage: OAS weight of the scaled identity, in [0, 1]. It is large where D is near `fit_tokens`, and
            the distribution measured is then the shrunk one.
        condition: largest over smallest eigenvalue of the covariance used.
        data: the held-out vectors under the fit; None where there is no fit.
        gaussian: what data that *are* Gaussian would show: as many independent draws with the sample's own
            mean and covariance, fitted and measured in the same way. Unless D is far below `fit_tokens`,
            shrinkage alone takes even these far from chi (a `ks` of 0.99 for 900 vectors of 576 dimensions
            whose standard deviations span two decades). None without a fit, or where it was not asked for.
        note: why there is no fit; empty if there is one.
    """

    fit_tokens: int
    fit_documents: int
    shrinkage: Number = None
    condition: Number = None
    data: FitQuality | None = None
    gaussian: FitQuality | None = None
    note: str = ""


def held_out_fit(
    vectors: Float[Tensor, "N D"],
    documents: Int[Tensor, "N"],
    seed: int,
    share: float = 0.25,
    calibrate: bool = True,
) -> HeldOutFit:
    """Fits a Gaussian (OAS) on some documents of a sample and measures it on the others.

    Args:
        vectors: a sample of a task's vectors at a site.
        documents: the document of each vector.
        share: of the documents that are held out.
        calibrate: also measure Gaussian data, at the price of a second fit (an eigendecomposition).
    """
    count = len(documents.unique())
    if count < DOCUMENTS:
        return _no_fit(0, 0, f"a split by document needs {DOCUMENTS} documents, but there are {count}")
    held = torch.from_numpy(held_out(documents.numpy(), share, numpy_generator(seed, "held-out fit")))
    training = vectors[~held]
    training_documents = len(documents[~held].unique())
    try:
        fit = _fit(training)
        quality = fit_quality(fit, vectors[held], documents[held], seed)
        gaussian = _of_gaussian_data(vectors, fit.count, quality.tokens, seed) if calibrate else None
    except UserError as error:
        return _no_fit(len(training), training_documents, str(error))
    return HeldOutFit(
        fit_tokens=fit.count,
        fit_documents=training_documents,
        shrinkage=fit.shrinkage,
        condition=fit.condition,
        data=quality,
        gaussian=gaussian,
    )


def _of_gaussian_data(sample: Float[Tensor, "N D"], fit_tokens: int, tokens: int, seed: int) -> FitQuality:
    """The same measurement on Gaussian data with the sample's mean and covariance, each its own document.

    Drawn from the shrunk fit instead, they would be rounder than the data and shrinkage would cost them less.
    """
    exact = sample.double()
    centred = (exact - exact.mean(0)) / math.sqrt(len(sample))
    # Normal combinations of the centred vectors have their covariance exactly, and need no factor of it.
    noise = torch.randn(
        fit_tokens + tokens,
        len(sample),
        generator=torch_generator(seed, "gaussian data"),
        dtype=torch.float64,
    )
    drawn = exact.mean(0) + noise @ centred
    return fit_quality(_fit(drawn[:fit_tokens]), drawn[fit_tokens:], torch.arange(tokens), seed)


def _fit(vectors: Float[Tensor, "N D"]) -> GaussianFit:
    return fit_gaussian(Moments.empty(vectors.shape[1]).update(vectors))


def _no_fit(tokens: int, documents: int, note: str) -> HeldOutFit:
    return HeldOutFit(fit_tokens=tokens, fit_documents=documents, note=note)


def _three(values: np.ndarray) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third
