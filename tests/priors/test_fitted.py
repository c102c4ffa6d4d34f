"""The fit on the vocabulary against scikit-learn, and its parameters."""

import numpy as np
import pytest
import torch
from sklearn.covariance import OAS, EmpiricalCovariance

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS
from softprior.testing.priors import TableSource

ROUNDING = 1e-10
"""Float64 on both sides, sums in another order."""


def covariance(distribution):
    factor = distribution.fit.gaussian.factor
    return (factor @ factor.T).numpy()


def test_the_default_equals_scikit_learns_oas():
    source = TableSource(hidden=8, size=50)
    distribution = PRIORS["fitted"]().fit(source)
    expected = OAS().fit(source.vocabulary().double().numpy())
    np.testing.assert_allclose(covariance(distribution), expected.covariance_, rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(distribution.fit.gaussian.mean, expected.location_, rtol=ROUNDING)
    record = distribution.record()
    assert record["shrinkage"] == pytest.approx(expected.shrinkage_, rel=ROUNDING)
    assert 0 < record["shrinkage"] < 1
    assert (record["tokens"], record["source"], record["jitter"]) == (50, "vocabulary", 0.0)
    assert record["condition"] == pytest.approx(np.linalg.cond(expected.covariance_), rel=1e-8)


@pytest.mark.parametrize(
    ("shrinkage", "jitter"), [(0.0, 0.0), (0.3, 0.0), (1.0, 0.0), (0.0, 0.1), (0.3, 0.1)]
)
def test_shrinkage_and_jitter_are_what_they_say(shrinkage, jitter):
    source = TableSource(hidden=5)
    distribution = PRIORS["fitted"](shrinkage=shrinkage, jitter=jitter).fit(source)
    plain = EmpiricalCovariance().fit(source.vocabulary().double().numpy()).covariance_
    scaled = np.trace(plain) / 5 * np.eye(5)
    expected = (1 - shrinkage) * plain + shrinkage * scaled + jitter * np.eye(5)
    np.testing.assert_allclose(covariance(distribution), expected, rtol=ROUNDING, atol=ROUNDING)
    assert distribution.record()["shrinkage"] == shrinkage
    assert distribution.record()["jitter"] == jitter


def test_a_singular_covariance_is_refused_with_the_remedy():
    few = TableSource(hidden=8, size=5)
    with pytest.raises(
        UserError, match=r"5 vectors of 8 dimensions is singular .* more vectors, shrinkage or"
    ):
        PRIORS["fitted"](shrinkage=0.0).fit(few)
    for mended in ({}, {"shrinkage": 0.1}, {"shrinkage": 0.0, "jitter": 1e-3}):
        distribution = PRIORS["fitted"](**mended).fit(few)
        assert bool(distribution.sample(torch.Generator().manual_seed(0), 6).isfinite().all())


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"shrinkage": "oass"}, "shrinkage = 'oass': must be 'oas' or a number"),
        ({"shrinkage": 1.5}, "shrinkage = 1.5: must be 'oas' or at most 1"),
        ({"jitter": -1e-3}, "jitter = -0.001: must be at least 0"),
    ],
)
def test_wrong_parameters(params, sentence):
    with pytest.raises(UserError, match=sentence):
        validate(PRIORS["fitted"], params, "study.yaml")
