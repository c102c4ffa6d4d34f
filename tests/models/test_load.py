"""From a folder on disk to a checked host, and which families are turned away."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    BloomConfig,
    DiffLlamaConfig,
    FalconConfig,
    Gemma3nTextConfig,
    Gemma4TextConfig,
    JambaConfig,
    MambaConfig,
    OPTConfig,
    Qwen2MoeConfig,
    Qwen3NextConfig,
    RecurrentGemmaConfig,
)

from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.models import verification
from softprior.models.load import load_local
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.verification import verify_once, verify_packing
from softprior.prompt import Place
from softprior.testing.families import FAMILIES, random_model, save_model
from softprior.testing.hosts import example_batch, example_prompts

SIZES = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48, "head_dim": 8}
EXPERTS = {"num_experts_per_tok": 1, "moe_intermediate_size": 16}

FOREIGN = {
    "mamba, a recurrence": MambaConfig(**SIZES, state_size=4),
    "recurrent_gemma, mostly a recurrence": RecurrentGemmaConfig(**SIZES, **HEADS, attention_window_size=8),
    "jamba, half a recurrence": JambaConfig(
        **SIZES,
        **HEADS,
        attn_layer_period=2,
        attn_layer_offset=1,
        num_experts=1,
        num_experts_per_tok=1,
        mamba_d_state=4,
        use_mamba_kernels=False,
    ),
    "qwen3_next, half a linear attention": Qwen3NextConfig(
        **SIZES,
        **HEADS,
        **EXPERTS,
        num_experts=2,
        layer_types=["linear_attention", "full_attention"],
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        shared_expert_intermediate_size=16,
    ),
    "bloom, attention past the interface": BloomConfig(
        vocab_size=97, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3
    ),
    "qwen2_moe, a sliding window in the masks alone": Qwen2MoeConfig(
        **SIZES,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        num_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        sliding_window=6,
        use_sliding_window=True,
        layer_types=["full_attention", "sliding_attention"],
    ),
    "diffllama, attention twice in a block": DiffLlamaConfig(
        **SIZES, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(random_model("llama"), tmp_path_factory.mktemp("llama"))


@pytest.fixture(autouse=True)
def no_model_stays_loaded():
    yield
    load_local.cache_clear()


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_saved_model_loads_with_its_tokenizer_and_its_weights(folder, device):
    loaded = load_local(ModelSpec(id=str(folder), device=device))
    info = loaded.host.info()
    assert (info.family, info.dtype, info.blocks) == ("llama", "float32", 4)
    assert info.fingerprint == loaded.fingerprint
    assert loaded.tokenizer("w5")["input_ids"] == [5]
    direct = LocalLM(random_model("llama", ATTENTION).to(loaded.host.device), "weights")
    batch = example_batch(info)
    # The same weights in the same program; only a GPU may sum in another order from call to call.
    torch.testing.assert_close(
        loaded.host.loss(None, batch).nll, direct.loss(None, batch).nll, rtol=1e-6, atol=0
    )


def test_the_same_spec_is_loaded_once(folder):
    spec = ModelSpec(id=str(folder))
    assert load_local(spec) is load_local(ModelSpec(id=str(folder)))


class Checks:
    """Notes what is checked of one small model."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.network = random_model("llama", ATTENTION)
        self.host = LocalLM(self.network, "weights")
        self.count = 0
        monkeypatch.setattr(verification, "verify_packing", self._verify)

    def _verify(self, *_: object) -> None:
        self.count += 1

    def __call__(self, fingerprint: str = "weights", **model: str) -> int:
        """How many checks there have been once the model has been asked for again."""
        verify_once(ModelSpec(id="any", **model), fingerprint, self.network, self.host)
        return self.count


def other(_: str = "") -> str:
    return "other"


def test_a_model_that_has_passed_its_checks_is_checked_again_if_anything_else_is_other(tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTPRIOR_CACHE", str(tmp_path))
    checks = Checks(monkeypatch)
    assert [checks(), checks()] == [1, 1]
    assert [checks("other"), checks(dtype="bfloat16"), checks(kernels="padded")] == [2, 3, 4]
    of: Any
    for at, (of, name, value) in enumerate(
        (
            (verification, "SOURCES", "other"),
            (verification, "version", other),
            (torch, "__version__", "other"),
            (torch.backends.cpu, "get_cpu_capability", other),
        ),
        5,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(of, name, value)
            assert checks() == at, name
    assert checks() == 8


def test_a_model_is_checked_each_time_where_no_mark_can_be_left(tmp_path, monkeypatch):
    (tmp_path / "verified").write_text("in the way of a folder")
    monkeypatch.setenv("SOFTPRIOR_CACHE", str(tmp_path))
    checks = Checks(monkeypatch)
    assert [checks(), checks()] == [1, 2]


@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 8), ("float16", 11)])
def test_a_model_of_reduced_precision_is_close_to_the_full_one(folder, dtype, bits):
    """Twice what transformers' eager attention loses on this rough random model.

    In units of the dtype's rounding, 2 to the minus bits, that is up to 2 for the loss, relative to
    the largest row, and up to 42 for a gradient, relative to its norm.
    """
    full = load_local(ModelSpec(id=str(folder), device="cpu")).host
    short = load_local(ModelSpec(id=str(folder), device="cpu", dtype=dtype)).host
    assert short.info().dtype == dtype
    batch = example_batch(full.info())
    rounding = 2.0**-bits
    for prompt in example_prompts(full).values():
        exact, rounded = (host.loss(prompt, batch, grad=True) for host in (full, short))
        assert rounded.nll.dtype == torch.float32
        assert (rounded.nll - exact.nll).abs().max() / exact.nll.max() < 4 * rounding
        for place, gradient in exact.gradient.items():
            assert rounded.gradient[place].dtype == torch.float32
            assert (rounded.gradient[place] - gradient).norm() / gradient.norm() < 84 * rounding, place.name


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_one_sentence(folder):
    with pytest.raises(UserError, match="device = 'cuda', but torch sees no GPU"):
        load_local(ModelSpec(id=str(folder), device="cuda"))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_verification_accepts_the_families_of_the_contract(family):
    network = random_model(family, ATTENTION)
    verify_packing(network, LocalLM(network, "weights"))
    assert network.config._attn_implementation == ATTENTION


def test_verification_notices_a_row_that_sees_another():
    network = random_model("llama", ATTENTION)
    mixed = network.model.layers[1].self_attn
    mixed.register_forward_hook(lambda _, __, out: (out[0] + 0.1 * out[0].roll(9, 1), *out[1:]))
    with pytest.raises(UserError, match="packed and own results differ"):
        verify_packing(network, LocalLM(network, "weights"))


@pytest.mark.parametrize("family", sorted(FOREIGN))
def test_a_family_that_cannot_be_packed_is_turned_away_in_one_sentence(family):
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(FOREIGN[family], attn_implementation=ATTENTION).eval()
    with pytest.raises(UserError, match=r"^the model family '\w+' .* choose .* model$") as refused:
        verify_packing(network, LocalLM(network, "weights"))
    assert ". " not in str(refused.value)


BY_LAYER: dict[str, Any] = {
    **SIZES,
    **HEADS,
    "layer_types": ["sliding_attention", "full_attention"],
    "sliding_window": 6,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 97,
}
GEMMA3N: dict[str, Any] = {
    "intermediate_size": [48, 48],
    "num_kv_shared_layers": 0,
    "activation_sparsity_pattern": [0.0, 0.0],
    "laurel_rank": 4,
    "altup_num_inputs": 2,
}


PER_LAYER = {
    "gemma3n": Gemma3nTextConfig(**BY_LAYER | GEMMA3N),
    "gemma4": Gemma4TextConfig(**BY_LAYER, **{"global_head_dim": 16}),
}


@pytest.mark.parametrize("family", PER_LAYER)
def test_per_layer_embeddings_are_refused_by_name(family, tmp_path):
    folder = save_model(AutoModelForCausalLM.from_config(PER_LAYER[family]).eval(), tmp_path)
    with pytest.raises(UserError, match=rf"'{family}_text' reads token ids in every block \(per-layer"):
        load_local(ModelSpec(id=str(folder), device="cpu"))


@pytest.mark.parametrize("family", PER_LAYER)
def test_the_decoder_inside_a_whole_model_says_it_too(family):
    """Its sizes are in a config of their own there."""
    network = AutoModelForCausalLM.from_config(PER_LAYER[family], attn_implementation=ATTENTION).eval()
    network.config = CONFIG_MAPPING[family](text_config=PER_LAYER[family])
    with pytest.raises(UserError, match=rf"'{family}' reads token ids in every block \(per-layer"):
        verify_packing(network, LocalLM(network, "weights"))


def test_a_window_in_the_masks_alone_is_found_inside_a_whole_model():
    text = FOREIGN["qwen2_moe, a sliding window in the masks alone"]
    network = AutoModelForCausalLM.from_config(text, attn_implementation=ATTENTION).eval()
    network.config = CONFIG_MAPPING["llava"](text_config=text, output_router_logits=False)
    with pytest.raises(UserError, match=r"'llava' applies its sliding window of .* only through masks"):
        verify_packing(network, LocalLM(network, "weights"))


@pytest.mark.parametrize(("number", "dtype"), [(float("nan"), "float32"), (1e6, "float16")])
def test_a_weight_that_is_not_finite_is_named(number, dtype, tmp_path):
    model = random_model("llama")
    model.model.embed_tokens.weight.data[90, 3] = number  # a row that no check reads
    spec = ModelSpec(id=str(save_model(model, tmp_path)), device="cpu", dtype=dtype)
    said = rf"NaN or infinite values in {dtype}, first in model\.embed_tokens\.weight; use another copy"
    for _ in range(2):  # a check that fails leaves no mark
        with pytest.raises(UserError, match=said) as refused:
            load_local(spec)
    assert ("bfloat16" in str(refused.value)) == (dtype == "float16")


TEXT = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
VISION = {
    **{key: TEXT[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads")},
    "num_hidden_layers": 1,
    "image_size": 28,
    "patch_size": 14,
}
MULTIMODAL = {
    "gemma3": {
        "text_config": {**TEXT, "model_type": "gemma3_text", "sliding_window": 6},
        "vision_config": {**VISION, "model_type": "siglip_vision_model"},
        "mm_tokens_per_image": 4,
    },
    "mistral3": {
        "text_config": {**TEXT, "model_type": "mistral", "sliding_window": None},
        "vision_config": {**VISION, "model_type": "pixtral"},
    },
    "llava": {
        "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": {**VISION, "model_type": "clip_vision_model"},
    },
}


@pytest.mark.parametrize("family", MULTIMODAL)
def test_a_multimodal_model_runs_as_the_text_model_it_holds(family, tmp_path):
    torch.manual_seed(0)
    whole = AutoModelForImageTextToText.from_config(CONFIG_MAPPING[family](**MULTIMODAL[family])).eval()
    host = load_local(ModelSpec(id=str(save_model(whole, tmp_path)), device="cpu")).host
    batch = example_batch(host.info())
    found = host.loss(None, batch)
    for row in range(len(batch)):
        tokens, labels = batch.tokens[row, : batch.lengths[row]], batch.labels[row, : batch.lengths[row]]
        with torch.no_grad():
            logits = whole(input_ids=tokens[None]).logits[0].roll(1, 0)
        expected = torch.nn.functional.cross_entropy(logits[labels], tokens[labels], reduction="sum")
        torch.testing.assert_close(found.nll[row], expected, rtol=1e-5, atol=1e-6)


def test_a_multimodal_model_without_a_text_model_of_its_own_is_said(tmp_path):
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = CONFIG_MAPPING["qwen2_5_vl"](
        text_config={**TEXT, "model_type": "qwen2_5_vl_text", "rope_parameters": rope},
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
        },
    )
    save_model(AutoModelForImageTextToText.from_config(config), tmp_path)
    with pytest.raises(UserError, match=r"'qwen2_5_vl', which transformers cannot load as a language model"):
        load_local(ModelSpec(id=str(tmp_path), device="cpu"))


def test_a_family_that_refuses_other_attention_is_turned_away_when_it_is_loaded(tmp_path):
    config = FalconConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    folder = save_model(AutoModelForCausalLM.from_config(config), tmp_path)
    with pytest.raises(UserError, match="implements attention outside"):
        load_local(ModelSpec(id=str(folder), device="cpu"))


def test_a_family_without_rotary_or_learned_positions_takes_no_cut_prompt():
    config = OPTConfig(**SIZES, num_attention_heads=4, ffn_dim=48, word_embed_proj_dim=32)
    network = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION).eval()
    host = LocalLM(network, "weights")
    prompt = {Place(1, after="cut"): torch.zeros(2, 32)}
    with pytest.raises(UserError, match="cut prompts and prefixes have no position"):
        host.loss(prompt, example_batch(host.info()))
