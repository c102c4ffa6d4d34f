"""Families that change embeddings in front of block 0: one unit for texts, stores, priors and prompts."""

import shutil
from copy import deepcopy

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GemmaConfig,
    GPT2Config,
    GraniteConfig,
    GraniteMoeConfig,
    LlamaConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from softprior.errors import UserError
from softprior.models.entry import embeddings_change
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.priors.fitted import Fitted
from softprior.prompt import Place
from softprior.seeding import torch_generator
from softprior.statistics.store import SiteStatistics, load_statistics, save_statistics, statistics_width
from softprior.testing.hosts import (
    Recorder,
    check_embed,
    check_gradients,
    check_key_sites,
    check_normalise,
    check_states,
    example_batch,
)
from softprior.testing.hosts.closeness import assert_close
from softprior.testing.hosts.keys import attended
from softprior.training.source import PlaceSource, SeenSource

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
HEADS = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 48}
GRANITE = {
    **HEADS,
    "initializer_range": 0.2,
    "embedding_multiplier": 12.0,
    "logits_scaling": 4.0,
    "residual_multiplier": 0.5,
}

FAMILIES: dict[str, tuple[PreTrainedConfig, float]] = {
    "granite": (GraniteConfig(**GRANITE), 12.0),
    "granitemoe": (GraniteMoeConfig(**GRANITE, num_local_experts=2, num_experts_per_tok=1), 12.0),
    "opt": (OPTConfig(**SIZES, ffn_dim=48, word_embed_proj_dim=32), 1.0),
    "gpt2": (GPT2Config(vocab_size=97, n_embd=32, n_layer=4, n_head=4, n_positions=64), 1.0),
    "gemma": (GemmaConfig(**HEADS, head_dim=8), 1.0),
    "llama": (LlamaConfig(**HEADS), 1.0),
}


def model(config: PreTrainedConfig, attention: str = ATTENTION) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # A copy, since from_config writes the attention's name into it.
        return AutoModelForCausalLM.from_config(deepcopy(config), attn_implementation=attention).eval()


def words() -> PreTrainedTokenizerFast:
    table = Tokenizer(WordLevel({f"w{i}": i for i in range(97)}, unk_token="w0"))
    return PreTrainedTokenizerFast(tokenizer_object=table, unk_token="w0")


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_store_has_at_block_0_is_what_the_embedding_layer_returns(name, tmp_path):
    config, factor = FAMILIES[name]
    host = LocalLM(model(config), "weights")
    assert host.info().embedding_factor == factor
    assert embeddings_change(config) == (factor != 1 or name in ("opt", "gpt2"))
    seen = host.observe({Place(0): torch.ones(3, 32)}, example_batch(host.info()), ["resid.0"], Recorder())
    states, where = seen.by_text("resid.0")
    assert torch.equal(states, host.embed(where.tokens))

    save_statistics(tmp_path, "task", "resid.0", "weights", {"all": SiteStatistics.of(states)})
    prior = Fitted.model_validate({"statistics": str(tmp_path), "task": "task"})
    drawn = prior.fit(PlaceSource(host, words(), Place(0), 20)).sample(torch_generator(0), 20)
    size = float(drawn.square().mean() / host.embed(torch.arange(97)).square().mean())
    assert 0.5 < size < 2  # a store in the units of block 0 starts a prior of Granite at 144


@pytest.mark.parametrize("place", [Place(0, "key"), Place(1, "key"), Place(0, after="cut"), Place(0)])
def test_fits_to_what_was_once_not_scaled_have_a_key_of_their_own(place):
    """They are cached, and those of keys and of cut prompts were fitted to vectors without the factor."""
    found = SeenSource(LocalLM(model(FAMILIES["granite"][0]), "weights"), words(), place, 20).fingerprint
    concerned = place.block == 0 and place != Place(0)
    assert ("-times-12" in found) is concerned
    plain = SeenSource(LocalLM(model(FAMILIES["llama"][0]), "weights"), words(), place, 20).fingerprint
    assert found.replace("-times-12", "") == plain


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_factor_is_measured_in_every_dtype(dtype):
    assert LocalLM(model(FAMILIES["granite"][0]).to(dtype), "weights").info().embedding_factor == 12.0


@pytest.mark.parametrize(
    "check", [check_embed, check_normalise, check_gradients, check_states, check_key_sites]
)
def test_granites_prompts_are_in_the_units_of_its_embeddings_at_every_place(check):
    config, _ = FAMILIES["granite"]
    check(LocalLM(model(config), "weights"), model(config, "eager"))


def test_a_cut_vector_at_block_0_is_seen_as_the_embedding_that_it_equals():
    """Text in front of a row, and its embeddings as a cut prompt there, give block 0 the same keys."""
    host = LocalLM(model(FAMILIES["granite"][0]), "weights")
    ids = torch.tensor([5, 8, 13])
    keys = host.project(Place(0, "key"), host.embed(ids))
    assert_close(
        host.rotate(Place(0, "key"), keys), attended(model(FAMILIES["granite"][0], "eager"), ids)[0][0]
    )


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4),  # a norm
        OPTConfig(**SIZES, ffn_dim=48, word_embed_proj_dim=16),  # a projection
    ],
    ids=lambda config: config.model_type,
)
def test_a_family_that_does_something_else_to_embeddings_is_refused_by_name(config):
    said = f"^the model family '{config.model_type}' does more to its embeddings before block 0"
    with pytest.raises(UserError, match=said):
        LocalLM(model(config), "weights").info()


def test_a_store_of_before_that_is_in_other_units_is_refused(tmp_path):
    """Its vocabulary is what the layer returns, so the store itself shows it."""
    tokens = torch.arange(3, 43)
    embedded = torch.randn(40, 8)
    whole = SiteStatistics.of(embedded, 40)
    known = SiteStatistics(whole.moments, 40, 0, embedded, {"token": tokens})
    save_statistics(tmp_path, "vocabulary", "resid.0", "weights", {"all": known})
    for task, states in {"same": embedded, "multiplied": 12 * embedded, "shifted": embedded + 0.3}.items():
        found = SiteStatistics(whole.moments, 40, 0, states.flip(0), {"token": tokens.flip(0)})
        save_statistics(tmp_path, task, "resid.0", "weights", {"all": found})
    assert statistics_width(tmp_path, "same", "resid.0", "all", "weights") == 8
    load_statistics(tmp_path, "same", "resid.0", "all", "weights")
    for task in ("multiplied", "shifted"):
        for read in (load_statistics, statistics_width):
            with pytest.raises(
                UserError, match=r"at resid\.0 what enters block 0.*; run the activation job again"
            ):
                read(tmp_path, task, "resid.0", "all", "weights")
    beside = tmp_path / "vocabulary" / "resid.0.safetensors"
    named = beside.read_bytes()
    for path in (tmp_path / "same" / "resid.0.safetensors", beside):
        kept = path.read_bytes()
        other = save_statistics(tmp_path / "other", "drop", "resid.4", "weights", {"all": known})
        shutil.copy(other, path)
        with pytest.raises(UserError, match=f"^{path} contains activations of drop at resid.4; put it back"):
            load_statistics(tmp_path, "same", "resid.0", "all", "weights")
        path.write_bytes(kept)
    assert beside.read_bytes() == named
    beside.write_bytes(beside.read_bytes()[:200])
    with pytest.raises(UserError, match=f"^{beside} is damaged .*run the activation job again"):
        load_statistics(tmp_path, "same", "resid.0", "all", "weights")
    beside.unlink()
    with pytest.raises(UserError, match=f"belongs to an activation run but {beside} is missing"):
        load_statistics(tmp_path, "multiplied", "resid.0", "all", "weights")
    load_statistics(tmp_path, "multiplied", "resid.0", "all", None)  # of no model's units
    save_statistics(tmp_path, "arrays", "resid.0", "weights", {"all": whole})
    load_statistics(tmp_path, "arrays", "resid.0", "all", "weights")
