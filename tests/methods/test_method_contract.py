"""What every method of the table promises, and what single ones promise besides."""

from dataclasses import replace

import pytest

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.methods import METHODS
from softprior.prompt import Place
from softprior.testing import check_method
from softprior.testing.methods import BLOCKS, CHECKS, check_places

every_method = pytest.mark.parametrize("name", sorted(METHODS))


@pytest.mark.parametrize("blocks", BLOCKS)
@every_method
def test_places(name, blocks):
    check_places(METHODS[name](), blocks)


@pytest.mark.parametrize("check", CHECKS)
@every_method
def test_contract(name, check):
    check(METHODS[name]())


class Nowhere(METHODS["soft"]):
    """Has a count of vectors and no place."""

    def places(self, blocks, stack="decoder"):  # noqa: ARG002
        return ()


def test_one_call_runs_the_suite():
    check_method(METHODS["deep"](tokens=3))
    with pytest.raises(AssertionError):
        check_method(Nowhere())


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


@pytest.mark.parametrize("level", ["cut", "keep", "none"])
def test_deep_takes_any_set_of_blocks(level):
    method = METHODS["deep"](tokens=2, blocks=(3, 1, 3), token_level=level)
    deeper = (Place(1, after="cut"), Place(3, after="cut"))
    assert method.places(4) == (() if level == "none" else (Place(0, after=level),)) + deeper


def test_deep_may_train_the_token_level_alone():
    """Kept, these are the places of `soft`."""
    kept = METHODS["deep"](tokens=2, blocks=(), token_level="keep")
    assert kept.places(4) == METHODS["soft"](tokens=2).places(4)
    cut = METHODS["deep"](tokens=2, blocks=())
    assert cut.places(4) == (Place(0, after="cut"),)
    check_method(cut)
    with pytest.raises(UserError, match=r"blocks = \[\] with token_level = 'none' trains nothing"):
        validate(METHODS["deep"], {"blocks": [], "token_level": "none"}, "study.yaml")


def test_equal_choices_of_blocks_are_equal_methods():
    same = [
        validate(METHODS["deep"], {"blocks": blocks}, "x").canonical()
        for blocks in ([1, 2], [2, 1], [1, 2, 1])
    ]
    assert len(set(same)) == 1
    with pytest.raises(UserError, match="blocks replaces the last blocks, so last has no effect"):
        validate(METHODS["deep"], {"blocks": [1], "last": 2}, "study.yaml")


def test_deep_has_no_second_place_at_block_0():
    with pytest.raises(UserError, match="token_level = 'cut' has vectors already; set token_level to 'none'"):
        METHODS["deep"](blocks=(0, 2)).places(4)
    method = METHODS["deep"](blocks=(0,), token_level="none")
    assert method.places(4) == (Place(0, after="cut"),)


def test_prefix_has_keys_and_values_at_every_block_or_at_some():
    assert METHODS["prefix"]().places(2) == tuple(Place(b, k) for b in (0, 1) for k in ("key", "value"))
    assert METHODS["prefix"](blocks=(5,)).places(6) == (Place(5, "key"), Place(5, "value"))


@pytest.mark.parametrize("name", ["soft", "deep"])
def test_placement_is_said_by_every_place_and_left_out_by_default(name):
    front, behind = METHODS[name](), METHODS[name](placement="after_bos")
    check_method(behind)
    assert behind.places(8) == tuple(replace(place, placement="after_bos") for place in front.places(8))
    assert [place.in_front for place in behind.places(8)] == list(front.places(8))
    assert front == METHODS[name](placement="front")
    assert "placement" not in front.canonical()
    assert behind.places(8)[0].name.endswith(".after_bos")
    assert METHODS.entry(behind).shown.params == {"placement": "after_bos"}


def test_an_encoder_and_a_prefix_have_no_placement():
    with pytest.raises(
        UserError, match=r"after_bos is for decoder-only .* use the method's placement: front$"
    ):
        METHODS["soft"](placement="after_bos").places(4, "encoder")
    with pytest.raises(UserError, match="unknown key 'placement'"):
        validate(METHODS["prefix"], {"placement": "after_bos"}, "study.yaml")
    with pytest.raises(UserError, match="placement = 'behind'"):
        validate(METHODS["soft"], {"placement": "behind"}, "study.yaml")


@pytest.mark.parametrize("name", ["deep", "prefix"])
def test_a_block_that_does_not_exist(name):
    with pytest.raises(
        UserError, match=rf"{name}.blocks names block 9, but the model has blocks 0 to 3; leave"
    ):
        METHODS[name](blocks=(1, 9)).places(4)


@pytest.mark.parametrize("name", ["deep", "prefix"])
def test_an_encoder_takes_soft_prompts_only(name):
    assert METHODS["soft"]().places(4, "encoder") == (Place(0, stack="encoder"),)
    with pytest.raises(
        UserError, match=f"the method {name} is for decoder-only models; .* use the method soft"
    ):
        METHODS[name]().places(4, "encoder")


def test_a_written_instruction_wins_over_the_tasks():
    assert METHODS["instruction"]().text("the task's") == "the task's"
    assert METHODS["instruction"](written="mine").text("the task's") == "mine"
    assert METHODS["none"]().text("the task's") == ""


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_an_instruction_without_words_is_refused(text):
    with pytest.raises(UserError, match=r"written = .*: must not be empty or blank; write a text"):
        validate(METHODS["instruction"], {"written": text}, "study.yaml")
