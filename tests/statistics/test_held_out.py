"""Held-out radii against fits that really are made without the document, and against fresh data."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from softprior.seeding import torch_generator
from softprior.statistics.gaussian import GaussianFit, fit_gaussian
from softprior.statistics.held_out import HeldOutRadii, held_out_radii
from softprior.statistics.moments import Moments
from softprior.statistics.store import SiteStatistics

WIDTH = 48


def noise(*shape: int, seed: object = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "held out", str(seed)), dtype=torch.float64)


def statistics(
    vectors: torch.Tensor, documents: torch.Tensor | None, kept: torch.Tensor | None = None
) -> SiteStatistics:
    """Of all vectors, with those kept as the sample."""
    count = len(vectors) if documents is None else len(documents.unique())
    rows = torch.arange(len(vectors)) if kept is None else kept
    facts = {} if documents is None else {"document": documents[rows]}
    return SiteStatistics(Moments.empty(vectors.shape[1]).update(vectors), count, 0, vectors[rows], facts)


def without(vectors: torch.Tensor, documents: torch.Tensor, fit: GaussianFit) -> torch.Tensor:
    """Radii under the covariance of all other documents, shrunk as the whole was, one fit for each."""
    whole = Moments.empty(vectors.shape[1]).update(vectors).covariance()
    identity = torch.eye(len(whole), dtype=torch.float64)
    floor = fit.shrinkage * float(whole.trace()) / len(whole) + fit.jitter
    found = torch.empty(len(vectors), dtype=torch.float64)
    for document in documents.unique():
        own = documents == document
        rest = Moments.empty(vectors.shape[1]).update(vectors[~own])
        covariance = (1 - fit.shrinkage) * rest.covariance() + floor * identity
        centred = vectors[own] - rest.mean
        found[own] = (centred * torch.linalg.solve(covariance, centred.T).T).sum(1).sqrt()
    return found


@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=8),
    dimension=st.integers(1, 8),
    shrinkage=st.sampled_from([None, 0.02, 1.0]),
    jitter=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=25)
def test_radii_are_those_of_fits_without_the_document(sizes, dimension, shrinkage, jitter, seed):
    documents = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    documents = documents[torch.randperm(len(documents), generator=torch_generator(seed))]
    means = noise(len(sizes), dimension, seed="means")
    vectors = noise(len(documents), dimension, seed=seed) + means[documents]
    if len(vectors) - max(sizes) < 2:
        return
    data = statistics(vectors + 5, documents)
    fit = fit_gaussian(data.moments, shrinkage, jitter)
    found = held_out_radii(data, fit)
    assert found.without == "document"
    # The sample is float64 here and float32 in a store.
    torch.testing.assert_close(found.radii, without(vectors + 5, documents, fit), rtol=1e-7, atol=1e-9)


def test_vectors_that_are_their_own_documents_need_no_facts():
    vectors = noise(40, 6)
    plain, named = statistics(vectors, None), statistics(vectors, torch.arange(40))
    fit = fit_gaussian(plain.moments)
    found = held_out_radii(plain, fit)
    assert found.without == held_out_radii(named, fit).without == "document"
    expected = without(vectors, torch.arange(40), fit)
    torch.testing.assert_close(found.radii, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(held_out_radii(named, fit).radii, expected, rtol=1e-9, atol=0)


def fresh_median(found: HeldOutRadii, fit: GaussianFit, fresh: torch.Tensor) -> float:
    """Where the median of fresh data stands among the radii."""
    return float((found.radii <= fit.gaussian.radius(fresh).median()).double().mean())


def topics(documents: int, tokens: int, between: float, seed: object) -> torch.Tensor:
    """Gaussian data of documents that have a mean and five directions of their own beside what all share."""
    spread = torch.logspace(0, -1, WIDTH, dtype=torch.float64)
    mean = noise(documents, 1, WIDTH, seed=f"mean {seed}") * between**0.5
    own = noise(documents, 5, WIDTH, seed=f"own {seed}") * (between / 5) ** 0.5
    shared = noise(documents, tokens, WIDTH, seed=f"shared {seed}")
    return (shared + mean + noise(documents, tokens, 5, seed=f"along {seed}") @ own) * spread


@pytest.mark.parametrize(("documents", "tokens", "between"), [(100, 40, 0.0), (100, 40, 0.5), (30, 60, 0.5)])
def test_the_median_of_fresh_documents_is_that_of_held_out_ones(documents, tokens, between):
    data = topics(documents, tokens, between, "data").flatten(0, 1)
    owners = torch.arange(documents).repeat_interleave(tokens)
    fresh = topics(400, 5, between, "fresh").flatten(0, 1)
    whole = statistics(data, owners)
    fit = fit_gaussian(whole.moments)
    held = held_out_radii(whole, fit)
    assert fresh_median(held, fit, fresh) == pytest.approx(0.5, abs=0.05)
    own = HeldOutRadii(fit.gaussian.radius(data), "nothing", 0.0)
    assert between == 0 or fresh_median(own, fit, fresh) > 0.55


def test_of_a_sample_the_rest_of_a_document_is_estimated():
    data = topics(100, 40, 0.5, "data").flatten(0, 1)
    owners = torch.arange(100).repeat_interleave(40)
    kept = torch.randperm(4000, generator=torch_generator(0))[:1000]
    part = statistics(data, owners, kept)
    fit = fit_gaussian(part.moments)
    found, exact = held_out_radii(part, fit), held_out_radii(statistics(data, owners), fit)
    assert found.without == "document"
    assert found.effective_rank == exact.effective_rank
    assert float(found.radii.median()) == pytest.approx(float(exact.radii.median()), rel=0.01)
    alone = fit.gaussian.radius(data[kept])
    assert float(alone.median()) < 0.98 * float(exact.radii.median())


def test_few_documents_of_which_a_sample_is_known_are_said_to_be_in_the_fit():
    data = topics(12, 200, 0.5, "few").flatten(0, 1)
    owners = torch.arange(12).repeat_interleave(200)
    kept = torch.randperm(2400, generator=torch_generator(0))[:500]
    part = statistics(data, owners, kept)
    found = held_out_radii(part, fit_gaussian(part.moments))
    assert found.without == "vector"
    alone = torch.zeros(2400, dtype=torch.long).index_fill(0, kept[:1], 1)
    expected = without(data, alone, fit_gaussian(part.moments))[kept[0]]
    assert float(found.radii[0]) == pytest.approx(float(expected), rel=1e-9)


def test_where_too_little_is_left_the_radii_are_named_as_what_they_are():
    vectors = noise(20, 6)
    one = statistics(vectors, torch.zeros(20, dtype=torch.long))
    assert held_out_radii(one, fit_gaussian(one.moments)).without == "vector"
    halves = statistics(vectors, torch.arange(20) // 15)  # five vectors are left of six dimensions
    exact = fit_gaussian(halves.moments, shrinkage=0.0)
    assert held_out_radii(halves, exact).without == "vector"
    assert held_out_radii(halves, fit_gaussian(halves.moments, shrinkage=0.01)).without == "document"
    seven = statistics(vectors[:7], None)
    full = fit_gaussian(seven.moments, shrinkage=0.0)
    found = held_out_radii(seven, full)
    assert found.without == "nothing"
    torch.testing.assert_close(found.radii, full.gaussian.radius(vectors[:7]), rtol=1e-8, atol=0)


@pytest.mark.parametrize("rank", [3, 11, WIDTH])
def test_the_effective_rank_is_the_number_of_directions_in_which_data_vary(rank):
    vectors = noise(4000, rank) @ noise(rank, WIDTH, seed="directions")
    data = statistics(vectors, None)
    found = held_out_radii(data, fit_gaussian(data.moments, shrinkage=1e-6))
    assert found.effective_rank == pytest.approx(rank, rel=0.01)
    assert found.effective_rank == pytest.approx(float(found.radii.square().mean()), rel=0.04)
