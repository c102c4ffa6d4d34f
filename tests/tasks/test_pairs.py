"""Pairs of one's own: templates, metrics, splits that leak nothing, and what is wrong with rows."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetInfo, SplitDict, SplitInfo
from datasets.exceptions import DatasetGenerationError
from huggingface_hub.errors import RepositoryNotFoundError
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from softprior.errors import UserError
from softprior.inputs.data_files import Malformed, Number
from softprior.inputs.entries import Entry
from softprior.inputs.row_files import rewritten
from softprior.inputs.row_files import rows as rows_of
from softprior.inputs.specs import TrialSpec
from softprior.studies.called import Called
from softprior.studies.parts import Parts, check
from softprior.tasks import TASKS
from softprior.tasks.base import SPLITS, Example, Task
from softprior.tasks.notes import data_notes
from softprior.tasks.own_source import AS_WRITTEN
from softprior.tasks.own_splits import LARGE, Understood, connected, divided, same
from softprior.tasks.pairs_metrics import judge, number
from softprior.tasks.prepare import look, prepare
from softprior.tasks.sources import REREAD, contents_fingerprint
from softprior.tasks.templates import bare, by_value, cell, columns, filled, flat, parts, spans
from tests.builders import trial
from tests.tasks.hub import use


def pairs(data: object, **params: Any) -> Task:
    given = {"data": data, "input": "{question}\nAnswer:", "answer": "reply", **params}
    return TASKS.component(Entry(name="pairs", params=given), "own.yaml", "tasks[0]")


def file(path: Path, rows: list[Any], encoding: str = "utf-8") -> str:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_text(text, encoding=encoding)
    return str(path)


def sums(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"question": f"{i} + {i}?", "reply": 2 * i, "topic": f"t{i % 7}"} for i in range(start, start + count)
    ]


def examples(task: Task) -> dict[str, list[Example]]:
    splits = task.splits()
    return {split: [Example.of(row) for row in getattr(splits, split)] for split in SPLITS}


def test_a_template_looks_columns_up_and_evaluates_nothing() -> None:
    template = "Q: {question}\n{{{a b.c}}}:"
    assert columns(template) == ("question", "a b.c")
    assert filled(template, {"question": "{x}", "a b.c": 1.5}) == "Q: {x}\n{1.5}:"
    assert bare(template) == "Q: \n{}:"
    text = "Q: Q: \n{\n{1.5}:"
    assert [text[a:b] for a, b in spans(template, text)] == ["Q: ", "\n{", "}:"]
    assert filled("{a}{b}", {"a": "", "b": " "}) == filled("{a}{b}", {"a": " ", "b": ""})
    for wrong in ("{a[0]}", "{a!r}", "{a:>3}", "{}", "{a", "a}"):
        with pytest.raises(ValueError, match="brace"):
            parts(wrong)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"input": "{question.__class__[0]}"}, r"tasks\[0\].pairs.input = .* only the name of a column"),
        ({"input": "{question!r}"}, "only the name of a column can be in braces"),
        ({"input": "{question"}, "has a brace too many"),
        ({"input": "{{question}}"}, "names no column"),
        ({"context": "page"}, r"context = 'page' is not a column of input \(question\)"),
        ({"metric": "accuracy"}, "is not a choice"),
        ({"metric": "f1", "other_metrics": ["f1"]}, "name a metric twice"),
        ({"metric": "regex"}, "the metric regex and a pattern go together"),
        ({"metric": "regex", "pattern": "("}, "is not a valid regular expression"),
        ({"metric": "regex", "pattern": ""}, "must not be empty"),
        ({"data": "rows"}, "is not a source of rows"),
        ({"data": "tests"}, "is a folder, but rows are read from files"),
        ({"data": "hub:owner"}, "is not a source of rows"),
        ({"data": {"validation": "a.csv"}}, r"the key 'tasks\[0\].pairs.data.train' is required"),
    ],
)
def test_a_wrong_parameter_is_one_sentence(params: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        pairs(**{"data": "rows.jsonl", **params})


def test_a_column_without_braces_is_the_same_task(tmp_path: Path) -> None:
    path = file(tmp_path / "a.jsonl", sums(9))
    assert pairs(path, answer="reply") == pairs(path, answer="{reply}")


NUMBERS = {
    "42": 42,
    " -0.50 ": Fraction(-1, 2),
    "1,000.": 1000,
    "\N{MINUS SIGN}3/4": Fraction(-3, 4),
    "1.5e3": 1500,
    ".5": Fraction(1, 2),
    "5 apples": None,
    "1,00": None,
    "$5": None,
    "50%": None,
    "1/0": None,
    "-": None,
    "": None,
    "1e9999": None,
    "3" * 5000: None,
    "٣": None,
}


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_read_exactly_or_not_at_all(text: str) -> None:
    assert number(text) == NUMBERS[text]


@given(st.fractions(max_denominator=10**6))
def test_a_fraction_reads_back(value: Fraction) -> None:
    assert number(str(value)) == value


@pytest.mark.parametrize(
    ("metric", "said", "accepted", "score"),
    [
        ("exact_match", " two  words", ("two words",), 1),
        ("exact_match", "Two words", ("two words",), 0),
        ("exact_match", "4", ("-4",), 0),
        ("contains", "It is New  York, I think", ("new york",), 1),
        ("contains", "Newton", ("new",), 0),
        ("contains", "-4.5", ("4",), 0),
        ("contains", "it is -4", ("4",), 0),
        ("contains", "1,000", ("1",), 0),
        ("contains", "2,4", ("4",), 0),
        ("contains", "it is 4, or 5.", ("4",), 1),
        ("contains", "it is -4.", ("-4",), 1),
        ("contains", "a c++ program", ("C++",), 1),
        ("number", "1,000.0", ("7", "1000"), 1),
        ("number", "-4", ("4",), 0),
        ("number", "about 4", ("4",), 0),
        ("regex", "so 3, no: #### 42", ("#### 42",), 1),
        ("regex", "42", ("#### 42",), 0),
        ("f1", "the red house", ("red barn",), 0.5),
    ],
)
def test_metrics_by_hand(metric: Any, said: str, accepted: tuple[str, ...], score: float) -> None:
    assert judge(metric, r"#### (\d+)").score(said, accepted)[metric] == pytest.approx(score)


@pytest.mark.parametrize("pattern", [r"\d*", r"(\d*)", r"x|(\d*)", r"\s*(-?\d*)"])
def test_a_match_of_nothing_is_none(pattern: str) -> None:
    """Each of these patterns matches the empty text at the end of every answer."""
    regex = judge("regex", pattern)
    scores = [regex.score(said, ("it is 42",))["regex"] for said in ("42", "42 x", "7", "none", "")]
    assert scores == [1, 1, 0, 0, 0]
    assert regex.usable("none at all") == "the pattern finds nothing in"


def test_splits_share_no_group_no_context_and_no_input(tmp_path: Path) -> None:
    """Rows that share anything through others are one set: here, a copied question joins two topics."""
    rows = sums(60)
    rows.append({"question": "5  + 5?", "reply": 10, "topic": "t6"})  # another topic's question, respaced
    found = examples(pairs(file(tmp_path / "a.jsonl", rows), group="topic"))
    split_of = {one.group: split for split, own in found.items() for one in own}
    assert sum(map(len, found.values())) == 61
    assert split_of["t5"] == split_of["t6"]
    places = [{one.group for one in own} for own in found.values()]
    assert sum(map(len, places)) == len(set().union(*places)) == 7


def brute_force(rows: list[Understood]) -> set[frozenset[int]]:
    sets = [{i} for i in range(len(rows))]
    for _ in rows:
        for one in sets:
            for other in sets:
                if any(set(rows[i].all_keys()) & set(rows[j].all_keys()) for i in one for j in other):
                    one |= other
    return {frozenset(one) for one in sets}


KEYED = st.builds(
    lambda g, c, i: Understood(f"i{i}", {}, ("a",), (), f"c{c}", f"g{g}", None),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 5),
)


@given(st.lists(KEYED, min_size=1, max_size=12))
def test_connected_rows_are_those_of_a_literal_search(rows: list[Understood]) -> None:
    names = connected(rows)
    found = {frozenset(i for i, name in enumerate(names) if name == one) for one in names}
    assert found == brute_force(rows)
    assert connected(rows[::-1]) == names[::-1]


def test_added_rows_move_none_of_many(tmp_path: Path) -> None:
    def places(count: int) -> dict[str, str]:
        rows = [Understood(f"i{i}", {}, ("a",), (), None, None, None) for i in range(count)]
        found = divided({"train": rows}, Counter())
        return {row.input: split for split in SPLITS for row in found[split]}

    few = places(LARGE)
    assert places(LARGE + 50).items() >= few.items()


def test_groups_are_compared_as_inputs_are_and_name_their_sets() -> None:
    rows = [
        Understood(f"i{i}", {}, ("a",), (), f"c{i}", group, None)
        for i, group in enumerate(("Food", " food", "zoo"))
    ]
    assert connected(rows) == ["group food", "group food", "group zoo"]


def test_files_for_splits_keep_their_rows_apart(tmp_path: Path) -> None:
    """What stands in a later split is left out of an earlier one, and said."""
    train = file(tmp_path / "train.jsonl", sums(12))
    test = file(tmp_path / "test.jsonl", [*sums(6, 100), {**sums(1, 3)[0], "question": "3  + 3?"}])
    task = pairs({"train": train, "test": test})
    found = examples(task)
    assert [len(found[split]) for split in SPLITS] == [11, 4, 3]
    assert "3 + 3?\nAnswer:" not in {one.input for one in found["train"]}
    assert task.look().notes["shared_input"] == 1
    assert task.told(task.look().notes) == [
        "1 row left out, whose input is also in a split that is evaluated on"
    ]
    whole = pairs({"train": train, "validation": file(tmp_path / "b.jsonl", sums(5, 200)), "test": test})
    assert [len(examples(whole)[split]) for split in SPLITS] == [11, 5, 7]
    assert whole.fingerprint() != pairs({"train": test, "validation": train, "test": test}).fingerprint()
    with pytest.raises(UserError, match="nothing is left for train"):
        pairs({"train": train, "validation": train, "test": train}).check_data()


def test_what_is_wrong_with_rows_is_counted_with_place_and_reason(tmp_path: Path) -> None:
    rows: list[Any] = sums(20)
    odd = [
        {"question": "Why?", "reply": " "},
        {"question": "Why?", "reply": None},
        {"question": "Why?", "reply": "no number"},
        {"question": "  ", "reply": 1},
        {"question": "Why?"},
        {"question": ["Why?"], "reply": 1},
        {"question": "Why?", "reply": {"text": 1}},
        '{"question": "Why?", "reply": Infinity}',
        '{"question": "Why?", "reply": -1e999}',
        '{"question": "Why?", "reply": NaN}',
        sums(1)[0],
        {**sums(1)[0], "reply": 7},
        '{"question": ',
        '{"question": "\\ud800", "reply": 1}',
        '["a"]',
        '{"question\\ud800": "Why?", "reply": 1}',
        {"question": "Why?", "reply": {"in\tside": "\ud800", "list": [[0]]}, "": 0},
        '{"question": "Why?", "reply": [{"\\ud800": 1}]}',
    ]
    path = tmp_path / "a.jsonl"
    file(path, [*rows, *odd])
    path.write_bytes(path.read_bytes() + b'{"question": "caf\xe9", "reply": 1}\n')
    task = pairs(str(path), metric="number")
    assert [row.reason for row in task.splits().quarantined] == [
        "the answer is empty",
        "'reply' is missing (null)",
        "there is no number in the answer 'no number'",
        "'question' is empty",
        "no 'reply'; it has question",
        "'question' is not a text or a number but a list",
        "no 'reply' (did you mean 'reply.text'?); it has question, reply.text",
        "'reply' is not a number (inf)",
        "'reply' is not a number (-inf)",
        "'reply' is not a number (nan)",
        "its input is that of line 1",
        "its input is that of line 1, with another answer",
        "not valid JSON (Expecting value, character 14)",
        "'question' is half a character ('\\ud800', a lone surrogate)",
        "not an object but ['a']",
        "no 'question' (did you mean 'question\\ud800'?); it has question\\ud800, reply",
        "no 'reply' (did you mean 'reply.list'?); it has question, reply.in side, reply.list,",
        "'reply' is not a text or a number but an object",
        "not UTF-8 (invalid continuation byte at its byte 17)",
    ]
    assert {row.index for row in task.splits().quarantined} == {f"line {i}" for i in range(21, 40)}
    assert sum(map(len, examples(task).values())) == 20
    said = data_notes("own", task, look(task, "any"))
    assert said[0].startswith(
        "own: 19 malformed rows left out, the first in a.jsonl, line 21: the answer is empty"
    )
    assert said[1:] == [
        "own has 16 train examples (limit 2,000), 2 validation examples (limit 256), "
        "2 test examples (limit 256)"
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"ask": "a", "reply": "b"}] * 3,
            r"a.jsonl contains no usable row \(3 .* no 'question'; it has ask, reply.* names of its columns",
        ),
        (
            [{"questoin": "a", "Reply": "b"}],
            r"no 'question' \(did you mean 'questoin'\?\); it has questoin, R",
        ),
        (
            [{"question": "a", " reply": "b"}],
            r"no 'reply' \(did you mean ' reply'\?\); it has question, ' reply'",
        ),
        ([{"question": "a", "REPLY": "b"}], r"no 'reply' \(did you mean 'REPLY'\?\); it has question, REPLY"),
        ([""], "contains no usable row; add rows to it"),
        (
            ['[{"question": 1}]'],
            r"not an object but .*\); write one JSON object per line, or rename it to what",
        ),
        (["question,reply", "1,2"], r"not valid JSON .*\); write one JSON object per line, or rename it"),
        (
            {"a.tsv": "question\treply\na\tb\tc\n"},
            "3 fields, .* 2 columns.*; write spaces for tabs and line breaks inside of fields",
        ),
        ({"a.csv": "question,reply\na,b,c\n"}, "3 fields, .* 2 columns.*; put fields with commas in double"),
        ({"a.json": '[["a", "b"]]'}, "not an object but .*; write each row as an object, such as"),
        (
            {"a.json": "question,reply"},
            "not valid JSON .*; write a list of objects or one object per line, or",
        ),
        ({"a.json": """["x no 'y' not UTF-8 ("]"""}, "not an object but .*; write each row as an object"),
        (sums(2), "needs at least 3 that share no input, but .*a.jsonl has 2; add rows"),
        ([{**row, "topic": "one"} for row in sums(9)], "that share no topic, but .* has 1"),
    ],
)
def test_data_that_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path, rows: list[Any] | dict[str, str], said: str
) -> None:
    """Also as the only file of a mapping."""
    contents = rows if isinstance(rows, dict) else {"a.jsonl": rows}
    ((name, content),) = contents.items()
    path = file(tmp_path / name, content if isinstance(content, list) else [content])
    for data in (path, {"train": path}):
        with pytest.raises(UserError, match=said):
            pairs(data, **({"group": "topic"} if "topic" in said else {})).check_data()


@pytest.mark.parametrize("listed", [False, True])
def test_a_member_that_is_there_twice_costs_the_row_only_where_it_is_read(
    tmp_path: Path, listed: bool
) -> None:
    texts = [json.dumps(row) for row in sums(9)]
    texts += [
        '{"question": "1?", "reply": "1", "reply": "2"}',
        '{"question": "2?", "reply": "2", "x": 1, "x": 2}',
    ]
    path = tmp_path / ("a.json" if listed else "a.jsonl")
    path.write_text(f"[{', '.join(texts)}]" if listed else "\n".join(texts))
    found = pairs(str(path)).splits()
    (lost,) = found.quarantined
    assert lost.reason == "'reply' is there twice"
    assert sum(len(getattr(found, split)) for split in SPLITS) == 10
    assert rewritten(path), "of such a row the last one was read"


def test_encodings_and_names_that_cannot_be_used_are_said(tmp_path: Path) -> None:
    """Latin-1 within UTF-8, a name that is there twice, a text without braces, names with a colon."""
    path = tmp_path / "a.csv"
    text = "".join(f"{row['question']},{row['reply']}\r\n" for row in sums(9)).encode()
    path.write_bytes(b"question,reply\r\n" + text + b"caf\xe9,1\r\n" + "caf\u00e9,2\r\n".encode())
    found = pairs(str(path)).splits()
    (lost,) = found.quarantined
    assert (lost.index, lost.reason) == (
        "line 11",
        "'question' is not UTF-8 (unexpected end of data at its byte 3)",
    )
    assert sum(len(getattr(found, split)) for split in SPLITS) == 10
    assert flat({"a": {"b": 1}, "c": 2}) == {"a.b": 1, "c": 2}
    both = flat({"a": {"b": 1}, "a.b": 2, "c": 3})
    assert isinstance(both, dict)
    assert both["c"] == 3, "a row is only lost where the name is read"
    assert cell(both, "a.b") == Malformed("'a.b' is two columns, one of them in an object; rename one")
    said = r"no 'reply to it' \(did you mean 'reply'\?\); .* in braces where a text is around"
    with pytest.raises(UserError, match=said):
        pairs(str(path), answer="reply to it").check_data()
    for name in ("a:b", "a!b", "a[b", "a[b]"):
        with pytest.raises(UserError, match=r"pairs.answer = .* column .* rename the column"):
            pairs(str(path), answer=name)
    with pytest.raises(UserError, match=r"pairs.answer = .* has a brace too many"):
        pairs(str(path), answer="reply {")


def test_numbers_keep_their_form_and_their_rows_a_mark(tmp_path: Path) -> None:
    lines = [f'{{"question": "{i}?", "reply": {i}.50}}' for i in range(9)]
    task = pairs(file(tmp_path / "a.jsonl", lines))
    assert {one.answers for own in examples(task).values() for one in own} == {(f"{i}.50",) for i in range(9)}
    assert task.fingerprint().endswith(AS_WRITTEN)
    plain = pairs(file(tmp_path / "b.jsonl", [line.replace(".50", ".5") for line in lines]))
    assert not plain.fingerprint().endswith(AS_WRITTEN)
    for more in ('"x": 1e999', '"a": {"b": 1}, "a.b": 2'):
        odd = [line.replace(".50", f".5, {more}") for line in lines]
        task = pairs(file(tmp_path / "c.jsonl", odd))
        assert task.fingerprint().endswith(AS_WRITTEN)
        assert task.look().quarantined == 0


def test_single_precision_is_read_as_it_is_wherever_it_is(tmp_path: Path, monkeypatch) -> None:
    """In lists, in structures and in rows of the hub."""
    whole: list[Any] = [
        {"q": f"{i}?", "reply": [i + 0.1], "in": {"side": i + 0.1, "most": [{"x": 0.1}]}} for i in range(9)
    ]
    short = pa.float32()
    inside = pa.struct([("side", short), ("most", pa.list_(pa.struct([("x", pa.float16())])))])
    schema = pa.schema([("q", pa.string()), ("reply", pa.list_(short)), ("in", inside)])
    table = pa.Table.from_pylist(whole, schema)
    parquet.write_table(table, tmp_path / "a.parquet")
    local = pairs(str(tmp_path / "a.parquet"), input="{q} {in.side}")
    assert local.fingerprint().endswith(AS_WRITTEN)
    (first, *_), *_ = (item.value["in"]["most"] for item in rows_of(tmp_path / "a.parquet"))
    assert str(first["x"]) == "0.1"
    use(monkeypatch, lambda _: Dataset(table))
    for task in (local, pairs(f"hub:o/n@{'a' * 40}", input="{q} {in.side}")):
        found = [one for own in examples(task).values() for one in own]
        assert {one.answers for one in found} == {(f"{i}.1",) for i in range(9)}
        assert {one.input for one in found} == {f"{i}? {i}.1" for i in range(9)}


def test_an_input_that_ends_in_white_space_is_told(tmp_path: Path) -> None:
    lines = [f'{{"q": "how many {i}", "reply": "{i}"}}' for i in range(12)]
    task = pairs(file(tmp_path / "a.jsonl", lines), input="{q}\nAnswer: ", answer="reply")
    inputs = {one.input for own in examples(task).values() for one in own}
    assert inputs == {f"how many {i}\nAnswer: " for i in range(12)}
    (line,) = task.told({})
    assert "Answer: '), and a space follows" in line
    assert task.model_copy(update={"input": "{q}\nAnswer:"}).told({}) == []


def test_an_integer_and_a_decimal_of_its_value_are_one(tmp_path: Path) -> None:
    """As pandas writes integers with gaps; what is beyond a float's precision stays apart."""
    forms = ("{}", "{}.0", "{}e0")
    lines = [f'{{"q": "{i}?", "n": {forms[i % 3].format(i // 3)}, "reply": "a"}}' for i in range(30)]
    task = pairs(file(tmp_path / "a.jsonl", lines), input="q", group="n")
    found = examples(task)
    assert Counter(one.group for own in found.values() for one in own) == {str(i): 3 for i in range(10)}
    where = {(one.group, split) for split, own in found.items() for one in own}
    assert len(where) == 10, "a group is in one split"
    assert task.fingerprint().endswith("-2-4")
    asked = pairs(file(tmp_path / "b.jsonl", lines), input="What is {n} and {n}?")
    found = examples(asked)
    where = {(float(one.input.split()[2]), split) for split, own in found.items() for one in own}
    assert len(where) == 10
    assert asked.fingerprint().endswith("-4")

    integers = [f'{{"q": "{i}?", "n": {i}, "x": 1.0, "reply": "a"}}' for i in range(9)]
    plain = file(tmp_path / "c.jsonl", integers)
    assert pairs(plain, input="q", group="n").fingerprint() == contents_fingerprint([Path(plain)])
    large = [f'{{"q": "{i}?", "n": 12345678901234567{i:02}.0, "reply": "a"}}' for i in range(30)]
    found = examples(pairs(file(tmp_path / "d.jsonl", large), input="q", group="n"))
    assert len({one.group for own in found.values() for one in own}) == 30
    assert by_value({"a": True, "b": Number("1e9999"), "c": Number("-0.0"), "d": 0.5}) == {
        "a": True,
        "b": Decimal("1e9999"),
        "c": 0,
        "d": Decimal("0.5"),
    }
    assert by_value({"a": True})["a"] is True


def test_a_number_in_two_forms_is_one_value(tmp_path: Path) -> None:
    """As a group, as a context and as an input; what is shown is as it is written."""
    lines = [
        f'{{"q": {i}.5{"0" * (i % 2)}, "page": {i // 2}.5{"0" * (i % 2)}, "reply": "a"}}' for i in range(12)
    ]
    task = pairs(
        file(tmp_path / "a.jsonl", lines), input="{q} {page}", answer="reply", context="page", group="page"
    )
    found = examples(task)
    shown = {one.input for own in found.values() for one in own}
    assert shown == {f"{i}.5{'0' * (i % 2)} {i // 2}.5{'0' * (i % 2)}" for i in range(12)}
    assert Counter(one.group for own in found.values() for one in own) == {f"{i}.5": 2 for i in range(6)}
    assert task.look().notes["groups_respelled"] == 6
    asked = [f'{{"q": {i // 2}.5{"0" * (i % 2)}, "reply": "a"}}' for i in range(12)]
    found = examples(pairs(file(tmp_path / "b.jsonl", asked), input="q"))
    where = {(float(one.input), split) for split, own in found.items() for one in own}
    assert len(where) == 6
    assert sum(map(len, found.values())) == 12


def test_one_group_has_one_spelling(tmp_path: Path) -> None:
    """Whatever their case and spacing they are one in splits, and one cluster in intervals."""
    rows = [{**row, "topic": ("Food", " food", "FOOD")[i % 3]} for i, row in enumerate(sums(12))]
    rows += [{**row, "topic": f"t{i % 4}"} for i, row in enumerate(sums(12, 50))]
    task = pairs(file(tmp_path / "a.jsonl", rows), group="topic")
    found = [one for own in examples(task).values() for one in own]
    assert Counter(one.group for one in found) == {"FOOD": 12, "t0": 3, "t1": 3, "t2": 3, "t3": 3}
    assert {task.document(one) for one in found} == {one.group for one in found}
    assert task.fingerprint().endswith(REREAD), "splits were others"
    assert task.told(task.look().notes) == [
        "8 rows whose topic is another's but for case, spacing or form, taken for one"
    ]
    plain = pairs(file(tmp_path / "b.jsonl", rows[12:]), group="topic")
    assert not plain.fingerprint().endswith(REREAD)
    assert pairs(f"hub:o/n@{'a' * 40}", group="topic").fingerprint().endswith(REREAD)


def test_a_missing_file_or_data_set_is_refused_in_one_sentence(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(UserError, match=f"none.jsonl does not exist in {tmp_path}; that folder is empty"):
        pairs(str(tmp_path / "none.jsonl")).check_data()
    with pytest.raises(UserError, match=f"does not exist, and neither does its folder {tmp_path}/none"):
        pairs(str(tmp_path / "none" / "a.jsonl")).check_data()
    with pytest.raises(UserError, match=r"is a folder, but rows are read from files; name one"):
        pairs(str(tmp_path)).fingerprint()
    with pytest.raises(UserError, match=r"mem cannot be read .*; check the file and its disk"):
        contents_fingerprint([Path("/proc/self/mem")])
    monkeypatch.setattr(
        "softprior.assets.hub.HfApi.dataset_info", lambda *_, **__: (_ for _ in ()).throw(OSError())
    )
    with pytest.raises(UserError, match="could not reach the hub to resolve 'main' of owner/name"):
        pairs("hub:owner/name/config#test").fingerprint()
    response = httpx2.Response(404, request=httpx2.Request("GET", "https://hub.invalid"))
    absent = RepositoryNotFoundError("404 Not Found", response=response)
    monkeypatch.setattr(
        "softprior.assets.hub.HfApi.dataset_info", lambda *_, **__: (_ for _ in ()).throw(absent)
    )
    with pytest.raises(UserError, match="the hub has no data set 'owner/name' with the revision 'v2'; check"):
        pairs("hub:owner/name@v2").fingerprint()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("Dataset scripts are no longer supported\nsee"), "scripts are no longer supported"),
        (DatasetGenerationError("An error occurred"), "An error occurred"),
        (ConnectionError(), "ConnectionError"),
    ],
)
def test_what_the_hub_answers_instead_is_one_sentence(monkeypatch, error: Exception, said: str) -> None:
    def loaded(_: str) -> list[object]:
        raise error

    use(monkeypatch, loaded)
    with pytest.raises(UserError, match=rf"could not read the data 'o/n@a+' .*\(.*{said}\); check the name"):
        pairs(f"hub:o/n@{'a' * 40}").splits()


def test_a_network_that_fails_once_is_no_fault_of_the_data(monkeypatch, tokenizer) -> None:
    """Also where only the test split is needed, and the other fails."""
    fails = [ConnectionError()]

    def loaded(split: str) -> list[dict[str, Any]]:
        if split == "train" and fails:
            raise fails.pop()
        return sums(9, start=9 * (split == "train"))

    use(monkeypatch, loaded)
    task = pairs({"train": f"hub:o/once@{'a' * 40}", "test": f"hub:o/once@{'a' * 40}"})
    with pytest.raises(UserError, match=r"could not read the data .*\(ConnectionError\)"):
        prepare(task, tokenizer, "t", ("test",))
    assert prepare(task, tokenizer, "t", ("test",)).faults == {}
    assert len(prepare(task, tokenizer, "t").train) == 9


def test_rows_of_the_hub_are_read_by_configuration_commit_and_split(monkeypatch) -> None:
    """Where the hub is not reachable, only what is asked of it can be shown."""
    hub = use(monkeypatch, lambda _: sums(30))
    hub.columns = ("question", "reply")
    task = pairs({"train": f"hub:o/n/sst2@{'a' * 40}", "test": f"hub:o/n@{'b' * 40}#dev"})
    assert task.look().quarantined == 0
    assert task.splits().faults["train"].startswith("nothing is left for train")
    assert hub.asked == [("o/n", "sst2", "a" * 40, "train", False), ("o/n", None, "b" * 40, "dev", False)]
    assert sum(map(len, examples(pairs(f"hub:o/n@{'a' * 40}")).values())) == 30
    hub.commit = "c" * 40  # as `datasets` does where it has that one and no network
    with pytest.raises(UserError, match=r"o/n@a+' .* its cache here has the commit c+\)"):
        pairs(f"hub:o/n@{'a' * 40}").splits()


def test_columns_of_the_hub_are_checked_before_anything_is_fetched(monkeypatch) -> None:
    hub = use(monkeypatch, lambda _: [{"question": {"stem": "?"}, "reply": None}])
    named = f"hub:columns/named@{'a' * 40}"
    hub.columns, hub.splits = ("question", "reply"), ("train", "dev")
    pairs(named, input="{question.stem}").check_data()
    assert hub.asked == []
    with pytest.raises(UserError, match=r"named@a+ has no column 'topics'; known: question, reply"):
        pairs(named, group="topics").check_data()
    with pytest.raises(UserError, match=r"no split 'test', only train, dev\)"):
        pairs({"train": named, "test": named}).check_data()
    hub.columns = hub.splits = ()
    first = pairs(f"hub:columns/of_first_row@{'a' * 40}", answer="{replies}")
    first.check_data()
    assert first.told(first.look().notes) == [
        "the first row of 1 data set of the hub has no column 'replies', and rows without it are left out; "
        "check its name"
    ], "other rows may have it"
    assert hub.asked == [("columns/of_first_row", None, "a" * 40, "train", True)]
    hub.rows = lambda _: []
    with pytest.raises(UserError, match=r"the split 'train' of the data 'columns/of_none@a+' has no rows"):
        pairs(f"hub:columns/of_none@{'a' * 40}").check_data()
    asked: list[str] = []
    monkeypatch.setattr("softprior.tasks.hub_data.asked_dataset_commit", lambda *it: asked.append(it))
    source = f"hub:columns/unreachable@{'a' * 40}"
    pairs({"train": source, "validation": source, "test": source}).check_data()
    assert asked == [("columns/unreachable", "a" * 40)], "each time it takes long"
    unreachable = pairs(source, group="topics")
    unreachable.check_data()
    assert unreachable.told(unreachable.look().notes) == [
        "columns of 1 data set of the hub are checked only when the first trial starts, as the hub cannot be "
        "reached now"
    ]
    with pytest.raises(UserError, match="bigbench-disambiguation has no column 'reply'"):
        pairs("bigbench-disambiguation").check_data()


def test_parts_of_splits_of_the_hub_are_checked_by_name(monkeypatch) -> None:
    hub = use(monkeypatch, lambda _: sums(30))
    hub.splits = ("train", "validation", "dev-2.1")
    parts = ("train[:1000]", "train[10%:]+validation", "train + dev-2.1[:50%](pct1_dropremainder)", "all")
    for part in parts:
        pairs(f"hub:parts/streamed@{'a' * 40}#{part}").check_data()
    assert [split for *_, split, _ in hub.asked] == ["train"] * 4
    hub.columns = ("question", "reply")
    for part in parts:
        pairs(f"hub:parts/named@{'a' * 40}#{part}").check_data()
    with pytest.raises(UserError, match="no split 'test', only train"):
        pairs(f"hub:parts/named@{'a' * 40}#train[:5]+test[:5]").check_data()


def test_without_a_network_by_choice_the_cache_has_the_commit_or_it_is_refused(
    monkeypatch, tmp_path: Path
) -> None:
    """`datasets` opens the commit that its cache got last, whichever is named."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("softprior.tasks.hub_data.is_offline_mode", lambda: True)
    rows = Dataset.from_list(sums(30))
    for commit in ("a", "b"):
        folder = tmp_path / "o___n" / "default" / "0.0.0" / (commit * 40)
        rows.save_to_disk(str(folder))
        (folder / "data-00000-of-00001.arrow").rename(folder / "n-train.arrow")
        info = DatasetInfo(
            features=rows.features,
            config_name="default",
            dataset_name="n",
            splits=SplitDict(train=SplitInfo("train", num_examples=30), dataset_name="n"),
        )
        info.write_to_directory(str(folder))
    for commit in ("a", "b"):
        task = pairs(f"hub:o/n@{commit * 40}")
        task.check_data()
        assert task.look().notes == {}
        assert sum(map(len, examples(task).values())) == 30
    for source in (f"hub:o/n@{'c' * 40}", f"hub:o/none@{'a' * 40}"):
        with pytest.raises(UserError, match=r"is not in the cache .* at this commit; unset HF_HUB_OFFLINE"):
            pairs(source).check_data()


def test_what_is_prepared_is_not_asked_again(monkeypatch, tokenizer) -> None:
    use(monkeypatch, lambda _: sums(30))
    params = {"data": f"hub:asked/once@{'a' * 40}", "input": "{question}", "answer": "reply"}
    task = TASKS.component(Entry(name="pairs", params=params))
    parts = Parts([], [], [task], [], [], 0, Called({}))
    prepare(task, tokenizer, "t")

    def asked(*_: object) -> None:
        raise UserError("asked")

    monkeypatch.setattr("softprior.tasks.own_source.hub_columns", asked)
    check(parts, None, "t", "own.yaml")
    with pytest.raises(UserError, match=r"own.yaml: tasks\[0\]: asked"):
        check(parts, None, "other", "own.yaml")


def test_the_control_has_another_examples_context(tmp_path: Path) -> None:
    rows = [
        {"page": f"Page {i} says {'so ' * (i % 3)}{i}.", "question": "What?", "reply": i} for i in range(20)
    ]
    task = pairs(file(tmp_path / "a.jsonl", rows), input="{page}\n{question}", context="page")
    for own in examples(task).values():
        assert all(one.control != one.input for one in own)
        assert sorted(one.control or "" for one in own) == sorted(one.input for one in own)


def test_accepted_answers_and_answers_of_several_lines(tmp_path: Path, tokenizer) -> None:
    """In one line they are trained with single spaces and counted; in several, only the end stops them."""
    rows: list[Any] = [
        {"question": f"Poem {i}?", "reply": [f"line {i}\nand more", "else"]} for i in range(12)
    ]
    path = file(tmp_path / "a.jsonl", rows)
    one, several = pairs(path, max_new_tokens=6), pairs(path, lines="several")
    assert (one.stop, several.stop) == (("\n",), ())
    example = examples(one)["train"][0]
    assert example.answers[1] == "else"
    assert one.trained_answer(example) == " ".join(example.answers[0].split())
    assert several.trained_answer(example) == example.answers[0]
    notes = prepare(one, tokenizer, "t").notes
    assert notes["answers_respaced"] == 12
    assert notes["answers_too_long"] == 12
    told = data_notes("own", one, look(one, "t"))
    assert any("12 answers longer than max_new_tokens = 6" in line for line in told)
    assert any("12 answers over several lines" in line for line in told)
    assert not {"answers_respaced", "answers_too_long"} & set(prepare(several, tokenizer, "t").notes)


def test_what_is_left_out_of_tokenised_examples_is_said(tmp_path: Path, tokenizer) -> None:
    """In the plan as soon as it is known; `tests/studies/test_describe.py` has the last lines."""
    rows: list[Any] = sums(40)
    rows[3]["question"] = rows[7]["question"] = "a very long question " * 9
    rows[7]["question"] += "?"
    rows[5]["reply"] = "see </s> here"
    few = {"train_examples": 30, "validation_examples": 2, "test_examples": 2}
    task = pairs(file(tmp_path / "a.jsonl", rows), length=40, **few)
    assert data_notes("own", task, look(task, "t")) == []
    prepared = prepare(task, tokenizer, "t")
    assert prepared.dropped == 3
    (left,) = {one.id for split in examples(task).values() for one in split if "see" in one.answers[0]}
    assert data_notes("own", task, look(task, "t"))[:2] == [
        "own: 2 examples left out, longer than length = 40",
        "own: 1 example left out, whose answer cannot follow its input in this tokenizer's tokens, the first "
        f"{left} ('5 + 5?\\nAnswer:'): the answer 'see </s> here' contains the text of the "
        "end-of-sequence token, where it would end; remove the row",
    ]
    paged = pairs("rows.jsonl", input="{page}{question}", context="page")
    assert paged.misfit() == "longer than length = 384 (with their own context or a swapped one)"


def test_contents_count_in_the_id_and_the_place_of_a_file_does_not(tmp_path: Path) -> None:
    def id_of(folder: str, rows: list[Any]) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        task = pairs(file(tmp_path / folder / "a.jsonl", rows))
        spec = trial(task=task).model_dump(mode="json") | {"paths": TASKS.paths(task, "task")}
        return TrialSpec.model_validate(spec).id

    assert id_of("one", sums(20)) == id_of("two", sums(20)) != id_of("two", sums(21))


def test_same_is_blind_to_case_and_spacing() -> None:
    assert same(" A\tb\nC ") == same("a B c")
