"""What a model's tokenizer and family do to a trial's id, and what they leave as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Words
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, GraniteConfig, LlamaConfig, PreTrainedTokenizerFast

import softprior
from softprior.assets.catalogue import catalogue
from softprior.assets.examination import read_tokenizer
from softprior.assets.tokens import spans_spaces
from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.inputs.specs import ModelSpec, StudySpec, TrialSpec
from softprior.methods import METHODS
from softprior.models.load import load_tokenizer
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.prompt import Place
from softprior.results.folder import StudyFolder
from softprior.studies.plan import plan_study
from softprior.tasks import TASKS, Language, Squad
from softprior.tasks.prepare import prepare
from softprior.training.corrections import HostFacts, ModelFacts, TokenizerFacts, model_facts
from softprior.training.setup import Setup
from softprior.training.source import PlaceSource
from softprior.training.trial import Trial
from tests.builders import SIZES, questions, tiny, trial

WEIGHTS = Path(softprior.__file__).parent / "assets" / "tiny"
SOFT = ({"soft": {"tokens": 4}},)
OURS = ("arithmetic", "language")
SHORT = {**SIZES, "max_position_embeddings": 64, "pad_token_id": 0}
ROPE = {"rope_theta": 1e4, "factor": 2.0}


def ended(tokenizer: dict[str, Any]) -> None:
    """Ends every text with the end-of-sequence token."""
    end = next(token for token in tokenizer["added_tokens"] if token["id"] == 0)["content"]
    template = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}]
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": template,
        "pair": [*template, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {end: {"id": end, "ids": [0], "tokens": [end]}},
    }


def with_reserved(tokenizer: dict[str, Any]) -> None:
    """Gives the last two tokens the names of reserved ones."""
    vocabulary = tokenizer["model"]["vocab"]
    last = {name for name, number in vocabulary.items() if number >= len(vocabulary) - 2}
    merges = tokenizer["model"]["merges"]
    tokenizer["model"]["merges"] = [pair for pair in merges if "".join(pair) not in last]
    for name in last:
        number = vocabulary.pop(name)
        vocabulary[f"<unused{number}>"] = number


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setenv("SOFTPRIOR_CACHE", str(tmp_path / "cache"))

    def make(*changes: Callable[[dict[str, Any]], None]) -> Path:
        folder = tmp_path / "-".join(["model", *(change.__name__ for change in changes)])
        shutil.copytree(WEIGHTS, folder)
        tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        for change in changes:
            change(tokenizer)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        return folder

    return make


def with_config(folder: Path, **changes: Any) -> Path:
    """The same model, its config changed; None takes a key away."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")
    return folder


def trials(
    model: Path | str, methods: Sequence[Any] = SOFT, tasks: Sequence[Any] = OURS
) -> dict[str, TrialSpec]:
    study = StudySpec.model_validate(
        {
            "name": "small",
            "model": {"id": str(model), "device": "cpu"},
            "priors": ["isotropic"],
            "methods": methods,
            "tasks": tasks,
            "rates": [0.05],
            "seeds": [0],
            "training": {"steps": 6, "batch": 8},
        }
    )
    return {f"{t.method.name} {t.task.name}": t for t in plan_study(study).trials}


def corrections(found: dict[str, TrialSpec]) -> dict[str, tuple[str, ...]]:
    """What is corrected, by method and task; others have nothing, and the id they had without the field."""
    for spec in found.values():
        plain = spec.model_copy(update={"corrections": ()})
        assert (plain.id == spec.id) is (not spec.corrections)
        assert ("corrections" in spec.model_dump(mode="json")) is bool(spec.corrections)
    return {name: spec.corrections for name, spec in found.items() if spec.corrections}


def test_ids_change_where_rows_or_the_vocabulary_do_and_nowhere_else(model):
    assert corrections(trials(model())) == {}
    joint = "joint tokens"
    assert corrections(trials(model(ended))) == {"none arithmetic": (joint,), "soft arithmetic": (joint,)}
    less = "2 reserved tokens left out"
    assert corrections(trials(model(ended, with_reserved))) == {
        "none arithmetic": (joint,),
        "soft arithmetic": (joint, less),
        "soft language": (less,),
    }


def test_ids_change_where_rows_rotate_apart(model):
    """The config as it is written on the hub; up to its original length nothing has changed."""
    factors = {"short_factor": [1.0] * 16, "long_factor": [2.0] * 16}
    longrope = {"type": "longrope", "original_max_position_embeddings": 96, **factors}
    folder = with_config(model(), rope_parameters=None, rope_scaling=longrope)
    tasks = ["arithmetic", {"language": {"length": 90}}]
    apart = ("rows of more than 96 positions apart",)
    # A text of 90 tokens and 4 vectors fit into 96; of arithmetic nothing but the data limits a row.
    assert corrections(trials(folder, tasks=tasks)) == {"none arithmetic": apart, "soft arithmetic": apart}
    more = trials(folder, [{"soft": {"tokens": 7}}, "instruction"], tasks)
    assert set(corrections(more)) == {*more} - {"none language"}
    dynamic = {"rope_type": "dynamic", "factor": 2.0}
    with_config(folder, rope_scaling=dynamic, max_position_embeddings=512)
    facts = model_facts(ModelSpec(id=str(folder)), "dynamic")
    assert facts.host == HostFacts(512, blocks=facts.host.blocks)


def test_ids_change_where_prompts_are_scaled(model):
    folder = with_config(model(), model_type="granite", architectures=None, embedding_multiplier=12.0)
    methods = [
        *SOFT,
        {"deep": {"token_level": "cut", "last": 1}},
        {"deep": {"token_level": "keep", "last": 1}},
        {"prefix": {"blocks": [0]}},
        {"prefix": {"blocks": [1]}},
        "instruction",
    ]
    facts = model_facts(ModelSpec(id=str(folder)), "granite")
    assert facts.host == HostFacts(scaled=True, blocks=facts.host.blocks)
    scaled = [
        bool(facts.corrections(METHODS[name].model_validate(params), Language()))
        for entry in methods
        for name, params in (entry if isinstance(entry, dict) else {entry: {}}).items()
    ]
    assert scaled == [False, True, False, True, False, False]
    found = trials(folder, [*SOFT, {"prefix": {"tokens": 2}}], ["language"])
    assert corrections(found) == {"prefix language": ("scaled at block 0",)}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (GraniteConfig(**SHORT, embedding_multiplier=12.0), HostFacts(None, True, 2)),
        (GraniteConfig(**SHORT, embedding_multiplier=1.0), HostFacts(None, False, 2)),
        (LlamaConfig(**SHORT, rope_parameters={**ROPE, "rope_type": "dynamic"}), HostFacts(64, False, 2)),
        (LlamaConfig(**SHORT, rope_parameters={**ROPE, "rope_type": "linear"}), HostFacts(None, False, 2)),
    ],
)
def test_a_config_says_what_the_loaded_model_does(config, expected):
    """Planned from the first, checked against the second; equal, or a trial would never start."""
    network = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION)
    host = LocalLM(network, "small")
    assert HostFacts.of_config(config) == HostFacts.of(host.info()) == expected
    assert host._regimes.longest == expected.steady


def test_ids_change_where_an_answer_would_end_early(tmp_path):
    """An answer with the text of the end-of-sequence token: its row is left out, and once was not."""
    path = questions(tmp_path, lambda i: "see <|endoftext|> here" if i == 5 else f"[word] {i}")
    squad = {"squad": {"data": str(path), "train_examples": 50}}
    found = trials("tiny", tasks=[squad, "language"])
    left = ("no answers with <|endoftext|>",)
    assert corrections(found) == {"none squad": left, "soft squad": left}
    facts = ModelFacts.of(tiny().tokenizer, tiny().host.info())
    task = Squad.model_validate(squad["squad"])
    assert facts.corrections(METHODS["none"](), task) == left
    assert prepare(task, tiny().tokenizer, "t").notes["not_joint"] == 1
    questions(tmp_path, lambda i: "see </s> here" if i == 5 else f"[word] {i}")
    assert corrections(trials("tiny", tasks=[squad])) == {}


def test_ids_change_where_choices_may_have_other_tokens_without_the_input():
    """Such examples were once left out. Only choices are compared without the input."""
    words = {"[UNK]": 0, "good": 1, " good": 2, "is good": 3}
    spanning = [PreTrainedTokenizerFast(tokenizer_object=Words(WordLevel(words, "[UNK]")))]
    spanning.append(
        PreTrainedTokenizerFast(tokenizer_object=Words(WordLevel(dict(list(words.items())[:3]), "[UNK]")))
    )
    assert [spans_spaces(one) for one in spanning] == [True, False]
    task = Entry(name="choices", params={"data": "a.csv", "input": "q", "labels": ["a", "b"], "answer": "a"})
    facts = TokenizerFacts(spans=True)
    said = ["choices with tokens of their own without the input"]
    assert list(facts.corrections(TASKS.component(task), trained=True)) == said
    assert list(facts.corrections(TASKS.component(Entry(name="arithmetic")), trained=True)) == []
    assert list(TokenizerFacts().corrections(TASKS.component(task), trained=True)) == []


def test_models_of_the_catalogue_are_ordinary():
    facts = ModelFacts.of(tiny().tokenizer, tiny().host.info())
    assert facts.tokenizer == TokenizerFacts(end="<|endoftext|>")
    assert facts.host == HostFacts(blocks=facts.host.blocks)
    assert model_facts(ModelSpec(id="tiny"), "any").tokenizer == facts.tokenizer
    assert {name: (asset.end, asset.reserved, asset.spans) for name, asset in catalogue().models.items()} == {
        "smollm2-135m-instruct-q4_1": ("<|im_end|>", 0, True),
        "gemma3-270m-q4_k_m": ("<eos>", 6242, True),
        "tiny": ("<|endoftext|>", 0, False),
    }


def test_a_model_is_read_once_for_a_fingerprint(model, monkeypatch):
    spec = ModelSpec(id=str(model(with_reserved)))
    known = model_facts(spec, "one")
    assert known.tokenizer == TokenizerFacts(reserved=2, end="<|endoftext|>")
    monkeypatch.setattr("softprior.training.corrections.tokenizer_here", lambda _: pytest.fail("read again"))
    assert model_facts(spec, "one") == known


def test_reserved_tokens_are_in_no_vocabulary(model):
    host = tiny().host
    whole = PlaceSource(host, tiny().tokenizer, Place(0), 4)
    source = PlaceSource(host, read_tokenizer(model(with_reserved)), Place(0), 4)
    assert source.fingerprint != whole.fingerprint
    assert whole.fingerprint.endswith(f"-{len(tiny().tokenizer)}-embeddings")
    assert torch.equal(source.vocabulary(), whole.vocabulary()[:-2])
    assert len(whole.vocabulary()) == len(tiny().tokenizer)


def test_tokens_past_the_embedding_table_are_refused_before_training(tmp_path):
    """Special ones, which no text was to hold: the data spell one."""
    loaded = tiny()
    tokenizer = load_tokenizer(ModelSpec(id="tiny")).tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["What"]})
    spec = trial()
    run = Trial(Setup(spec, loaded.host, tokenizer, "grown"), StudyFolder(tmp_path), lambda _: None)
    with pytest.raises(UserError, match=r"the texts of task arithmetic have token 1024, and .* ends at 1023"):
        run.run()
    written = trial(method=METHODS["instruction"](written="What?"))
    run = Trial(Setup(written, loaded.host, tokenizer, "grown"), StudyFolder(tmp_path), lambda _: None)
    with pytest.raises(UserError, match="have token 1024"):
        run.run()
