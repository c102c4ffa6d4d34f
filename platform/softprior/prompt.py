"""Places, prompts and batches: the values that a trial and a frozen model exchange."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softprior.errors import UserError, suggestion

Stack = Literal["encoder", "decoder"]
Kind = Literal["residual", "key", "value"]
After = Literal["keep", "cut"]
Placement = Literal["front", "after_bos"]


@dataclass(frozen=True, order=True)
class Place:
    """Where vectors of a prompt enter the model.

    Attributes:
        stack: the decoder (every causal model) or the encoder of an encoder-decoder model.
        block: the block whose input (site `resid.block`) the vectors join, counted from 0.
        kind: `residual` vectors are prepended to the block's input; `key` and `value` vectors to the
            block's attended keys and values.
        after: `keep` leaves residual vectors in the sequence for all later blocks; `cut` removes
            them from the block's output again.
        placement: `front` of the whole text, or behind its first token, which then has to be the
            beginning-of-sequence token (`after_bos`).
    """

    block: int
    kind: Kind = "residual"
    after: After = "keep"
    stack: Stack = "decoder"
    placement: Placement = "front"

    def __post_init__(self) -> None:
        """Checks what type hints cannot: a misspelt `after` would otherwise be taken for `keep`.

        Raises:
            UserError: a value is none of its choices.
        """
        try:
            block = operator.index(self.block)  # numpy's integers too
        except TypeError:
            block = None
        if block is None or isinstance(self.block, bool):
            raise UserError(f"Place: block = {self.block!r}: must be a whole number, such as 0")
        object.__setattr__(self, "block", block)
        for name, choices in (
            ("kind", get_args(Kind)),
            ("after", get_args(After)),
            ("stack", get_args(Stack)),
            ("placement", get_args(Placement)),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise UserError(
                    f"Place: {name} = {value!r} is not a choice; {suggestion(str(value), list(choices))}"
                )

    @property
    def name(self) -> str:
        """A stable name for files and metrics, for example `decoder.0.residual.keep`."""
        behind = "" if self.placement == "front" else f".{self.placement}"
        return f"{self.stack}.{self.block}.{self.kind}.{self.after}{behind}"

    @property
    def in_front(self) -> Place:
        """The same place in front of the whole text, which differs in nothing but that."""
        return replace(self, placement="front")

    @classmethod
    def parse(cls, name: str) -> Place:
        """The inverse of `name`.

        Raises:
            ValueError: when `name` is not the name of a place.
        """
        parts = name.removesuffix(".after_bos").split(".")
        known = (get_args(Stack), get_args(Kind), get_args(After))
        if (
            len(parts) == 4
            and all(part in choices for part, choices in zip((parts[0], *parts[2:]), known, strict=True))
            and re.fullmatch(r"0|[1-9][0-9]*", parts[1])
        ):
            placement: Placement = "after_bos" if name.endswith(".after_bos") else "front"
            stack, block, kind, after = parts
            return cls(int(block), kind, after, stack, placement)  # type: ignore[arg-type]
        raise ValueError(f"'{name}' is not the name of a place, such as decoder.0.residual.keep")


Prompt = Mapping[Place, Float[Tensor, "_ _"]]
"""The trained vectors of each place. `{Place(0): x}` is ordinary soft prompt-tuning."""


class Shape(NamedTuple):
    """What a prompt has to fit in a model; None where that is not known.

    Attributes:
        blocks: number of blocks of the stack that reads the input.
        stack: `encoder` if the model has one.
        hidden: width of the residual stream.
        keys: width of a block's keys, and of its values, heads side by side.
        positions: longest sequence, prompt vectors included; an encoder of T5's kind has no limit.
        vocabulary: rows of the embedding table.
    """

    blocks: int
    stack: Stack = "decoder"
    hidden: int | None = None
    keys: int | None = None
    positions: int | None = None
    vocabulary: int | None = None

    def width(self, place: Place) -> int | None:
        """Dimension of the vectors at a place."""
        return self.hidden if place.kind == "residual" else self.keys


@dataclass(frozen=True)
class Batch:
    """Examples as a host receives them, padded on the right.

    Attributes:
        ids: stable names of the examples.
        tokens: token ids; those at or after a row's length are ignored.
        lengths: number of real tokens of each row, at least 1.
        labels: True where the token is to be predicted (from everything before it). Never at 0.
        scored: the labels that also count in accuracy; the end-of-sequence label does not.
        weights: the gradient is that of `sum_b weights[b] * nll_b`, nll_b summed over b's labels.
    """

    ids: tuple[str, ...]
    tokens: Int[Tensor, "B T"]
    lengths: Int[Tensor, "B"]
    labels: Bool[Tensor, "B T"]
    scored: Bool[Tensor, "B T"]
    weights: Float[Tensor, "B"]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def positions(self) -> int:
        """Number of real tokens: what the batch costs, prompt excluded."""
        return int(self.lengths.sum())

    def weighted(self, weights: Float[Tensor, "B"]) -> Batch:
        """The same rows with other weights."""
        return replace(self, weights=weights)


@dataclass(frozen=True)
class Row:
    """One tokenised example: an input, and the answer that follows it.

    Attributes:
        id: stable name.
        tokens: input tokens followed by answer tokens.
        labels: True at answer tokens.
        scored: True at answer tokens that count in accuracy.
    """

    id: str
    tokens: list[int]
    labels: list[bool]
    scored: list[bool]


def collate(rows: list[Row]) -> Batch:
    """Pads rows on the right to the longest; every weight is 1.

    Raises:
        UserError: there is none.
    """
    if not rows:
        raise UserError("a batch needs at least one row, but the list of rows is empty; give it one")
    longest = max(len(row.tokens) for row in rows)

    def padded(values: Sequence[Sequence[int]], fill: int) -> Tensor:
        return torch.tensor([[*v, *[fill] * (longest - len(v))] for v in values])

    return Batch(
        ids=tuple(row.id for row in rows),
        tokens=padded([row.tokens for row in rows], 0).long(),
        lengths=torch.tensor([len(row.tokens) for row in rows]),
        labels=padded([row.labels for row in rows], 0).bool(),
        scored=padded([row.scored for row in rows], 0).bool(),
        weights=torch.ones(len(rows)),
    )
