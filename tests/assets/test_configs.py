"""Values that a config.json cannot have: each is told by its key, in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softprior.assets.configs import line
from softprior.assets.models import known_model
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.testing.families import random_model, save_model
from tests.assets.test_examination import multimodal

WHOLE = "must be a whole number"

WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "a text": ("llama", {"hidden_size": "128"}, f"hidden_size = '128': {WHOLE}"),
    "a text or nothing": ("llama", {"head_dim": "8"}, f"head_dim = '8': {WHOLE}"),
    "a text for a number": ("llama", {"attention_dropout": "x"}, "attention_dropout = 'x': must be a number"),
    "nothing": ("llama", {"hidden_size": None}, f"hidden_size = null: {WHOLE}"),
    "no heads": ("llama", {"num_attention_heads": 0}, "num_attention_heads = 0: must be at least 1"),
    "less than no layers": ("llama", {"num_hidden_layers": -1}, "num_hidden_layers = -1: must be at least 1"),
    "no groups": ("llama", {"num_key_value_heads": 0}, "num_key_value_heads = 0: must be at least 1"),
    "another name": ("gpt2", {"n_head": 0}, "n_head = 0: must be at least 1"),
    "an encoder": ("t5 v1.1", {"d_model": "x"}, f"d_model = 'x': {WHOLE}"),
    "two that differ": (
        "llama",
        {"num_attention_heads": 3},
        "The hidden size (32) is not a multiple of the number",
    ),
    "a list": (
        "llama",
        {"quantization_config": [1]},
        "quantization_config = [1]: must be a mapping; remove it",
    ),
    "no dtype": (
        "llama",
        {"dtype": "float31"},
        "dtype = 'float31': module 'torch' has no attribute 'float31'",
    ),
    "no family": (
        "llama",
        {"model_type": "llamma"},
        "model_type = 'llamma': The checkpoint you are trying to",
    ),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A model of a family, written once."""
    root = tmp_path_factory.mktemp("sound")

    def folder(family: str) -> Path:
        if not (root / family).exists():
            save_model(random_model(family), root / family)
        return root / family

    return folder


def changed(folder: Path, changes: dict[str, Any]) -> ModelSpec:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return ModelSpec(id=str(folder), device="cpu")


def refusal(spec: ModelSpec) -> str:
    with pytest.raises(UserError) as refused:
        known_model(spec)
    said = str(refused.value)
    assert said.startswith(f"{spec.id}/config.json cannot be used (")
    assert said.endswith("); correct it, or choose another model")
    assert "\n" not in said
    return said


@pytest.mark.parametrize("case", WRONG)
def test_a_value_that_cannot_be_is_named_with_its_key(case, sound, tmp_path):
    family, changes, sentence = WRONG[case]
    folder = Path(shutil.copytree(sound(family), tmp_path / "model"))
    assert f"cannot be used ({sentence}" in refusal(changed(folder, changes))


def test_a_text_model_inside_of_another_has_its_keys_named_whole(tmp_path):
    multimodal(tmp_path)
    inner = json.loads((tmp_path / "config.json").read_text())["text_config"]
    for value, rule in (("32", WHOLE), (0, "must be at least 1")):
        spec = changed(tmp_path, {"text_config": {**inner, "hidden_size": value}})
        assert f"(text_config.hidden_size = {value!r}: {rule})" in refusal(spec)
    assert "(text_config = [1]: must be a mapping of keys to values)" in refusal(
        changed(tmp_path, {"text_config": [1]})
    )


def test_what_only_loading_shows_is_noted_with_its_key(sound, tmp_path):
    folder = Path(shutil.copytree(sound("llama"), tmp_path / "model"))
    (note,) = known_model(changed(folder, {"hidden_act": "silly"})).notes
    assert note.endswith("only when they are loaded (hidden_act = 'silly': KeyError: 'silly')")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("one line\nand another"), "one line"),
        (RuntimeError("Errors in loading X:\n\tsize mismatch\n\tmore"), "Errors in loading X: size mismatch"),
        (ValueError("at the end:"), "at the end:"),
        (KeyError("silly"), "KeyError: 'silly'"),
        (KeyError("a sentence of words"), "a sentence of words"),
        (ValueError(), "ValueError"),
    ],
)
def test_an_error_is_told_on_one_line(error, said):
    assert line(error) == said
