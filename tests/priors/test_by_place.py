"""Which prior a place gets, and that unknown ones are refused when the study is read."""

import pytest
import torch

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS, assignment
from softprior.prompt import Place
from softprior.seeding import torch_generator
from softprior.testing.priors import TableSource


def scaled(scale: float) -> dict[str, dict[str, float]]:
    return {"isotropic": {"scale": scale}}


def chosen(place: Place, **params: object) -> float:
    """The scale of the isotropic prior that a place got."""
    source = TableSource()
    source.place = place
    return validate(PRIORS["by_place"], params, "study.yaml").fit(source).scale


ALL = {
    "default": scaled(1.0),
    "keys": scaled(2.0),
    "values": scaled(3.0),
    "blocks": {"1": scaled(4.0), "5": scaled(5.0)},
}


@pytest.mark.parametrize(
    ("place", "scale"),
    [
        (Place(0), 1.0),
        (Place(0, after="cut"), 1.0),
        (Place(2, stack="encoder"), 1.0),
        (Place(0, "key"), 2.0),
        (Place(0, "value"), 3.0),
        (Place(1), 4.0),
        (Place(1, "key"), 4.0),
        (Place(5, "value"), 5.0),
    ],
)
def test_a_block_wins_over_a_kind_and_a_kind_over_the_default(place, scale):
    assert chosen(place, **ALL) == scale


def test_kinds_without_a_prior_have_the_default():
    assert chosen(Place(0, "key"), default=scaled(1.0), values=scaled(3.0)) == 1.0
    assert chosen(Place(0, "value"), default=scaled(1.0), keys=scaled(2.0)) == 1.0
    assert chosen(Place(0, "value"), default=scaled(1.0), keys=None, blocks={}) == 1.0


def test_it_samples_what_the_chosen_prior_samples():
    source = TableSource()
    found = validate(PRIORS["by_place"], {"default": "xavier", "blocks": {"0": "fitted"}}, "study.yaml")
    one = found.fit(source).sample(torch_generator(0), 6)
    assert torch.equal(one, PRIORS["fitted"]().fit(source).sample(torch_generator(0), 6))
    source.place = Place(1)
    two = found.fit(source).sample(torch_generator(0), 6)
    assert torch.equal(two, PRIORS["xavier"]().fit(source).sample(torch_generator(0), 6))


def test_a_mixture_may_stand_at_a_place():
    mixture = {"mixture": {"priors": ["vocabulary", "isotropic"]}}
    found = validate(PRIORS["by_place"], {"default": mixture}, "study.yaml").fit(TableSource())
    assert not found.has_density


def test_smooth_where_every_prior_is():
    def smooth(**params: object) -> bool:
        return validate(PRIORS["by_place"], params, "study.yaml").smooth()

    assert smooth(default="fitted", keys="isotropic", blocks={"3": "interpolation"})
    assert not smooth(default="fitted", keys="xavier")
    assert not smooth(default="fitted", blocks={"3": "zeros"})


def test_the_prior_at_a_place_is_the_one_it_gets():
    prior = validate(PRIORS["by_place"], {**ALL, "values": "zeros"}, "study.yaml")
    assert assignment(prior).at(Place(0)) == PRIORS["isotropic"](scale=1.0)
    assert assignment(prior).at(Place(3, "value")) == PRIORS["zeros"]()
    assert assignment(prior).at(Place(5, "value")) == PRIORS["isotropic"](scale=5.0)
    assert assignment(PRIORS["zeros"]()).at(Place(0)) == PRIORS["zeros"]()


@pytest.mark.parametrize(
    ("params", "kinds"),
    [
        ({"default": "fitted", "blocks": {"3": "zeros"}}, {"residual", "key", "value"}),
        ({"default": "zeros", "blocks": {"0": "fitted"}}, {"residual", "key", "value"}),
        ({"default": "zeros", "keys": "fitted"}, {"key", "value"}),
    ],
)
def test_its_kinds_are_those_it_can_start_at_some_block(params, kinds):
    assert validate(PRIORS["by_place"], params, "study.yaml").kinds() == kinds


def test_zeros_may_stand_at_the_kinds_they_are_for():
    found = validate(PRIORS["by_place"], {"default": "fitted", "keys": "zeros"}, "study.yaml")
    source = TableSource()
    source.place = Place(3, "key")
    assert not found.fit(source).sample(torch_generator(0), 6).any()
    source.place = Place(3, "value")
    assert found.fit(source).sample(torch_generator(0), 6).any()


def test_defaults_are_written_out_so_that_equal_priors_have_one_identity():
    short = validate(PRIORS["by_place"], {"default": "isotropic"}, "study.yaml")
    long = validate(PRIORS["by_place"], {"default": scaled(0.02)}, "study.yaml")
    assert short.canonical() == long.canonical()


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({}, "the key 'default' is required and has no default; add it"),
        ({"default": "fited"}, r".*'fited' cannot be used here; did you mean 'fitted'\?.*"),
        ({"default": "zeros", "keys": "zeroes"}, r".*'zeroes' cannot be used here; did you mean 'zeros'\?.*"),
        (
            {"default": "zeros", "blocks": {"2": "xaver"}},
            r".*'xaver' cannot be used here; did you mean 'xavier'\?.*",
        ),
        ({"default": {"by_place": {"default": "zeros"}}}, r".*'by_place' cannot be used here.*"),
        ({"default": scaled(-1.0)}, r"default\.isotropic\.scale = -1\.0: must be greater than 0"),
        ({"default": "zeros", "keys": "instruction"}, "the key 'keys.instruction.text' is required .*"),
        (
            {"default": "zeros", "blocks": {"2": {"vae": {"stps": 1}}}},
            r"unknown key 'blocks\.2\.vae\.stps'.*",
        ),
        ({"default": "zeros", "blocks": {"-1": "zeros"}}, "blocks: the key '-1' must be at least 0"),
        (
            {"default": "zeros", "blocks": {"first": "zeros"}},
            "blocks: the key 'first' must be a whole number, such as 0",
        ),
        ({"default": "zeros", "blocks": {"1.5": "zeros"}}, "blocks: the key '1.5' must be a whole number.*"),
        ({"default": "zeros", "blocks": ["zeros"]}, "blocks = .* must be a mapping of keys to values"),
        ({"default": "zeros", "queries": "zeros"}, "unknown key 'queries'.*"),
    ],
)
def test_wrong_parameters(params, sentence):
    with pytest.raises(UserError, match=rf"^study\.yaml: ({sentence})$"):
        validate(PRIORS["by_place"], params, "study.yaml")
