"""Finds the parts of a decoder, for the families of transformers that follow its conventions."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import nn

from softprior.errors import UserError

_BLOCK_LISTS = ("layers", "h", "blocks")
_FIRST_NORMS = ("input_layernorm", "ln_1", "norm1", "self_attn_layer_norm")
_POSITIONWISE = (
    *_FIRST_NORMS,
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
    "ln_2",
    "ln_attn",
    "ln_mlp",
    "mlp",
)
_FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")


class Blocks(NamedTuple):
    """The blocks of a decoder and the norm after the last one."""

    layers: list[nn.Module]
    final_norm: nn.Module

    @classmethod
    def of(cls, model: nn.Module) -> Blocks:
        """Finds the blocks of a causal model.

        Raises:
            UserError: the model's decoder has none of the names that transformers' families use.
        """
        decoder: nn.Module = model.get_decoder() if hasattr(model, "get_decoder") else model  # type: ignore[operator]
        layers = _child(decoder, _BLOCK_LISTS)
        final = _child(decoder, _FINAL_NORMS)
        if not isinstance(layers, nn.ModuleList) or final is None:
            family = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
            raise UserError(
                f"the model family '{family}' has no blocks or no final norm under a name that softprior "
                f"knows ({', '.join(_BLOCK_LISTS)}; {', '.join(_FINAL_NORMS)}); choose another model"
            )
        return cls(list(layers), final)

    def norm(self, block: int) -> nn.Module:
        """The norm at a block's input; the identity for families that normalise elsewhere."""
        return _child(self.layers[block], _FIRST_NORMS) or nn.Identity()

    def positionwise(self) -> list[nn.Module]:
        """The blocks' MLPs and norms, which see positions one by one; empty under names nobody knows."""
        found = (getattr(layer, name, None) for layer in self.layers for name in _POSITIONWISE)
        return [module for module in found if isinstance(module, nn.Module)]


def _child(module: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    return next(
        (getattr(module, name) for name in names if isinstance(getattr(module, name, None), nn.Module)), None
    )


def position_table(model: nn.Module) -> nn.Module | None:
    """GPT-2's table of learned absolute positions, added to the input of block 0; None without one."""
    return next((module for name, module in model.named_modules() if name.rpartition(".")[2] == "wpe"), None)


def position_kind(model: nn.Module) -> Literal["rotary", "learned", "other"]:
    """How the model encodes positions: rotary in each block, or with a learned table at the input."""
    if any(name.rpartition(".")[2] == "rotary_emb" for name, _ in model.named_modules()):
        return "rotary"
    return "other" if position_table(model) is None else "learned"
