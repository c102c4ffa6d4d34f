"""How much memory a training step needs, counted from sizes alone.

The count is for models of Llama's kind on the local host, and leaves out what takes less than a hundredth:
softmax's sums, rotations, the prompt itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from softprior.models.causal_chunks import chunk_size
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
    """The rows of a step, of all prompts in it.

    Attributes:
        number: of rows.
        tokens: of all rows together.
        longest: tokens of the longest row.
        labels: of all rows together.
        prompts: number of prompts that share the step.
        passes: number of passes side by side, see `lanes`; each has a prompt or several at its front.
    """

    number: int
    tokens: int
    longest: int
    labels: int
    prompts: int = 1
    passes: int = 1

    @property
    def fronts(self) -> int:
        """Number of prompts at the front of all passes."""
        return max(self.prompts, self.passes)


class Form(NamedTuple):
    """How a pass is computed.

    Attributes:
        bytes: of a value.
        kernels: `ragged` is attention and norms for rows of different lengths on GPUs, `padded` the families'
            own on padded rows, `chunked` what CPUs have: attention of padded rows by chunks, and MLPs that
            compute activated gates again in the pass backward and, in the last block, only what is read, see
            `causal_chunks` and `mlps`.
    """

    bytes: int
    kernels: Literal["ragged", "padded", "chunked"]

    @property
    def norm(self) -> int:
        """Bytes of a value that norms keep: families' own turn states to float32."""
        return self.bytes if self.kernels == "ragged" else FLOAT32

    @property
    def recomputes(self) -> bool:
        return self.kernels == "chunked"


class StepMemory(NamedTuple):
    """Bytes that a step needs beside the weights.

    Attributes:
        kept: what the blocks keep from the pass forward for the pass backward.
        logits: logits at labels and their gradients, as the pass backward begins.
        inside: gradients inside the MLP of the most positions, which come once the logits are done with.
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
    attention makes of them; the states inside the MLP, two or three. Attention of padded rows keeps a mask in
    each pass, for all blocks.

    Args:
        vectors: number of vectors at each place.
    """
    kept = positions = inside = 0
    masked = set()
    for block in range(min(place.block for place in places), sizes.blocks):
        front = sum(vectors for place in places if place.kind == "residual" and _seen(place, block))
        prefix = sum(vectors for place in places if place.kind == "key" and place.block == block)
        positions = rows.tokens + rows.fronts * front
        gated = min(rows.labels, positions) if form.recomputes and block == sizes.blocks - 1 else positions
        kept += _states(sizes, positions, gated, form) + _attended(sizes, front, prefix, rows, form)
        masked.add(front + prefix)
        inside = max(inside, gated)
    logits = rows.labels * sizes.vocabulary
    return StepMemory(
        kept=kept + form.norm * sizes.hidden * positions + sum(_mask(seen, rows, form) for seen in masked),
        logits=(3 * FLOAT32 if form.bytes == FLOAT32 else 2 * (FLOAT32 + form.bytes)) * logits,
        inside=(4 if form.recomputes else 3) * form.bytes * sizes.inner * inside,
    )


def _seen(place: Place, block: int) -> bool:
    """Whether residual vectors are in the sequence of a block."""
    return place.block == block or (place.after == "keep" and place.block < block)


def _states(sizes: Sizes, positions: int, gated: int, form: Form) -> int:
    """What norms keep, and an MLP that computes some of the positions."""
    states = 2 if form.recomputes else 3
    return 2 * form.norm * sizes.hidden * positions + states * form.bytes * sizes.inner * gated


def _attended(sizes: Sizes, front: int, prefix: int, rows: Rows, form: Form) -> int:
    """What attention keeps: queries and results, and the keys and values that each row sees."""
    alone = rows.fronts * front  # a prompt in the sequence sees itself
    tokens = rows.tokens if form.kernels == "ragged" else rows.number * rows.longest
    results = tokens
    if form.kernels == "chunked":  # on average, a row ends in the middle of a chunk
        results = min(tokens, rows.tokens + rows.number * chunk_size(rows.longest) // 2)
    seen = tokens + rows.number * (front + prefix) + alone
    return form.bytes * (sizes.queries * (tokens + results + 2 * alone) + 2 * sizes.keys * seen)


def _mask(seen: int, rows: Rows, form: Form) -> int:
    """A mask of all passes, for rows with that number of vectors in front."""
    if form.kernels == "ragged" or (form.kernels == "padded" and not seen):
        return 0
    return form.bytes * rows.passes * rows.longest * (rows.longest + seen)
