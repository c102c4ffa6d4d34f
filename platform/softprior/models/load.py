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
    except (ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model {model.id} cannot be loaded from {resolved.folder}: {reason}") from None
    return network


def _device(model: ModelSpec) -> torch.device:
    if model.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if model.device == "cuda" and not torch.cuda.is_available():
        raise UserError("model.device = 'cuda', but torch sees no GPU here; use 'auto' or 'cpu'")
    return torch.device(model.device)


@torch.no_grad()
def verify_packing(network: Any, host: LocalLM) -> None:
    """Compares packed rows with the family's own eager attention, once, on two short random rows.

    A family that mixes positions outside of attention (a recurrence, a convolution) or reads token
    ids beside the embeddings would be wrong without any other sign.

    Raises:
        UserError: the results differ by more than rounding.
    """
    info = host.info()
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(info.vocabulary, (length,), generator=generator).tolist() for length in (9, 6)]
    rows = [Row(str(i), t, [False] + [True] * (len(t) - 1), [True] * len(t)) for i, t in enumerate(texts)]
    packed = host.loss(None, collate(rows)).nll
    network.set_attn_implementation("eager")
    try:
        own = []
        for text in texts:
            ids = torch.tensor([text], device=host.device)
            logits = network(input_ids=ids, use_cache=False).logits[0].float()
            own.append(nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="sum"))
    finally:
        network.set_attn_implementation(ATTENTION)
    # Reduced precision rounds differently in the two forms; a mixed-up row is off by far more.
    tolerance = 1e-4 if host.dtype == torch.float32 else 5e-2
    if not torch.allclose(packed, torch.stack(own), rtol=tolerance, atol=tolerance):
        raise UserError(
            f"the model family '{info.family}' does more between positions than attention through "
            "transformers' interface (packed and own results differ), so softprior cannot run it; "
            "choose a decoder-only attention model"
        )
