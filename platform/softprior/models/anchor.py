"""Prompts behind a text's first token: as prompts in front, with that token as a constant before them.

With causal attention the first token of a text sees nothing but itself, so its state at the input of every
block is the same in all texts and under all prompts behind it: a constant of the frozen model. `[first, P
vectors, rest]` is therefore exactly the rest behind P + 1 vectors, of which the first is this constant. Cut
vectors need it at every block, since the rest sees it in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softprior.errors import UserError
from softprior.models.protocol import SiteStatistic, Where
from softprior.prompt import Batch, Place, Prompt


class Anchor(NamedTuple):
    """The first token of texts as a constant.

    Attributes:
        states: its state at the input of each block, as a prompt has it there: the first is its embedding.
        logits: what the model predicts behind it.
    """

    states: tuple[Float[Tensor, "1 H"], ...]
    logits: Float[Tensor, "1 V"]


def stands_behind(prompt: Prompt | None) -> bool:
    """Whether the prompt is behind the first token of a text."""
    return any(place.placement == "after_bos" for place in prompt or ())


def misplaced(why: str) -> UserError:
    """The error for a prompt behind a token that texts do not begin with."""
    return UserError(
        f"placement: after_bos needs texts that begin with the beginning-of-sequence token, but {why}; use "
        "the method's placement: front, texts with a chat template that begins with it, or a model whose "
        "tokenizer adds that token"
    )


def require_begins(prompt: Prompt | None, batch: Batch, bos: int | None) -> None:
    """Checks that texts begin with the beginning-of-sequence token, if a prompt is behind it.

    Args:
        bos: the tokenizer's.

    Raises:
        UserError: they do not.
    """
    if stands_behind(prompt) and first_token(batch) != bos:
        said = (
            "the tokenizer has none" if bos is None else f"these begin with token {int(batch.tokens[0, 0])}"
        )
        raise misplaced(said)


def first_token(batch: Batch) -> int:
    """The token that all rows begin with.

    Raises:
        UserError: they begin with several, so not with the beginning-of-sequence token, or one has no other.
    """
    firsts = sorted(set(batch.tokens[:, 0].tolist()))
    if len(firsts) > 1:
        raise misplaced(f"these begin with tokens {' and '.join(map(str, firsts[:2]))}")
    if int(batch.lengths.min()) < 2:
        raise UserError(
            "placement: after_bos needs a text behind the beginning-of-sequence token, but one has no other "
            "token; leave it out, or use the method's placement: front"
        )
    return int(firsts[0])


def known(first: int | None) -> int:
    """The token behind which a prompt stands, where there is no text to show it.

    Raises:
        UserError: it is not given.
    """
    if first is None:
        raise UserError(
            "the states of a prompt with placement: after_bos depend on the token in front of it; give that "
            "as `first`"
        )
    return first


def beginning(batch: Batch) -> Batch:
    """The first token alone, as a batch of one row."""
    nothing = torch.zeros(1, 1, dtype=torch.bool)
    return Batch(
        batch.ids[:1],
        batch.tokens[:1, :1],
        torch.ones_like(batch.lengths[:1]),
        nothing,
        nothing,
        torch.zeros(1),
    )


def rest(batch: Batch) -> Batch:
    """The rows without their first token; a label at the beginning is predicted from what is before."""
    return replace(
        batch,
        tokens=batch.tokens[:, 1:],
        lengths=batch.lengths - 1,
        labels=batch.labels[:, 1:],
        scored=batch.scored[:, 1:],
    )


def anchored(prompt: Prompt, states: Sequence[Float[Tensor, "1 H"]]) -> Prompt:
    """The prompt in front of the rest of each text, with the first token as a constant before its vectors.

    If all vectors are kept, so is the constant. Otherwise each block has its own, cut together with the
    vectors that are cut there, so that it comes first in every block.

    Args:
        states: see `Anchor`.
    """
    front = {place.in_front: vectors for place, vectors in prompt.items()}
    if not any(place.after == "cut" for place in front):
        return {place: _behind(states[0], vectors) for place, vectors in front.items()}
    cut = {Place(block, after="cut"): state for block, state in enumerate(states)}
    return front | {
        place: _behind(state, front[place]) if place in front else state for place, state in cut.items()
    }


def _behind(state: Float[Tensor, "1 H"], vectors: Float[Tensor, "P H"]) -> Float[Tensor, "N H"]:
    return torch.cat([state, vectors.to(state)])


class FirstLabels(NamedTuple):
    """Labels directly behind the first token.

    Each is predicted from the last kept vector of its prompt. If all vectors are cut, it is predicted from
    the first token, which sees no prompt.

    Attributes:
        anchor: the first token.
        which: whether each label of a pass is one.
        kept: number of kept vectors of a prompt, the constant included.
    """

    anchor: Anchor
    which: Bool[Tensor, "N"]
    kept: int

    def before(self, before: Int[Tensor, "N"], prompt: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
        """From where each label is predicted, counted from the first text token; negative in a prompt.

        Args:
            before: this for the other labels.
            prompt: index of the prompt that the label's row sees, counted back from the last, which is 0.
        """
        return torch.where(self.which, prompt * self.kept - 1 if self.kept else 0, before)

    def logits(self, found: Float[Tensor, "N V"]) -> Float[Tensor, "N V"]:
        """The logits of each label, from those found at the positions of `before`."""
        return (
            found
            if self.kept
            else torch.where(self.which.to(found.device)[:, None], self.anchor.logits, found)
        )


class WithFirst:
    """A statistic that receives the states of the first token with those of the rest of each row."""

    def __init__(self, inner: SiteStatistic, token: int, states: Mapping[str, Float[Tensor, "1 D"]]) -> None:
        """Hands on to `inner`, with the token's states by site."""
        self._inner, self._token, self._states = inner, token, states

    def update(self, site: str, states: Float[Tensor, "N D"], where: Where) -> None:
        """Takes the states of the rest, whose positions count from 0."""
        rows = where.rows[where.positions == 0]
        nothing = torch.zeros_like(rows)
        order = torch.cat([rows, where.rows]).argsort(stable=True)
        self._inner.update(
            site,
            torch.cat([self._states[site].to(states).expand(len(rows), -1), states])[order],
            Where(
                torch.cat([rows, where.rows])[order],
                torch.cat([nothing, where.positions + 1])[order],
                torch.cat([nothing + self._token, where.tokens])[order],
            ),
        )


class Last:
    """A statistic that keeps the last states of each site."""

    def __init__(self) -> None:
        self.states: dict[str, Float[Tensor, "N D"]] = {}

    def update(self, site: str, states: Float[Tensor, "N D"], where: Where) -> None:  # noqa: ARG002
        self.states[site] = states
