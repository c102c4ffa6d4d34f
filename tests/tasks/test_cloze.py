"""Cloze: sentences, blanks, and the mode of `language` that is made of them."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprior.errors import UserError
from softprior.tasks import Language
from softprior.tasks.base import SPLITS, Example
from softprior.tasks.cloze import BLANK, cloze, cloze_examples, sentences
from softprior.tasks.language_source import Document
from softprior.tasks.prepare import prepare

SENTENCE = "The harbour of Genoa was crowded with merchants from every port."


def written(path, documents):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")
    return str(path)


def examples(task):
    splits = task.splits()
    return {split: [Example.of(record) for record in getattr(splits, split)] for split in SPLITS}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One ends.  Two\tends! Does three?", ["One ends.", "Two ends!", "Does three?"]),
        ("A heading\nIts text is here.\n* an entry\n", ["Its text is here."]),
        ("He met Dr. Smith. J. S. Bach was there.", ["He met Dr. Smith.", "J. S. Bach was there."]),
        ("They live in the U.S.\nWe do not.", ["They live in the U.S.", "We do not."]),
        ('"Is it you?" she asked. "It is."', ['"Is it you?" she asked.', '"It is."']),
        ("and so it ended. This is whole. This is cut", ["This is whole."]),
        ("", []),
        (" \n\n \t", []),
    ],
)
def test_a_text_is_cut_into_whole_sentences(text, found):
    assert list(sentences(text)) == found


def test_a_word_is_blanked():
    found = cloze(SENTENCE)
    assert found.word in {"harbour", "Genoa", "crowded", "with", "merchants", "from", "every", "port"}
    assert found.input.replace(BLANK, found.word) == f"{SENTENCE}\nAnswer:"


def test_different_sentences_are_blanked_at_different_places():
    # Twenty sentences of eight words each that can be: all at one place would be no accident.
    found = [cloze(SENTENCE.replace("Genoa", f"Genoa {i}")).word for i in range(20)]
    assert len(set(found)) > 3


def test_punctuation_around_a_word_stays():
    assert cloze("It is so, as of “today”, or so.").input == "It is so, as of “___”, or so.\nAnswer:"


@pytest.mark.parametrize(
    "sentence",
    [
        "Yesterday it was as it is.",  # the first word alone is long enough
        "Stop them here.",  # too short
        "It is this or it is This.",  # twice
        "He or she is the Answer to it.",  # would be read off "Answer:"
        "It is a well-known 12th_century o'clock of it.",  # compounds and digits
        "Fill in the blank ___ of the sheet.",  # a blank already
        "",
    ],
)
def test_a_sentence_without_a_word_to_blank(sentence):
    assert cloze(sentence) is None


def test_a_word_within_another_is_not_blanked():
    assert cloze("It is a form of information.").word == "information"


@given(st.lists(st.text("abcÉ.,_-'(1", min_size=1, max_size=8), min_size=5, max_size=12))
def test_a_blank_is_unique_and_its_word_nowhere_in_the_input(words):
    sentence = " ".join(["Also", "perhaps", *words])
    found = cloze(sentence)
    if found is not None:
        assert found.input.count(BLANK) == 1
        assert found.word.isalpha()
        assert len(found.word) >= 4
        assert found.word.lower() not in found.input.lower()
        assert found.input.replace(BLANK, found.word) == f"{sentence}\nAnswer:"
        assert not found.input.startswith(BLANK)


def test_another_process_blanks_the_same_word():
    code = f"from softprior.tasks.cloze import cloze; print(cloze({SENTENCE!r}).word)"
    environment = {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(Path(__file__).parents[2] / "platform")}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert other.stdout.strip() == cloze(SENTENCE).word, other.stderr


def test_only_the_word_and_the_end_are_labels(documents, make_tokenizer):
    task = Language(data=str(documents), mode="cloze", length=64)
    example = examples(task)["train"][0]
    for tokenizer in (make_tokenizer(False), make_tokenizer(True)):
        row = task.row(example, tokenizer)
        labelled = [token for token, label in zip(row.tokens, row.labels, strict=True) if label]
        scored = [token for token, score in zip(row.tokens, row.scored, strict=True) if score]
        assert labelled == [*scored, tokenizer.eos_token_id]
        assert tokenizer.decode(scored) == f" {example.answers[0]}"
        assert tokenizer.decode(row.tokens[: row.labels.index(True)]).endswith("\nAnswer:")
        assert task.rows(example, tokenizer) == [row]


def test_scores_are_those_of_squad():
    task = Language(mode="cloze")
    assert set(task.score("the Harbour.", ("harbour",)).values()) == {1.0}
    half = task.score("harbour of Genoa", ("harbour",))
    assert half == {"exact_match": 0.0, "precision": 1 / 3, "recall": 1.0, "f1": 0.5}


def test_a_control_has_another_sentence_of_the_split_and_the_same_answer(documents, tokenizer):
    task = Language(data=str(documents), mode="cloze", length=64)
    for found in examples(task).values():
        by_input = {example.input: example for example in found}
        for example in found:
            assert example.control != example.input
            assert example.control in by_input
        assert len({example.control for example in found}) == len(found)
    prepared = prepare(task, tokenizer, "t")
    row, control = prepared.test.row(0), prepared.test.control_row(0)
    start, control_start = row.labels.index(True), control.labels.index(True)
    assert row.tokens[start:] == control.tokens[control_start:]
    assert row.tokens[:start] != control.tokens[:control_start]


def test_a_lone_sentence_has_no_control():
    found = cloze_examples({"train": {}, "validation": {}, "test": {"d": Document("d", SENTENCE)}}, Counter())
    assert [example.control for example in found["test"]] == [None]
    assert found["train"] == found["validation"] == []


def test_documents_are_divided_as_for_chunks(documents):
    chunks, blanks = (
        Language(data=str(documents)).splits(),
        Language(data=str(documents), mode="cloze").splits(),
    )
    for split in SPLITS:
        assert set(getattr(blanks, split)["group"]) == set(getattr(chunks, split)["group"])


def test_every_document_gives_a_sentence_before_any_gives_two(documents):
    for split, found in examples(Language(data=str(documents), mode="cloze")).items():
        names = [example.id.rpartition("-")[0] for example in found]
        number = len(set(names))
        assert number > 1, split
        assert len(set(names[:number])) == number
        assert len({example.id for example in found}) == len(found)


def test_few_sentences_are_not_all_openings(documents):
    found = examples(Language(data=str(documents), mode="cloze"))["train"]
    firsts = found[: len({example.group for example in found})]
    assert len({example.id.rpartition("-")[2] for example in firsts}) > 2


def test_ids_stay_when_documents_are_added(tmp_path):
    texts = [f"Document {i} has a sentence. It has a second one, number {i}." for i in range(30)]
    few = examples(Language(data=written(tmp_path / "few.jsonl", texts[:20]), mode="cloze"))
    many = examples(Language(data=written(tmp_path / "many.jsonl", texts), mode="cloze"))
    before = {example.id: (example.input, example.answers) for found in few.values() for example in found}
    after = {example.id: (example.input, example.answers) for found in many.values() for example in found}
    assert len(before) == 40
    assert before.items() <= after.items()


def test_a_sentence_of_two_splits_is_tested_and_not_trained_on(tmp_path):
    shared = "All rights are reserved by the publisher of this page."
    texts = [f"Page {i} says something about subject {i}. {shared}" for i in range(20)]
    task = Language(data=written(tmp_path / "pages.jsonl", texts), mode="cloze")
    found = examples(task)
    holders = {
        s: sum("rights" in example.input or "rights" in example.answers for example in found[s])
        for s in SPLITS
    }
    assert holders == {"train": 0, "validation": 0, "test": 1}
    assert task.splits().notes == {"repeated_sentences": 19}


def test_long_sentences_are_dropped_and_counted_never_cut(tmp_path, tokenizer):
    long = "The {} sentence goes on " + "and on " * 60 + "to the end."
    texts = [f"A short sentence about number {i}. {long.format(i)}" for i in range(20)]
    task = Language(data=written(tmp_path / "mixed.jsonl", texts), mode="cloze", length=40)
    prepared = prepare(task, tokenizer, "t")
    fitting = [
        example for found in examples(task).values() for example in found if "goes on" not in example.input
    ]
    rows = [getattr(prepared, s).row(i) for s in SPLITS for i in range(len(getattr(prepared, s)))]
    assert prepared.dropped + len(rows) == 40
    assert prepared.dropped >= 20
    assert {row.id for row in rows} <= {example.id for example in fitting}
    assert all(len(row.tokens) <= 40 and row.tokens[-1] == tokenizer.eos_token_id for row in rows)


def test_documents_without_a_sentence_are_counted(tmp_path, tokenizer):
    whole = [f"Document number {i} has one whole sentence." for i in range(60)]
    task = Language(
        data=written(tmp_path / "some.jsonl", [*whole, "A heading", "Too short.", "1 2 3"]), mode="cloze"
    )
    assert task.splits().notes == {"documents_without_cloze": 3}
    assert prepare(task, tokenizer, "t").notes["documents_without_cloze"] == 3


def test_malformed_lines_are_set_aside(tmp_path, tokenizer):
    path = tmp_path / "mine.jsonl"
    written(path, [f"Document number {i} has one whole sentence." for i in range(40)])
    path.write_text(path.read_text() + '{"text": \n{"body": "x"}\n')
    assert prepare(Language(data=str(path), mode="cloze"), tokenizer, "t").quarantined == 2


def test_no_sentence_at_all(tmp_path, tokenizer):
    task = Language(data=written(tmp_path / "none.jsonl", ["Heading", "Title", "1 2 3"]), mode="cloze")
    with pytest.raises(UserError, match="every split needs an example, and none of the 0 for train fits"):
        prepare(task, tokenizer, "t")
