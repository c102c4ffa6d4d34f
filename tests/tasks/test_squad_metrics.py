"""EM and F1 against a literal rendering of the official SQuAD v1.1 script."""

import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprior.tasks.squad_metrics import exact_match, normalise, overlap


def official_normalize(s):
    def remove_articles(text):
        return re.sub(r"\b(a|an|the)\b", " ", text)

    def white_space_fix(text):
        return " ".join(text.split())

    def remove_punc(text):
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    def lower(text):
        return text.lower()

    return white_space_fix(remove_articles(remove_punc(lower(s))))


def official_f1(prediction, ground_truth):
    prediction_tokens = official_normalize(prediction).split()
    ground_truth_tokens = official_normalize(ground_truth).split()
    common = Counter(prediction_tokens) & Counter(ground_truth_tokens)
    num_same = sum(common.values())
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(prediction_tokens)
    recall = 1.0 * num_same / len(ground_truth_tokens)
    return (2 * precision * recall) / (precision + recall)


def official(prediction, answers):
    em = max(official_normalize(prediction) == official_normalize(answer) for answer in answers)
    return float(em), max(official_f1(prediction, answer) for answer in answers)


TRICKY = [
    ("The Eiffel Tower!", ["eiffel tower"], 1.0, 1.0),
    ("a an the", ["the"], 1.0, 0.0),
    ("", [""], 1.0, 0.0),
    ("", ["something"], 0.0, 0.0),
    ("...", ["the"], 1.0, 0.0),
    ("state-of-the-art", ["state of the art"], 0.0, 0.0),
    ("the-rapist", ["therapist"], 1.0, 1.0),
    ("another theme", ["nor me"], 0.0, 0.0),
    ("to be or not to be", ["to to to be"], 0.0, 2 * (3 / 6) * (3 / 4) / (3 / 6 + 3 / 4)),
    ("new york new york", ["new york"], 0.0, 2 / 3),
    ("“quoted”", ["quoted"], 0.0, 0.0),
    ("Café", ["cafe"], 0.0, 0.0),
    ("Café", ["CAFÉ"], 1.0, 1.0),
    ("Straße", ["STRASSE"], 0.0, 0.0),
    ("one\xa0hundred", ["one hundred"], 1.0, 1.0),
    ("3,400", ["3400"], 1.0, 1.0),
    ("$5.00", ["500"], 1.0, 1.0),
    ("US", ["U.S."], 1.0, 1.0),
    ("in 1871", ["1902", "the year 1871", "1871"], 0.0, 2 / 3),
    ("  spaces\t and\nlines ", ["spaces and lines"], 1.0, 1.0),
]


@pytest.mark.parametrize(("prediction", "answers", "em", "f1"), TRICKY)
def test_tricky_cases(prediction, answers, em, f1):
    assert official(prediction, answers) == pytest.approx((em, f1))
    assert exact_match(prediction, answers) == em
    assert overlap(prediction, answers).f1 == pytest.approx(f1)


words = st.lists(
    st.sampled_from(
        ["the", "A", "an", "cat", "Cat", "c-at", "sat.", "sat", "on", "—", "é", "''", "42", "\n"]
    ),
    max_size=8,
).map(" ".join)
texts = st.one_of(words, st.text(max_size=20))


@given(texts, st.lists(texts, min_size=1, max_size=4))
def test_equals_the_official_script(prediction, answers):
    em, f1 = official(prediction, answers)
    assert exact_match(prediction, answers) == em
    assert overlap(prediction, answers).f1 == f1


@given(texts, st.lists(texts, min_size=1, max_size=4))
def test_f1_is_the_harmonic_mean_and_everything_is_bounded(prediction, answers):
    found = overlap(prediction, answers)
    assert all(0.0 <= value <= 1.0 for value in found)
    if found.f1:
        assert found.f1 == pytest.approx(2 / (1 / found.precision + 1 / found.recall))
    else:
        assert found == (0.0, 0.0, 0.0)


@given(texts, texts)
def test_exchanging_prediction_and_answer_exchanges_precision_and_recall(one, two):
    there, back = overlap(one, [two]), overlap(two, [one])
    assert (there.precision, there.recall) == (back.recall, back.precision)


@given(texts, st.lists(texts, min_size=1, max_size=3), texts)
def test_another_accepted_answer_never_lowers_a_score(prediction, answers, more):
    assert exact_match(prediction, [*answers, more]) >= exact_match(prediction, answers)
    assert overlap(prediction, [*answers, more]).f1 >= overlap(prediction, answers).f1


@given(texts)
def test_an_exact_match_has_full_overlap_unless_nothing_is_left_of_it(text):
    assert exact_match(text, [text]) == 1.0
    assert overlap(text, [text]).f1 == (1.0 if normalise(text) else 0.0)


def test_precision_and_recall_belong_to_the_answer_with_the_largest_f1():
    found = overlap("red barn", ["red", "old red barn by the lake", "red barn door"])
    assert found == pytest.approx((1.0, 2 / 3, 0.8))
