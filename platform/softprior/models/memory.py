"""How much memory a training step needs, counted from sizes alone.

The count is for models of Llama's kind on the local host, and leaves out what takes less than a hundredth:
softmax's sums, rotations, the prompt itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from softprior.prompt import Place

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes per value, by `ModelSpec.dtype`."""

FLOAT32 = BYTES["float32"]
"""Bytes of logits in a loss, and of what families' own norms turn states to."""


class Sizes(NamedTuple):
    """Sizes of a model with root mean square norms and a gated MLP, as Llama's.

    Attributes:
        blocks: number of blocks.
        hidden: width of the residual stream.
        queries: width of a block's queries, heads side by side.
        keys: the same of its keys, and of its values.
        inner: width of the states inside an MLP.
        vocabulary: number of logits.
    """

    blocks: int
    hidden: int
    queries: int
    keys: int
    inner: int
    vocabulary: int


class Rows(NamedTuple):
    """The rows of a pass, of all prompts in it.

    Attributes:
        number: of rows.
        tokens: of all rows together.
        longest: tokens of the longest row.
        labels: of all rows together.
        prompts: number of prompts that share the pass.
    """

    number: int
    tokens: int
    longest: int
    labels: int
    prompts: int = 1


class Form(NamedTuple):
    """How a pass is computed.

    Attributes:
        bytes: of a value.
        kernels: attention and norms: those for rows of different lengths on GPUs, or the families' own on
            padded rows, as on CPUs.
        recomputed: whether MLPs compute activated gates again in the pass backward, see `mlps`.
    """

    bytes: int
    kernels: Literal["ragged", "padded"]
    recomputed: bool = False


class StepMemory(NamedTuple):
    """Bytes that a step needs beside the weights.

    Attributes:
        kept: what the blocks keep from the pass forward for the pass backward.
        logits: logits at labels and their gradients, as the pass backward begins.
        inside: gradients inside the MLP of the last block, which come once the logits are done with.
    """

    kept: int
    logits: int
    inside: int

    @property
    def peak(self) -> int:
        return self.kept + max(self.logits, self.inside)


def step_memory(sizes: Sizes, places: Sequence[Place], vectors: int, rows: Rows, form: Form) -> StepMemory:
    """The memory of a step that trains vectors at the given places.

    Blocks below the first place need no gradient and keep nothing. For each position the others keep: what
    enters the two norms, which families' own turn to float32; rotated queries and keys, values and what
    attention makes of them; the states inside the MLP, two or three. Padded attention keeps its mask in each
    block.

    Args:
        vectors: number of vectors at each place.
    """
    kept = positions = 0
    for block in range(min(place.block for place in places), sizes.blocks):
        front = sum(vectors for place in places if place.kind == "residual" and _seen(place, block))
        prefix = sum(vectors for place in places if place.kind == "key" and place.block == block)
        positions = rows.tokens + rows.prompts * front
        kept += _states(sizes, positions, form) + _attended(sizes, front, prefix, rows, form)
    norm = FLOAT32 if form.kernels == "padded" else form.bytes
    logits = rows.labels * sizes.vocabulary
    return StepMemory(
        kept=kept + norm * sizes.hidden * positions,
        logits=(3 * FLOAT32 if form.bytes == FLOAT32 else 2 * (FLOAT32 + form.bytes)) * logits,
        inside=(4 if form.recomputed else 3) * form.bytes * sizes.inner * positions,
    )


def _seen(place: Place, block: int) -> bool:
    """Whether residual vectors are in the sequence of a block."""
    return place.block == block or (place.after == "keep" and place.block < block)


def _states(sizes: Sizes, positions: int, form: Form) -> int:
    """What norms and MLP keep."""
    norm = FLOAT32 if form.kernels == "padded" else form.bytes
    return positions * (2 * norm * sizes.hidden + (2 if form.recomputed else 3) * form.bytes * sizes.inner)


def _attended(sizes: Sizes, front: int, prefix: int, rows: Rows, form: Form) -> int:
    """What attention keeps: queries and results, and the keys and values that each row sees."""
    alone = rows.prompts * front  # a prompt in the sequence sees itself
    tokens, mask = rows.tokens, 0
    if form.kernels == "padded":
        tokens = rows.number * rows.longest
        mask = rows.longest * (rows.longest + front + prefix) if front + prefix else 0
    seen = tokens + rows.number * (front + prefix) + alone
    return form.bytes * (2 * sizes.queries * (tokens + alone) + 2 * sizes.keys * seen + mask)
