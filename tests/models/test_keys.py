"""Keys of families with rotations of their own kind, and of one whose rotation is not known."""

from collections import defaultdict
from copy import deepcopy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Cohere2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    SmolLM3Config,
)

from softprior.errors import UserError
from softprior.models import keys
from softprior.models.blocks import Blocks
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.prompt import Place
from softprior.testing.families import FAMILIES, random_model
from softprior.testing.hosts import (
    Recorder,
    check_key_sites,
    check_prefix_of_a_text,
    check_projections,
    example_batch,
)
from softprior.testing.hosts.attention import check_attention
from softprior.testing.hosts.closeness import assert_close
from softprior.testing.hosts.examples import texts

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
    # Turn keys in some blocks alone.
    "smollm3": SmolLM3Config(
        **SIZES,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        no_rope_layers=[1, 0, 1, 0],
        pad_token_id=0,
    ),
    "cohere2": Cohere2Config(
        **SIZES,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        sliding_window=6,
        layer_types=["sliding_attention", "full_attention"] * 2,
        pad_token_id=0,
    ),
}


@pytest.mark.parametrize("check", [check_projections, check_key_sites, check_prefix_of_a_text])
@pytest.mark.parametrize("name", OTHERS)
def test_keys_are_turned_as_the_family_turns_them(name, check):
    made = []
    for attention in (ATTENTION, "eager"):
        torch.manual_seed(0)
        config = deepcopy(OTHERS[name])  # from_config writes the attention's name into it
        made.append(AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval())
    check(LocalLM(made[0], "weights"), made[1])


@pytest.mark.parametrize("family", ["gemma4", "gpt_oss"])
def test_keys_are_turned_by_functions_of_other_arguments(family):
    """One tensor at a time, and angles for half of a head; the long tests have the rest of these families."""
    check_projections(LocalLM(random_model(family, ATTENTION), "weights"), random_model(family))


def test_attention_is_found_under_the_familys_name():
    check_attention(LocalLM(random_model("gpt_neox", ATTENTION), "weights"), random_model("gpt_neox"))


@pytest.mark.parametrize("family", sorted(FAMILIES))
@torch.no_grad()
def test_key_sites_are_what_the_familys_own_modules_return(family):
    """Each module that makes keys or values, on each row alone: no packing, no prompts, no projection."""
    host, model = LocalLM(random_model(family, ATTENTION), "weights"), random_model(family)
    batch = example_batch(host.info())
    returned: dict[tuple[str, int], list[torch.Tensor]] = defaultdict(list)

    def keep(name, block, out):
        heads_first = family == "gemma3" and name == "k_norm"
        returned[name, block].append((out.transpose(1, 2) if heads_first else out)[0].flatten(1))

    for block, layer in enumerate(Blocks.of(model).layers):
        attention = layer.attn if family == "gpt2" else layer.self_attn
        for name, module in attention.named_children():
            module.register_forward_hook(lambda _, __, out, at=(name, block): keep(*at, out))
    for text in texts(batch):
        model(input_ids=torch.tensor([text]), use_cache=False)

    seen = host.observe(None, batch, host.sites(), Recorder())
    assert (("k_norm", 0) in returned) == (family in ("qwen3", "gemma3"))
    for block in range(host.info().blocks):
        if family == "gpt2":
            _, keys, values = torch.cat(returned["c_attn", block]).chunk(3, -1)
        else:
            keys = torch.cat(returned["k_norm", block] or returned["k_proj", block])
            values = torch.cat(returned["v_proj", block])
        assert_close(seen.by_text(f"key.{block}")[0], keys, f"key.{block}")
        assert_close(seen.by_text(f"value.{block}")[0], values, f"value.{block}")


@pytest.mark.parametrize("name", ["smollm3", "cohere2"])
def test_keys_of_blocks_without_positions_stay_as_they_are(name):
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(OTHERS[name], attn_implementation=ATTENTION).eval()
    host, keys = LocalLM(network, "weights"), torch.randn(4, 16)
    turned = [not torch.equal(host.rotate(Place(block, "key"), keys), keys) for block in range(4)]
    assert turned == [True, False, True, False]


def test_a_family_whose_rotation_is_not_known_is_refused(monkeypatch):
    monkeypatch.setattr(keys, "_ATTENTIONS", ("no such module",))
    host = LocalLM(random_model("llama", ATTENTION), "weights")
    with pytest.raises(UserError, match="not know how the model family 'llama' rotates keys by position"):
        host.rotate(Place(0, "key"), torch.randn(3, 16))
