"""Checks of a model that has just been loaded: its weights, and its results against the family's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from softprior.assets.cache import cache_root, place
from softprior.assets.configs import line
from softprior.assets.transformers_private import attention_of
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.models.encoder_decoder import EncoderDecoderLM
from softprior.models.local import LocalLM
from softprior.prompt import Row, collate
from softprior.results.provenance import SOURCES

if TYPE_CHECKING:
    from transformers import PreTrainedModel


LENGTHS = (70, 6)
"""Tokens of the rows that are compared: one of them in several chunks of attention, see `causal_chunks`."""

MORE = 3
"""Tokens by which they are continued."""


def verify_once(
    model: ModelSpec, fingerprint: str, network: PreTrainedModel, host: LocalLM | EncoderDecoderLM
) -> None:
    """Checks that all weights are finite, and `verify_packing` or `verify_padding`, for a model just loaded.

    They take about a second, and their outcome depends on the model, the code, its libraries and the kind of
    processor alone: a model that has passed here leaves a mark in the cache, as far as that takes one, and is
    not checked again. On GPUs every process checks.

    Raises:
        UserError: as they do.
    """
    if host.device.type != "cpu":
        _verify(model, network, host)
        return
    libraries = [torch.__version__, version("transformers"), torch.backends.cpu.get_cpu_capability()]
    key = [fingerprint, model.dtype, model.kernels, SOURCES, *libraries]
    mark = f"verified/{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}"
    with suppress(OSError, UserError):
        if (cache_root() / mark).exists():
            return
    _verify(model, network, host)
    with suppress(OSError, UserError):
        place(mark).touch()


def _verify(model: ModelSpec, network: PreTrainedModel, host: LocalLM | EncoderDecoderLM) -> None:
    require_finite(network, model)
    if isinstance(host, EncoderDecoderLM):
        verify_padding(network, host)
    else:
        verify_packing(network, host)


def require_finite(network: nn.Module, model: ModelSpec) -> None:
    """Checks that all weights are finite.

    Raises:
        UserError: one is infinite or not a number.
    """
    for name, weight in network.named_parameters():
        if not bool(weight.isfinite().all()):
            raise not_finite(model, name)


def not_finite(model: ModelSpec, name: str) -> UserError:
    """The error for a weight that is not finite, by its name."""
    remedy = "use another copy"
    if model.dtype == "float16":
        remedy += ", or set model.dtype to bfloat16, which has the range of float32"
    return UserError(
        f"the weights of model {model.id} contain NaN or infinite values in {model.dtype}, first in {name}; "
        f"{remedy}"
    )


def verify_packing(network: PreTrainedModel, host: LocalLM) -> None:
    """Compares packed rows with the family's own eager attention, once, on two random rows.

    A family that mixes positions outside of attention (a recurrence, a convolution) or reads token ids
    in addition to the embeddings would be silently wrong, and one that attends twice in a block would be
    right until it generates.

    Raises:
        UserError: the results differ by more than rounding, or the pass fails.
    """
    family = network.config.model_type
    # A model that also sees or hears keeps what its decoder is in a config of its own.
    config = network.config.get_text_config()
    if getattr(config, "hidden_size_per_layer_input", 0):
        raise UserError(
            f"the model family '{family}' reads token ids in every block (per-layer embeddings), which the "
            "vectors of a prompt do not have; choose another decoder-only attention model"
        )
    try:
        same = _as_alone(network, host, _causal, (1, 1))
    except UserError:
        raise
    except Exception as error:  # a family may fail in any way of its own at what it was not written for
        raise UserError(
            f"the model family '{family}' fails with packed attention ({line(error)}), so softprior cannot "
            "run it; choose a decoder-only attention model"
        ) from error
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None) or ["sliding_attention"]
    if window is not None and "sliding_attention" in layers and window not in host.windows:
        raise UserError(
            f"the model family '{family}' applies its sliding window of {window} only through masks, which "
            "packed attention ignores; set sliding_window to null in its config.json if every text is "
            "shorter, or choose another model"
        )
    if not same:
        raise UserError(
            f"the model family '{family}' mixes positions other than by attention through "
            "transformers' interface (packed and own results differ), so softprior cannot run it; "
            "choose a decoder-only attention model"
        )


def verify_padding(network: PreTrainedModel, host: EncoderDecoderLM) -> None:
    """Compares padded rows with the family's own eager attention, once, on two random rows.

    Raises:
        UserError: the results differ by more than rounding, or the pass fails.
    """
    info = host.info()

    def own(network: PreTrainedModel, tokens: Tensor, first: int) -> Tensor:
        start = torch.full_like(tokens[:1], host.start)
        read = torch.cat([start, tokens[first:-1]])
        logits: Tensor = network(input_ids=tokens[None, :first], decoder_input_ids=read[None]).logits
        return logits[0]

    try:
        same = _as_alone(network, host, own, (6, 2))
    except Exception as error:  # as above
        raise UserError(
            f"the model family '{info.family}' fails with padded rows ({line(error)}), so softprior cannot "
            "run it; choose another T5 or a decoder-only model"
        ) from error
    if not same:
        raise UserError(
            f"the model family '{info.family}' in {info.dtype} gives different results for a padded row and "
            "for the same row alone, so softprior cannot run it; use dtype float32, or choose another T5 or "
            "a decoder-only model"
        )


def _causal(network: PreTrainedModel, tokens: Tensor, first: int) -> Tensor:
    logits: Tensor = network(input_ids=tokens[None], use_cache=False).logits
    return logits[0, first - 1 : -1]


@torch.no_grad()
def _as_alone(
    network: PreTrainedModel,
    host: LocalLM | EncoderDecoderLM,
    own: Callable[[PreTrainedModel, Tensor, int], Tensor],
    firsts: tuple[int, int],
) -> bool:
    """Whether two rows in one batch have the logits and continuation of the model's own forward of each.

    Args:
        own: logits with which the network predicts a text's tokens from a position on, in eager attention.
        firsts: position of each row's first label.
    """
    info, generator = host.info(), torch.Generator().manual_seed(0)
    # The rotation of longer texts may depend on their length, which changes as they are continued.
    most = min(info.positions, info.steady or info.positions) - MORE
    lengths = [min(length, most) for length in LENGTHS]
    texts = [torch.randint(info.vocabulary, (length,), generator=generator).tolist() for length in lengths]
    labels = [
        [False] * first + [True] * (len(text) - first) for text, first in zip(texts, firsts, strict=True)
    ]
    batch = collate([Row("", text, marks, marks) for text, marks in zip(texts, labels, strict=True)])
    together = host.logits(None, batch).float().split([sum(marks) for marks in labels])
    continued = host.generate(None, batch, max_new=MORE, stop=frozenset())
    # Of the largest logit; 2e-6 and 0.02 where measured, while a mixed-up row is off by far more.
    tolerance = 1e-4 if host.dtype == torch.float32 else 0.1
    used = attention_of(network)
    network.set_attn_implementation("eager")
    try:
        for packed, text, more, first in zip(together, texts, continued, firsts, strict=True):
            tokens = torch.tensor(text + more, device=host.device)
            logits = own(network, tokens, first).float()
            read, ahead = logits[: len(text) - first], logits[len(text) - first :]
            behind = ahead.max(-1).values - ahead.gather(1, tokens[len(text) :, None])[:, 0]
            if not bool((packed - read).abs().max() <= tolerance * read.abs().max()):
                return False
            if bool((behind > tolerance * ahead.abs().max()).any()):
                return False
    finally:
        network.set_attn_implementation(used)
    return True
