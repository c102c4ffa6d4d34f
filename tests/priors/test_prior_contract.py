"""What every prior of the table promises, with its default parameters and in its other forms."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, uniform
from sklearn.covariance import OAS

from softprior.inputs.validation import validate
from softprior.priors import PRIORS, Prior
from softprior.prompt import Place
from softprior.results.posteriors import Posterior, save_posterior
from softprior.seeding import torch_generator
from softprior.testing import check_prior
from softprior.testing.priors import (
    CHECKS,
    TableSource,
    check_draws,
    check_integral,
    check_other_process,
    check_reference,
    source_of,
)

WORDS = "answer shortly now"
FOLDER = tempfile.TemporaryDirectory(prefix="softprior-posteriors-")


def tuned(hidden: int, count: int = 6) -> str:
    """A posterior file of the contract's table, of as many vectors as a prompt has."""
    path = Path(FOLDER.name) / f"{hidden}-{count}.safetensors"
    if not path.exists():
        vectors = {Place(0): 0.5 + torch.randn(count, hidden, generator=torch_generator(5))}
        header = {"trial": "earlier", "model": {"fingerprint": "table"}}
        save_posterior(path, Posterior(header, vectors, vectors, {}))
    return str(path)


CASES = {
    "zeros": {},
    "isotropic": {},
    "xavier": {},
    "fitted": {},
    "fitted, half": {"part": [0.0, 0.5], "jitter": 0.01},
    "exclusion": {},
    "exclusion, wide": {"c": 50.0},
    "exclusion, quantile": {"quantile": 0.95},
    "exclusion, multiple": {"multiple": 1.5},
    "interpolation": {},
    "interpolation, fixed": {"low": 0.3, "high": 0.3},
    "low_density": {"quantile": 0.6},
    "vae": {"steps": 50},
    "vocabulary": {},
    "instruction": {"text": WORDS},
    "posterior": {"file": "TUNED"},
    "posterior, around": {"file": "TUNED", "spread": 0.5},
    "mixture": {"priors": ["isotropic", {"fitted": {"jitter": 0.1}}], "weights": [0.3, 0.7]},
    "mixture, no density": {"priors": ["isotropic", "vocabulary"]},
    "by_place": {"default": "isotropic", "blocks": {"0": "fitted"}},
}
"""Parameters by case; what stands before the comma is the prior's name, TUNED a posterior file."""

SUPPORT = {
    "zeros": lambda source: torch.zeros(1, source.hidden),
    "vocabulary": lambda source: source.vocabulary(),
    "instruction": lambda source: source.vocabulary()[source.encode(WORDS)],
    "posterior": lambda source: PRIORS["posterior"](file=tuned(source.hidden)).fit(source).vectors,
}
"""The equally likely vectors of priors on finitely many; P is a multiple of the text's length."""


def normal(source: TableSource, part: slice = slice(None)) -> multivariate_normal:
    estimate = OAS().fit(source.vocabulary()[part].double().numpy())
    return multivariate_normal(estimate.location_, estimate.covariance_)


def between(source: TableSource, weight: float) -> multivariate_normal:
    half = source.size // 2
    x, y = normal(source, slice(half)), normal(source, slice(half, None))
    mean = weight * x.mean + (1 - weight) * y.mean
    return multivariate_normal(mean, weight**2 * x.cov + (1 - weight) ** 2 * y.cov)


def cube(source: TableSource) -> float:
    return float(np.sqrt(6 / (source.tokens + source.hidden)))


def smeared(source: TableSource):
    """The literal integral over the weight, by the trapezoid rule."""
    weights = np.linspace(0, 1, 2001)
    parts = np.full(len(weights), 1 / 2000)
    parts[[0, -1]] /= 2
    laws = [between(source, w) for w in weights]
    return lambda x: np.log(sum(p * law.pdf(x) for p, law in zip(parts, laws, strict=True)))


def excluded(source: TableSource):
    """By its definition: the wide Gaussian less the narrow one, over the mass of the difference."""
    narrow = normal(source)
    wide = multivariate_normal(narrow.mean, narrow.cov * 5 ** (2 / source.hidden))
    draws = wide.rvs(2_000_000, random_state=0)
    mass = np.maximum(0, 1 - narrow.pdf(draws) / wide.pdf(draws)).mean()

    def log(x):
        with np.errstate(divide="ignore"):
            return np.log(np.maximum(0, wide.pdf(x) - narrow.pdf(x))) - np.log(mass)

    return log


REFERENCES = {
    "isotropic": (lambda s: multivariate_normal(np.zeros(s.hidden), 0.02**2).logpdf, 1e-10),
    "fitted": (lambda s: normal(s).logpdf, 1e-10),
    "xavier": (lambda s: lambda x: uniform(-cube(s), 2 * cube(s)).logpdf(x).sum(1), 1e-10),
    "interpolation, fixed": (lambda s: between(s, 0.3).logpdf, 1e-10),
    # The trapezoid rule with 2,000 steps is exact to its second order.
    "interpolation": (smeared, 1e-5),
    # The mass is estimated from two million draws: a standard error of 0.07%.
    "exclusion": (excluded, 4e-3),
}
"""Log-densities of other libraries or by definition, where there are; and how far they may be off."""


def make(case: str, hidden: int = 4, tokens: int = 6, **params: object) -> Prior:
    given = {key: tuned(hidden, tokens) if value == "TUNED" else value for key, value in CASES[case].items()}
    return validate(PRIORS[case.partition(",")[0]], {**given, **params}, "contract")


def source(case: str) -> TableSource:
    return source_of(make(case))


def density(case: str) -> bool:
    return make(case).fit(source(case)).has_density


every_case = pytest.mark.parametrize("case", CASES)


def test_every_prior_has_a_case():
    assert {case.partition(",")[0] for case in CASES} == set(PRIORS)


@pytest.mark.parametrize("check", CHECKS)
@every_case
def test_contract(case, check):
    check(make(case), source(case))


def test_another_process_draws_the_same():
    # One case per prior, and all at one place.
    check_other_process(
        {case: make(case) for case in CASES if case in set(PRIORS) - {"zeros"}}, TableSource()
    )


WITH_DENSITY = [case for case in CASES if density(case)]
IN_TWO_DIMENSIONS = [case for case in WITH_DENSITY if case != "interpolation"]
"""Without 128 nodes on a million points; one dimension and the reference in four say the same."""


@pytest.mark.parametrize(
    ("case", "hidden"), [*((case, 1) for case in WITH_DENSITY), *((case, 2) for case in IN_TWO_DIMENSIONS)]
)
def test_the_density_is_that_of_the_samples(case, hidden):
    # A prompt of one vector, since each may have a density of its own.
    check_integral(make(case, hidden, tokens=1), TableSource(hidden, tokens=1))


@pytest.mark.parametrize("case", SUPPORT)
def test_draws_are_uniform_over_their_vectors(case):
    check_draws(make(case), source(case), SUPPORT[case](source(case)))


@pytest.mark.parametrize("case", REFERENCES)
def test_log_density_equals_the_reference(case):
    reference, tolerance = REFERENCES[case]
    check_reference(make(case), source(case), reference(source(case)), tolerance)


@pytest.mark.parametrize("case", [case for case in CASES if make(case).smooth()])
def test_a_smooth_density_has_the_gradient_of_its_differences(case):
    distribution = make(case).fit(source(case))
    points = distribution.sample(torch_generator(9), 3).double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(distribution.log_prob(points).sum(), points)
    step = 1e-5
    for i in range(points.shape[1]):
        by = step * torch.eye(points.shape[1], dtype=torch.float64)[i]
        with torch.no_grad():
            slope = (distribution.log_prob(points + by) - distribution.log_prob(points - by)) / (2 * step)
        assert torch.allclose(slope, gradient[:, i], rtol=1e-4, atol=1e-4 * float(gradient.abs().max()))


def test_one_call_runs_the_suite():
    class Here(PRIORS["zeros"]):
        """A class that no other process can import, which would take seconds."""

    check_prior(Here(), vectors=torch.zeros(1, TableSource().hidden))


class Narrow(PRIORS["isotropic"]):
    """Draws from half of what it says."""

    def fit(self, source):
        distribution = super().fit(source)
        whole = distribution.sample
        distribution.sample = lambda generator, count: whole(generator, count) / 2
        return distribution


def test_one_call_finds_a_broken_prior():
    with pytest.raises(AssertionError, match="covariance"):
        check_prior(Narrow(), widths=(1,))
