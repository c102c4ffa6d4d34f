"""Tiny random models of several families: small real things for contract suites."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    Gemma4TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    MT5Config,
    Olmo2Config,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    T5Config,
    UMT5Config,
)

_COMMON: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

# Tied to its scaled embeddings a random Gemma repeats its last token, whatever attention does.
_UNTIED: dict[str, Any] = {**_COMMON, "tie_word_embeddings": False}

FAMILIES: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**_COMMON),
    "qwen3": Qwen3Config(
        **_COMMON,
        sliding_window=6,
        use_sliding_window=True,
        layer_types=["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
    ),
    "gemma2": Gemma2Config(**_UNTIED, sliding_window=6, query_pre_attn_scalar=8),
    "gemma3": Gemma3TextConfig(
        **_UNTIED,
        sliding_window=6,
        query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"],
    ),
    "gpt2": GPT2Config(
        vocab_size=97,
        n_embd=32,
        n_layer=4,
        n_head=4,
        n_positions=128,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
    ),
}
"""Between them: grouped-query attention, sliding windows, softcaps, scaled embeddings, learned positions."""

_SMALL: dict[str, Any] = {**_COMMON, "num_hidden_layers": 3}

# Of families whose queries, keys and values are alike, and whose configs have no names for others.
_ONE_HEAD_SIZE = {
    key: value for key, value in _SMALL.items() if key not in ("head_dim", "num_key_value_heads")
}

OTHER_FAMILIES: dict[str, PreTrainedConfig] = {
    "qwen2": Qwen2Config(**_SMALL),
    "mistral": MistralConfig(**_SMALL, sliding_window=6),
    "phi3": Phi3Config(**_SMALL),
    "olmo2": Olmo2Config(**_SMALL),
    "gpt_neox": GPTNeoXConfig(**{**_ONE_HEAD_SIZE, "rotary_pct": 0.5}),
    "falcon": FalconConfig(**_ONE_HEAD_SIZE, alibi=False),
    "gemma4": Gemma4TextConfig(
        **{**_UNTIED, "num_hidden_layers": 3, "global_head_dim": 16},
        layer_types=["sliding_attention", "full_attention", "full_attention"],
        sliding_window=6,
        hidden_size_per_layer_input=0,
    ),
    "gpt_oss": GptOssConfig(**_SMALL, num_local_experts=4, num_experts_per_tok=2, sliding_window=6),
}
"""Families of the matrix in docs/models.md besides `FAMILIES`, which run the whole contract suite. Between
them: biases, one window for all blocks, fused projections, norms after attention, partial rotation, sinks,
heads of other sizes in some blocks."""

_OWN_HEAD: dict[str, Any] = {"tie_word_embeddings": False}

_TWO_STACKS: dict[str, Any] = {
    "vocab_size": 97,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    # Small, so that short texts reach the last bucket.
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 6,
    "decoder_start_token_id": 3,
}

ENCODER_DECODERS: dict[str, PreTrainedConfig] = {
    "t5": T5Config(**_TWO_STACKS, feed_forward_proj="relu"),
    "t5 v1.1": T5Config(**_TWO_STACKS, feed_forward_proj="gated-gelu", **_OWN_HEAD),
    "mt5": MT5Config(**_TWO_STACKS),
    "umt5": UMT5Config(**_TWO_STACKS),
}
"""Between them: ReLU and gated GELU, tied and own output layers, position biases of one block or of each."""


def random_model(family: str, attention: str | None = "eager", seed: int = 0) -> nn.Module:
    """A model of the family with random weights, the same for the same seed, in evaluation mode."""
    # A copy, since from_config writes the attention's name into it.
    config = copy.deepcopy({**FAMILIES, **OTHER_FAMILIES, **ENCODER_DECODERS}[family])
    kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = kind.from_config(config, attn_implementation=attention)
        if family == "t5":
            # Small beside what the blocks add, or a decoder tied to its embeddings repeats what it reads.
            model.shared.weight.data *= 0.1
        elif family in ENCODER_DECODERS:
            # transformers builds all of them tied, and unties what a checkpoint holds apart.
            model.lm_head.weight = nn.Parameter(torch.randn(97, 32))
    found: nn.Module = model.eval()
    return found


def save_model(model: nn.Module, folder: Path) -> Path:
    """Writes a model as users have it, with a tokenizer of one word for each row of its table.

    The words are w1, w2, and so on, their tokens 1, 2, and so on; any other word is token 0.
    """
    network: Any = model
    network.save_pretrained(folder)
    rows = network.get_input_embeddings().num_embeddings
    words = {"<unk>": 0, **{f"w{i}": i for i in range(1, rows)}}
    unknown = {"unk_token": "<unk>"}
    inner = Tokenizer(WordLevel(words, **unknown))
    PreTrainedTokenizerFast(tokenizer_object=inner, **unknown).save_pretrained(folder)
    return folder


def with_uneven_norms(model: nn.Module) -> nn.Module:
    """The model with random norms too: new ones are all alike, so one in another's place would not show."""
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        if weight.dim() == 1:
            weight.data += torch.randn(weight.shape, generator=generator)
    return model
