"""There is nothing to draw, and only keys and values may start from it."""

import pytest
import torch

from softprior.errors import UserError
from softprior.priors import PRIORS
from softprior.prompt import Place
from softprior.seeding import torch_generator
from softprior.testing.priors import TableSource


def at(place: Place) -> TableSource:
    source = TableSource(hidden=5, tokens=3)
    source.place = place
    return source


@pytest.mark.parametrize("place", [Place(0, "key"), Place(3, "value")])
def test_every_vector_is_zero(place):
    distribution = PRIORS["zeros"]().fit(at(place))
    assert torch.equal(distribution.sample(torch_generator(1), 3), torch.zeros(3, 5))
    assert distribution.record() == {}
    assert distribution.reference() is None


@pytest.mark.parametrize("place", [Place(0), Place(7, after="cut"), Place(0, stack="encoder")])
def test_residual_places_are_refused_with_the_remedy(place):
    sentence = rf"keys and values of a prefix, not for {place.name}, .*; use isotropic with a small scale$"
    with pytest.raises(UserError, match=sentence):
        PRIORS["zeros"]().fit(at(place))


def test_it_leaves_the_generator_alone():
    generator = torch_generator(0)
    PRIORS["zeros"]().fit(at(Place(0, "key"))).sample(generator, 3)
    assert torch.equal(generator.get_state(), torch_generator(0).get_state())


def test_there_is_no_density_and_nothing_to_be_pulled_to():
    assert not PRIORS["zeros"]().smooth()
    with pytest.raises(ValueError, match="Zeros samples from finitely many vectors and has no density"):
        PRIORS["zeros"]().fit(at(Place(0, "key"))).log_prob(torch.zeros(1, 5))
