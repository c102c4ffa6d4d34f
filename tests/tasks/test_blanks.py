"""Sentences, and the word in each that is blanked."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprior.tasks.blanks import BLANK, blanked, blanked_examples, sentences
from softprior.tasks.documents_source import Document

SENTENCE = "The harbour of Genoa was crowded with merchants from every port."


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
    found = blanked(SENTENCE)
    assert found.word in {"harbour", "Genoa", "crowded", "with", "merchants", "from", "every", "port"}
    assert found.input.replace(BLANK, found.word) == f"{SENTENCE}\nAnswer:"


def test_different_sentences_are_blanked_at_different_places():
    # Twenty sentences of eight words each that can be: all at one place would be no accident.
    found = [blanked(SENTENCE.replace("Genoa", f"Genoa {i}")).word for i in range(20)]
    assert len(set(found)) > 3


def test_punctuation_around_a_word_stays():
    assert blanked("It is so, as of “today”, or so.").input == "It is so, as of “___”, or so.\nAnswer:"


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
    assert blanked(sentence) is None


def test_a_word_within_another_is_not_blanked():
    assert blanked("It is a form of information.").word == "information"


@given(st.lists(st.text("abcÉ.,_-'(1", min_size=1, max_size=8), min_size=5, max_size=12))
def test_a_blank_is_unique_and_its_word_nowhere_in_the_input(words):
    sentence = " ".join(["Also", "perhaps", *words])
    found = blanked(sentence)
    if found is not None:
        assert found.input.count(BLANK) == 1
        assert found.word.isalpha()
        assert len(found.word) >= 4
        assert found.word.lower() not in found.input.lower()
        assert found.input.replace(BLANK, found.word) == f"{sentence}\nAnswer:"
        assert not found.input.startswith(BLANK)


def test_a_lone_sentence_has_no_control():
    found = blanked_examples(
        {"train": {}, "validation": {}, "test": {"d": Document("d", SENTENCE)}}, Counter()
    )
    assert [example.control for example in found["test"]] == [None]
    assert found["train"] == found["validation"] == []
