"""The bound of Glorot and Bengio's cube, and its edge."""

import math

import pytest
import torch

from softprior.priors import PRIORS
from softprior.seeding import torch_generator
from softprior.testing.priors import TableSource


@pytest.mark.parametrize(("hidden", "tokens"), [(4, 6), (1, 1), (576, 20)])
def test_the_bound_depends_on_hidden_size_and_prompt_length(hidden, tokens):
    distribution = PRIORS["xavier"]().fit(TableSource(hidden, tokens))
    bound = math.sqrt(6 / (hidden + tokens))
    assert distribution.record() == {"bound": bound}
    largest = distribution.sample(torch_generator(0), 20_000 // hidden).abs().max()
    # The largest of n uniform numbers is short of the bound by 1/n on average; float32 rounds by 6e-8.
    assert 0.995 * bound < largest <= bound * (1 + 1e-7)


def test_the_density_ends_at_the_bound():
    distribution = PRIORS["xavier"]().fit(TableSource(2, 4))
    inside = torch.tensor([[1.0, -1.0], [0.0, 0.5]], dtype=torch.float64)
    outside = torch.tensor([[1 + 1e-9, 0.0], [0.0, -1 - 1e-9]], dtype=torch.float64)
    torch.testing.assert_close(
        distribution.log_prob(inside), torch.full((2,), -math.log(4), dtype=torch.float64)
    )
    assert distribution.log_prob(outside).tolist() == [-math.inf, -math.inf]


def test_samples_are_inside_their_own_support():
    distribution = PRIORS["xavier"]().fit(TableSource(3, 7))
    sample = distribution.sample(torch_generator(0), 100_000)
    assert bool(distribution.log_prob(sample).isfinite().all())
