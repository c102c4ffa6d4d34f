"""Keys and values of a frozen model's blocks: widths, projection of states, and rotation of keys."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softprior.errors import UserError
from softprior.models.blocks import Blocks
from softprior.models.hooks import Arguments, Keywords, watching
from softprior.models.packing import Halted, RowPass, Rows, running
from softprior.prompt import Place

CHUNK = 4096
"""States per call; memory grows with their number."""

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 2e-2}
"""Relative tolerance of rotated keys against the family's own: norms of most families are float32."""


_Call = tuple[Arguments, Keywords]
"""The arguments of a block after the states, and its keywords."""


class KeyGeometry:
    """Computes keys and values of a model's blocks, through the model's own modules.

    A block is called as the model itself called it on a text of one or P tokens, but with other states
    and, for keys before rotary, with every state at position 0, where the rotation is the identity.
    """

    def __init__(self, model: nn.Module, blocks: Blocks) -> None:
        self._model = model
        self._layers = blocks.layers
        self._hidden = int(model.config.get_text_config().hidden_size)  # type: ignore[union-attr, operator]
        self._calls: dict[int, dict[int, _Call]] = {}
        self._turned: dict[tuple[int, int], bool] = {}

    def width(self, place: Place) -> int:
        """Dimension of the vectors at a place."""
        if place.kind == "residual":
            return self._hidden
        return self._widths[place.block][0 if place.kind == "key" else 1]

    @torch.no_grad()
    def project(self, place: Place, states: Float[Tensor, "N H"]) -> Float[Tensor, "N D"]:
        """See `FrozenLM.project`."""
        read = self.reader(place.block)
        side = 0 if place.kind == "key" else 1
        return torch.cat([read(chunk)[side] for chunk in states.split(CHUNK)]).float()

    def reader(self, block: int) -> Callable[[Float[Tensor, "N H"]], tuple[Tensor, Tensor]]:
        """Maps states at a block's input to keys (before rotary, after any norm of keys) and values.

        It may be called during a pass of the model. `reader` itself may not, as it may need its own pass.
        """
        args, kwargs = self._called(1)[block]
        return lambda states: self._keys_values(block, states, args, _spread(kwargs, len(states)))

    @torch.no_grad()
    def rotate(self, place: Place, keys: Float[Tensor, "P D"], inverse: bool) -> Float[Tensor, "P D"]:
        """See `FrozenLM.rotate`."""
        count = len(keys)
        _, kwargs = self._called(count)[place.block]
        if kwargs.get("position_embeddings") is None:
            return keys.clone()  # learned positions are in the states already
        if (place.block, count) not in self._turned:
            self._turned[place.block, count] = self._turns(place.block, count)
        return (
            self._turn(place.block, keys, inverse).to(keys)
            if self._turned[place.block, count]
            else keys.clone()
        )

    def _turn(self, block: int, keys: Float[Tensor, "P D"], inverse: bool) -> Float[Tensor, "P D"]:
        _, kwargs = self._called(len(keys))[block]
        cos, sin = (part.double() for part in kwargs["position_embeddings"])
        # YaRN also scales, at position 0 as everywhere, so keys of `project` have the scale already.
        scale = (cos.square() + sin.square()).sqrt()
        cos, sin = cos / scale, (-sin if inverse else sin) / scale
        attention = attention_of(self._layers[block])
        apply = getattr(sys.modules[type(attention).__module__], "apply_rotary_pos_emb", None)
        size = getattr(attention, "head_dim", None) or getattr(attention, "head_size", None)
        if apply is None or size is None:
            raise self._unknown()
        size = int(size)
        heads = keys.to(cos).view(len(keys), -1, size).transpose(0, 1)[None]
        turned = _applied(apply, heads, cos, sin)
        if turned is None:
            raise self._unknown()
        return turned[0].transpose(0, 1).flatten(1)

    def _turns(self, block: int, count: int) -> bool:
        """Whether the block rotates keys at all; some families (SmolLM3, Cohere 2) do so only in some blocks.

        Rotates keys of random states and compares them with the block's own at positions 0 to P - 1.
        """
        generator = torch.Generator().manual_seed(0)
        states = torch.randn(count, self._hidden, generator=generator)
        args, kwargs = self._called(count)[block]
        own, _ = self._keys_values(block, states, args, kwargs)
        plain = self.project(Place(block, "key"), states)
        if float((own - plain).abs().max()) <= TOLERANCE[own.dtype] * float(own.abs().max()):
            return False
        found = self._turn(block, plain, inverse=False).to(own)
        back = self._turn(block, own, inverse=True).to(plain)
        tolerance = TOLERANCE[own.dtype]
        scale = float(own.abs().max())
        if float((found - own).abs().max()) > tolerance * scale:
            raise self._unknown()
        if float((back - plain).abs().max()) > tolerance * float(plain.abs().max()):
            raise self._unknown()
        return True

    def _unknown(self) -> UserError:
        family = self._model.config.model_type  # type: ignore[union-attr]
        return UserError(
            f"softprior does not know how the model family '{family}' rotates keys by position, which priors "
            "of prefix keys need; use the method soft or deep"
        )

    def _keys_values(
        self, block: int, states: Tensor, args: Arguments, kwargs: Keywords
    ) -> tuple[Tensor, Tensor]:
        weight = next(self._model.parameters())
        lengths = torch.tensor([len(states)], device=weight.device)
        current = RowPass(Rows.of(lengths), capture={}, halt=True)
        with running(current), suppress(Halted):
            # Past the block's hooks, which are for the states of the model's own passes.
            self._layers[block].forward(states.to(weight)[None], *args, **kwargs)
        assert current.capture is not None
        return current.capture[block]

    @cached_property
    def _widths(self) -> dict[int, tuple[int, int]]:
        current = self._run(1)
        return {block: (key.shape[1], value.shape[1]) for block, (key, value) in current.items()}

    def _called(self, count: int) -> dict[int, _Call]:
        """How the model calls each block on `count` tokens: the arguments after the states, and keywords."""
        if count not in self._calls:
            self._run(count)
        return self._calls[count]

    @torch.no_grad()
    def _run(self, count: int) -> dict[int, tuple[Tensor, Tensor]]:
        calls: dict[int, _Call] = {}

        def note(block: int, args: Arguments, kwargs: Keywords) -> None:
            calls[block] = (args[1:], {k: v for k, v in kwargs.items() if k != "hidden_states"})

        device = next(self._model.parameters()).device
        ids = torch.zeros(1, count, dtype=torch.long, device=device)
        current = RowPass(Rows.of(torch.tensor([count], device=device)), capture={})
        called = [(layer, partial(note, block)) for block, layer in enumerate(self._layers)]
        with running(current), watching(called):
            self._model(input_ids=ids, use_cache=False, logits_to_keep=1)
        self._calls[count] = calls
        assert current.capture is not None
        return current.capture


_ATTENTIONS = ("self_attn", "attn", "attention", "self_attention")


def attention_of(layer: nn.Module) -> nn.Module | None:
    """A block's attention, by the names that families have for it."""
    named = dict(layer.named_children())
    return next((named[name] for name in _ATTENTIONS if name in named), None)


def _applied(apply: Callable[..., Any], heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor | None:
    """Heads as a family's `apply_rotary_pos_emb` rotates them; None if it takes other arguments.

    Most take queries and keys, Gemma 4's takes one of them. The angles are as wide as what is rotated of a
    head, or half as wide, as gpt-oss has each once for its two halves. `KeyGeometry` compares what comes out
    with the family's own keys.
    """
    for width in (cos.shape[-1], 2 * cos.shape[-1]):
        turned, rest = heads[..., :width], heads[..., width:]
        for both in (True, False):
            with suppress(TypeError, RuntimeError):
                found = apply(turned, turned, cos, sin)[1] if both else apply(turned, cos, sin)
                return torch.cat([found, rest], -1)
    return None


def _spread(kwargs: Keywords, count: int) -> Keywords:
    """Keywords of a call on one token, for `count` states that are all at its position."""
    changed = dict(kwargs)
    if kwargs.get("position_embeddings") is not None:
        changed["position_embeddings"] = tuple(
            part.expand(-1, count, -1) for part in kwargs["position_embeddings"]
        )
    if kwargs.get("position_ids") is not None:
        changed["position_ids"] = kwargs["position_ids"].expand(-1, count)
    return changed
