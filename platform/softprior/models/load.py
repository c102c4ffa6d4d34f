"""Loads a model spec as a host and a tokenizer, with one copy of the weights per process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from softprior.assets.architecture import architecture
from softprior.assets.cache import cache_root, place
from softprior.assets.checkpoint import require_complete
from softprior.assets.configs import line
from softprior.assets.examination import read_tokenizer
from softprior.assets.models import ResolvedModel, resolve_model
from softprior.assets.tokens import Tokenizer
from softprior.assets.transformers_private import attention_of
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.models.encoder_decoder import EncoderDecoderLM
from softprior.models.kept_rows import KeptRows
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.prompt import Row, collate
from softprior.results.provenance import SOURCES

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Loaded(NamedTuple):
    """A host and its tokenizer.

    Attributes:
        fingerprint: identifies weights and tokenizer together.
    """

    host: LocalLM | EncoderDecoderLM
    tokenizer: Tokenizer
    fingerprint: str


class LoadedTokenizer(NamedTuple):
    """A model's tokenizer; the fingerprint is that of weights and tokenizer together."""

    tokenizer: Tokenizer
    fingerprint: str


def load_tokenizer(model: ModelSpec) -> LoadedTokenizer:
    """Loads a model's tokenizer and none of its weights.

    Raises:
        UserError: the model is not available.
    """
    resolved = resolve_model(model)
    return LoadedTokenizer(read_tokenizer(resolved.folder), resolved.fingerprint)


@lru_cache(maxsize=1)
def load_local(model: ModelSpec) -> Loaded:
    """Loads a model into this process; the same spec again gives the same object.

    Raises:
        UserError: the model is not available, does not fit the device, or its family is not supported.
    """
    resolved = resolve_model(model)
    device = device_of(model)
    tokenizer = read_tokenizer(resolved.folder)
    network: Any = read_network(model, resolved).to(device)
    if network.config.is_encoder_decoder:
        host = EncoderDecoderLM(network, resolved.fingerprint)
        verify_once(model, resolved.fingerprint, network, host)
        return Loaded(host, tokenizer, resolved.fingerprint)
    local = LocalLM(network, resolved.fingerprint)
    local.ragged = model.kernels != "padded"
    verify_once(model, resolved.fingerprint, network, local)
    if model.kernels == "compiled" and device.type == "cuda":
        _compile(network, local)
    if model.frozen_cache is not None:
        local.keep_rows(KeptRows(model.frozen_cache))
    return Loaded(local, tokenizer, resolved.fingerprint)


def _compile(network: PreTrainedModel, host: LocalLM) -> None:
    """Compiles a host and runs it once.

    Raises:
        UserError: this machine or torch.compile cannot.
    """
    host.compile()
    try:
        verify_packing(network, host)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"model.kernels = 'compiled', but torch.compile fails here: {line(error)}; write kernels: auto"
        ) from None


def read_network(model: ModelSpec, resolved: ResolvedModel) -> nn.Module:
    """The model's weights as transformers loads them, with packed attention if it is a decoder.

    Raises:
        UserError: they cannot be loaded, some are missing, or the family is not supported.
    """
    made = architecture(resolved.folder)
    weights: dict[str, object] = {"dtype": getattr(torch, model.dtype), "use_safetensors": True}
    if not made.config.is_encoder_decoder:
        weights["attn_implementation"] = ATTENTION
    try:
        network: nn.Module
        network, found = made.load(resolved.folder, **weights)
    except KeyError as error:
        if error.args != (ATTENTION,):
            raise
        raise UserError(
            f"the family of model {model.id} implements attention outside of transformers' interface, so "
            "softprior cannot run it; choose a decoder-only attention model"
        ) from None
    except (ValueError, OSError, ImportError, SafetensorError) as error:
        raise UserError(f"model {model.id} cannot be loaded from {resolved.folder}: {line(error)}") from None
    require_complete(found, f"the model in {resolved.folder}")
    return network


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


def device_of(model: ModelSpec) -> torch.device:
    """The device that a model's spec selects on this machine.

    Raises:
        UserError: it selects a GPU, and there is none.
    """
    if model.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if model.device == "cuda" and not torch.cuda.is_available():
        raise UserError("model.device = 'cuda', but torch sees no GPU here; use 'auto' or 'cpu'")
    return torch.device(model.device)


def verify_packing(network: PreTrainedModel, host: LocalLM) -> None:
    """Compares packed rows with the family's own eager attention, once, on two short random rows.

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
    """Compares padded rows with the family's own eager attention, once, on two short random rows.

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
    """Whether two rows in one batch have the loss and continuation of the model's own forward of each.

    Args:
        own: logits with which the network predicts a text's tokens from a position on, in eager attention.
        firsts: position of each row's first label.
    """
    generator = torch.Generator().manual_seed(0)
    texts = [
        torch.randint(host.info().vocabulary, (length,), generator=generator).tolist() for length in (9, 6)
    ]
    labels = [
        [False] * first + [True] * (len(text) - first) for text, first in zip(texts, firsts, strict=True)
    ]
    batch = collate([Row("", text, marks, marks) for text, marks in zip(texts, labels, strict=True)])
    together = host.loss(None, batch).nll
    continued = host.generate(None, batch, max_new=3, stop=frozenset())
    # Reduced precision rounds differently in the two forms; a mixed-up row is off by far more.
    tolerance = 1e-4 if host.dtype == torch.float32 else 5e-2
    used = attention_of(network)
    network.set_attn_implementation("eager")
    try:
        for nll, text, more, first in zip(together, texts, continued, firsts, strict=True):
            tokens = torch.tensor(text + more, device=host.device)
            logits = own(network, tokens, first).float()
            read, ahead = logits[: len(text) - first], logits[len(text) - first :]
            alone = nn.functional.cross_entropy(read, tokens[first : len(text)], reduction="sum")
            behind = ahead.max(-1).values - ahead.gather(1, tokens[len(text) :, None])[:, 0]
            if not torch.allclose(nll, alone, rtol=tolerance, atol=tolerance):
                return False
            if bool((behind > tolerance * ahead.abs().max()).any()):
                return False
    finally:
        network.set_attn_implementation(used)
    return True
