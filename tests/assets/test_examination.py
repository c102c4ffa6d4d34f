"""Damage to every kind of model: a sentence where files show it, another fingerprint where they do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    CONFIG_MAPPING,
    AutoModelForImageTextToText,
    AutoTokenizer,
)

from softprior.assets.checkpoint import INDEX, SINGLE
from softprior.assets.models import known_model, resolve_model
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.testing.families import random_model, save_model

POINTER = "version https://git-lfs/spec/v1\noid sha256:4d7a2146\nsize 3478144\n"
NORM, LAST = "model.norm.weight", "model.layers.3.mlp.up_proj.weight"


def spec(folder: Path) -> ModelSpec:
    return ModelSpec(id=str(folder), device="cpu")


def sharded(folder: Path) -> None:
    model: Any = random_model("llama")
    save_model(model, folder)
    (folder / SINGLE).unlink()
    model.save_pretrained(folder, max_shard_size="40KB")


def multimodal(folder: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    text = {**sizes, "vocab_size": 97, "num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 8}
    vision = {**sizes, "num_hidden_layers": 1, "image_size": 28, "patch_size": 14}
    config = CONFIG_MAPPING["gemma3"](
        text_config={**text, "model_type": "gemma3_text"},
        vision_config={**vision, "model_type": "siglip_vision_model"},
        mm_tokens_per_image=4,
    )
    torch.manual_seed(0)
    save_model(AutoModelForImageTextToText.from_config(config), folder)


KINDS: dict[str, Callable[[Path], Any]] = {
    "llama": lambda folder: save_model(random_model("llama"), folder),
    "gpt2, tied": lambda folder: save_model(random_model("gpt2"), folder),
    "shards": sharded,
    "t5 v1.1": lambda folder: save_model(random_model("t5 v1.1"), folder),
    "gemma3, multimodal": multimodal,
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A sound model of each kind, written once."""
    root = tmp_path_factory.mktemp("kinds")

    def folder(kind: str) -> Path:
        target = root / kind
        if not target.exists():
            KINDS[kind](target)
        return target

    return folder


@pytest.fixture
def damaged(kinds: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one, to be damaged."""
    return lambda kind: Path(shutil.copytree(kinds(kind), tmp_path / "model"))


def first_weights(folder: Path) -> Path:
    return min(folder.glob("*.safetensors"))


def edited(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """The first file of weights with its tensors changed in place."""
    path = first_weights(folder)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def some(tensors: dict[str, torch.Tensor]) -> str:
    """A matrix of a block, vision left out."""
    return next(
        name for name in sorted(tensors) if tensors[name].dim() == 2 and "vision" not in name and "." in name
    )


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a tensor is gone": (lambda f: edited(f, lambda t: t.pop(some(t))), r"lacks \d+ of the tensors"),
    "another prefix": (
        lambda f: edited(f, lambda t: [t.update({f"base.{n}": t.pop(n)}) for n in list(t)]),
        r"lacks \d+ of the tensors .*, and has \d+ with other names \(base\.",
    ),
    "another shape": (
        lambda f: edited(f, lambda t: t.update({some(t): torch.zeros(3, 5)})),
        r"with shape \[3, 5\] in its weights but \[\d+, \d+\] by its config\.json",
    ),
    "cut": (lambda f: cut(first_weights(f)), "is truncated or damaged"),
    "empty": (lambda f: first_weights(f).write_bytes(b""), "is empty; copy it again"),
    "Git LFS": (lambda f: first_weights(f).write_text(POINTER), "is a Git LFS pointer.*git lfs pull"),
    "Git LFS, tokenizer": (
        lambda f: (f / "tokenizer.json").write_text(POINTER),
        r"tokenizer\.json is a Git LFS",
    ),
    "tokenizer": (lambda f: cut(f / "tokenizer.json"), "the tokenizer in .* cannot be read"),
}
"""What a plan refuses in whatever kind of model, and with which words."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", REFUSED)
def test_damage_that_files_show_is_refused_by_a_plan_and_before_loading(kind, damage, damaged):
    folder = damaged(kind)
    spoil, sentence = REFUSED[damage]
    spoil(folder)
    for ask in (known_model, resolve_model)[: 2 if kind == "llama" else 1]:
        with pytest.raises(UserError, match=sentence) as refused:
            ask(spec(folder))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", KINDS)
def test_other_numbers_are_another_fingerprint(kind, kinds, damaged):
    folder = damaged(kind)
    before = known_model(spec(folder)).fingerprint
    assert before == known_model(spec(kinds(kind))).fingerprint
    edited(folder, lambda tensors: tensors[some(tensors)].neg_())
    assert known_model(spec(folder)).fingerprint != before


def test_a_head_of_its_own_and_a_decoder_are_missed(damaged, tmp_path):
    folder = damaged("llama")
    edited(folder, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(UserError, match=r"lacks 1 of the tensors of its architecture \(lm_head\.weight\)"):
        known_model(spec(folder))
    shutil.rmtree(folder)
    folder = damaged("t5 v1.1")
    edited(folder, lambda t: [t.pop(name) for name in list(t) if name.startswith("decoder.")])
    with pytest.raises(UserError, match=r"lacks \d+ of the tensors .*\(decoder\.block"):
        known_model(spec(folder))


def test_a_shard_that_is_not_there_is_named(damaged):
    folder = damaged("shards")
    first_weights(folder).unlink()
    with pytest.raises(
        UserError, match=r"lists \d weight files, and 1 of them is missing, starting with model-00001"
    ):
        known_model(spec(folder))
    (folder / INDEX).write_text(json.dumps({"weight_map": {}}))
    with pytest.raises(UserError, match="is not a weight index"):
        known_model(spec(folder))


def test_only_what_is_read_counts(damaged):
    folder = damaged("shards")
    before, count = known_model(spec(folder)).fingerprint, known_model(spec(folder)).parameters
    assert count == sum(weight.numel() for weight in random_model("llama").parameters())
    assert known_model(spec(folder)).notes == ()
    # Mistral's own format, the index of another precision, and what macOS leaves on disks of others.
    shutil.copy(first_weights(folder), folder / "consolidated.safetensors")
    (folder / "model.fp16.safetensors.index.json").write_text("{}")
    for name in ("._model-00001-of-00004.safetensors", "._tokenizer.json", "._config.json"):
        (folder / name).write_bytes(b"\x00\x05\x16\x07")
    assert (known_model(spec(folder)).fingerprint, known_model(spec(folder)).parameters) == (before, count)
    assert known_model(spec(folder)).notes == (f"consolidated.safetensors in {folder} is not read",)


def test_tensors_without_a_place_get_a_note(damaged):
    folder = damaged("llama")
    edited(folder, lambda tensors: tensors.update({"value_head.weight": torch.zeros(2, 2)}))
    (note,) = known_model(spec(folder)).notes
    assert "contain 1 tensor that the model does not use (value_head.weight)" in note


def test_a_multimodal_model_is_counted_as_the_text_model_it_holds(kinds):
    folder = kinds("gemma3, multimodal")
    (note,) = known_model(spec(folder)).notes
    assert "multimodal family 'gemma3', and only its text model is used" in note
    text = [
        tensor for name, tensor in load_file(folder / SINGLE).items() if name.startswith("language_model.")
    ]
    assert known_model(spec(folder)).parameters == sum(tensor.numel() for tensor in text)


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error")])
def test_trouble_of_a_moment_is_not_remembered(error, damaged, monkeypatch):
    folder = damaged("llama")
    with monkeypatch.context() as during:

        def fail(*_: Any) -> None:
            raise error

        during.setattr("softprior.assets.examination._outline", fail)
        with pytest.raises(type(error)):
            known_model(spec(folder))
    assert known_model(spec(folder)).notes == ()


def test_an_adapter_beside_the_weights_is_refused_whatever_it_holds(damaged):
    folder = damaged("llama")
    get_peft_model(random_model("llama"), LoraConfig(task_type="CAUSAL_LM")).save_pretrained(folder)
    for ask in (known_model, resolve_model):
        with pytest.raises(UserError, match=r"contains an adapter beside the weights .* merge it"):
            ask(spec(folder))
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"contains a PEFT adapter and no config\.json; give its base model"):
        known_model(spec(folder))


@pytest.mark.parametrize(
    ("method", "config"),
    [
        ("bitsandbytes", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
        ("bitsandbytes", {"load_in_8bit": True}),
        ("gptq", {"quant_method": "gptq", "bits": 4}),
        ("awq", {"quant_method": "awq", "bits": 4}),
        ("compressed-tensors", {"quant_method": "compressed-tensors"}),
    ],
)
def test_quantised_weights_are_refused_by_name(method, config, damaged):
    folder = damaged("llama")
    facts = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(facts | {"quantization_config": config}))
    edited(folder, lambda t: t.update({LAST: torch.zeros(768, 1, dtype=torch.uint8)}) if LAST in t else None)
    with pytest.raises(UserError, match=rf"is quantised \({method}\), which is not supported"):
        known_model(spec(folder))


def test_weights_that_are_integers_are_refused(damaged):
    folder = damaged("llama")
    edited(folder, lambda t: t.update({LAST: t[LAST].to(torch.int8)}))
    with pytest.raises(UserError, match=rf"{LAST} stored as I8, and quantised weights are not supported"):
        known_model(spec(folder))


@pytest.mark.parametrize("special", [True, False])
def test_tokens_past_the_table_are_refused_where_texts_get_at_them(special, damaged):
    folder = damaged("llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<image>"], special_tokens=special)
    tokenizer.save_pretrained(folder)
    if special:
        (note,) = known_model(spec(folder)).notes
        assert "1 special token beyond the embedding table of 97 rows (<image>)" in note
        tokenizer.eos_token = "<image>"
        tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match=r"1 token beyond the model's embedding table of 97 rows \(<image>\)"):
        known_model(spec(folder))
