"""Tokens are drawn without repetition, and there have to be enough of them."""

import pytest
import torch

from softprior.errors import UserError
from softprior.priors import PRIORS
from softprior.seeding import torch_generator
from softprior.testing.priors import TableSource


def test_tokens_are_distinct_even_when_all_are_taken():
    source = TableSource(tokens=60, size=60)
    distribution = PRIORS["vocabulary"]().fit(source)
    sample = distribution.sample(torch_generator(0), 60)
    assert len(sample.unique(dim=0)) == 60
    assert torch.equal(sample.unique(dim=0), source.vocabulary().unique(dim=0))


def test_more_vectors_than_tokens_are_refused():
    with pytest.raises(UserError, match=r"61 prompt tokens are more than the model's 60; use fewer"):
        PRIORS["vocabulary"]().fit(TableSource(tokens=61, size=60))
