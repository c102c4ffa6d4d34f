"""What every method of the table promises, and what single ones promise besides."""

import pytest

from softprior.errors import UserError
from softprior.methods import METHODS
from softprior.prompt import Place
from softprior.testing.methods import (
    BLOCKS,
    check_places,
    check_serialisation,
    check_strictness,
    check_text,
    check_training,
)

every_method = pytest.mark.parametrize("name", sorted(METHODS))


@pytest.mark.parametrize("blocks", BLOCKS)
@every_method
def test_places(name, blocks):
    check_places(METHODS[name](), blocks)


@every_method
def test_trained_methods_have_vectors_and_baselines_have_none(name):
    check_training(METHODS[name]())


@every_method
def test_text(name):
    check_text(METHODS[name]())


@every_method
def test_serialisation(name):
    check_serialisation(METHODS[name], METHODS[name]())


@every_method
def test_wrong_parameters(name):
    check_strictness(METHODS[name])


def test_the_baselines_are_those_without_training():
    assert sorted(name for name, kind in METHODS.items() if not kind.trained) == ["instruction", "none"]


def test_soft_is_one_kept_place_at_the_token_level():
    assert METHODS["soft"](tokens=7).places(30) == (Place(0),)
    assert METHODS["soft"](tokens=7).count() == 7


def test_deep_is_the_papers_by_default():
    method = METHODS["deep"]()
    assert method.places(30) == tuple(Place(block, after="cut") for block in (0, 27, 28, 29))
    assert method.count() == 20


def test_deep_takes_other_blocks_and_a_kept_token_level():
    method = METHODS["deep"](tokens=2, last=1, token_level="keep")
    assert method.places(4) == (Place(0, after="keep"), Place(3, after="cut"))


def test_deep_needs_more_blocks_than_it_takes():
    assert len(METHODS["deep"](last=3).places(4)) == 4
    for last in (4, 5):
        with pytest.raises(UserError, match=rf"deep.last = {last} .* model with 4; use at most 3"):
            METHODS["deep"](last=last).places(4)


def test_a_written_instruction_wins_over_the_tasks():
    assert METHODS["instruction"]().text("the task's") == "the task's"
    assert METHODS["instruction"](written="mine").text("the task's") == "mine"
    assert METHODS["instruction"](written="").text("the task's") == ""
    assert METHODS["none"]().text("the task's") == ""
