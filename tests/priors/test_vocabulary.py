"""Tokens are drawn without repetition, and there have to be enough of them."""

import pytest
import torch

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS, Prior
from softprior.prompt import Place
from softprior.seeding import torch_generator
from softprior.testing.priors import TableSource
from softprior.training.source import PlaceSource
from tests.builders import tiny


def test_tokens_are_distinct_even_when_all_are_taken():
    source = TableSource(tokens=60, size=60)
    distribution = PRIORS["vocabulary"]().fit(source)
    sample = distribution.sample(torch_generator(0), 60)
    assert len(sample.unique(dim=0)) == 60
    assert torch.equal(sample.unique(dim=0), source.vocabulary().unique(dim=0))


def test_more_vectors_than_tokens_are_refused():
    with pytest.raises(UserError, match=r"61 prompt tokens are more than the model's 60; use fewer"):
        PRIORS["vocabulary"]().fit(TableSource(tokens=61, size=60))


def test_pairs_have_the_key_and_the_value_of_one_token():
    loaded = tiny()
    places = (Place(2, "key"), Place(2, "value"))
    sources = [PlaceSource(loaded.host, loaded.tokenizer, place, 4, places) for place in places]

    def tokens(prior: Prior) -> list[list[int]]:
        found = []
        for source in sources:
            generator = torch_generator(0, "prior", prior.draws(source.place))
            sample = prior.fit(source).sample(generator, 4)
            found.append(torch.cdist(sample, source.vocabulary().cpu()).argmin(1).tolist())
        return found

    key, value = tokens(PRIORS["by_place"](default={"vocabulary": {"pairs": True}}))
    assert key == value
    apart = tokens(PRIORS["vocabulary"]())
    assert apart[0] == key
    assert apart[1] != value


def test_ids_from_before_pairs_stay():
    assert PRIORS["vocabulary"]().canonical() == PRIORS["vocabulary"](pairs=False).canonical() == "{}"
    assert "pairs" in PRIORS["vocabulary"](pairs=True).canonical()


def test_pairs_in_a_mixture_are_refused():
    with pytest.raises(UserError, match="has a component with pairs"):
        validate(PRIORS["mixture"], {"priors": ["isotropic", {"vocabulary": {"pairs": True}}]}, "study.yaml")
