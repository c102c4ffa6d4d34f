"""What a model's tokenizer does to a trial's id, and what it leaves as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import softprior
from softprior.assets.examination import read_tokenizer
from softprior.errors import UserError
from softprior.methods import METHODS
from softprior.models.load import load_tokenizer
from softprior.prompt import Place
from softprior.results import StudyFolder
from softprior.specs import ModelSpec, StudySpec, TrialSpec
from softprior.studies.plan import plan_study
from softprior.training.identity import TokenizerFacts, tokenizer_facts
from softprior.training.source import PlaceSource
from softprior.training.trial import Trial
from tests.builders import tiny, trial

WEIGHTS = Path(softprior.__file__).parent / "tiny" / "weights"


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


def trials(folder: Path) -> dict[str, TrialSpec]:
    study = StudySpec.model_validate(
        {
            "name": "small",
            "model": {"id": str(folder), "device": "cpu"},
            "priors": ["isotropic"],
            "methods": [{"soft": {"tokens": 4}}],
            "tasks": ["arithmetic", "language"],
            "rates": [0.05],
            "seeds": [0],
            "training": {"steps": 6, "batch": 8},
        }
    )
    return {f"{t.method.name} {t.task.name}": t for t in plan_study(study).trials}


def test_ids_change_where_rows_or_the_vocabulary_do_and_nowhere_else(model):
    as_it_is = trials(model())
    assert {spec.tokenizer for spec in as_it_is.values()} == {None}
    assert not any("tokenizer" in spec.model_dump(mode="json") for spec in as_it_is.values())
    found = {name: spec.tokenizer for name, spec in trials(model(ended)).items()}
    assert found == {
        "none arithmetic": "joint",
        "soft arithmetic": "joint",
        "none language": None,
        "soft language": None,
    }
    both = trials(model(ended, with_reserved))
    assert {name: spec.tokenizer for name, spec in both.items()} == {
        "none arithmetic": "joint",
        "soft arithmetic": "joint, less 2 reserved",
        "none language": None,
        "soft language": "less 2 reserved",
    }
    for name, spec in both.items():
        plain = spec.model_copy(update={"tokenizer": None})
        assert (plain.id == spec.id) is (name == "none language")


def test_models_of_the_catalogue_have_ordinary_tokenizers():
    assert TokenizerFacts.of(tiny().tokenizer) == TokenizerFacts()
    assert tokenizer_facts(ModelSpec(id="tiny"), "any") == TokenizerFacts()


def test_a_tokenizer_is_read_once_for_a_fingerprint(model, monkeypatch):
    spec = ModelSpec(id=str(model(with_reserved)))
    assert tokenizer_facts(spec, "one") == TokenizerFacts(reserved=2)
    monkeypatch.setattr("softprior.training.identity.tokenizer_here", lambda _: pytest.fail("read again"))
    assert tokenizer_facts(spec, "one") == TokenizerFacts(reserved=2)


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
    run = Trial(spec, loaded.host, tokenizer, "grown", StudyFolder(tmp_path), lambda _: None)
    with pytest.raises(UserError, match=r"the texts of task arithmetic have token 1024, and .* ends at 1023"):
        run.run()
    written = trial(method=METHODS["instruction"](written="What?"))
    run = Trial(written, loaded.host, tokenizer, "grown", StudyFolder(tmp_path), lambda _: None)
    with pytest.raises(UserError, match="have token 1024"):
        run.run()
