"""A mixture's moments and density are those of its parts; what cannot be mixed is refused by name."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS
from softprior.prompt import Place
from softprior.seeding import torch_generator
from softprior.testing.priors import DRAWS, TableSource, check_moments

PARTS = [{"isotropic": {"scale": 0.5}}, {"fitted": {"jitter": 0.1}}, "xavier"]


def mix(priors: list, weights: list[float] | None = None):
    params = {"priors": priors} if weights is None else {"priors": priors, "weights": weights}
    return validate(PRIORS["mixture"], params, "study.yaml")


def parts(source: TableSource):
    return [
        PRIORS["isotropic"](scale=0.5).fit(source),
        PRIORS["fitted"](jitter=0.1).fit(source),
        PRIORS["xavier"]().fit(source),
    ]


@pytest.mark.parametrize("weights", [None, [0.2, 0.7, 0.1]])
def test_moments_are_those_of_the_theory(weights):
    source = TableSource()
    gaussian = parts(source)[1].fit.gaussian
    bound = (6 / (source.tokens + source.hidden)) ** 0.5
    identity, zero = torch.eye(4).double(), torch.zeros(4).double()
    laws = [
        (zero, 0.25 * identity),
        (gaussian.mean, gaussian.factor @ gaussian.factor.T),
        (zero, bound**2 / 3 * identity),
    ]
    shares = weights or [1 / 3] * 3
    mean = sum(w * m for w, (m, _) in zip(shares, laws, strict=True))
    second = sum(w * (c + torch.outer(m, m)) for w, (m, c) in zip(shares, laws, strict=True))
    sample = mix(PARTS, weights).fit(source).sample(torch_generator(0), DRAWS).double()
    # Within five standard errors, which is what check_moments allows.
    check_moments(sample, mean, second - torch.outer(mean, mean), 1e-6, 1e-6)


def test_the_density_is_the_weighted_sum_of_the_parts():
    source = TableSource()
    weights = [0.2, 0.7, 0.1]
    points = 0.7 * torch.randn(200, 4, generator=torch_generator(1))
    logs = np.stack([part.log_prob(points).numpy() for part in parts(source)])
    assert np.isinf(logs[2]).any()  # some are outside of the cube of xavier
    expected = logsumexp(logs, axis=0, b=np.array(weights)[:, None])
    np.testing.assert_allclose(mix(PARTS, weights).fit(source).log_prob(points), expected, rtol=1e-12)


def test_each_component_is_drawn_by_its_weight():
    source = TableSource()
    source.place = Place(0, "key")  # zeros start keys and values alone
    distribution = mix(["zeros", {"isotropic": {"scale": 1.0}}], [0.25, 0.75]).fit(source)
    zero = (distribution.sample(torch_generator(0), DRAWS) == 0).all(1)
    # Five standard errors of a share of a quarter.
    assert float(zero.double().mean()) == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / DRAWS) ** 0.5)
    first, second = zero[:-1].double(), zero[1:].double()
    # And independently: neighbours are both zero as often as two coins.
    assert float((first * second).mean()) == pytest.approx(0.0625, abs=5 * (0.0625 / DRAWS) ** 0.5)


def test_a_part_without_density_takes_the_density_away_and_is_named():
    distribution = mix(["isotropic", "vocabulary", {"instruction": {"text": "a b"}}]).fit(TableSource())
    assert not distribution.has_density
    with pytest.raises(ValueError, match="no density, as its component vocabulary, instruction has none"):
        distribution.log_prob(torch.zeros(1, 4))


def test_smooth_where_all_parts_are():
    assert mix(["isotropic", "fitted"]).smooth()
    assert not mix(["isotropic", "xavier"]).smooth()


SHELL = {"exclusion": {"quantile": 0.5}}


@pytest.mark.parametrize(
    ("priors", "support"),
    [
        (["vocabulary", {"instruction": {"text": "a b"}}], "points"),
        ([SHELL, {"exclusion": {"quantile": 0.9}}], "bounded"),  # two radii
        ([SHELL, "vocabulary"], "bounded"),
        (["xavier", SHELL], "bounded"),
        (["exclusion", "xavier"], "everywhere"),  # the cube may lie where exclusion has no mass
        (["exclusion", "low_density"], "everywhere"),
        (["isotropic", "vocabulary"], "everywhere"),
    ],
)
def test_the_support_is_wide_enough_for_all_parts(priors, support):
    assert mix(priors).fit(TableSource()).support == support


def test_the_record_has_every_part_with_its_weight():
    record = mix(["isotropic", {"exclusion": {"quantile": 0.5}}], [0.3, 0.7]).fit(TableSource()).record()
    assert record["0_isotropic"] == {"weight": 0.3}
    assert record["1_exclusion"]["weight"] == 0.7
    assert record["1_exclusion"]["tokens"] == 120


def test_weights_may_be_off_by_the_rounding_of_decimals():
    mix(["zeros", "isotropic", "fitted"], [0.3333333, 0.3333333, 0.3333334])
    with pytest.raises(UserError, match="weights sum to"):
        mix(["zeros", "isotropic", "fitted"], [0.333, 0.333, 0.333])


@pytest.mark.parametrize(
    ("priors", "weights", "sentence"),
    [
        (["zeros", "fitted"], [0.5, 0.6], r"weights sum to 1\.1; they must sum to 1"),
        (["zeros", "fitted"], [1.0], "1 weight for 2 priors; give one weight per prior"),
        (["zeros", "fitted"], [0.2, 0.3, 0.5], "3 weights for 2 priors; give one weight per prior"),
        (["zeros", "fitted"], [0.0, 1.0], r"weights\[0\] = 0\.0: must be greater than 0"),
        (["zeros"], None, r"priors = \['zeros'\]: must have 2 or more entries; add entries"),
        (["zeros", "fited"], None, r".*'fited' cannot be used here; did you mean 'fitted'\?.*"),
        (["zeros", {"mixture": {"priors": ["zeros", "fitted"]}}], None, r".*'mixture' cannot be used here.*"),
        (["zeros", {"by_place": {"default": "zeros"}}], None, r".*'by_place' cannot be used here.*"),
        (
            ["zeros", {"isotropic": {"scale": -1.0}}],
            None,
            r"priors\[1\]\.isotropic\.scale = -1\.0: must be greater than 0",
        ),
        (
            ["zeros", {"isotropic": {"sale": 1.0}}],
            None,
            r"unknown key 'priors\[1\]\.isotropic\.sale'; did you mean.*",
        ),
    ],
)
def test_wrong_parameters(priors, weights, sentence):
    with pytest.raises(UserError, match=rf"^study\.yaml: {sentence}$"):
        mix(priors, weights)
