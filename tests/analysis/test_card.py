"""The model card of an exported prompt, read by the hub's own library, and what a push would send."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import filter_repo_objects
from scipy import stats

from analysis import card as cards
from analysis.card import exportable, measured, model_card
from jobs import exchange as command
from softprior.errors import UserError
from softprior.exchange import Pushed, push
from softprior.inputs.entries import Entry
from softprior.library.results import Results
from softprior.results.examples import ExampleRow
from softprior.seeding import numpy_generator
from softprior.statistics.documents import bootstrap
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
    assert loss.over_examples is not None
    assert loss._replace(seeds=tuple(sorted(loss.seeds))) == (
        "loss",
        record.test.loss,
        loss.over_examples,
        tuple(sorted(alike)),
        record.untrained.loss,
        bare.loss,
    )
    card = ModelCard(model_card(seeded, record, "owner/base", "0" * 40))
    assert card.data.base_model == "owner/base"
    assert card.data.library_name == "peft"
    results = {found.metric_type: found.metric_value for found in card.data.eval_results}
    assert results["loss"] == record.test.loss
    assert results["teacher_forced_accuracy"] == record.test.accuracy
    assert "accuracy" not in results, "on the hub that is of answers"
    assert set(record.test.metrics) < set(results)
    low, high = stats.t.interval(0.95, len(alike) - 1, np.mean(alike), stats.sem(alike))
    cell = f"{np.mean(alike):.4g} ({low:.4g} to {high:.4g}, {len(alike)} seeds)"
    ends = "too few groups"  # all sums of the study are of one module
    assert (
        f"| loss | {loss.own:.4g} | {ends} | {cell} | {loss.untrained:.4g} | {bare.loss:.4g} |" in card.text
    )
    assert f'from_pretrained("owner/base", revision="{"0" * 40}", dtype="float32")' in card.text
    assert "isotropic" in card.text


def test_the_interval_over_examples_is_of_whole_groups() -> None:
    """Copies of an example within its group say nothing more; the reference is the bootstrap of groups."""

    def row(group: int, tokens: int, nll: float, hit: float | None) -> ExampleRow:
        own: dict[str, Any] = {"shuffled_nll": None, "untrained_nll": None, "answer": None}
        own["metrics"] = {} if hit is None else {"f1": hit}
        return ExampleRow(f"{group}", f"g{group}", tokens, nll, tokens - 1, tokens, **own)

    draws = np.random.default_rng(3)
    sizes, losses, hits = draws.integers(1, 9, 12), draws.exponential(3, 12), draws.uniform(size=12)
    columns = zip(range(12), sizes.tolist(), losses.tolist(), hits.tolist(), strict=True)
    rows = [row(*values) for values in columns]
    for name, above, below in (
        ("loss", losses, sizes),
        ("accuracy", sizes - 1, sizes),
        ("f1", hits, np.ones(12)),
    ):
        found = cards._over_examples(name, rows)
        assert found == cards._over_examples(name, [*rows, *rows])
        # Groups are in the order of their names, g0, g1, g10, ...
        order = np.argsort([f"g{i}" for i in range(12)])
        above, below = above[order].astype(float), below[order].astype(float)
        generator = numpy_generator(0, "over examples")
        expected = bootstrap(lambda w, a=above, b=below: a @ w / (b @ w), np.zeros(12, dtype=int), generator)
        assert found == pytest.approx(expected)
        assert found is not None
        assert found[0] < above.sum() / below.sum() < found[1]
    assert cards._over_examples("ece", rows) is None
    assert cards._over_examples("f1", [row(i, 2, 1.0, None if i else 1.0) for i in range(5)]) is not None
    few = cards._over_examples("loss", rows[:3])
    assert few is not None
    assert np.isnan(few[0]), "too few groups"


def test_a_card_has_no_paths_and_no_markup_of_what_it_quotes(seeded: Results) -> None:
    record = next(r for r in seeded.records.values() if r.spec.training is not None)
    params = {
        "data": {"train": "/home/me/secret.jsonl", "test": "hub:owner/set"},
        "system": "two\nlines and/or <img src=x> | [a](b) `c` _m_ ~s~ $x$ @me https://a.b www.a.b",
    }
    spec = record.spec.model_copy(
        update={"task": Entry(name="pairs", params=params), "paths": ("task.params.data",)}
    )
    text = cards.model_card(seeded, record.model_copy(update={"spec": spec}), None, None)
    assert "secret" not in text
    assert "{'train': 'a file', 'test': 'hub:owner/set'}" in text
    assert r"two\\nlines and/or &lt;img src=x&gt; \| \[a\](b) \`c\`" in text
    assert r"\_m\_ \~s\~ \$x\$ &#64;me https\://a.b www\.a.b" in text
    assert "# A prompt for a local model" in text
    assert 'from_pretrained("FOLDER OF THE BASE MODEL", dtype=' in text
    named = cards.model_card(seeded, record, "owner/base", '"); evil("')
    assert r'revision="\"); evil(\"", dtype=' in named


def test_a_trial_without_a_prompt_has_no_card(seeded: Results) -> None:
    (bare,) = [r for r in seeded.records.values() if r.spec.method.name == "none"]
    with pytest.raises(UserError, match="has no prompt"):
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
    config = folder / "adapter_config.json"
    assert json.loads(config.read_text())["base_model_name_or_path"] == "owner/tiny"
    card = ModelCard.load(folder / "README.md")
    assert card.data.base_model == "owner/tiny"
    assert "one seed" in card.text
    assert str(tmp_path) not in card.text
    assert "read back: logits" in capsys.readouterr().out
    assert command.main(["push", str(folder), "owner/prompt", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "would send 3 files" in said
    assert "adapter_model.safetensors" in said
    config.write_text(config.read_text().replace("owner/tiny", "tiny"))
    with pytest.raises(UserError, match=r"names a model of this machine as its base model \(tiny\)"):
        push(folder, "owner/prompt", dry=True)


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


class Hub:
    """What is asked of the hub, and its answers."""

    def __init__(self, private: bool = True, refused: Exception | None = None) -> None:
        self.private, self.refused = private, refused
        self.asked: dict[str, Any] = {}

    def create_repo(self, repo: str, **options: Any) -> None:
        if self.refused is not None:
            raise self.refused
        self.asked["create"] = (repo, options)

    def model_info(self, repo: str) -> Any:  # noqa: ARG002
        return SimpleNamespace(private=self.private)

    def upload_folder(self, **options: Any) -> Any:
        self.asked["upload"] = options
        return SimpleNamespace(commit_url="https://hub.invalid/commit")


def test_a_push_sends_three_files_where_it_was_told_to(
    finished_study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = next(i for i, record in finished_study.records.items() if record.spec.training is not None)
    study, folder = str(finished_study.folder.root), tmp_path / "prompt"
    assert command.main(["card", study, trial, str(folder), "--base", "owner/tiny", "--no-check"]) == 0
    (folder / "secret.txt").write_text("mine")

    def pushed(hub: Hub, private: bool) -> Pushed:
        monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
        return push(folder, "owner/prompt", private=private)

    hub = Hub()
    assert pushed(hub, True).address == "https://hub.invalid/commit"
    assert hub.asked["create"] == ("owner/prompt", {"private": True, "exist_ok": True})
    sent = hub.asked["upload"]
    assert (sent["repo_id"], sent["folder_path"]) == ("owner/prompt", folder)
    allowed = filter_repo_objects(folder.iterdir(), allow_patterns=sent["allow_patterns"], key=_name)
    assert sorted(map(_name, allowed)) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    ordinary = Hub(private=False)
    assert pushed(ordinary, False).address
    assert ordinary.asked["create"][1]["private"] is None, "an organisation's own setting holds"
    public = Hub(private=False)
    with pytest.raises(UserError, match="owner/prompt exists and is public, so nothing was sent"):
        pushed(public, True)
    assert "upload" not in public.asked
    request = httpx2.Request("POST", "https://hub.invalid")
    forbidden = HfHubHTTPError("403 Forbidden", response=httpx2.Response(403, request=request))
    for error, said in (
        (forbidden, r"the hub refuses owner/prompt \(403 Forbidden\)"),
        (LocalTokenNotFoundError("no token"), "run `hf auth login`, or set HF_TOKEN"),
    ):
        with pytest.raises(UserError, match=said):
            pushed(Hub(refused=error), False)


def _name(path: Path) -> str:
    return path.name


BASES = ["/home/me/model", "model", "o/n\nx", 'o/n"); evil("', "../n", "o/n/x", "o--x/n", "me/foo.git"]


@pytest.mark.parametrize("base", BASES)
def test_a_base_model_is_a_name_on_the_hub(finished_study: Any, tmp_path: Path, base: str) -> None:
    trial = next(i for i, record in finished_study.records.items() if record.spec.training is not None)
    study, folder = str(finished_study.folder.root), tmp_path / "prompt"
    assert command.main(["card", study, trial, str(folder), "--base", base, "--no-check"]) == 2
    assert command.main(["row", study, trial, str(tmp_path / "row.json"), "--base", base]) == 2
    assert list(tmp_path.iterdir()) == []


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
