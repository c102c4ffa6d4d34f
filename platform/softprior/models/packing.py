"""One pass over a batch without a single padded or repeated position.

A batch is laid out as one long sequence: prompt vectors first, once, then the rows one after another.
Causal attention makes that exact: a prompt at the front never sees a text, so its states are the same
for every row, and a row sees the prompt and itself. Linear layers, norms and MLPs, which see positions
one by one, then do no work on padding and none twice; only attention needs to know what sees what.

Several prompts of one shape can be at the front: [prompt 1 | prompt 2 | ... | rows]. A prompt sees only
itself, a row its own prompt and itself, so requests of several trials share a pass.

The attention function below is registered with transformers once and reads the current `RowPass`. No mask
function is registered under its name, so transformers builds no mask and leaves positions alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from softprior.models.causal_chunks import Chunks, attend_chunks, chunks_of
from softprior.models.ragged import Layout, attend_ragged, fits, lay_out
from softprior.prompt import Batch

ATTENTION = "softprior_packed"

_current: ContextVar[RowPass | None] = ContextVar("softprior_pass", default=None)


@dataclass
class Rows:
    """Index arithmetic between packed rows `[N]` and padded rows `[B, T]`.

    Attributes:
        lengths: tokens of each row.
        pad: for each padded slot the packed index (0 where there is no token).
        unpad: for each packed token its padded slot.
    """

    lengths: Int[Tensor, "B"]
    pad: Int[Tensor, "BT"]
    unpad: Int[Tensor, "N"]

    @classmethod
    def of(cls, lengths: Int[Tensor, "B"]) -> Rows:
        longest = int(lengths.max())
        slots = torch.arange(longest, device=lengths.device)
        real = slots[None, :] < lengths[:, None]
        starts = lengths.cumsum(0) - lengths
        # A slot without a token repeats the row's first token: finite, and no real query ever sees it.
        pad = torch.where(real, starts[:, None] + slots[None, :], starts[:, None])
        return cls(lengths, pad.flatten(), real.flatten().nonzero().squeeze(1))

    def to(self, device: torch.device) -> Rows:
        """The same on a device. They are made on the CPU, since a GPU would be waited for at each size."""
        return Rows(self.lengths.to(device), self.pad.to(device), self.unpad.to(device))

    @property
    def count(self) -> int:
        return len(self.lengths)

    @property
    def longest(self) -> int:
        return len(self.pad) // self.count


@dataclass
class Packed:
    """A batch without padding: tokens one row after another, and the row of each."""

    rows: Rows
    tokens: Int[Tensor, "N"]
    row_of: Int[Tensor, "N"]

    @classmethod
    def of(cls, batch: Batch) -> Packed:
        """A batch that is in CPU memory, laid out there."""
        rows = Rows.of(batch.lengths)
        tokens = batch.tokens[:, : rows.longest].flatten().index_select(0, rows.unpad)
        return cls(rows, tokens, torch.arange(len(batch)).repeat_interleave(batch.lengths))

    def to(self, device: torch.device) -> Packed:
        return Packed(self.rows.to(device), self.tokens.to(device), self.row_of.to(device))


@dataclass
class Cache:
    """Keys and values of a generation, per block, rows padded to a common number of slots.

    Attributes:
        keys, values: `[B, heads, slots, D]` per block.
        positions: position of each slot, per block; a slot not yet written stands at a position no
            query ever reaches.
    """

    keys: dict[int, Float[Tensor, "B K S D"]] = field(default_factory=dict)
    values: dict[int, Float[Tensor, "B K S D"]] = field(default_factory=dict)
    positions: dict[int, Int[Tensor, "B S"]] = field(default_factory=dict)

    def select(self, rows: Int[Tensor, "A"]) -> None:
        """Keeps the given rows only."""
        for table in (self.keys, self.values, self.positions):
            for block in table:
                table[block] = table[block].index_select(0, rows)


class Halted(Exception):
    """Ends a pass of which only the keys and values were needed."""


UNWRITTEN = torch.iinfo(torch.int32).max
"""Position of a cache slot without a token: later than any query, so causality hides it."""


@dataclass
class RowPass:
    """What the attention function needs to know about the current forward pass.

    Attributes:
        rows: the text rows; None in a decoding step, where each packed token is a row of its own.
        prompts: number of prompts, all of one shape, G.
        owner: the prompt that each row sees; None where all see the only one.
        kept: vectors of a prompt at the front of the sequence in every block.
        cut: number of a prompt's vectors in front of those, by block; only that block sees them.
        prefix: keys and values in front of the rows, by block, heads flattened; not in the sequence.
        capture: where to put a block's keys and values instead of attending; None to attend.
        halt: whether to end the pass there, by raising `Halted`.
        cache: filled by a prefill and read by decoding steps; None in training.
        room: slots to leave free in the cache for tokens to come.
        now: in a decoding step, the position of each row's new token.
        windows: the sliding windows that blocks asked for, noted as they run.
        looks: adds up where the rows' predictions look; None where nobody asks.
        masks: see `mask`; kept for all blocks.
        kept_only: whether nothing is asked of the pass but logits at the kept indices.
        read: the positions of these in the last block's sequence; None where all of them are computed.
        ragged: whether to use the kernel for rows of different lengths where it fits, see `ragged`, and
            chunks of queries on CPUs, see `causal_chunks`.
    """

    rows: Rows | None
    prompts: int = 1
    owner: Int[Tensor, "B"] | None = None
    kept: int = 0
    cut: dict[int, int] = field(default_factory=dict)
    prefix: dict[int, tuple[Float[Tensor, "G P D"], Float[Tensor, "G P D"]]] = field(default_factory=dict)
    capture: dict[int, tuple[Float[Tensor, "N D"], Float[Tensor, "N D"]]] | None = None
    halt: bool = False
    cache: Cache | None = None
    room: int = 0
    now: Int[Tensor, "B"] | None = None
    windows: set[int] = field(default_factory=set)
    masks: dict[tuple[int, int, int | None, torch.dtype], Tensor] = field(default_factory=dict)
    looks: Looks | None = None
    kept_only: bool = False
    read: Int[Tensor, "K"] | None = None
    ragged: bool = False
    layouts: dict[tuple[int, int, bool], Layout] = field(default_factory=dict)

    @property
    def start(self) -> int:
        """Position of the first vector in the sequence at block 0, cut prompts there not counted."""
        return self.cut.get(0, 0) + max((keys.shape[1] for keys, _ in self.prefix.values()), default=0)

    def front(self, block: int) -> int:
        """Number of prompt vectors in the sequence that a row sees in a block."""
        return self.kept + self.cut.get(block, 0)

    def fronts(self, packed: Float[Tensor, "1 K N D"], block: int) -> Float[Tensor, "G K F D"]:
        """The prompts' part of a block's sequence [cut of each | kept of each | rows], prompt by prompt."""
        cut, count = self.cut.get(block, 0), self.prompts
        if count == 1:
            # A copy: the pass backward keeps it, and would keep all of the sequence with a part of it.
            return packed[:, :, : self.front(block)].contiguous()
        first, second = packed[0].split([count * cut, packed.shape[2] - count * cut], 1)
        parts = (
            first.unflatten(1, (count, cut)),
            second[:, : count * self.kept].unflatten(1, (count, self.kept)),
        )
        return torch.cat(parts, 2).transpose(0, 1)

    def in_sequence(self, fronts: Float[Tensor, "G F A D"], block: int) -> Float[Tensor, "GF A D"]:
        """The inverse of `fronts`, for what attention makes of them."""
        if self.prompts == 1:
            return fronts.squeeze(0)
        cut = self.cut.get(block, 0)
        return torch.cat([fronts[:, :cut].flatten(0, 1), fronts[:, cut:].flatten(0, 1)])

    @cached_property
    def chunks(self) -> Chunks | None:
        """How queries are divided on a CPU; None where all are in one call."""
        rows = self.rows
        if rows is None or not self.ragged or self.looks is not None or rows.pad.device.type != "cpu":
            return None
        return chunks_of(rows.lengths, rows.pad)

    def seen(self, fronts: Float[Tensor, "G K P D"]) -> Float[Tensor, "B K P D"]:
        """For each padded row the keys or values of the prompt it sees."""
        assert self.rows is not None
        if self.owner is None:
            return fronts.expand(self.rows.count, -1, -1, -1)
        owner = self.owner if self.chunks is None else self.owner[self.chunks.order]
        return fronts.index_select(0, owner)

    def padded(self, packed: Float[Tensor, "1 K N D"], front: int) -> Float[Tensor, "B K T D"]:
        """The rows behind `front` positions as padded rows, in the order of `chunks` where there are some."""
        assert self.rows is not None
        heads, width = packed.shape[1], packed.shape[3]
        pad = self.rows.pad if self.chunks is None else self.chunks.pad
        picked = packed.squeeze(0)[:, front:].index_select(1, pad)
        return picked.view(heads, self.rows.count, self.rows.longest, width).transpose(0, 1)

    def mask(
        self, count: int, first: int, window: int | None, dtype: torch.dtype = torch.bool
    ) -> Shaped[Tensor, "T S"]:
        """What each of `count` positions from `first` on sees: those before, at most `window` back.

        With a floating `dtype` it is what is added to scores: 0, or minus infinity. A fused kernel turns
        booleans into that in each block, and keeps all of them for the pass backward.
        """
        asked = count, first, window, dtype
        if asked not in self.masks:
            assert self.rows is not None
            at = torch.arange(count, device=self.rows.pad.device)
            sees = _visible(at[first:, None], at[None, :], window)
            if dtype.is_floating_point:
                sees = torch.zeros_like(sees, dtype=dtype).masked_fill(~sees, -torch.inf)
            self.masks[asked] = sees
        return self.masks[asked]

    def layout(self, cut: int, kept: int, *, inside: bool) -> Layout:
        """Where each sequence's keys come from in blocks with such prompts, see `ragged.lay_out`."""
        asked = cut, kept, inside
        if asked not in self.layouts:
            assert self.rows is not None
            rows = self.rows
            self.layouts[asked] = lay_out(
                rows.lengths,
                self.owner,
                self.prompts,
                (cut, kept),
                len(rows.unpad),
                rows.longest,
                inside=inside,
            )
        return self.layouts[asked]


def _visible(query: Tensor, key: Tensor, window: int | None) -> Tensor:
    back = query - key
    return (back >= 0) if window is None else (back >= 0) & (back < window)


@dataclass
class Looks:
    """Adds up which share of their attention the rows' queries give to the front and to the text's beginning.

    Attributes:
        queries: positions in each row of the queries that count; -1 is what predicts the row's beginning.
        lead: how many of the vectors in front belong to the text: its first token, with the prompt behind.
        kept: whether the last vector in front predicts a row's beginning; otherwise the first does.
        shares: by block and row, summed over queries, means over heads: on all of the prompt's vectors, on
            the first of them, and on the text's first token.
    """

    queries: list[Int[Tensor, "_"]]
    lead: int = 0
    kept: bool = False
    shares: dict[int, Float[Tensor, "B 3"]] = field(default_factory=dict)

    def add(
        self,
        block: int,
        compute: _Attention,
        query: Float[Tensor, "B A N D"],
        key: Float[Tensor, "B K S D"],
        mask: Bool[Tensor, "N S"],
        front: int,
        start: int,
    ) -> None:
        """Adds a block's, row by row: all weights at once would take more memory than the pass.

        `front` keys and `start` queries are in front of each row's own."""
        found = []
        for row, positions in enumerate(self.queries):
            at = torch.where(positions < 0, start - 1 if self.kept else 0, start + positions)
            weights = compute.weights(query[row : row + 1, :, at], key[row : row + 1], mask[at])
            own = weights[0].mean(0).sum(0)
            prompt, text = own[self.lead : front], own[0 if self.lead else front]
            found.append(torch.stack([prompt.sum(), prompt[:1].sum(), text]))
        self.shares[block] = torch.stack(found)


_LACKING = {
    "position_bias": "a position bias",
    "indexer_mask": "an indexer that selects keys",
}
"""Arguments of transformers' attention functions, and what a family that passes them has."""


@contextmanager
def running(current: RowPass) -> Iterator[RowPass]:
    """Makes `current` the pass that attention reads."""
    token = _current.set(current)
    try:
        yield current
    finally:
        _current.reset(token)


def positions_read() -> Int[Tensor, "K"] | None:
    """The positions at which the last block's states are read in this context's pass; None for all."""
    current = _current.get()
    return None if current is None else current.read


def attend(
    module: torch.nn.Module,
    query: Float[Tensor, "1 A N D"],
    key: Float[Tensor, "1 K N D"],
    value: Float[Tensor, "1 K N D"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Float[Tensor, "A"] | None = None,
    **kwargs: object,
) -> tuple[Float[Tensor, "1 N A D"], None]:
    """Attention of a packed sequence; transformers calls it in place of its own functions.

    Raises:
        RuntimeError: outside of a pass, or for a feature that packed attention does not support.
    """
    current = _current.get()
    for name, what in _LACKING.items():
        if kwargs.get(name) is not None:
            raise RuntimeError(f"its attention has {what}: packed attention does not support this")
    if current is None or attention_mask is not None or dropout:
        raise RuntimeError("packed attention does not support this: a mask, dropout or no pass")
    block = int(module.layer_idx)  # type: ignore[arg-type]
    if sliding_window is not None:
        current.windows.add(sliding_window)
    if current.capture is not None:
        current.capture[block] = (flattened(key), flattened(value))
        if current.halt:
            raise Halted
        return query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3]), None
    compute = _Attention(scaling, softcap, s_aux)
    if current.now is not None:
        return _decode(current, block, query, key, value, sliding_window, compute), None
    if (
        current.ragged
        and current.cache is None
        and current.looks is None
        and compute.plain
        and fits(query, value)
    ):
        return _unpadded(current, block, query, key, value, sliding_window, scaling), None
    return _in_padded_rows(current, block, query, key, value, sliding_window, compute), None


def _in_padded_rows(
    current: RowPass,
    block: int,
    query: Float[Tensor, "1 A N D"],
    key: Float[Tensor, "1 K N D"],
    value: Float[Tensor, "1 K N D"],
    window: int | None,
    compute: _Attention,
) -> Float[Tensor, "1 N A D"]:
    """The prompts among themselves, then the rows, padded to one length, over their prompt and themselves."""
    assert current.rows is not None
    rows, front = current.rows, current.front(block)
    added = query.dtype if compute.plain and query.device.type == "cpu" else torch.bool
    outputs = []
    text = current.prompts * front
    keys, values = current.padded(key, text), current.padded(value, text)
    seen_front = front
    if front:
        q, k, v = (current.fronts(part, block) for part in (query, key, value))
        seen = current.mask(front, 0, window, added)
        outputs.append(current.in_sequence(compute(q, k, v, seen).transpose(1, 2), block))
        keys, values = torch.cat([current.seen(k), keys], 2), torch.cat([current.seen(v), values], 2)
    elif block in current.prefix:
        first, second = current.prefix[block]
        seen_front = first.shape[1]
        keys = torch.cat([current.seen(_heads(first, key)), keys], 2)
        values = torch.cat([current.seen(_heads(second, value)), values], 2)
    if current.cache is not None:
        _fill(current, block, keys, values, seen_front)
    mask, length, chunks = None, seen_front + rows.longest, current.chunks
    if seen_front or window is not None or chunks is not None:
        mask = current.mask(length, seen_front, window, added)
    queries = current.padded(query, text)
    if current.looks is not None:
        asking = torch.cat([current.seen(q), queries], 2) if front else queries
        sees = current.mask(length, seen_front - front, window)
        current.looks.add(block, compute, asking, keys, sees, seen_front, front)
    if chunks is not None:
        assert mask is not None
        outputs.append(attend_chunks(chunks, compute, queries, keys, values, mask))
    else:
        out = compute(queries, keys, values, mask)
        outputs.append(out.transpose(1, 2).flatten(0, 1).index_select(0, rows.unpad))
    return torch.cat(outputs)[None]


def _unpadded(
    current: RowPass,
    block: int,
    query: Float[Tensor, "1 A N D"],
    key: Float[Tensor, "1 K N D"],
    value: Float[Tensor, "1 K N D"],
    window: int | None,
    scaling: float | None,
) -> Float[Tensor, "1 N A D"]:
    """Attention of a packed sequence by the kernel for sequences of different lengths."""
    queries, keys, values = (states.squeeze(0).transpose(0, 1) for states in (query, key, value))
    cut, kept, inside = current.cut.get(block, 0), current.kept, True
    if not current.front(block) and block in current.prefix:
        first, second = (
            states.flatten(0, 1).unflatten(1, keys.shape[1:]) for states in current.prefix[block]
        )
        cut, kept, inside = 0, current.prefix[block][0].shape[1], False
        keys, values = torch.cat([first, keys]), torch.cat([second, values])
    layout = current.layout(cut, kept, inside=inside)
    return attend_ragged(layout, queries, keys, values, scaling, window)[None]


def flattened(states: Float[Tensor, "1 K N D"]) -> Float[Tensor, "N KD"]:
    """Heads side by side, as prompts at key and value places have them."""
    return states[0].transpose(0, 1).flatten(1)


def _heads(flat: Float[Tensor, "G P KD"], like: Float[Tensor, "1 K N D"]) -> Float[Tensor, "G K P D"]:
    heads: Tensor = flat.unflatten(2, (like.shape[1], like.shape[3]))
    return heads.transpose(1, 2)


class _Attention:
    """Softmax attention with grouped keys; explicit only where a softcap or sinks forbid the fused kernel.

    A sink is a learned logit of each head that takes part in every softmax, and that no value belongs to.
    """

    def __init__(
        self, scaling: float | None, softcap: float | None, sinks: Float[Tensor, "A"] | None
    ) -> None:
        self.scaling = scaling
        self.softcap = softcap
        self.sinks = sinks

    @property
    def plain(self) -> bool:
        """Whether a fused kernel does it."""
        return self.softcap is None and self.sinks is None

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        groups = query.shape[1] // key.shape[1]
        if self.plain:
            # Repeated keys are saved for the backward pass. On a GPU, though, the fused kernel for float32 or
            # a mask takes no others, and without it the weights of attention would be saved.
            grouped = groups > 1 and query.device.type == "cpu"
            if groups > 1 and not grouped:
                key, value = (states.repeat_interleave(groups, 1) for states in (key, value))
            return functional.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=mask,
                is_causal=mask is None,
                scale=self.scaling,
                enable_gqa=grouped,
            )
        value = value.repeat_interleave(groups, 1)
        if mask is None:
            at = torch.arange(query.shape[2], device=query.device)
            mask = _visible(at[:, None], at[None, :], None)
        return self.weights(query, key, mask).to(value.dtype) @ value

    def weights(
        self, query: Float[Tensor, "B A T D"], key: Float[Tensor, "B K S D"], mask: Bool[Tensor, "T S"]
    ) -> Float[Tensor, "B A T S"]:
        """The softmax's weights, float32; of what a query sees they sum to 1, or to less beside a sink."""
        key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
        scale = self.scaling if self.scaling is not None else query.shape[-1] ** -0.5
        scores = query @ key.transpose(2, 3) * scale
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        if self.sinks is not None:
            sinks = self.sinks.to(scores).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
            scores = torch.cat([scores, sinks], 3)
        return scores.softmax(-1, dtype=torch.float32)[..., : key.shape[2]]


def _fill(current: RowPass, block: int, keys: Tensor, values: Tensor, front: int) -> None:
    """Prefill: stores a block's keys and values with free slots for the tokens to come."""
    assert current.rows is not None
    assert current.cache is not None
    if current.chunks is not None:
        rank = current.chunks.order.argsort()
        keys, values = keys.index_select(0, rank), values.index_select(0, rank)
    room = (0, 0, 0, current.room)
    current.cache.keys[block] = functional.pad(keys, room)
    current.cache.values[block] = functional.pad(values, room)
    slots = torch.arange(front + current.rows.longest + current.room, device=keys.device)
    written = slots[None, :] < front + current.rows.lengths[:, None]
    # Relative to the first text token, so that cut prompts of a block stand at negative positions.
    current.cache.positions[block] = torch.where(written, slots[None, :] - front, UNWRITTEN)


def _decode(
    current: RowPass,
    block: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window: int | None,
    compute: _Attention,
) -> Tensor:
    """One new token per row: appends it to the cache and attends to all of that."""
    assert current.cache is not None
    assert current.now is not None
    keys, values = current.cache.keys[block], current.cache.values[block]
    positions = current.cache.positions[block]
    slot = keys.shape[2] - current.room
    keys[:, :, slot] = key[0].transpose(0, 1)
    values[:, :, slot] = value[0].transpose(0, 1)
    positions[:, slot] = current.now
    mask = _visible(current.now[:, None], positions, window)[:, None, None, :]
    out = compute(query[0].transpose(0, 1)[:, :, None], keys, values, mask)
    return out[:, :, 0][None]


AttentionInterface.register(ATTENTION, attend)
