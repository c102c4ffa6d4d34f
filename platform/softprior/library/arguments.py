"""Checks what users pass to a model: a mistake gives one sentence, never a number."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.errors import UserError
from softprior.models.protocol import FrozenLM
from softprior.prompt import Place, Prompt

PromptLike = Tensor | Mapping[Place, Tensor]
"""A prompt: the vectors [P, H] in front of the input, or those of each place."""

SEEDS = 2**63
"""Seeds are below this number, in studies and here."""


def words(given: Sequence[str], what: str) -> Sequence[str]:
    """Several texts, such as `texts`, `answers` or `sites`.

    Raises:
        UserError: it is one text, which would be read letter by letter, or contains something else.
    """
    if isinstance(given, str):
        raise UserError(
            f"{what} must be a list, not the text {given[:30]!r}; write [{what.removesuffix('s')}]"
        )
    other = next((one for one in given if not isinstance(one, str)), None)
    if other is not None:
        raise UserError(f"{what} must be a list of texts, but it contains {other!r}; give texts alone")
    return given


def count(given: int, what: str, least: int = 1, most: int | None = None) -> int:
    """A whole number, of numpy's kinds too.

    Raises:
        UserError: it is not one, or out of range.
    """
    try:
        number = None if isinstance(given, bool) else operator.index(given)
    except TypeError:
        number = None
    allowed = f"at least {least}" if most is None else f"{least} to {most}"
    if number is None or number < least or (most is not None and number > most):
        raise UserError(f"{what} = {given!r}: must be a whole number, {allowed}")
    return number


def seed(given: int) -> int:
    """The seed of a draw.

    Raises:
        UserError: no trial of a study could have it.
    """
    return count(given, "seed", least=0, most=SEEDS - 1)


def place(given: Place) -> Place:
    """A place.

    Raises:
        UserError: it is something else, such as the name of one.
    """
    if not isinstance(given, Place):
        raise UserError(f"place = {given!r}: must be an sp.Place, such as sp.Place(0)")
    return given


def vectors(given: Tensor, width: int, what: str) -> Float[Tensor, "N D"]:
    """Finite vectors of a width.

    Raises:
        UserError: they are not.
    """
    if not isinstance(given, Tensor) or not given.is_floating_point():
        found = str(given.dtype) if isinstance(given, Tensor) else type(given).__name__
        raise UserError(f"{what} must be a tensor of floating-point numbers, not {found}; convert it")
    if given.ndim != 2 or given.shape[1] != width:
        raise UserError(f"{what} must have the shape [number of vectors, {width}], not {list(given.shape)}")
    finite = given.detach().isfinite().all(1)
    if not bool(finite.all()):
        first = int(torch.nonzero(~finite)[0])
        raise UserError(
            f"{what} contains NaN or infinite values, first in vector {first}; find the step that made them, "
            "such as one with too high a rate"
        )
    return given


def prompt(given: PromptLike | None, host: FrozenLM, front: Place) -> Prompt:
    """A prompt for a host.

    Args:
        front: the place of a tensor that comes without one.

    Raises:
        UserError: it is not a prompt, or its vectors do not fit the model or are not finite.
    """
    if given is None:
        return {}
    table = {front: given} if isinstance(given, Tensor) else given
    if not isinstance(table, Mapping):
        found = type(given).__name__
        raise UserError(
            f"a prompt must be a tensor, a dictionary of tensors by sp.Place, or None, not {found}"
        )
    for where, own in table.items():
        vectors(own, host.width(place(where)), f"the prompt at {where.name}")
    return table
