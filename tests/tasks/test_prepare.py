"""Preparation: keys of the cache, counts, generation's input."""

import pytest

from softprior.errors import UserError
from softprior.tasks import Arithmetic
from softprior.tasks import prepare as module
from softprior.tasks.base import SPLITS, answer_row
from softprior.tasks.prepare import is_prepared, prepare, prepared_here

TASK = Arithmetic(modules=("two_digit_addition",), train_examples=12, validation_examples=3, test_examples=3)


def test_counts_are_as_asked_for(tokenizer):
    prepared = prepare(TASK, tokenizer, "t")
    assert [len(getattr(prepared, split)) for split in SPLITS] == [12, 3, 3]
    assert (prepared.dropped, prepared.quarantined, prepared.notes) == (0, 0, {})


def test_generation_starts_from_the_input_alone(tokenizer):
    prepared = prepare(TASK, tokenizer, "t")
    text = tokenizer.decode(prepared.test.input_row(0).tokens)
    assert text.startswith("What is ")
    assert text.endswith("\nAnswer:")
    assert prepared.test.answers(0) == (
        tokenizer.decode(prepared.test.row(0).tokens[:-1])[len(text) :].strip(),
    )


def test_another_task_tokenizer_or_source_is_another_entry(tokenizer, monkeypatch):
    paths = {
        prepare(TASK, tokenizer, "t").path,
        prepare(TASK, tokenizer, "other").path,
        prepare(TASK.model_copy(update={"train_examples": 11}), tokenizer, "t").path,
    }
    monkeypatch.setattr(Arithmetic, "fingerprint", lambda _: "new")
    paths.add(prepare(TASK, tokenizer, "t").path)
    assert len(paths) == 4


def test_a_failed_preparation_leaves_nothing_behind(tokenizer, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Arithmetic, "row", lambda *_: None)
        with pytest.raises(UserError, match="none of the 12 for train fits"):
            prepare(TASK, tokenizer, "t")
    assert len(prepare(TASK, tokenizer, "t").train) == 12


def test_a_split_that_other_code_could_not_use_is_looked_at_again(tokenizer, monkeypatch):
    row, unfit = Arithmetic.row, set(TASK.splits().train["id"])
    with monkeypatch.context() as other:
        other.setattr(module, "SOURCES", "other")
        other.setattr(Arithmetic, "row", lambda *given: None if given[1].id in unfit else row(*given))
        assert set(prepare(TASK, tokenizer, "t", ("test",)).faults) == {"train"}
    assert not is_prepared(TASK, "t")
    assert prepare(TASK, tokenizer, "t").faults == {}
    assert is_prepared(TASK, "t")
    found = prepared_here(TASK, "t")
    assert found is not None
    assert len(found.train) == 12


def test_a_tokenizer_without_an_end(make_tokenizer):
    tokenizer = make_tokenizer(False)
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="with which answers end; set eos_token"):
        answer_row("x", "What is 1 + 1?", "2", tokenizer)


def test_an_input_without_a_token(tokenizer):
    with pytest.raises(UserError, match="has no tokens for the input"):
        answer_row("x", "", "2", tokenizer)
