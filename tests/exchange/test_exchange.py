"""Prompts to and from PEFT, held against PEFT itself: same vectors, same losses, and what is refused."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    AutoPeftModelForCausalLM,
    CartridgeConfig,
    CPTConfig,
    LoraConfig,
    MultitaskPromptTuningConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from jobs import exchange as command
from softprior.assets.models import resolve_model
from softprior.errors import UserError
from softprior.exchange import export_adapter, import_adapter
from softprior.exchange.adapters import new_folder, read_adapter
from softprior.exchange.convert import adapter_of, named_base
from softprior.exchange.layout import sizes_of
from softprior.exchange.readback import adapted_logits, read_back
from softprior.inputs.specs import ModelSpec
from softprior.models.load import load_local
from softprior.models.local import LocalLM
from softprior.priors import PRIORS
from softprior.prompt import Place
from softprior.results.digested import read_header
from softprior.results.posteriors import Posterior, Vectors, load_posterior, save_posterior
from softprior.testing.families import random_model, save_model
from softprior.testing.hosts import example_batch
from softprior.training.source import PlaceSource
from tests.builders import Finished

ROOT = Path(__file__).parents[2]
VECTORS = 5
CLOSE = 1e-5
"""Relative to each row's loss; float32 sums in another order. Observed: 2e-7."""

FAMILIES = ["llama", "qwen3", "gemma2", "gemma3", "gpt2", "tiny"]
"""With grouped queries, norms of keys, sliding windows and learned positions; `tiny` is the shipped model."""

KINDS = ["soft", "prefix"]


@dataclass
class Case:
    """A model by its id, the folder it is in, and its host."""

    id: str
    folder: Path
    host: LocalLM

    def plain(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()

    def prompt(self, kind: str, seed: int = 0) -> Vectors:
        """Random vectors of the size of the model's own."""
        info = self.host.info()
        places = [Place(0)]
        if kind == "prefix":
            places = [Place(block, kind) for block in range(info.blocks) for kind in ("key", "value")]
        size = float(self.host.embed(torch.arange(info.vocabulary)).square().mean().sqrt())
        generator = torch.Generator().manual_seed(seed)
        return {p: size * torch.randn(VECTORS, self.host.width(p), generator=generator).cpu() for p in places}

    def header(self) -> dict[str, Any]:
        return {"spec": {"model": self.id}, "model": self.host.info()._asdict()}

    def posterior(self, path: Path, final: Vectors, **header: Any) -> Path:
        started = {place: torch.zeros_like(vectors) for place, vectors in final.items()}
        save_posterior(path, Posterior(self.header() | header, started, final, {}))
        return path


def case(family: str, root: Path) -> Case:
    """A random model saved as a folder, or the shipped one."""
    id = "tiny"
    if family != "tiny":
        folder = root / family
        if not folder.exists():
            random_model(family).save_pretrained(folder)
            words = Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a"))
            PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
        id = str(folder)
    model = ModelSpec(id=id, device="cpu")
    host = load_local(model).host
    assert isinstance(host, LocalLM)
    return Case(id, resolve_model(model).folder, host)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(params=FAMILIES)
def model(request, root) -> Case:
    return case(request.param, root)


@pytest.fixture
def tiny(root) -> Case:
    return case("tiny", root)


def peft_nll(model: Any, host: LocalLM) -> torch.Tensor:
    """PEFT's own loss of every row of a right-padded batch, summed over its labels."""
    batch = example_batch(host.info())
    width = batch.tokens.shape[1]
    attended = torch.arange(width)[None] < batch.lengths[:, None]
    with torch.no_grad():
        logits = model(input_ids=batch.tokens, attention_mask=attended.long()).logits[:, -width:]
    logs = logits[:, :-1].double().log_softmax(-1).gather(2, batch.tokens[:, 1:, None])[..., 0]
    return -(logs * batch.labels[:, 1:]).sum(1)


def our_nll(host: LocalLM, prompt: Vectors) -> torch.Tensor:
    return host.loss(prompt, example_batch(host.info())).nll.double()


def peft_config(kind: str, **changes: Any) -> Any:
    config = {"soft": PromptTuningConfig, "prefix": PrefixTuningConfig}[kind]
    if kind == "soft" and "encoder_hidden_size" in changes:
        config = PromptEncoderConfig
    return config(task_type="CAUSAL_LM", num_virtual_tokens=VECTORS, **changes)


def peft_adapter(case: Case, kind: str, folder: Path, **changes: Any) -> Any:
    """An adapter that PEFT made and saved, and its model."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        adapted = get_peft_model(case.plain(), peft_config(kind, **changes)).eval()
    adapted.save_pretrained(folder)
    return adapted


def same(one: Vectors, other: Vectors) -> bool:
    return set(one) == set(other) and all(torch.equal(one[place], other[place]) for place in one)


@pytest.mark.filterwarnings("error:Found missing adapter keys")
@pytest.mark.parametrize("kind", KINDS)
def test_peft_loads_an_export_and_gives_the_same_losses(model, kind, tmp_path):
    prompt = model.prompt(kind)
    file = model.posterior(tmp_path / "posterior.safetensors", prompt)
    made = export_adapter(file, tmp_path / "adapter")
    assert (made.method, made.tokens) == (kind, VECTORS)
    adapted = PeftModel.from_pretrained(model.plain(), tmp_path / "adapter").eval()
    ours = our_nll(model.host, prompt)
    torch.testing.assert_close(peft_nll(adapted, model.host), ours, rtol=CLOSE, atol=1e-6)
    # Or the prompt would do nothing, in both.
    assert not torch.allclose(ours, our_nll(model.host, {}), rtol=1e-3)
    assert made.agreement is not None
    assert made.agreement.difference <= CLOSE * made.agreement.largest < made.agreement.allowed
    assert made.agreement.effect > 100 * made.agreement.allowed
    # What was read back stands for PEFT, on a row longer than a window.
    tokens = torch.arange(13) % model.host.info().vocabulary
    read = adapted_logits(model.plain(), read_adapter(tmp_path / "adapter"), tokens)
    with torch.no_grad():
        theirs = adapted(input_ids=tokens[None]).logits[0, -len(tokens) :]
    torch.testing.assert_close(read, theirs, rtol=CLOSE, atol=CLOSE * float(theirs.abs().max()))


def test_an_export_with_other_logits_is_refused(tiny, tmp_path):
    prompt = tiny.prompt("prefix")
    made = export_adapter(tiny.posterior(tmp_path / "one.safetensors", prompt), tmp_path / "a", check=False)
    assert made.agreement is None
    spec = ModelSpec(id="tiny", device="cpu")
    swapped = dict(zip(prompt, [*list(prompt.values())[1:], prompt[Place(0, "key")]], strict=True))
    refused("gives other logits than its posterior (by up to ", read_back, tmp_path / "a", swapped, spec)
    # Half precision allows for its own rounding and for no more.
    half = ModelSpec(id="tiny", device="cpu", dtype="bfloat16")
    read = read_back(tmp_path / "a", prompt, half)
    assert 10 * CLOSE * read.largest < read.difference < read.allowed < read.effect
    refused("gives other logits than its posterior (by up to ", read_back, tmp_path / "a", swapped, half)


def test_an_export_that_is_refused_leaves_nothing(tmp_path):
    def read_otherwise() -> None:
        with new_folder(tmp_path / "a") as part:
            (part / "half").write_text("of it")
            raise UserError("as if it had been read back otherwise")

    refused("read back otherwise", read_otherwise)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_peft_gives_the_same_losses_here(model, kind, tmp_path):
    adapted = peft_adapter(model, kind, tmp_path / "adapter")
    file = tmp_path / "posterior.safetensors"
    made = import_adapter(tmp_path / "adapter", file, ModelSpec(id=model.id, device="cpu"))
    assert (made.method, made.tokens) == (kind, VECTORS)
    found = load_posterior(file)
    assert same(found.initial, found.final)
    assert found.snapshots == {}
    torch.testing.assert_close(
        peft_nll(adapted, model.host), our_nll(model.host, found.final), rtol=CLOSE, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_there_and_back_keeps_every_bit(family, kind, root, tmp_path):
    model = case(family, root)
    prompt = model.prompt(kind)
    export_adapter(model.posterior(tmp_path / "one.safetensors", prompt), tmp_path / "first", check=False)
    import_adapter(tmp_path / "first", tmp_path / "two.safetensors", ModelSpec(id=model.id, device="cpu"))
    assert same(load_posterior(tmp_path / "two.safetensors").final, prompt)
    export_adapter(
        tmp_path / "two.safetensors", tmp_path / "second", check=False
    )  # its header names the model, too
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_those_that_peft_writes(kind, tiny, tmp_path):
    export_adapter(
        tiny.posterior(tmp_path / "one.safetensors", tiny.prompt(kind)), tmp_path / "ours", check=False
    )
    adapted = peft_adapter(tiny, kind, tmp_path / "theirs")
    ours, theirs = (
        json.loads((tmp_path / n / "adapter_config.json").read_text()) for n in ("ours", "theirs")
    )
    assert set(ours) <= set(theirs)
    assert ours.pop("base_model_name_or_path") == "tiny"  # theirs is the folder of this machine
    assert ours == {key: theirs[key] for key in ours}
    assert sorted(p.name for p in (tmp_path / "ours").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    ours, theirs = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("ours", "theirs"))
    assert {n: (t.shape, t.dtype) for n, t in ours.items()} == {
        n: (t.shape, t.dtype) for n, t in theirs.items()
    }
    assert adapted.peft_config["default"].inference_mode is False


def test_an_export_names_its_base_model(tiny, tmp_path):
    """As the user does, which is what PEFT's own loader needs that finds the base model by itself."""
    prompt, named = tiny.prompt("prefix"), str(resolve_model(ModelSpec(id="tiny")).folder)
    file = tiny.posterior(tmp_path / "one.safetensors", prompt)
    made = export_adapter(file, tmp_path / "adapter", named, check=False)
    assert made.base == named == read_adapter(tmp_path / "adapter").config["base_model_name_or_path"]
    assert list(map(named_base, ("mine/model", "./mine", "~/mine", "tiny"))) == [
        "./mine/model",
        "./mine",
        "~/mine",
        "tiny",
    ]
    adapted = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter", dtype=torch.float32).eval()
    torch.testing.assert_close(
        peft_nll(adapted, tiny.host), our_nll(tiny.host, prompt), rtol=CLOSE, atol=1e-6
    )


@pytest.mark.parametrize(
    ("id", "base", "named", "commit"),
    [
        ("hub:orig/model", None, "orig/model", "c" * 40),
        ("hub:orig/model", "orig/model", "orig/model", "c" * 40),
        ("hub:orig/model", "owner/copy", "owner/copy", None),
        ("tiny", "owner/copy", "owner/copy", None),
    ],
)
def test_a_copy_on_the_hub_has_no_commit_of_the_model(id, base, named, commit, tiny, tmp_path, monkeypatch):
    """And what loads the model here is what the trial had, under any name."""
    resolved = resolve_model(ModelSpec(id="tiny"))
    spec = ModelSpec(id=id, revision="c" * 40, device="cpu")
    monkeypatch.setattr("softprior.exchange.convert.base_model", lambda *_: (spec, resolved))
    file = tiny.posterior(tmp_path / "one.safetensors", tiny.prompt("soft"))
    config = adapter_of(file, base=base).config
    assert (config["base_model_name_or_path"], config["revision"]) == (named, commit)
    here = ("orig/model", "c" * 40) if id.startswith("hub:") else (str(resolved.folder), None)
    made = export_adapter(file, tmp_path / "adapter", base=base, check=False)
    assert (made.base, made.revision) == here


@pytest.mark.parametrize("kind", KINDS)
def test_an_import_says_where_it_came_from_and_is_a_prior(kind, tiny, tmp_path):
    peft_adapter(tiny, kind, tmp_path / "adapter")
    file = tmp_path / "posterior.safetensors"
    import_adapter(tmp_path / "adapter", file, ModelSpec(id="tiny", device="cpu"))
    found = load_posterior(file)
    assert found.header["model"] == tiny.host.info()._asdict()
    imported = found.header["imported"]
    assert imported["model"] == "tiny"
    assert imported["folder"] == str(tmp_path / "adapter")
    assert imported["config"]["peft_version"]
    assert len(imported["sha256"]) == 64
    assert {"torch", "softprior"} <= set(found.header["environment"]["versions"])
    tokenizer = load_local(ModelSpec(id="tiny", device="cpu")).tokenizer
    for place, vectors in found.final.items():
        source = PlaceSource(tiny.host, tokenizer, place, VECTORS)
        prior = PRIORS["posterior"].model_validate({"file": str(file)}).fit(source)
        sample = source.placed(prior.sample(torch.Generator(), VECTORS))
        torch.testing.assert_close(sample, vectors, rtol=0, atol=CLOSE * float(vectors.abs().max()))


def test_half_precision_is_read_as_float32(tiny, tmp_path):
    peft_adapter(tiny, "soft", tmp_path / "adapter")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    rounded = load_file(weights)["prompt_embeddings"].bfloat16()
    save_file({"prompt_embeddings": rounded}, weights)
    import_adapter(tmp_path / "adapter", tmp_path / "a.safetensors", ModelSpec(id="tiny", device="cpu"))
    assert torch.equal(load_posterior(tmp_path / "a.safetensors").final[Place(0)], rounded.float())


def only(*blocks: int) -> Any:
    return lambda prompt: {place: v for place, v in prompt.items() if place.block in blocks}


NOT_PEFTS = {
    "deep": (lambda _: {Place(0, after="cut"): torch.ones(2, 128)}, "a deep prompt"),
    "deep behind a token": (
        lambda _: {
            Place(0, placement="after_bos"): torch.ones(2, 128),
            Place(3, after="cut", placement="after_bos"): torch.ones(2, 128),
        },
        "a deep prompt",
    ),
    "soft and cut": (
        lambda _: {Place(0): torch.ones(2, 128), Place(3, after="cut"): torch.ones(2, 128)},
        "decoder.3.residual.cut",
    ),
    "behind a token": (
        lambda _: {Place(0, placement="after_bos"): torch.ones(2, 128)},
        "behind the beginning-of-sequence token",
    ),
    "encoder": (lambda _: {Place(0, stack="encoder"): torch.ones(2, 128)}, "encoder.0.residual.keep"),
    "kept later": (lambda _: {Place(1): torch.ones(2, 128)}, "decoder.1.residual.keep"),
    "soft and prefix": (lambda prompt: {**prompt, Place(0): torch.ones(VECTORS, 128)}, "decoder.0.residual"),
    "keys that are cut": (lambda _: {Place(0, "key", "cut"): torch.ones(2, 64)}, "decoder.0.key.cut"),
    "some blocks": (only(1, 2), "some blocks only (1, 2 of 4)"),
    "keys alone": (
        lambda prompt: {place: v for place, v in prompt.items() if place.name != "decoder.2.value.keep"},
        "at decoder.2.key.keep but none at decoder.2.value.keep",
    ),
    "values alone": (
        lambda prompt: {place: v for place, v in prompt.items() if place.kind == "value"},
        "at decoder.0.value.keep but none at decoder.0.key.keep",
    ),
    "unequal": (lambda prompt: {**prompt, Place(3, "value"): torch.ones(2, 64)}, "2 and 5 vectors"),
    "too wide": (lambda prompt: {**prompt, Place(3, "value"): torch.ones(VECTORS, 65)}, "[5, 65]"),
    "not of this H": (lambda _: {Place(0): torch.ones(2, 96)}, "[2, 96]"),
    "more blocks": (lambda prompt: {**prompt, Place(4, "key"): torch.ones(VECTORS, 64)}, "blocks 0 to 3"),
}


@pytest.mark.parametrize("name", list(NOT_PEFTS))
def test_what_peft_has_not_is_refused(name, tiny, tmp_path):
    change, hint = NOT_PEFTS[name]
    file = tiny.posterior(tmp_path / "one.safetensors", change(tiny.prompt("prefix")))
    refused(hint, export_adapter, file, tmp_path / "adapter")
    assert [path.name for path in tmp_path.iterdir()] == ["one.safetensors"]


def refused(hint: str, call: Any, *arguments: Any) -> None:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    said = str(caught.value)
    assert hint in said
    assert "\n" not in said
    assert ". " not in said, f"more than one sentence: {said}"


def test_an_export_needs_the_very_weights(tiny, root, tmp_path):
    file, out = tmp_path / "one.safetensors", tmp_path / "adapter"
    prompt = tiny.prompt("soft")
    tiny.posterior(file, prompt, model={"fingerprint": "0" * 64})
    refused("belongs to a different model than tiny", export_adapter, file, out)
    tiny.posterior(file, prompt, model=None)
    refused("which weights", export_adapter, file, out)
    tiny.posterior(file, prompt, spec=None)
    refused("give it with --model", export_adapter, file, out)
    export_adapter(file, out, "tiny", check=False)
    tiny.posterior(file, prompt)
    refused("belongs to a different model", export_adapter, file, tmp_path / "b", case("llama", root).id)


def test_an_export_overwrites_nothing(tiny, tmp_path):
    file = tiny.posterior(tmp_path / "one.safetensors", tiny.prompt("soft"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    (tmp_path / "empty").mkdir()
    refused("not an empty folder", export_adapter, file, tmp_path / "full")
    refused("not an empty folder", export_adapter, file, file)
    refused("cannot be written", export_adapter, file, file / "below")
    hint = "); give a folder that does not exist, inside of one that can be written"
    refused(hint, export_adapter, file, Path("/proc/none/below"))
    export_adapter(file, tmp_path / "empty", check=False)
    refused("not an empty folder", export_adapter, file, tmp_path / "empty")
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "mine",
        "one.safetensors",
    ]


def test_a_damaged_posterior_is_refused(tmp_path):
    refused("there is no posterior file", export_adapter, tmp_path / "none.safetensors", tmp_path / "out")
    (tmp_path / "bad.safetensors").write_bytes(b"not tensors")
    refused(
        f"; did you mean {tmp_path / 'bad.safetensors'}?",
        export_adapter,
        tmp_path / "ba.safetensors",
        tmp_path / "out",
    )
    (tmp_path / "worse.safetensors").touch()
    for path in (tmp_path / "0.safetensors", tmp_path):
        said = ": bad.safetensors, worse.safetensors"
        refused(said, export_adapter, path, tmp_path / "out")
    said = f"there is no posterior file {tmp_path / 'no' / 'a'}; its folder {tmp_path / 'no'} does not exist"
    refused(said, export_adapter, tmp_path / "no" / "a", tmp_path / "out")
    refused("damaged", export_adapter, tmp_path / "bad.safetensors", tmp_path / "out")


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_posterior_that_is_not_finite_is_refused(tiny, tmp_path, number):
    prompt = tiny.prompt("soft")
    prompt[Place(0)][1, 2] = number
    file = tiny.posterior(tmp_path / "one.safetensors", prompt)
    refused("NaN or infinite values in final/decoder.0.residual.keep", export_adapter, file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def config_with(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def weights_with(**tensors: torch.Tensor) -> Any:
    return lambda folder: save_file(tensors, folder / "adapter_model.safetensors")


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    torch.save({}, folder / "adapter_model.bin")


WIDE = 4 * 2 * 64
NOT_OURS = {
    **{
        kind: (config_with(peft_type=kind), f"an adapter of type {kind}, but only")
        for kind in ("LORA", "IA3", "ADAPTION_PROMPT", "LN_TUNING", "TRAINABLE_TOKENS")
    },
    "no type": (config_with(peft_type=None), "an adapter of type None"),
    "a type that is a list": (config_with(peft_type=["LORA"]), "an adapter of type"),
    "P-tuning of another width": (config_with(peft_type="P_TUNING"), "token_dim = 64"),
    "an encoder-decoder": (
        config_with(task_type="SEQ_2_SEQ_LM", num_transformer_submodules=2),
        "SEQ_2_SEQ_LM",
    ),
    "an encoder-decoder with vectors of its decoder by default": (
        config_with(task_type="SEQ_2_SEQ_LM", num_transformer_submodules=None),
        "num_transformer_submodules = None",
    ),
    "a prompt of an encoder": (config_with(task_type="SEQ_2_SEQ_LM"), "adapters of tiny have CAUSAL_LM"),
    "a classifier": (config_with(task_type="SEQ_CLS"), "SEQ_CLS"),
    "two stacks": (config_with(num_transformer_submodules=2), "num_transformer_submodules = 2"),
    "more modules": (config_with(modules_to_save=["lm_head"]), "lm_head"),
    "another P": (config_with(num_virtual_tokens=9), "num_virtual_tokens = 9 but its weights"),
    "an endless value": (config_with(peft_type="a " * 2000), "a a..., but only"),
    "another D": (config_with(token_dim=32), "token_dim = 32"),
    "other blocks": (config_with(num_layers=8), "num_layers = 8"),
    "other heads": (config_with(num_attention_heads=4), "num_attention_heads = 4"),
    "a width without a word": (
        lambda folder: (
            config_with(token_dim=None, num_layers=None, num_attention_heads=None)(folder),
            weights_with(prompt_embeddings=torch.ones(VECTORS, 2 * WIDE))(folder),
        ),
        f"{2 * WIDE} numbers per vector",
    ),
    "no config": (lambda folder: (folder / "adapter_config.json").unlink(), "adapter_config.json"),
    "a config of text": (lambda folder: (folder / "adapter_config.json").write_text("{"), "damaged"),
    "a config of a list": (lambda folder: (folder / "adapter_config.json").write_text("[]"), "JSON object"),
    "no weights": (
        lambda folder: (folder / "adapter_model.safetensors").unlink(),
        "adapter_model.safetensors",
    ),
    "a pickle": (pickled, "adapter_model.bin, a pickle"),
    "damaged weights": (
        lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"no tensors at all"),
        "damaged",
    ),
    "no vectors": (weights_with(), "nothing"),
    "more tensors": (
        weights_with(prompt_embeddings=torch.ones(VECTORS, WIDE), extra=torch.ones(1)),
        "extra",
    ),
    "a vector": (weights_with(prompt_embeddings=torch.ones(WIDE)), f"[{WIDE}]"),
    "whole numbers": (weights_with(prompt_embeddings=torch.ones(VECTORS, WIDE).long()), "int64"),
    "not finite": (weights_with(prompt_embeddings=torch.full((VECTORS, WIDE), torch.nan)), "NaN or infinite"),
}


@pytest.mark.parametrize("name", list(NOT_OURS))
def test_every_other_adapter_is_refused(name, tiny, tmp_path):
    change, hint = NOT_OURS[name]
    folder = tmp_path / "adapter"
    export_adapter(tiny.posterior(tmp_path / "one.safetensors", tiny.prompt("prefix")), folder, check=False)
    change(folder)
    model = ModelSpec(id="tiny", device="cpu")
    refused(hint, import_adapter, folder, tmp_path / "two.safetensors", model)
    assert not (tmp_path / "two.safetensors").exists()


def test_adapters_that_peft_saved_otherwise_are_refused(tiny, tmp_path):
    model = ModelSpec(id="tiny", device="cpu")
    get_peft_model(tiny.plain(), LoraConfig(task_type="CAUSAL_LM")).save_pretrained(tmp_path / "lora")
    refused("type LORA", import_adapter, tmp_path / "lora", tmp_path / "a.safetensors", model)


def saved(case: Case, config: Any, folder: Path) -> Any:
    """An adapter that PEFT made from a config and saved, loaded again as its users do."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = get_peft_model(case.plain(), config)
        for name, weights in made.prompt_encoder.named_parameters():
            if name.endswith("delta_embedding.weight"):  # zeros, until it is trained
                weights.data.normal_(std=0.1)
        made.save_pretrained(folder)
    return PeftModel.from_pretrained(case.plain(), folder).eval()


@pytest.mark.parametrize("kind", ["cpt", "cartridge"])
def test_other_kinds_of_prompt_are_plain_ones_once_saved(kind, tiny, tmp_path):
    method, config = {
        "cpt": ("soft", CPTConfig(task_type="CAUSAL_LM", cpt_token_ids=list(range(5, 5 + VECTORS)))),
        "cartridge": ("prefix", CartridgeConfig(task_type="CAUSAL_LM", num_virtual_tokens=VECTORS)),
    }[kind]
    adapted = saved(tiny, config, tmp_path / "adapter")
    made = import_adapter(
        tmp_path / "adapter", tmp_path / "a.safetensors", ModelSpec(id="tiny", device="cpu")
    )
    assert (made.method, made.tokens) == (method, VECTORS)
    ours = our_nll(tiny.host, load_posterior(tmp_path / "a.safetensors").final)
    torch.testing.assert_close(peft_nll(adapted, tiny.host), ours, rtol=CLOSE, atol=1e-6)


def test_a_multitask_prompt_is_folded_for_one_task(tiny, tmp_path):
    folder, file = tmp_path / "adapter", tmp_path / "a.safetensors"
    model = ModelSpec(id="tiny", device="cpu")
    config = MultitaskPromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=VECTORS, num_tasks=3, num_ranks=2
    )
    adapted = saved(tiny, config, folder)
    import_adapter(folder, file, model, task=2)
    found = load_posterior(file)
    assert found.header["imported"]["task"] == 2
    batch = example_batch(tiny.host.info())
    prompt = adapted.get_prompt(len(batch), task_ids=torch.full((len(batch),), 2))[0].detach()
    assert torch.equal(found.final[Place(0)], prompt)
    tokens = torch.arange(9)[None]
    with torch.no_grad():
        theirs = adapted(input_ids=tokens, task_ids=torch.tensor([2])).logits[0, -9:]
    read = adapted_logits(tiny.plain(), read_adapter(folder, 2), tokens[0])
    torch.testing.assert_close(read, theirs, rtol=CLOSE, atol=CLOSE * float(theirs.abs().max()))
    other = tmp_path / "b.safetensors"
    refused("the prompts of 3 tasks; choose one with --task", import_adapter, folder, other, model)
    for task in (3, -1):
        refused(f"has 3 tasks, so --task {task} is not one", import_adapter, folder, other, model, task)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(weights | {"prefix_task_rows": torch.ones(3, 1, 128)}, folder / "adapter_model.safetensors")
    refused("[3, 1, 128] do not make vectors of shape [5, 128]", import_adapter, folder, other, model, 2)
    one = {name: table[:1] if "task" in name else table for name, table in weights.items()}
    save_file(one, folder / "adapter_model.safetensors")
    import_adapter(folder, other, model)  # one task needs no word
    assert not torch.equal(load_posterior(other).final[Place(0)], prompt)
    export_adapter(file, tmp_path / "plain", check=False)
    new = tmp_path / "c.safetensors"
    refused("which has one prompt; leave out --task", import_adapter, tmp_path / "plain", new, model, 0)


@pytest.mark.parametrize("kind", ["p-tuning", "projection"])
def test_a_prompt_that_a_network_made_is_the_plain_one_that_peft_saved(kind, tiny, tmp_path):
    method, changes = ("soft", {}) if kind == "p-tuning" else ("prefix", {"prefix_projection": True})
    adapted = peft_adapter(tiny, method, tmp_path / "adapter", encoder_hidden_size=8, **changes)
    made = import_adapter(
        tmp_path / "adapter", tmp_path / "a.safetensors", ModelSpec(id="tiny", device="cpu")
    )
    assert (made.method, made.tokens) == (method, VECTORS)
    ours = our_nll(tiny.host, load_posterior(tmp_path / "a.safetensors").final)
    torch.testing.assert_close(peft_nll(adapted, tiny.host), ours, rtol=CLOSE, atol=1e-6)


def test_a_config_of_the_few_keys_that_a_converter_knows_is_enough(tiny, tmp_path):
    folder = tmp_path / "adapter"
    export_adapter(tiny.posterior(tmp_path / "one.safetensors", tiny.prompt("prefix")), folder, check=False)
    kept = {"peft_type": "PREFIX_TUNING", "base_model_name_or_path": "tiny", "inference_mode": True}
    (folder / "adapter_config.json").write_text(json.dumps(kept))
    made = import_adapter(folder, tmp_path / "two.safetensors", ModelSpec(id="tiny", device="cpu"))
    assert (made.method, made.tokens) == ("prefix", VECTORS)
    assert same(load_posterior(tmp_path / "two.safetensors").final, tiny.prompt("prefix"))


def test_an_adapter_of_another_base_model_is_refused(tiny, root, tmp_path):
    for kind in KINDS:
        peft_adapter(tiny, kind, tmp_path / kind)
        other = ModelSpec(id=case("llama", root).id, device="cpu")
        refused("token_dim = ", import_adapter, tmp_path / kind, tmp_path / "a.safetensors", other)


def test_a_prompt_of_an_encoder_comes_back_bit_for_bit(tmp_path, capsys):
    """Its logits in PEFT are compared for the table of families."""
    folder = save_model(random_model("t5"), tmp_path / "t5")
    model = ModelSpec(id=str(folder), device="cpu")
    vectors = {Place(0, stack="encoder"): torch.randn(VECTORS, sizes_of(folder).hidden)}
    file, back = tmp_path / "one.safetensors", tmp_path / "back.safetensors"
    header = {"spec": {"model": model.id}, "model": load_local(model).host.info()._asdict()}
    save_posterior(file, Posterior(header, vectors, vectors, {}))
    assert command.main(["export", str(file), str(tmp_path / "adapter")]) == 0
    said = capsys.readouterr().out
    assert "AutoModelForSeq2SeqLM" in said
    assert "read back: logits of 3 rows differ by at most" in said
    import_adapter(tmp_path / "adapter", back, model)
    final = load_posterior(back).final
    assert list(final) == list(vectors)
    assert torch.equal(*final.values(), *vectors.values())
    prefix = {Place(0, kind): torch.ones(2, 8) for kind in ("key", "value")}
    save_posterior(file, Posterior(header, prefix, prefix, {}))
    refused("give the model they belong to", export_adapter, file, tmp_path / "no")


def test_a_model_without_heads_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    refused("attention model", sizes_of, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "none such"}')
    refused("config.json cannot be used (model_type = 'none such': ", sizes_of, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "num_attention_heads": 0}')
    refused("config.json cannot be used (num_attention_heads = 0: must be at least 1)", sizes_of, tmp_path)


def test_an_import_overwrites_nothing(tiny, tmp_path):
    file = tiny.posterior(tmp_path / "one.safetensors", tiny.prompt("soft"))
    model = ModelSpec(id="tiny", device="cpu")
    export_adapter(file, tmp_path / "adapter", check=False)
    refused("nothing is overwritten", import_adapter, tmp_path / "adapter", file, model)
    refused("cannot be written", import_adapter, tmp_path / "adapter", file / "below.safetensors", model)
    suffix = "a posterior file ends with .safetensors, but"
    refused(suffix, import_adapter, tmp_path / "adapter", tmp_path / "copy", model)
    assert not (tmp_path / "copy").exists()


def test_an_export_says_whose_prompt_it_is_and_whether_the_study_still_has_it(
    finished_study: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_study.copy(tmp_path)
    trial = next(spec.id for spec in finished_study.plan.trials if spec.prior is not None)
    record = finished_study.records[trial]
    export = ["export", "--no-check", str(folder.posterior(trial)), str(tmp_path / "adapter")]
    assert command.main(export) == 0
    whose = f"trained by {record.label}: {len(record.steps)} steps, test loss {record.test.loss:.3f}\n"
    assert capsys.readouterr().out.endswith(whose)
    header = read_header(folder.study)
    header["trials"].remove(trial)
    folder.study.write_text(json.dumps(header))
    assert command.main([*export[:-1], str(tmp_path / "other")]) == 0
    assert "no longer has this trial" in capsys.readouterr().out


def test_the_command_exports_and_imports(tiny, tmp_path, capsys):
    file = tiny.posterior(tmp_path / "one.safetensors", tiny.prompt("prefix"))
    adapter, back = str(tmp_path / "adapter"), str(tmp_path / "two.safetensors")
    assert command.main(["export", str(file), adapter]) == 0
    said = capsys.readouterr().out
    assert f'PeftModel.from_pretrained(model, "{adapter}")' in said
    assert f'from_pretrained("{tiny.folder}", dtype="float32")' in said
    assert "read back: logits of 3 rows differ by at most " in said
    assert "; rounding in float32 explains " in said
    assert command.main(["import", adapter, back, "--model", "tiny"]) == 0
    said = capsys.readouterr().out
    assert f"priors: [{{posterior: {{file: {back}}}}}]" in said
    assert f"methods: [{{prefix: {{tokens: {VECTORS}}}}}]" in said
    assert same(load_posterior(Path(back)).final, load_posterior(file).final)


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    missing, out = str(tmp_path / "missing"), str(tmp_path / "out")
    for arguments in (["export", missing, out], ["import", missing, out, "--model", "tiny"]):
        assert command.main(arguments) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["export", "--help"], ["import", "--help"]])
def test_the_command_has_help(arguments):
    call = [sys.executable, "-m", "jobs.exchange", *arguments]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
