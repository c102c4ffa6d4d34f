"""Attention of a packed sequence by a kernel for sequences of different lengths, on GPUs.

Flash attention takes the packed queries as they are, each prompt and each row as a sequence of its own.
For every sequence the keys that it sees stand one after another: those of its prompt, then its own. So
nothing is padded, no mask is read, and grouped keys are not repeated. What comes out equals the padded
form in `packing` up to rounding; `PackedModel.ragged` turns this form off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from softprior.models.torch_private import flash_attention

WIDEST = 256
"""Largest width of a head, in values, that flash attention takes."""


@lru_cache
def takes(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there is a kernel: in half precision, on NVIDIA's GPUs from Ampere on."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return False
    if torch.version.hip is not None or not torch.backends.cuda.is_flash_attention_available():
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def fits(query: Float[Tensor, "1 A N D"], value: Float[Tensor, "1 K N E"]) -> bool:
    """Whether the kernel takes such states: there is one, and all heads have one width, which it knows."""
    width = query.shape[3]
    same = value.shape[3] == width and value.dtype == query.dtype
    return same and width <= WIDEST and width % 8 == 0 and takes(query.device, query.dtype)


@dataclass(frozen=True)
class Layout:
    """Where the keys of each sequence come from, for one division of a packed sequence.

    A sequence is a prompt that is in the packed sequence, or a row. It sees `F` vectors of its prompt; a row
    sees its own tokens behind them. The source of keys holds those of all prompts, then those of the rows.

    Attributes:
        picked: for each key that a sequence sees, its index in the source, one sequence after another; None
            where no prompt is seen, so that they stand so already.
        back: where among those the prompts' keys of each sequence stand, and behind them the rows' own.
        width: `F`.
        sees: 1 where a sequence sees a prompt, in float32; None where there is one prompt.
        queries, keys: cumulative numbers of queries and keys, from 0 on.
        most: queries and keys of the longest sequence.
        order: for each query its index in the packed sequence; None where they are in order.
    """

    picked: Int[Tensor, "K"] | None
    back: Int[Tensor, "SFN"]
    width: int
    sees: Float[Tensor, "G S"] | None
    queries: Int[Tensor, "ends"]
    keys: Int[Tensor, "ends"]
    most: tuple[int, int]
    order: Int[Tensor, "Q"] | None


def lay_out(
    lengths: Int[Tensor, "B"],
    owner: Int[Tensor, "B"] | None,
    prompts: int,
    vectors: tuple[int, int],
    total: int,
    longest: int,
    *,
    inside: bool,
) -> Layout:
    """The layout of a block whose source of keys is [cut of each prompt | kept of each | rows].

    Args:
        lengths: tokens of each row.
        owner: the prompt that each row sees; None where all see the only one.
        vectors: how many are cut and how many are kept, of each prompt.
        total: tokens of all rows.
        longest: tokens of the longest row.
        inside: whether prompts are in the packed sequence, or only their keys in front of it.
    """
    device, (cut, kept) = lengths.device, vectors
    width = cut + kept
    each, vector = torch.arange(prompts, device=device), torch.arange(width, device=device)
    front = torch.where(
        vector < cut,
        each[:, None] * cut + vector,
        prompts * cut + each[:, None] * kept + vector - cut,
    )
    asking = prompts if inside and width else 0
    sees = torch.cat([each[:asking], torch.zeros_like(lengths) if owner is None else owner])
    queries = _before(torch.cat([lengths.new_full((asking,), width), lengths]))
    keys = _before(torch.cat([lengths.new_zeros(asking), lengths]) + width)
    token = torch.arange(total, device=device)
    row = torch.arange(len(lengths), device=device).repeat_interleave(lengths, output_size=total)
    shared = keys[:-1, None].long() + vector
    own = token + (asking + row + 1) * width
    picked = torch.empty(total + len(sees) * width, dtype=torch.long, device=device)
    picked[shared] = front[sees]
    picked[own] = prompts * width + token
    order = None
    if asking > 1 and cut and kept:
        order = torch.cat([front.flatten(), prompts * width + token])
    return Layout(
        picked if width else None,
        torch.cat([shared.flatten(), own]),
        width,
        (sees == each[:, None]).float() if prompts > 1 else None,
        queries,
        keys,
        (max(longest, width if asking else 0), longest + width),
        order,
    )


def _before(counts: Int[Tensor, "S"]) -> Int[Tensor, "ends"]:
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()


def attend_ragged(
    layout: Layout,
    query: Float[Tensor, "N A D"],
    key: Float[Tensor, "M K D"],
    value: Float[Tensor, "M K D"],
    scaling: float | None,
    window: int | None,
) -> Float[Tensor, "N A D"]:
    """Causal attention of each sequence.

    Args:
        key, value: the layout's source.
        window: how many keys back a query sees, itself among them; None for all.
    """
    if layout.picked is not None:
        key, value = _Picked.apply(key, value, layout)  # type: ignore[no-untyped-call]
    ordered = query if layout.order is None else query.index_select(0, layout.order)
    out = flash_attention(ordered, key, value, layout.queries, layout.keys, layout.most, scaling, window)
    return out if layout.order is None else torch.empty_like(out).index_copy(0, layout.order, out)


class _Picked(torch.autograd.Function):
    """Gathers keys and values. Gradients of a prompt's are summed in a fixed order.

    The kernel sums the gradients of queries with atomic additions, in an order that is not.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, key: Float[Tensor, "M K D"], value: Float[Tensor, "M K D"], layout: Layout
    ) -> tuple[Float[Tensor, "S K D"], Float[Tensor, "S K D"]]:
        ctx.layout = layout  # type: ignore[attr-defined]
        assert layout.picked is not None
        return key.index_select(0, layout.picked), value.index_select(0, layout.picked)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        layout: Layout = ctx.layout  # type: ignore[attr-defined]
        both = torch.cat(gradients, 1).index_select(0, layout.back)
        sequences = len(layout.queries) - 1
        shared = both[: sequences * layout.width].view(sequences, layout.width, *both.shape[1:])
        if layout.sees is None:
            front = shared.sum(0)
        else:
            summed = layout.sees @ shared.flatten(1).float()
            front = summed.to(both.dtype).view(-1, *both.shape[1:])
        source = torch.cat([front, both[sequences * layout.width :]])
        if layout.order is not None:
            source = torch.empty_like(source).index_copy(0, layout.order, source)
        key, value = source.chunk(2, 1)
        return key, value, None
