"""Trials whose vectors are behind the beginning-of-sequence token: from the prior to the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec, TrialSpec
from softprior.library.model import Model
from softprior.methods import METHODS
from softprior.models.load import Loaded, load_local
from softprior.prompt import Place, Row, Shape, collate
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.records import Record
from softprior.tasks import TASKS
from softprior.tasks.prepare import prepare
from softprior.tasks.prepared import PreparedSplit
from softprior.training.also import Others
from softprior.training.attended import even
from softprior.training.opening import require_input
from softprior.training.setup import Setup
from softprior.training.trial import Trial
from tests.builders import run, tiny, trial, with_bos


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The shipped model; its tokenizer begins texts with its special token."""
    return load_local(ModelSpec(id=str(with_bos(tmp_path_factory.mktemp("bos") / "model")), device="cpu"))


def run_on(loaded: Loaded, spec: TrialSpec, root: Path) -> tuple[Record, Any]:
    spec = spec.model_copy(update={"model_fingerprint": loaded.fingerprint})
    model = (loaded.host, loaded.tokenizer, loaded.fingerprint)
    record = Trial(Setup(spec, *model), StudyFolder(root), lambda _: None).run()
    return record, load_posterior(StudyFolder(root).posterior(spec.id))


def test_a_trial_differs_from_one_in_front_by_placement_alone(loaded: Loaded, tmp_path: Path) -> None:
    """The same draws and the same steps; other gradients. Every sanity check passes, generation's too."""
    found = {}
    for placement in ("front", "after_bos"):
        method = METHODS["deep"](tokens=4, token_level="keep", placement=placement)
        found[placement] = run_on(loaded, trial(method=method, steps=3), tmp_path / placement)
    (front, ahead), (record, behind) = found["front"], found["after_bos"]
    assert list(record.geometry) == [f"{place}.after_bos" for place in front.geometry]
    for place, vectors in behind.initial.items():
        assert torch.equal(vectors, ahead.initial[place.in_front])
        assert not torch.allclose(behind.final[place], ahead.final[place.in_front], atol=1e-3)
    assert record.test is not None
    assert record.test.loss < record.validation[0].loss
    assert record.test.tokens == front.test.tokens
    assert [check.verdict for check in record.sanity if check.verdict == "fault"] == []
    assert {"generation", "posterior", "batch_mates", "moved_labels"} <= {one.name for one in record.sanity}


def test_running_text_keeps_its_first_label(loaded: Loaded, tmp_path: Path) -> None:
    """The token behind the prompt is predicted from it: losses of all methods are of the same tokens."""
    text = tmp_path / "texts.txt"
    words = "the quick brown fox jumps over the lazy dog and sleeps in the warm sun "
    text.write_text("\n\n".join(f"Story {i}. " + words * 6 for i in range(30)), encoding="utf-8")
    task = TASKS["language"](data=str(text), length=48)
    behind = METHODS["soft"](tokens=3, placement="after_bos")
    record, posterior = run_on(loaded, trial(method=behind, task=task, steps=1), tmp_path)
    assert list(posterior.final) == [Place(0, placement="after_bos")]
    assert record.test is not None
    examples = record.test.examples
    assert record.test.tokens == sum(model_tokens(loaded, task)[:examples])


def model_tokens(loaded: Loaded, task: Any) -> list[int]:
    """Of each test example all tokens but the first, which are the labels of every method."""
    prepared = prepare(task, loaded.tokenizer, loaded.fingerprint)
    return [length - 1 for length in prepared.test.lengths]


@pytest.mark.parametrize(("placement", "even_share"), [("front", 0.16875), ("after_bos", 0.075)])
def test_the_even_share_counts_what_a_prediction_sees(placement: Any, even_share: float) -> None:
    """Three vectors at one of four blocks: what predicts the second token sees them in front alone."""
    prompt = {Place(1, after="cut", placement=placement): torch.zeros(3, tiny().host.info().hidden)}
    batch = collate([Row("row", [5, 6, 7], [False, True, True], [False, True, True])])
    assert even(tiny().host, prompt, [batch]) == pytest.approx(even_share)


def test_a_tokenizer_without_that_token_is_refused(tmp_path: Path) -> None:
    spec = trial(method=METHODS["soft"](tokens=4, placement="after_bos"))
    said = (
        "placement: after_bos needs texts that begin with .*, but the tokenizer of tiny has no such token; "
    )
    with pytest.raises(UserError, match=said):
        run(spec, tmp_path)
    loaded = tiny()
    others = Others(spec, loaded.host, loaded.tokenizer, loaded.fingerprint, [], 4)
    assert "after_bos needs texts" in str(others.measure(spec.task, {}, 0).found.error)


def test_rows_that_begin_otherwise_are_refused(loaded: Loaded, tmp_path: Path) -> None:
    """As the tokenizer says that it has the token, and adds none."""
    spec = trial(method=METHODS["soft"](tokens=4, placement="after_bos"))
    plain = tiny()
    tokenizer = type(plain.tokenizer)(tokenizer_object=plain.tokenizer.backend_tokenizer)  # type: ignore[attr-defined]
    tokenizer.eos_token = tokenizer.bos_token = plain.tokenizer.eos_token
    model = (plain.host, tokenizer, plain.fingerprint)
    with pytest.raises(UserError, match="the tokenizer of tiny begins texts of task arithmetic without its"):
        Trial(Setup(spec, *model), StudyFolder(tmp_path), lambda _: None).run()


def test_an_input_without_another_token_is_refused_where_answers_follow_it() -> None:
    """Before any training, as a host could not continue it; running text begins so."""
    behind, front, four = METHODS["soft"](placement="after_bos"), METHODS["soft"](), Shape(4, "decoder")
    labels = [[False, False, True], [False, True, True]]
    one = PreparedSplit(Dataset.from_dict({"labels": labels, "length": [3, 3]}))
    with pytest.raises(UserError, match=r"input of task mine, behind which .* no other token; leave it out"):
        require_input(behind, four, "mine", TASKS["arithmetic"](), one)
    require_input(front, four, "mine", TASKS["arithmetic"](), one)
    require_input(behind, four, "mine", TASKS["language"](), one)
    two = PreparedSplit(Dataset.from_dict({"labels": labels[:1], "length": [3]}))
    require_input(behind, four, "mine", TASKS["arithmetic"](), two)


def test_what_stands_in_place_of_an_input_begins_as_it_does() -> None:
    columns = {"tokens": [[1, 5], [1]], "control_tokens": [None, [2, 5]], "alone_tokens": [[], [3, 6]]}
    assert PreparedSplit(Dataset.from_dict({**columns, "length": [2, 1]})).first_tokens == {1, 2, 3}


def test_a_loaded_model_takes_such_prompts_and_looks_at_its_texts(loaded: Loaded) -> None:
    model, plain = Model(loaded), Model(tiny())
    prompt = model.prompt({"soft": {"tokens": 2, "placement": "after_bos"}}, "vocabulary")
    (vectors,) = prompt.values()
    assert torch.equal(vectors, model.sample("vocabulary", 2))
    batch = model.batch(["What is 1 + 2?"], ["3"])
    assert float(model.loss(prompt, batch)) != pytest.approx(float(model.loss(vectors, batch)), rel=1e-4)
    assert len(model.generate(prompt, ["What is 1 + 2?"], max_new=2)) == 1
    behind, ahead = model.prompt_states(prompt, ["resid.1"]), model.prompt_states(vectors, ["resid.1"])
    assert behind["resid.1"].shape == ahead["resid.1"].shape
    assert not torch.allclose(behind["resid.1"], ahead["resid.1"])
    for ask in (
        lambda: plain.loss(prompt, plain.batch(["What is 1 + 2?"], ["3"])),
        lambda: plain.generate(prompt, ["What is 1 + 2?"], max_new=2),
        lambda: plain.prompt_states(prompt, ["resid.1"]),
    ):
        with pytest.raises(UserError, match=r"needs texts that begin .*, but the tokenizer has none; use"):
            ask()
