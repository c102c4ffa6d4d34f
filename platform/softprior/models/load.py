"""Loads a model spec as a host and a tokenizer, with one copy of the weights per process."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import nn

from softprior.assets.architecture import architecture
from softprior.assets.checkpoint import require_complete
from softprior.assets.configs import line
from softprior.assets.examination import read_tokenizer
from softprior.assets.models import ResolvedModel, resolve_model
from softprior.assets.tokens import Tokenizer
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.models.encoder_decoder import EncoderDecoderLM
from softprior.models.kept_rows import KeptRows
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.verification import verify_once, verify_packing

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
        raise UserError(
            f"model {model.id} cannot be loaded from {resolved.folder}: {line(error)}; save it again with "
            "save_pretrained, or choose another model"
        ) from None
    require_complete(found, f"the model in {resolved.folder}")
    return network


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
