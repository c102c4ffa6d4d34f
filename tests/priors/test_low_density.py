"""Draws keep their distance from the data, and the distance is one of the data's own."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS
from softprior.priors.low_density import TRIALS, distinct, neighbour_distance
from softprior.seeding import torch_generator
from softprior.testing.priors import TableSource


def own_distances(data: torch.Tensor, k: int) -> np.ndarray:
    """Distance of every vector to the k-th nearest other one, by sorting all of them."""
    exact = data.double().numpy()
    distances = cdist(exact, exact)
    np.fill_diagonal(distances, np.inf)
    return np.sort(distances, axis=1)[:, k - 1]


@pytest.mark.parametrize("neighbours", [1, 10])
@pytest.mark.parametrize("quantile", [0.2, 0.8])
@pytest.mark.parametrize("spread", [1.0, 1.5])
def test_every_draw_is_as_far_from_the_data_as_that_quantile_of_its_own(neighbours, quantile, spread):
    source = TableSource(size=300)
    prior = PRIORS["low_density"](neighbours=neighbours, quantile=quantile, spread=spread)
    distribution = prior.fit(source)
    data = source.vocabulary()
    threshold = np.quantile(own_distances(data, neighbours), quantile)
    assert distribution.record()["threshold"] == pytest.approx(threshold, rel=1e-5)
    sample = distribution.sample(torch_generator(0), 200)
    far = np.sort(cdist(sample.double().numpy(), data.double().numpy()), axis=1)[:, neighbours - 1]
    # Distances of float32 vectors by products are off by up to 1e-5 of themselves.
    assert far.min() >= threshold * (1 - 1e-5)


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("k", [1, 7])
def test_neighbour_distances_are_exact_even_far_from_the_origin(offset, k):
    vectors = torch.randn(1100, 6, generator=torch_generator(0)) + offset
    data = torch.randn(300, 6, generator=torch_generator(1)) + offset
    expected = np.sort(cdist(vectors.double().numpy(), data.double().numpy()), axis=1)[:, k - 1]
    np.testing.assert_allclose(neighbour_distance(vectors, data, k), expected, rtol=1e-4)


def test_quantile_zero_accepts_all_that_is_no_denser_than_the_densest():
    source = TableSource(size=300)
    distribution = PRIORS["low_density"](quantile=0.0, spread=1.0).fit(source)
    record = distribution.record()
    assert record["threshold"] == pytest.approx(own_distances(source.vocabulary(), 10).min(), rel=1e-5)
    assert record["acceptance"] > 0.9


def test_the_acceptance_is_that_of_the_gaussian():
    source = TableSource(size=300)
    distribution = PRIORS["low_density"](quantile=0.7, spread=1.0).fit(source)
    record = distribution.record()
    draws = distribution.fit.gaussian.sample(torch_generator(8), 20_000).numpy()
    far = np.sort(cdist(draws, source.vocabulary().double().numpy()), axis=1)[:, 9]
    expected = (far >= record["threshold"]).mean()
    # Five standard errors of a share among a thousand draws.
    assert record["acceptance"] == pytest.approx(expected, abs=5 * (0.25 / TRIALS) ** 0.5)
    assert 0.05 < expected < 0.95
    assert (record["tokens"], record["source"]) == (300, "vocabulary")


def test_a_higher_quantile_accepts_less_and_a_wider_gaussian_more():
    def acceptance(**params: float) -> float:
        return PRIORS["low_density"](**params).fit(TableSource(size=300)).record()["acceptance"]

    by_quantile = [acceptance(quantile=q) for q in (0.1, 0.5, 0.9)]
    assert by_quantile == sorted(by_quantile, reverse=True)
    by_spread = [acceptance(quantile=0.5, spread=s) for s in (0.5, 1.0, 2.0)]
    assert by_spread == sorted(by_spread)


class Repeated(TableSource):
    """A table whose rows stand there several times, as answers do at the embedding level."""

    def __init__(self, times: int, noise: float, size: int = 300) -> None:
        super().__init__(size=size)
        self.times, self.noise = times, noise

    def vocabulary(self):
        table = super().vocabulary()
        jitter = self.noise * torch.randn(self.times * len(table), 4, generator=torch_generator(3))
        jitter[: len(table)] = 0
        return table.repeat(self.times, 1) + jitter

    @property
    def fingerprint(self):
        return f"{super().fingerprint}-{self.times}-{self.noise}"


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_copies_are_no_neighbours(noise):
    prior = PRIORS["low_density"](quantile=0.6, spread=1.5)
    found = prior.fit(Repeated(12, noise)).record()
    once = prior.fit(TableSource(size=300)).record()
    assert (found["distinct"], once["distinct"], found["tokens"]) == (300, 300, 3600)
    assert found["threshold"] == pytest.approx(once["threshold"], rel=1e-6)
    assert 0.05 < found["acceptance"] < 0.95


def test_vectors_without_copies_stay_as_they_are():
    data = TableSource(size=300).vocabulary()
    assert torch.equal(distinct(data), data)
    assert torch.equal(distinct(torch.cat([data, data[:40].flip(0)])), data)


def test_a_threshold_near_zero_is_refused():
    # Pairs a thousandth of the spread apart are two vectors each, and no neighbours worth the name.
    sentence = r"^low_density keeps a distance of .* from vocabulary with quantile = 0\.5 and "
    with pytest.raises(UserError, match=sentence + "neighbours = 1, less than 1% of their own spread"):
        PRIORS["low_density"](neighbours=1, quantile=0.5).fit(Repeated(2, 2e-3))


def test_more_neighbours_than_vectors_are_refused():
    PRIORS["low_density"](neighbours=29, quantile=0.5).fit(TableSource(size=30))
    sentence = r"^neighbours = 30 needs more distinct vectors than the 30 of vocabulary; lower it$"
    with pytest.raises(UserError, match=sentence):
        PRIORS["low_density"](neighbours=30, quantile=0.5).fit(TableSource(size=30))


def test_a_gap_that_is_never_found_is_refused():
    sentence = (
        r"^low_density accepts fewer than 1% of its draws with quantile = 1 and spread = 0\.01; "
        "lower the quantile or raise the spread$"
    )
    with pytest.raises(UserError, match=sentence):
        PRIORS["low_density"](quantile=1.0, spread=0.01).fit(TableSource())


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"neighbours": 0}, "neighbours = 0: must be at least 1"),
        ({"neighbours": 101}, "neighbours = 101: must be at most 100"),
        ({"quantile": 1.5}, r"quantile = 1\.5: must be at most 1"),
        ({"quantile": -0.5}, r"quantile = -0\.5: must be at least 0"),
        ({"spread": 0.0}, r"spread = 0\.0: must be greater than 0"),
    ],
)
def test_wrong_parameters(params, sentence):
    with pytest.raises(UserError, match=rf"^study\.yaml: {sentence}$"):
        validate(PRIORS["low_density"], params, "study.yaml")
