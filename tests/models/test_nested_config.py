"""Models that also see keep the sizes in a config of its own, and run as the text model in it."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, Gemma3Config, SiglipVisionConfig

from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.verification import verify_packing
from softprior.prompt import Place
from softprior.testing.families import FAMILIES, random_model
from softprior.testing.hosts import example_batch, example_prompts
from softprior.testing.hosts.closeness import assert_close

VISION = SiglipVisionConfig(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    image_size=28,
    patch_size=14,
)


def test_gemma_3_with_vision_runs_as_the_text_model_in_it():
    text: Any = random_model("gemma3", ATTENTION)
    config = Gemma3Config(
        text_config=FAMILIES["gemma3"].to_dict(),
        vision_config=VISION.to_dict(),
        mm_tokens_per_image=4,
        tie_word_embeddings=False,
    )
    whole: Any = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION).eval()
    whole.model.language_model.load_state_dict(text.model.state_dict())
    whole.lm_head.load_state_dict(text.lm_head.state_dict())

    plain, host = LocalLM(text, "weights"), LocalLM(whole, "weights")
    verify_packing(whole, host)
    sizes = plain.info()._asdict() | {"family": "gemma3", "parameters": host.info().parameters}
    assert host.info()._asdict() == sizes
    batch = example_batch(host.info())
    for name in ("soft", "deep", "prefix"):
        prompt = example_prompts(plain)[name]
        found, expected = host.loss(prompt, batch, grad=True), plain.loss(prompt, batch, grad=True)
        assert_close(found.nll, expected.nll, name)
        for place, gradient in expected.gradient.items():
            assert_close(found.gradient[place], gradient, f"{name}, {place.name}")
    vectors = torch.randn(3, 32)
    assert_close(host.project(Place(1, "key"), vectors), plain.project(Place(1, "key"), vectors))
