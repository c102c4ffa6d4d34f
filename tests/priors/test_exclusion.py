"""The exclusion prior against its own definition by rejection, the published numbers, and the shells."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi, ks_2samp, multivariate_normal

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS
from softprior.priors.domain import FittedDomain
from softprior.priors.exclusion import _Exclusion
from softprior.seeding import torch_generator
from softprior.statistics.gaussian import Gaussian
from softprior.statistics.reference import Reference
from softprior.statistics.store import SiteStatistics, save_statistics
from softprior.testing.priors import TableSource
from softprior.training.identity import files_fingerprint

LEVEL = 1e-3
"""Below this p-value two sets of radii are called different; the seeds are fixed."""

ROUNDING = 1e-5
"""Samples are float32: a coordinate is off by 6e-8 of itself, and the table is not well-conditioned."""


def law(dimension: int, c: float = 5.0) -> _Exclusion:
    """Around the standard normal, without a fit: an eigenvalue problem at 2048 takes seconds."""
    gaussian = Gaussian(
        torch.zeros(dimension, dtype=torch.float64), torch.eye(dimension, dtype=torch.float64)
    )
    return _Exclusion(FittedDomain(gaussian, Reference(gaussian, torch.ones(1)), {}), c)


def mean_radius(found: _Exclusion) -> float:
    """The inner radius plus the integral of the survival function beyond it."""
    inner = math.sqrt(found.inner)
    radii = np.linspace(inner, inner + 12, 20_001)
    return inner + float(np.trapezoid(found._above(radii**2) / found.acceptance, radii))


@pytest.mark.parametrize("dimension", [2, 5, 20])
@pytest.mark.parametrize("c", [5.0, 50.0])
def test_radii_are_those_of_brute_force_rejection(dimension, c):
    source = TableSource(hidden=dimension, size=200)
    distribution = PRIORS["exclusion"](c=c).fit(source)
    gaussian = distribution.fit.gaussian
    mean, covariance = gaussian.mean.numpy(), (gaussian.factor @ gaussian.factor.T).numpy()
    narrow = multivariate_normal(mean, covariance)
    wide = multivariate_normal(mean, covariance * math.exp(2 / dimension * math.log(c)))
    draws = wide.rvs(60_000, random_state=1)
    chance = np.maximum(0, 1 - np.exp(narrow.logpdf(draws) - wide.logpdf(draws)))
    accepted = np.random.default_rng(2).random(len(draws)) < chance
    # The acceptance is a mean of 60,000 zeros and ones, with a standard error of at most 0.2%.
    assert distribution.record()["acceptance"] == pytest.approx(accepted.mean(), abs=0.01)
    sample = distribution.sample(torch_generator(3), 5000)
    expected = gaussian.radius(torch.from_numpy(draws[accepted][:5000]))
    assert ks_2samp(gaussian.radius(sample), expected).pvalue > LEVEL


def test_directions_are_uniform_where_the_gaussian_is_round():
    distribution = PRIORS["exclusion"]().fit(TableSource(hidden=3))
    gaussian = distribution.fit.gaussian
    sample = distribution.sample(torch_generator(0), 20_000).double()
    white = torch.linalg.solve_triangular(gaussian.factor, (sample - gaussian.mean).T, upper=False)
    directions = white / white.norm(dim=0)
    # Each coordinate of a direction in three dimensions has variance 1/3; five standard errors.
    assert float(directions.mean(1).abs().max()) < 5 * (1 / 3 / 20_000) ** 0.5
    products = directions @ directions.T / 20_000
    assert torch.allclose(products, torch.eye(3).double() / 3, rtol=0, atol=5 * (0.1 / 20_000) ** 0.5)


@pytest.mark.parametrize(("dimension", "acceptance"), [(2048, 0.020), (576, 0.038)])
def test_acceptance_of_the_papers_rejection(dimension, acceptance):
    assert law(dimension).acceptance == pytest.approx(acceptance, abs=5e-4)


def test_the_mean_radius_is_two_percent_longer_and_no_more():
    found = law(2048)
    assert mean_radius(found) == pytest.approx(46.16, abs=5e-3)
    assert chi(2048).mean() == pytest.approx(45.25, abs=5e-3)
    drawn = found.radii(torch_generator(0), 2000)
    assert float(drawn.mean()) == pytest.approx(
        mean_radius(found), abs=5 * float(drawn.std()) / math.sqrt(2000)
    )


@given(
    c=st.floats(1.001, 1e6),
    dimension=st.integers(1, 300),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=50)
def test_nothing_is_within_the_inner_radius(c, dimension, seed):
    found = law(dimension, c)
    radii = found.radii(torch_generator(seed), 20)
    assert bool((radii >= math.sqrt(found.inner)).all())
    assert bool(radii.isfinite().all())
    assert 0 < found.acceptance <= 1
    inside = torch.zeros(1, dimension)
    inside[0, 0] = math.sqrt(found.inner) * 0.999
    outside = inside * 1.01
    assert float(found.log_prob(inside)) == -math.inf
    assert math.isfinite(float(found.log_prob(outside)))


def test_the_inner_radius_is_where_both_densities_are_equal():
    found = law(7, 5.0)
    point = np.zeros(7)
    point[0] = math.sqrt(found.inner)
    narrow, wide = np.zeros(7), 5.0 ** (2 / 7)
    equal = multivariate_normal(narrow, wide).logpdf(point)
    assert multivariate_normal(narrow, 1.0).logpdf(point) == pytest.approx(equal, rel=1e-12)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.95, 1.0])
def test_a_quantile_is_that_of_the_datas_radii(quantile):
    distribution = PRIORS["exclusion"](quantile=quantile).fit(TableSource(size=400))
    reference = distribution.reference()
    expected = float(np.quantile(reference.radii.numpy(), quantile))
    sample = distribution.sample(torch_generator(0), 50)
    assert reference.gaussian.radius(sample).tolist() == pytest.approx([expected] * 50, rel=ROUNDING)
    assert distribution.record()["radius"] == pytest.approx(expected, rel=1e-12)
    # The share of the data within is the quantile, but for the one vector that stands at it.
    assert reference.quantiles(sample * 1.0).tolist() == pytest.approx([quantile] * 50, abs=1.01 / 400)


@pytest.mark.parametrize("multiple", [0.1, 1.0, 3.0])
def test_a_multiple_is_that_of_the_datas_median_radius(multiple):
    distribution = PRIORS["exclusion"](multiple=multiple).fit(TableSource(size=401))
    reference = distribution.reference()
    expected = multiple * float(np.median(reference.radii.numpy()))
    radii = reference.gaussian.radius(distribution.sample(torch_generator(0), 50))
    assert radii.tolist() == pytest.approx([expected] * 50, rel=ROUNDING)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"quantile": 0.9, "multiple": 2.0}, "quantile and multiple both set the radius; give one of them"),
        ({"c": 1.0}, r"c = 1\.0: must be at least 1\.001"),
        ({"c": 0.2}, r"c = 0\.2: must be at least 1\.001"),
        ({"quantile": 1.1}, r"quantile = 1\.1: must be at most 1"),
        ({"multiple": 0.0}, r"multiple = 0\.0: must be greater than 0"),
    ],
)
def test_wrong_parameters(params, sentence):
    with pytest.raises(UserError, match=rf"^study\.yaml: {sentence}$"):
        validate(PRIORS["exclusion"], params, "study.yaml")


def shelled(folder, statistics: SiteStatistics, **params: object):
    save_statistics(folder, "sums", "resid.0", "table", {"all": statistics})
    hidden = statistics.sample.shape[1]
    return PRIORS["exclusion"](statistics=folder, task="sums", **params).fit(TableSource(hidden=hidden))


def test_a_shell_that_would_lie_inside_its_data_is_refused(tmp_path):
    """A few distinct vectors, as answers of digits at the embedding level, vary in few of many dimensions."""
    words = torch.randn(12, 60, generator=torch_generator(0, "words"))
    few = SiteStatistics.of(words[torch.randint(0, 12, (900,), generator=torch_generator(1))])
    sentence = (
        r"^the shell at radius 3\.\d+ would lie inside sums all at resid\.0, at 0\.4\d of its vectors' "
        r"median distance from their mean: they vary in 11 of 60 dimensions only; give a domain of more "
    )
    with pytest.raises(UserError, match=sentence):
        shelled(tmp_path, few, quantile=0.95)
    assert shelled(tmp_path, few, quantile=0.3).record()["effective_rank"] == pytest.approx(11, abs=0.2)
    far = shelled(tmp_path, few, multiple=5.0)
    assert far.record()["distance"] > 1.5 * far.record()["median_distance"]
    distances = (far.sample(torch_generator(0), 500) - few.sample.mean(0)).square().sum(1)
    assert float(distances.mean().sqrt()) == pytest.approx(far.record()["distance"], rel=0.05)


def test_a_shell_needs_radii_of_held_out_documents(tmp_path):
    vectors = torch.randn(200, 5, generator=torch_generator(0))
    unknown = SiteStatistics.of(vectors, documents=20)
    sentence = r"a shell needs .* documents, and sums all at resid.0 has too few \(20 documents "
    for params in ({"quantile": 0.95}, {"multiple": 2.0}):
        with pytest.raises(UserError, match=sentence):
            shelled(tmp_path, unknown, **params)
    assert shelled(tmp_path, unknown).record()["radii_without"] == "vector"
    known = replace(unknown, facts={"document": torch.arange(200) // 10})
    assert shelled(tmp_path, known, quantile=0.95).record()["radii_without"] == "document"


def test_only_shells_have_another_identity_since_radii_are_held_out():
    for prior in (PRIORS["exclusion"](), PRIORS["exclusion"](c=7.0), PRIORS["fitted"](), PRIORS["vae"]()):
        assert prior.corrections(density=True) == ()
    mark = ("exclusion: shells among held-out radii",)
    shell = PRIORS["exclusion"](quantile=0.5)
    assert (
        shell.corrections(density=False)
        == PRIORS["exclusion"](multiple=2.0).corrections(density=True)
        == mark
    )
    within = PRIORS["mixture"](priors=["isotropic", {"exclusion": {"quantile": 0.5}}])
    assert within.corrections(density=False) == mark
    assert files_fingerprint(shell, []) is not None


def test_a_shell_says_why_it_has_no_density():
    with pytest.raises(ValueError, match="a shell of one radius, which has no volume, and has no density"):
        PRIORS["exclusion"](quantile=0.5).fit(TableSource()).log_prob(torch.zeros(1, 4))
