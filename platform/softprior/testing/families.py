"""Tiny random models of several families: small real things for contract suites."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    Qwen3Config,
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


def random_model(family: str, attention: str = "eager", seed: int = 0) -> nn.Module:
    """A model of the family with random weights, the same for the same seed, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = copy.deepcopy(FAMILIES[family])  # from_config writes the attention's name into it
        model: nn.Module = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return model.eval()
