"""What every regulariser of the table promises, and what each means."""

import math

import pytest
import torch
from scipy.spatial.distance import cdist, mahalanobis, pdist
from scipy.stats import multivariate_normal

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS
from softprior.regularisers import REGULARISERS
from softprior.seeding import torch_generator
from softprior.testing import check_regulariser
from softprior.testing.priors import TableSource
from softprior.testing.regularisers import CHECKS, check_serialisation, setting

CASES = {
    "towards_prior": {},
    "domain": {},
    "domain, away": {"direction": "away", "margin": 4.0},
    "spread": {},
    "nearest_token": {},
    "norm_ball": {},
    "norm_ball, radius": {"radius": 0.5},
}
"""Parameters by case; what stands before the comma is the regulariser's name."""

SOURCE = TableSource()
VECTORS = 2 * torch.randn(6, SOURCE.hidden, generator=torch_generator(8), dtype=torch.float64)


def make(case: str, **params: object):
    return REGULARISERS[case.partition(",")[0]](**{**CASES[case], **params})


def value(case: str, **params: object) -> float:
    return float(make(case, **params).term(setting(SOURCE))(VECTORS))


every_case = pytest.mark.parametrize("case", CASES)


def test_every_regulariser_has_a_case():
    assert {case.partition(",")[0] for case in CASES} == set(REGULARISERS)


@pytest.mark.parametrize("check", CHECKS)
@every_case
def test_contract(case, check):
    check(make(case), SOURCE)


@every_case
def test_serialisation(case):
    check_serialisation(make(case))


class Detached(REGULARISERS["spread"]):
    """A penalty that says nothing to the optimizer."""

    def term(self, setting):
        term = super().term(setting)
        return lambda vectors: term(vectors.detach()) + 0 * vectors.sum()


def test_one_call_runs_the_suite():
    check_regulariser(REGULARISERS["spread"](scale=2.0))
    with pytest.raises(AssertionError):
        check_regulariser(Detached())


def gaussian():
    distribution = PRIORS["fitted"]().fit(SOURCE).fit.gaussian
    return distribution.mean.numpy(), (distribution.factor @ distribution.factor.T).numpy()


def test_towards_the_prior_is_minus_its_log_density_over_the_answer_tokens():
    mean, covariance = gaussian()
    expected = -multivariate_normal(mean, covariance).logpdf(VECTORS.numpy()).sum() / 100
    assert value("towards_prior") == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", ["xavier", "exclusion", "vocabulary", "zeros", "vae", "low_density"])
def test_priors_without_a_smooth_density_do_not_suit_towards_prior(name):
    assert not make("towards_prior").suits(PRIORS[name]())


@pytest.mark.parametrize("name", sorted(set(REGULARISERS) - {"towards_prior"}))
def test_every_prior_suits_the_others(name):
    assert REGULARISERS[name]().suits(PRIORS["zeros"]())


@pytest.mark.parametrize("name", ["isotropic", "fitted", "interpolation"])
def test_priors_with_one_do(name):
    assert make("towards_prior").suits(PRIORS[name]())


def test_the_domain_is_a_mean_squared_mahalanobis_distance():
    mean, covariance = gaussian()
    inverse = torch.linalg.inv(torch.from_numpy(covariance)).numpy()
    distances = [mahalanobis(x, mean, inverse) / math.sqrt(SOURCE.hidden) for x in VECTORS.numpy()]
    assert value("domain") == pytest.approx(sum(d**2 for d in distances) / 6, rel=1e-10)
    away = sum(max(0.0, 4.0 - d) ** 2 for d in distances) / 6
    assert value("domain, away") == pytest.approx(away, rel=1e-10)
    assert value("domain, away", margin=1e-3) == 0.0


def test_draws_of_the_domain_have_a_penalty_of_one():
    draws = PRIORS["fitted"]().fit(SOURCE).sample(torch_generator(1), 20_000)
    # The mean of 80,000 squared normals: a standard error of 0.5%.
    assert float(make("domain").term(setting(SOURCE))(draws)) == pytest.approx(1, abs=0.025)


def test_spread_is_a_mean_over_pairs():
    width = float(setting(SOURCE).initial.double().square().sum(1).mean().sqrt())
    pairs = torch.from_numpy(pdist(VECTORS.numpy()))
    expected = float(torch.exp(-(pairs**2) / (2 * width**2)).mean())
    assert value("spread") == pytest.approx(expected, rel=1e-10)
    equal = torch.ones(4, SOURCE.hidden)
    assert float(make("spread").term(setting(SOURCE))(equal)) == pytest.approx(1)


def test_the_nearest_token_is_the_nearest():
    table = SOURCE.vocabulary().double().numpy()
    expected = (cdist(VECTORS.numpy(), table).min(1) ** 2).mean() / (table**2).sum(1).mean()
    assert value("nearest_token") == pytest.approx(expected, rel=1e-6)
    assert float(make("nearest_token").term(setting(SOURCE))(SOURCE.vocabulary()[:5])) == 0.0


def test_the_norm_ball_is_quadratic_outside_and_nothing_inside():
    norms = VECTORS.norm(dim=1)
    expected = float((torch.relu(norms / 0.5 - 1) ** 2).mean())
    assert value("norm_ball, radius") == pytest.approx(expected, rel=1e-10)
    assert value("norm_ball", radius=float(norms.max())) == pytest.approx(0, abs=1e-12)
    inside = torch.zeros(3, SOURCE.hidden)
    assert float(make("norm_ball").term(setting(SOURCE))(inside)) == 0.0


def test_the_norm_balls_radius_is_a_quantile_of_real_norms():
    norms = SOURCE.vocabulary().norm(dim=1).sort().values
    at = torch.zeros(1, SOURCE.hidden)
    for quantile, index in ((0.95, round(0.95 * 119)), (1.0, 119)):
        at[0, 0] = 2 * norms[index]
        assert float(make("norm_ball", quantile=quantile).term(setting(SOURCE))(at)) == pytest.approx(
            1, rel=1e-5
        )


@pytest.mark.parametrize(
    ("name", "params", "sentence"),
    [
        ("norm_ball", {"radius": 1.0, "quantile": 0.5}, "quantile and radius both set the ball"),
        ("domain", {"margin": 3.0}, "margin belongs to direction: away and has no effect here"),
    ],
)
def test_a_parameter_without_effect_is_refused(name, params, sentence):
    with pytest.raises(UserError, match=sentence):
        validate(REGULARISERS[name], params, "study.yaml")
