"""Cut prompts in a packed sequence: in front of it within their block, and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softprior.models.blocks import Blocks
from softprior.models.hooks import Arguments, Keywords, entering, leaving

_Before = Callable[[nn.Module, Arguments, Keywords], tuple[Arguments, Keywords] | None]

_cut: ContextVar[dict[int, Float[Tensor, "G P H"]] | None] = ContextVar("softprior_cut", default=None)
"""The vectors in front of each block in the pass of this context: passes run side by side, see `lanes`."""


class Insertion:
    """Prepends cut prompts to their block's input and cuts them from its output."""

    def __init__(self, blocks: Blocks) -> None:
        for index, layer in enumerate(blocks.layers):
            layer.register_forward_pre_hook(self._before(index), with_kwargs=True)
            layer.register_forward_hook(self._after(index))

    @contextmanager
    def inserting(self, cut: dict[int, Float[Tensor, "_ _ _"]]) -> Iterator[None]:
        """Inserts prompt vectors [G P H], given by block, in passes within the context."""
        token = _cut.set(cut)
        try:
            yield
        finally:
            _cut.reset(token)

    def _before(self, block: int) -> _Before:
        def hook(_: nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords] | None:
            cut = _cut.get()
            if not cut:
                return None
            hidden = entering(args, kwargs)
            prompts, count, rest = 1, 0, hidden.shape[1]
            if block in cut:
                prompts, count = cut[block].shape[:2]
                hidden = torch.cat([cut[block].flatten(0, 1)[None], hidden], 1)
            if kwargs.get("position_embeddings") is not None:
                turned = tuple(_repeated(p, prompts, count, rest) for p in kwargs["position_embeddings"])
                kwargs = kwargs | {"position_embeddings": turned}
            kwargs.pop("hidden_states", None)
            return (hidden, *args[1:]), kwargs

        return hook

    def _after(self, block: int) -> Callable[[nn.Module, Arguments, object], object]:
        def hook(_: nn.Module, __: Arguments, out: object) -> object:
            cut = _cut.get() or {}
            if block not in cut:
                return out
            front = math.prod(cut[block].shape[:2])
            return (out[0][:, front:], *out[1:]) if isinstance(out, tuple) else leaving(out)[:, front:]

        return hook


def _repeated(part: Float[Tensor, "1 N D"], prompts: int, count: int, rest: int) -> Float[Tensor, "1 M D"]:
    """What belongs to positions of [cut prompt | rest], for [cut of each prompt | rest]."""
    end = part[:, part.shape[1] - count - rest :]
    return end if prompts == 1 else torch.cat([end[:, :count].repeat(1, prompts, 1), end[:, count:]], 1)
