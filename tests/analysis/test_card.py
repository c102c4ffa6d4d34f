"""The model card of an exported prompt, read by the hub's own library, and what a push would send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from scipy import stats

from analysis.card import exportable, measured, model_card
from jobs import exchange as command
from softprior.errors import UserError
from softprior.exchange import push
from softprior.library.results import Results
from tests.builders import with_seeds

SEEDS = 4


@pytest.fixture(scope="module")
def seeded(finished_study: Any, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results(with_seeds(finished_study, tmp_path_factory.mktemp("seeded"), SEEDS).root)


def test_a_card_has_the_trials_numbers_and_an_interval_over_its_seeds(seeded: Results) -> None:
    trained = [r for r in seeded.records.values() if r.spec.training is not None and r.spec.seed == 0]
    record = trained[0]
    alike = [r.test.loss for r in seeded.records.values() if r.spec.prior == record.spec.prior if r.test]
    assert len(alike) > 2
    (bare,) = [r.test for r in seeded.records.values() if r.spec.method.name == "none"]
    loss = measured(seeded, record)[0]
    assert record.test is not None
    assert record.untrained is not None
    assert bare is not None
    assert loss._replace(seeds=tuple(sorted(loss.seeds))) == (
        "loss",
        record.test.loss,
        tuple(sorted(alike)),
        record.untrained.loss,
        bare.loss,
    )
    card = ModelCard(model_card(seeded, record, "owner/base", "0" * 40))
    assert card.data.base_model == "owner/base"
    assert card.data.library_name == "peft"
    results = {found.metric_type: found.metric_value for found in card.data.eval_results}
    assert results["loss"] == record.test.loss
    assert results["accuracy"] == record.test.accuracy
    assert set(record.test.metrics) < set(results)
    low, high = stats.t.interval(0.95, len(alike) - 1, np.mean(alike), stats.sem(alike))
    cell = f"{np.mean(alike):.4g} ({low:.4g} to {high:.4g}, {len(alike)} seeds)"
    assert f"| loss | {loss.own:.4g} | {cell} | {loss.untrained:.4g} | {bare.loss:.4g} |" in card.text
    assert f'from_pretrained("owner/base", revision="{"0" * 40}", dtype="float32")' in card.text
    assert "isotropic" in card.text


def test_a_trial_without_a_prompt_has_no_card(seeded: Results) -> None:
    (bare,) = [r for r in seeded.records.values() if r.spec.method.name == "none"]
    with pytest.raises(UserError, match="has left no prompt"):
        exportable(seeded, bare.id)
    with pytest.raises(UserError, match="is not the id of one of these"):
        exportable(seeded, "0123456789abcdef")


def test_the_command_makes_a_folder_to_push_and_a_dry_push_says_what_it_is(
    finished_study: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = next(i for i, record in finished_study.records.items() if record.spec.training is not None)
    study, folder = str(finished_study.folder.root), tmp_path / "to-push"
    assert command.main(["card", study, trial[:8], str(folder), "--base", "owner/tiny"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "owner/tiny"
    card = ModelCard.load(folder / "README.md")
    assert card.data.base_model == "owner/tiny"
    assert "one seed" in card.text
    assert str(tmp_path) not in card.text
    assert "read back: logits" in capsys.readouterr().out
    assert command.main(["push", str(folder), "owner/prompt", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "would send 3 files" in said
    assert "adapter_model.safetensors" in said


def test_a_push_that_reaches_no_hub_is_one_sentence(
    finished_study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = next(i for i, record in finished_study.records.items() if record.spec.training is not None)
    study, folder = str(finished_study.folder.root), tmp_path / "prompt"
    assert command.main(["card", study, trial, str(folder), "--base", "owner/tiny", "--no-check"]) == 0
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    with pytest.raises(UserError, match="the hub cannot be reached"):
        push(folder, "owner/prompt")


def test_what_others_could_not_use_is_not_pushed(finished_study: Any, tmp_path: Path) -> None:
    trial = next(i for i, record in finished_study.records.items() if record.spec.training is not None)
    study, folder = str(finished_study.folder.root), tmp_path / "local"
    assert command.main(["card", study, trial, str(folder), "--no-check"]) == 0
    for repo, hint in (("owner/prompt", "--base OWNER/NAME"), ("prompt", "named OWNER/NAME")):
        with pytest.raises(UserError, match=hint):
            push(folder, repo, dry=True)
    (folder / "README.md").unlink()
    with pytest.raises(UserError, match="has no model card"):
        push(folder, "owner/prompt", dry=True)
    with pytest.raises(UserError, match=r"contains no adapter_config\.json"):
        push(tmp_path, "owner/prompt", dry=True)
