"""The contract of methods: what every `Method` promises to a trial and to a host."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.methods import Method
from softprior.prompt import Place

BLOCKS = (4, 12, 30)
"""Sizes of models that every method must fit with its default parameters."""


def check_places(method: Method, blocks: int) -> None:
    """Places exist in the model, stand once and in order, and are the same when asked again."""
    places = method.places(blocks)
    assert {place.kind for place in places} == (method.kinds if places else set())
    assert list(places) == sorted(set(places))
    assert all(0 <= place.block < blocks for place in places)
    assert all(place.stack == "decoder" for place in places)
    assert method.places(blocks) == places
    # A kept prompt travels on with the text, so it can only join at the token level.
    assert all(place.after == "cut" or place.block == 0 for place in places if place.kind == "residual")
    for place in places:
        assert Place.parse(place.name) == place


def check_training(method: Method) -> None:
    """A trained method has vectors at places; a baseline has neither, and at most a text."""
    assert bool(method.places(BLOCKS[0])) is method.trained
    assert (method.count() > 0) is method.trained
    if method.trained:
        assert method.text("the task's own") == ""


def check_text(method: Method) -> None:
    """The text depends on the task's own instruction and the parameters alone."""
    for default in ("", "Answer the question."):
        assert isinstance(method.text(default), str)
        assert method.text(default) == method.text(default)


def check_serialisation(method: Method) -> None:
    """A method survives JSON."""
    loaded = validate(type(method), json.loads(method.canonical()), "contract")
    assert loaded == method
    assert loaded.canonical() == method.canonical()
    assert loaded.places(BLOCKS[0]) == method.places(BLOCKS[0])


def check_strictness(method: Method) -> None:
    """Unknown parameters and vectors that are none are refused."""
    kind, params = type(method), json.loads(method.canonical())
    with pytest.raises(UserError, match="unknown key 'no_such_parameter'"):
        validate(kind, {**params, "no_such_parameter": 1}, "contract")
    if kind.trained:
        for count in (0, -1, 1.5, True, "2"):
            with pytest.raises(UserError, match="tokens = "):
                validate(kind, {**params, "tokens": count}, "contract")


CHECKS: tuple[Callable[[Method], None], ...] = (
    check_training,
    check_text,
    check_serialisation,
    check_strictness,
)
"""The suite, apart from `check_places`, which is for each size of model."""


def check_method(method: Method) -> None:
    """Runs the whole suite.

    Args:
        method: one that suits a model of `BLOCKS[0]` blocks.

    Raises:
        AssertionError: the method breaks its contract.
    """
    for blocks in BLOCKS:
        check_places(method, blocks)
    for check in CHECKS:
        check(method)
