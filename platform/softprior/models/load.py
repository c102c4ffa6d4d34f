"""From a model spec to a host and its tokenizer, one copy of the weights per process."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from softprior.assets.models import ResolvedModel, resolve_model
from softprior.errors import UserError
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.prompt import Row, collate
from softprior.specs import ModelSpec


class Loaded(NamedTuple):
    """A host, and what turns text into its tokens.

    Attributes:
        fingerprint: identifies weights and tokenizer together.
    """

    host: LocalLM
    tokenizer: Any
    fingerprint: str


@lru_cache(maxsize=1)
def load_local(model: ModelSpec) -> Loaded:
    """Loads a model into this process; the same spec again gives the same object.

    Raises:
        UserError: the model cannot be had, does not fit the device, or its family is not supported.
    """
    resolved = resolve_model(model)
    device = _device(model)
    tokenizer = AutoTokenizer.from_pretrained(resolved.folder, trust_remote_code=False)
    network = _network(model, resolved).to(device)
    host = LocalLM(network, resolved.fingerprint)
    verify_packing(network, host)
    return Loaded(host, tokenizer, resolved.fingerprint)


def _network(model: ModelSpec, resolved: ResolvedModel) -> nn.Module:
    try:
        network: nn.Module = AutoModelForCausalLM.from_pretrained(
            resolved.folder,
            dtype=getattr(torch, model.dtype),
            attn_implementation=ATTENTION,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except KeyError as error:
        if error.args != (ATTENTION,):
            raise
        raise UserError(
            f"the family of model {model.id} has an attention of its own, past transformers' interface, so "
            "softprior cannot run it; choose a decoder-only attention model"
        ) from None
    except (ValueError, OSError) as error:
        raise UserError(f"model {model.id} cannot be loaded from {resolved.folder}: {_line(error)}") from None
    return network


def _device(model: ModelSpec) -> torch.device:
    if model.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if model.device == "cuda" and not torch.cuda.is_available():
        raise UserError("model.device = 'cuda', but torch sees no GPU here; use 'auto' or 'cpu'")
    return torch.device(model.device)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def verify_packing(network: Any, host: LocalLM) -> None:
    """Compares packed rows with the family's own eager attention, once, on two short random rows.

    A family that mixes positions outside of attention (a recurrence, a convolution) or reads token
    ids beside the embeddings would be wrong without any other sign, and one that attends twice in a
    block would be right until it generates.

    Raises:
        UserError: the results differ by more than rounding, or there are none.
    """
    family = host.info().family
    try:
        same = _packs(network, host)
    except Exception as error:  # a family may fail in any way of its own at what it was not written for
        raise UserError(
            f"the model family '{family}' fails with packed attention ({_line(error)}), so softprior cannot "
            "run it; choose a decoder-only attention model"
        ) from error
    window = getattr(network.config, "sliding_window", None)
    layers = getattr(network.config, "layer_types", None) or ["sliding_attention"]
    if window is not None and "sliding_attention" in layers and window not in host.windows:
        raise UserError(
            f"the model family '{family}' applies its sliding window of {window} through masks alone, which "
            "packed attention does not see; set sliding_window to null in its config.json if every text is "
            "shorter, or choose another model"
        )
    if not same:
        raise UserError(
            f"the model family '{family}' does more between positions than attention through "
            "transformers' interface (packed and own results differ), so softprior cannot run it; "
            "choose a decoder-only attention model"
        )


@torch.no_grad()
def _packs(network: Any, host: LocalLM) -> bool:
    generator = torch.Generator().manual_seed(0)
    texts = [
        torch.randint(host.info().vocabulary, (length,), generator=generator).tolist() for length in (9, 6)
    ]
    rows = [Row(str(i), t, [False] + [True] * (len(t) - 1), [True] * len(t)) for i, t in enumerate(texts)]
    batch = collate(rows)
    packed = host.loss(None, batch).nll
    continued = host.generate(None, batch, max_new=3, stop=frozenset())
    # Reduced precision rounds differently in the two forms; a mixed-up row is off by far more.
    tolerance = 1e-4 if host.dtype == torch.float32 else 5e-2
    network.set_attn_implementation("eager")
    try:
        for nll, text, more in zip(packed, texts, continued, strict=True):
            ids = torch.tensor([text + more], device=host.device)
            logits = network(input_ids=ids, use_cache=False).logits[0].float()
            read, ahead = logits[: len(text) - 1], logits[len(text) - 1 : -1]
            own = nn.functional.cross_entropy(read, ids[0, 1 : len(text)], reduction="sum")
            behind = ahead.max(-1).values - ahead.gather(1, ids[0, len(text) :, None])[:, 0]
            if not torch.allclose(nll, own, rtol=tolerance, atol=tolerance):
                return False
            if bool((behind > tolerance * ahead.abs().max()).any()):
                return False
    finally:
        network.set_attn_implementation(ATTENTION)
    return True
