"""The blocks below a prompt's first place: they see the text alone, so a row's states there are constants.

With causal attention nothing of a prompt that begins at block k reaches the blocks before it. What enters
block k is therefore computed once for each row, and later passes start there. Every row goes through these
blocks alone and not in its batch: batches of other sizes round differently, and so what is kept does not
depend on the batch in which a row was met first, nor on what was forgotten in between.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.assets.configs import line
from softprior.errors import UserError
from softprior.models.blocks import Blocks
from softprior.models.hooks import showing
from softprior.models.kept_rows import KeptRows
from softprior.models.packing import Halted, RowPass, Rows
from softprior.prompt import Prompt

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 2e-2}
"""Relative tolerance of the logits of passes that start at a block against whole ones: row by row rounds
differently."""

PROBES = (9, 6)
"""Lengths of the rows on which this is checked."""


@runtime_checkable
class Forward(Protocol):
    """A packed pass, see `PackedModel`."""

    def __call__(
        self, prompts: Sequence[Prompt], tokens: Tensor, current: RowPass, keep: Tensor
    ) -> Tensor: ...


def first_block(prompt: Prompt) -> int:
    """The first block in which text sees the prompt; 0 if there is none to begin at."""
    return min((place.block for place in prompt), default=0)


class FrozenPart:
    """Passes that start at the first block of their prompts."""

    def __init__(self, forward: Forward, blocks: Blocks, rows: KeptRows, identity: list[object]) -> None:
        """Starts passes from states that are kept.

        Args:
            forward: a whole pass.
            identity: JSON values that decide a row's states, apart from the row: weights, versions, machine.
        """
        self._forward = forward
        self._layers = blocks.layers
        self._rows = rows
        self._identity = identity
        self._checked: set[int] = set()
        self._extras = 0

    def forward(self, prompts: Sequence[Prompt], tokens: Tensor, current: RowPass, keep: Tensor) -> Tensor:
        """What the whole pass returns, up to rounding.

        Raises:
            UserError: the model's family is one in which a pass cannot start at a block.
        """
        assert current.rows is not None
        block = first_block(prompts[0])
        if block not in self._checked and self._check(prompts[0], block, tokens):
            self._checked.add(block)
        prompt = {place: vectors.detach() for place, vectors in prompts[0].items()}
        texts = tokens.cpu().split(current.rows.lengths.tolist())
        kept = [self._kept(prompt, block, text, tokens.device) for text in texts]
        states = torch.cat(kept).to(tokens.device)
        with self._starting(block, states):
            return self._forward(prompts, tokens, current, keep)

    def _kept(
        self, prompt: Prompt, block: int, tokens: Int[Tensor, "T"], device: torch.device
    ) -> Float[Tensor, "T H"]:
        """The states of a row at a block's input, on the CPU; computed if they are not kept.

        Args:
            tokens: on the CPU.
            device: where states are computed.
        """
        # Positions of texts begin behind prefix keys, which rounds differently with each number of them.
        start = max((len(vectors) for place, vectors in prompt.items() if place.kind == "key"), default=0)
        facts = [*self._identity, torch.get_num_threads(), block, start, tokens.tolist()]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        found = self._rows.get(key)
        if found is None:
            found = self._computed(prompt, block, tokens.to(device)).cpu()
            self._rows.put(key, found)
        return found

    @torch.no_grad()
    def _computed(self, prompt: Prompt, block: int, tokens: Int[Tensor, "T"]) -> Float[Tensor, "T H"]:
        """The states of a row that is alone at a block's input; the pass ends there."""
        shown: list[Tensor] = []

        def halt(states: Tensor) -> None:
            shown.append(states[0].clone())
            raise Halted

        current = RowPass(Rows.of(tokens.new_tensor([len(tokens)])))
        with showing([(self._layers[block], halt)], []), suppress(Halted):
            self._forward([prompt], tokens, current, keep=tokens.new_zeros(1))
        return shown[0]

    @contextmanager
    def _starting(self, block: int, states: Float[Tensor, "N H"]) -> Iterator[None]:
        """Has all blocks below hand on the states that enter a block, in place of what they compute."""
        handed = states[None]
        out = (handed, *[None] * (self._extras - 1)) if self._extras else handed
        below = self._layers[:block]
        for layer in below:
            layer.forward = lambda *_, **__: out
        try:
            yield
        finally:
            for layer in below:
                del layer.forward

    @torch.no_grad()
    def _check(self, prompt: Prompt, block: int, tokens: Tensor) -> bool:
        """Compares a pass that starts at a block with a whole one, on two short rows.

        A family that carries something else from block to block would fail or be silently wrong.

        Returns:
            Whether that is known: nothing can be compared with vectors that make all logits infinite or nan.

        Raises:
            UserError: the results differ by more than rounding, or the pass fails.
        """
        texts = [tokens.repeat(length)[:length] for length in PROBES]
        rows, joined = Rows.of(tokens.new_tensor(PROBES)), torch.cat(texts)
        everywhere = torch.arange(len(joined))
        shapes: list[int] = []
        handle = self._layers[0].register_forward_hook(
            lambda _, __, out: shapes.append(len(out) if isinstance(out, tuple) else 0)
        )
        try:
            whole = self._forward([prompt], joined, RowPass(rows), keep=everywhere)
        finally:
            handle.remove()
        self._extras = shapes[-1]
        try:
            states = torch.cat([self._computed(prompt, block, text) for text in texts])
            with self._starting(block, states):
                found = self._forward([prompt], joined, RowPass(rows), keep=everywhere)
        except Exception as error:  # a family may fail in any way of its own at what it was not written for
            raise _unsuited(f"fails there ({line(error)})") from error
        finite = whole[whole.isfinite()].abs()
        if not len(finite):
            return False
        apart = TOLERANCE[whole.dtype] * float(finite.max())
        if not torch.allclose(found, whole, rtol=0, atol=apart, equal_nan=True):
            raise _unsuited("gives other results there")
        return True


def _unsuited(why: str) -> UserError:
    return UserError(
        f"model.frozen_cache starts passes at the first block with vectors, but this model's family {why}; "
        "leave frozen_cache out"
    )
