"""Keys of families with rotations of their own kind, and of one whose rotation is not known."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, PreTrainedConfig

from softprior.errors import UserError
from softprior.models import keys
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.prompt import Place
from softprior.testing.families import random_model
from softprior.testing.hosts import check_prefix_of_a_text, check_projections

SIZES = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 1e4}

OTHERS: dict[str, PreTrainedConfig] = {
    # Rotates a quarter of each head, and calls a head's dimension head_size.
    "gpt_neox": GPTNeoXConfig(**SIZES, num_attention_heads=4, max_position_embeddings=128),
    # Scales what it rotates.
    "llama with yarn": LlamaConfig(
        **SIZES,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rope_parameters=YARN,
        initializer_range=0.3,
    ),
}


@pytest.mark.parametrize("check", [check_projections, check_prefix_of_a_text])
@pytest.mark.parametrize("name", OTHERS)
def test_keys_are_turned_as_the_family_turns_them(name, check):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(OTHERS[name], attn_implementation=ATTENTION).eval()
    check(LocalLM(model, "weights"), model)


def test_a_family_whose_rotation_is_not_known_is_refused(monkeypatch):
    monkeypatch.setattr(keys, "_ATTENTIONS", ("no such module",))
    host = LocalLM(random_model("llama", ATTENTION), "weights")
    with pytest.raises(UserError, match="does not know how the model family 'llama' turns keys by position"):
        host.rotate(Place(0, "key"), torch.randn(3, 16))
