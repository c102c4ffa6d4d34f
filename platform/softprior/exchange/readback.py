"""Reads an exported adapter back and runs it without softprior's host, as PEFT would."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.assets.architecture import architecture
from softprior.assets.checkpoint import require_complete
from softprior.assets.models import resolve_model
from softprior.errors import UserError
from softprior.exchange.adapters import Adapter, read_adapter
from softprior.inputs.specs import ModelSpec
from softprior.models.encoder_decoder import decoder_start
from softprior.models.load import load_local
from softprior.prompt import Row, collate
from softprior.results.posteriors import Vectors

_LENGTHS = (3, 8, 13)
"""Tokens of the compared rows; few, as a misplaced vector shows in the first."""

_TOLERANCES = {"float32": 1e-4}
_ROUNDED = 5e-2
"""Relative to the largest logit. Both forms sum in another order: on random models and `tiny` tests bound
the difference by 1e-5 in float32. Half precision rounds every block's output to 2 or 3 digits; a misplaced
vector changes logits by as much as the prompt itself does."""


class Agreement(NamedTuple):
    """How an adapter and the posterior it was written from compare on a few rows of random tokens.

    Attributes:
        difference: largest absolute difference of their logits.
        effect: largest absolute difference that the prompt makes to the adapter's logits.
        largest: largest absolute logit.
        rows, dtype: on what, and of the model.
    """

    difference: float
    effect: float
    largest: float
    rows: int
    dtype: str

    @property
    def allowed(self) -> float:
        """The largest difference that rounding explains."""
        return _TOLERANCES.get(self.dtype, _ROUNDED) * self.largest


def read_back(folder: Path, final: Vectors, model: ModelSpec) -> Agreement:
    """Compares the logits under an adapter folder with the host's under the vectors it was written from.

    The adapter goes through the model as transformers loads it, with eager attention, each row alone, and
    its vectors are given to it as PEFT gives them. One copy of the weights is in memory at a time.

    Raises:
        UserError: the logits differ by more than rounding, so the folder must not be used.
    """
    adapter = read_adapter(folder)
    resolved = resolve_model(model)
    made = architecture(resolved.folder)
    dtype = getattr(torch, model.dtype)
    network, found = made.load(
        resolved.folder, dtype=dtype, use_safetensors=True, attn_implementation="eager"
    )
    require_complete(found, f"the model in {resolved.folder}")
    network.eval()
    generator = torch.Generator().manual_seed(0)
    table: Tensor = network.get_input_embeddings().weight  # type: ignore[assignment]
    vocabulary = len(table)
    texts = [torch.randint(vocabulary, (length,), generator=generator) for length in _LENGTHS]
    if network.config.is_encoder_decoder:
        given = [length // 2 for length in _LENGTHS]  # the encoder's part of each row
        pairs = [(text[:count], text[count:]) for text, count in zip(texts, given, strict=True)]
        theirs = torch.cat([answered_logits(network, adapter, *pair) for pair in pairs]).float()
        bare = torch.cat([answered_logits(network, None, *pair) for pair in pairs]).float()
    else:
        given = [1] * len(texts)
        theirs = torch.cat([adapted_logits(network, adapter, text)[:-1] for text in texts]).float()
        bare = torch.cat([_logits(network, input_ids=text[None])[:-1] for text in texts]).float()
    del network
    marks = [[i >= count for i in range(length)] for length, count in zip(_LENGTHS, given, strict=True)]
    rows = [Row("", text.tolist(), mark, mark) for text, mark in zip(texts, marks, strict=True)]
    host = load_local(model).host
    ours = host.logits(final, collate(rows)).float().cpu()
    agreement = Agreement(
        float((ours - theirs).abs().max()),
        float((bare - theirs).abs().max()),
        float(theirs.abs().max()),
        len(texts),
        model.dtype,
    )
    # Written so that NaN is refused too.
    if not agreement.difference <= agreement.allowed:
        raise UserError(
            "the exported adapter gives other logits than its posterior (by up to "
            f"{agreement.difference:.2g}, where rounding explains {agreement.allowed:.2g}), so nothing is "
            "kept; report this with the model's name"
        )
    return agreement


def adapted_logits(network: Any, adapter: Adapter, tokens: Int[Tensor, "T"]) -> Float[Tensor, "T V"]:
    """Logits of a causal model at every position of one text, with an adapter's vectors in PEFT's places.

    Prompt tuning prepends them to the input embeddings; prefix tuning passes them on as `past_key_values`.
    """
    vectors = adapter.embeddings.to(network.dtype)
    if adapter.peft_type == "PROMPT_TUNING":
        embedded = network.get_input_embeddings()(tokens)
        return _logits(network, inputs_embeds=torch.cat([vectors, embedded])[None])[len(vectors) :]
    from transformers import DynamicCache

    config = network.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    cache = DynamicCache(config=config)
    # [P, 2 L D] as the keys and the values of each block in turn, [1, heads, P, D / heads].
    each = vectors.view(len(vectors), 2 * config.num_hidden_layers, heads, -1).permute(1, 2, 0, 3)[:, None]
    for block in range(config.num_hidden_layers):
        cache.update(each[2 * block], each[2 * block + 1], block)
    attended = torch.ones(1, len(vectors) + len(tokens), dtype=torch.long)
    return _logits(network, input_ids=tokens[None], past_key_values=cache, attention_mask=attended)


def answered_logits(
    network: Any, adapter: Adapter | None, given: Int[Tensor, "S"], answer: Int[Tensor, "A"]
) -> Float[Tensor, "A V"]:
    """Logits from which an encoder-decoder predicts each token of an answer.

    PEFT prepends the vectors to the encoder's input embeddings; the decoder starts from its own token.
    """
    embedded = network.get_input_embeddings()(given)
    if adapter is not None:
        embedded = torch.cat([adapter.embeddings.to(network.dtype), embedded])
    start = torch.tensor([decoder_start(network)])
    return _logits(
        network, inputs_embeds=embedded[None], decoder_input_ids=torch.cat([start, answer[:-1]])[None]
    )


@torch.no_grad()
def _logits(network: Any, **inputs: object) -> Float[Tensor, "T V"]:
    found: Tensor = network(**inputs).logits[0]
    return found
