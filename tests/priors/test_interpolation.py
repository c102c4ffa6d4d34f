"""Draws lie between two domains, and at the ends of the weight they are the domains' own."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import kstest, norm

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS
from softprior.seeding import torch_generator
from softprior.statistics.store import SiteStatistics, save_statistics
from softprior.testing.priors import DRAWS, TableSource, check_moments

TINY = 1e-5
"""Spread of a cluster that is all but a point."""

FIRST, SECOND = {"part": [0.0, 0.5]}, {"part": [0.5, 1.0]}


def between(low: float, high: float, **params: object):
    return validate(PRIORS["interpolation"], {"low": low, "high": high, **params}, "study.yaml")


def point(folder: Path, task: str, mean: list[float], spread: float = TINY) -> dict[str, object]:
    """A domain of vectors that are all but equal, unless a spread is given."""
    noise = torch.randn(20, len(mean), generator=torch_generator(0, task))
    vectors = torch.tensor(mean) + spread * noise
    save_statistics(folder, task, "resid.0", "table", {"all": SiteStatistics.of(vectors)})
    return {"statistics": str(folder), "task": task}


coordinates = st.floats(-10, 10, allow_subnormal=False)
ranges = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


@given(
    means=st.integers(1, 5).flatmap(
        lambda h: st.tuples(*[st.lists(coordinates, min_size=h, max_size=h)] * 2)
    ),
    weights=ranges,
    seed=st.integers(0, 2**32),
)
@settings(max_examples=25)
def test_between_two_points_draws_are_on_the_segment(means, weights, seed):
    low, high = weights
    with tempfile.TemporaryDirectory() as name:
        ends = {k: point(Path(name), k, mean) for k, mean in zip(("first", "second"), means, strict=True)}
        source = TableSource(hidden=len(means[0]))
        sample = between(low, high, **ends).fit(source).sample(torch_generator(seed), 20).double()
    first, second = torch.tensor(means, dtype=torch.float64)
    # The weight that explains a draw best; clamped to its range, it must still explain it.
    along = first - second
    weight = ((sample - second) @ along / along.square().sum().clamp_min(1e-30)).clamp(low, high)[:, None]
    off = (sample - weight * first - (1 - weight) * second).norm(dim=1)
    # Ten spreads of a cluster in each coordinate, and float32 at a distance of 10.
    assert float(off.max()) < (10 * TINY + 1e-5) * len(first) ** 0.5


def test_weights_are_uniform_on_their_range(tmp_path):
    ends = {"first": point(tmp_path, "a", [1.0, 0.0]), "second": point(tmp_path, "b", [-1.0, 0.0])}
    sample = between(0.2, 0.6, **ends).fit(TableSource(hidden=2)).sample(torch_generator(0), 5000)
    weights = (sample[:, 0].double() + 1) / 2
    # A p-value below 0.1% would call them something else; the seed is fixed.
    assert kstest(weights.numpy(), "uniform", args=(0.2, 0.4)).pvalue > 1e-3


@pytest.mark.parametrize(("weight", "part"), [(1.0, FIRST), (0.0, SECOND)])
def test_at_its_ends_it_is_the_domains_own_gaussian(weight, part):
    source = TableSource()
    found = between(weight, weight).fit(source)
    fitted = validate(PRIORS["fitted"], part, "study.yaml").fit(source)
    points = torch.cat(
        [fitted.sample(torch_generator(0), 50), torch.randn(50, 4, generator=torch_generator(1))]
    )
    np.testing.assert_allclose(found.log_prob(points), fitted.log_prob(points), rtol=1e-10)
    gaussian = fitted.fit.gaussian
    sample = found.sample(torch_generator(2), DRAWS).double()
    check_moments(sample, gaussian.mean, gaussian.factor @ gaussian.factor.T, 1e-6, 1e-6)


@given(weight=st.floats(0, 1))
@settings(max_examples=20)
def test_a_fixed_weight_has_the_moments_of_the_sum(weight):
    found = between(weight, weight).fit(TableSource())
    x, y = found.first.gaussian, found.second.gaussian
    mean = weight * x.mean + (1 - weight) * y.mean
    covariance = weight**2 * x.factor @ x.factor.T + (1 - weight) ** 2 * y.factor @ y.factor.T
    # One seed for all weights: chance cannot fail what has passed.
    sample = found.sample(torch_generator(0), 4000).double()
    check_moments(sample, mean, covariance, 1e-6, 1e-6)


def literal(found, points, steps=20_001):
    """The integral over the weight by the trapezoid rule, in one coordinate."""
    x, y = found.first.gaussian, found.second.gaussian
    a = np.linspace(0, 1, steps)
    deviation = np.sqrt(a**2 * float(x.factor) ** 2 + (1 - a) ** 2 * float(y.factor) ** 2)
    logs = norm(a * float(x.mean) + (1 - a) * float(y.mean), deviation).logpdf(points.numpy())
    shares = np.full(steps, 1 / (steps - 1))
    shares[[0, -1]] /= 2
    return logsumexp(logs, axis=1, b=shares)


@pytest.mark.parametrize("apart", [0.0, 30.0, 1000.0])
@pytest.mark.parametrize("beside", [0.0, 30.0])
def test_the_density_holds_however_far_apart_the_domains_are(tmp_path, apart, beside):
    """1,000 standard deviations apart a rule of 512 nodes is off by 7 nats."""
    ends = {
        "first": point(tmp_path, "a", [apart], spread=1.0),
        "second": point(tmp_path, "b", [0.0], spread=0.2),
    }
    found = between(0.0, 1.0, **ends).fit(TableSource(hidden=1))
    points = found.sample(torch_generator(0), 6).double() + beside
    # The trapezoid rule with 20,000 steps is exact to its second order.
    np.testing.assert_allclose(found.log_prob(points), literal(found, points), rtol=1e-5)


def test_domains_too_far_apart_are_refused(tmp_path):
    ends = {
        "first": point(tmp_path, "a", [1e6], spread=1.0),
        "second": point(tmp_path, "b", [0.0], spread=1.0),
    }
    found = between(0.0, 1.0, **ends).fit(TableSource(hidden=1))
    with pytest.raises(UserError, match=r"takes [\d,]+ panels, more than 8,192.*give low and high"):
        found.log_prob(torch.zeros(1, 1))


def test_the_record_has_both_fits():
    record = PRIORS["interpolation"]().fit(TableSource(size=120)).record()
    assert (record["first_source"], record["second_source"]) == ("vocabulary 0-0.5", "vocabulary 0.5-1")
    assert record["first_tokens"] == record["second_tokens"] == 60


def test_contents_are_those_of_both_domains(tmp_path):
    ends = {"first": point(tmp_path, "a", [1.0, 0.0]), "second": point(tmp_path, "b", [-1.0, 0.0])}
    both = between(0.0, 1.0, **ends)
    assert both.contents() == (*both.first.contents(), *both.second.contents())
    assert len(set(both.contents())) == 2
    assert PRIORS["interpolation"]().contents() == ()


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"low": 0.7, "high": 0.3}, r"low = 0\.7 is above high = 0\.3; swap them"),
        ({"low": -0.1}, r"low = -0\.1: must be at least 0"),
        ({"high": 1.5}, r"high = 1\.5: must be at most 1"),
        ({"first": {"part": [0.5, 0.5]}}, r".*part = \[0\.5, 0\.5\] is empty.*"),
        ({"first": {"parts": [0.0, 0.5]}}, r"unknown key 'first\.parts'; did you mean 'first\.part'\?.*"),
    ],
)
def test_wrong_parameters(params, sentence):
    with pytest.raises(UserError, match=rf"^study\.yaml: {sentence}$"):
        validate(PRIORS["interpolation"], params, "study.yaml")
