"""What every prior of the table promises."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, uniform
from sklearn.covariance import OAS

from softprior.errors import UserError
from softprior.priors import PRIORS, Prior
from softprior.testing.priors import (
    TableSource,
    check_density,
    check_draws,
    check_global_state,
    check_integral,
    check_other_process,
    check_record,
    check_reference,
    check_samples,
    check_seeds,
    check_serialisation,
)
from softprior.validation import validate

WORDS = "answer shortly now"
REQUIRED = {"instruction": {"text": WORDS}}
"""Parameters of priors that have no default for them."""

SUPPORT = {
    "vocabulary": lambda source: source.vocabulary(),
    "instruction": lambda source: source.vocabulary()[source.encode(WORDS)],
}
"""The equally likely vectors of every prior without a density; P is a multiple of the text's length."""


def normal(source: TableSource) -> multivariate_normal:
    estimate = OAS().fit(source.vocabulary().double().numpy())
    return multivariate_normal(estimate.location_, estimate.covariance_)


REFERENCES = {
    "isotropic": lambda source: multivariate_normal(np.zeros(source.hidden), 0.02**2).logpdf,
    "fitted": lambda source: normal(source).logpdf,
    "xavier": lambda source: lambda x: uniform(-cube(source), 2 * cube(source)).logpdf(x).sum(1),
}
"""Log-densities of other libraries, where they have the law."""


def cube(source: TableSource) -> float:
    return float(np.sqrt(6 / (source.tokens + source.hidden)))


def make(name: str, **params: object) -> Prior:
    return validate(PRIORS[name], {**REQUIRED.get(name, {}), **params}, "contract")


def density(name: str) -> bool:
    return make(name).fit(TableSource()).has_density


every_prior = pytest.mark.parametrize("name", sorted(PRIORS))


@every_prior
def test_samples(name):
    check_samples(make(name), TableSource())


@every_prior
def test_the_seed_decides(name):
    check_seeds(make(name), TableSource(), random=name != "instruction")


@every_prior
def test_global_generators_are_left_alone(name):
    check_global_state(make(name), TableSource())


def test_another_process_draws_the_same():
    check_other_process({name: make(name) for name in PRIORS}, TableSource())


@every_prior
def test_serialisation(name):
    check_serialisation(PRIORS[name], make(name), TableSource())


@every_prior
def test_record(name):
    check_record(make(name), TableSource())


@every_prior
def test_density_or_none(name):
    check_density(make(name), TableSource())


@pytest.mark.parametrize("hidden", [1, 2])
@pytest.mark.parametrize("name", sorted(filter(density, PRIORS)))
def test_the_density_is_that_of_the_samples(name, hidden):
    check_integral(make(name), TableSource(hidden))


@pytest.mark.parametrize("name", sorted(name for name in PRIORS if not density(name)))
def test_draws_are_uniform_over_their_vectors(name):
    source = TableSource()
    check_draws(make(name), source, SUPPORT[name](source))


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_log_density_equals_the_reference(name):
    # Both are float64; what differs is the order of sums, 1e-13 here.
    check_reference(make(name), TableSource(), REFERENCES[name](TableSource()), 1e-10)


@every_prior
def test_unknown_parameters_are_refused(name):
    with pytest.raises(UserError, match="unknown key 'no_such_parameter'"):
        make(name, no_such_parameter=1)
