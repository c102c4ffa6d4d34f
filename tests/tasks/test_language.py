"""Language: layouts of documents, quarantine, chunks."""

import gzip
import json
import re

import pytest
from datasets import load_dataset

from softprior.activations.rows import rows as activation_rows
from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.inputs.validation import validate
from softprior.tasks import Language
from softprior.tasks.base import SPLITS, Example
from softprior.tasks.prepare import prepare
from softprior.tasks.sources import contents_fingerprint, left_out
from tests.tasks.hub import use


def texts(task):
    splits = task.splits()
    return {text for split in SPLITS for text in getattr(splits, split)["input"]}


def sentence(i):
    return f"Document number {i} says that it is number {i}, and says so at some length."


def test_a_text_file_has_documents_between_blank_lines(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("\n\n".join(map(sentence, range(5))) + "\n\n\n\n")
    assert texts(Language(data=str(path))) == set(map(sentence, range(5)))


def test_a_folder_has_a_document_in_each_text_file(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(4):
        (folder / f"{i}.txt").write_text(f"{sentence(i)}\n\nSecond paragraph.")
    task = Language(data=str(folder))
    assert texts(task) == {f"{sentence(i)}\n\nSecond paragraph." for i in range(4)}
    before = task.fingerprint()
    (folder / "0.txt").write_text("changed")
    assert task.fingerprint() != before


@pytest.mark.parametrize("name", ["c4.jsonl", "c4.json", "c4.json.gz", "c4.jsonl.gz"])
def test_json_lines_in_the_layout_of_c4(tmp_path, name):
    lines = "".join(json.dumps({"text": sentence(i), "timestamp": "", "url": ""}) + "\n" for i in range(6))
    path = tmp_path / name
    path.write_bytes(gzip.compress(lines.encode()) if name.endswith(".gz") else lines.encode())
    assert texts(Language(data=str(path))) == set(map(sentence, range(6)))


def test_malformed_lines_are_set_aside_and_named(tmp_path, tokenizer):
    path = tmp_path / "mine.jsonl"
    good = [json.dumps({"text": sentence(i)}) for i in range(4)]
    bad = ['{"text": ', '{"body": "x"}', '{"text": 3}', '["text"]', '{"text": " "}']
    path.write_text("\n".join([*good[:2], *bad, "", *good[2:]]))
    prepared = prepare(Language(data=str(path), train_examples=2), tokenizer, "t")
    assert prepared.quarantined == 5
    assert [row.index for row in prepared.quarantine] == [f"line {i}" for i in range(3, 8)]
    assert prepared.quarantine[0].file == str(path)
    assert "not valid JSON" in prepared.quarantine[0].reason
    assert [row.reason for row in prepared.quarantine[1:]] == [
        "no 'text'; it has body",
        "not a text: 3",
        "not an object but ['text']",
        "'text' is empty",
    ]


ODD = {
    "not UTF-8": b'{"text": "caf\xe9 au lait"}',
    "half a character": rb'{"text": "Half \ud83d of it."}',
    "half a character of it twice": rb'{"text": "As bytes \udcc3\udca9 of it."}',
    "'text' is there twice": b'{"text": "This one.", "text": "That one."}',
    "more than 4,300 digits": b'{"text": "Long.", "n": ' + b"9" * 5000 + b"}",
    "nested deeper than 500 levels": b'{"text": "Deep.", "n": ' + b"[" * 501 + b"]" * 501 + b"}",
    "nested deeper than 500 levels again": b'{"text": "Open.", "n": ' + b"[" * 200_000 + b"}",
}


def test_one_odd_row_costs_that_row_alone(tmp_path):
    path = tmp_path / "odd.jsonl"
    good = [json.dumps({"text": sentence(i), "brackets": "[{" * 400}).encode() for i in range(6)]
    path.write_bytes(b"\n".join([*good[:3], *ODD.values(), *good[3:]]))
    splits = Language(data=str(path)).splits()
    assert {text for split in SPLITS for text in getattr(splits, split)["input"]} == set(
        map(sentence, range(6))
    )
    assert [row.index for row in splits.quarantined] == [f"line {i}" for i in range(4, 11)]
    for row, reason in zip(splits.quarantined, ODD, strict=True):
        assert reason.removesuffix(" of it twice").removesuffix(" again") in row.reason


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_archive_is_read_up_to_the_damage(tmp_path, damage):
    path = tmp_path / "damaged.json.gz"
    rows = [f"Row {i * 7919 % 10007} of {i * 104729 % 99991} is this one." for i in range(2000)]
    whole = gzip.compress("".join(json.dumps({"text": row}) + "\n" for row in rows).encode())
    half = len(whole) // 2
    path.write_bytes(whole[:half] + (b"" if damage == "cut" else bytes(len(whole) - half)))
    splits = Language(data=str(path)).splits()
    found = {text for split in SPLITS for text in getattr(splits, split)["input"]}
    assert found == set(rows[: len(found)])
    assert 500 < len(found) < 1500
    # What is changed is unpacked as garbage for a while before it cannot be unpacked.
    *garbage, last = splits.quarantined
    assert bool(garbage) == (damage == "changed")
    assert last.index == f"line {len(found) + 1}" or garbage
    assert re.fullmatch(r"the file is damaged here \(.+\), and the rest of it is lost", last.reason)
    *rows, lost = left_out("language", len(splits.quarantined), splits.quarantined)
    assert lost == f"language: in damaged.json.gz, {last.index}: {last.reason}; mend it or fetch it again"
    assert [row.split(" left out")[0] for row in rows] == (
        [f"language: {counted(len(garbage), 'malformed row')}"] if garbage else []
    )


def test_a_mark_is_no_part_of_a_document_and_another_trial_has_it(tmp_path):
    for name, lines in {
        "a.txt": "\n\n".join(map(sentence, range(5))),
        "a.jsonl": "".join(json.dumps({"text": sentence(i)}) + "\n" for i in range(5)),
    }.items():
        path = tmp_path / name
        path.write_text(lines)
        plain = Language(data=str(path))
        wanted, known = texts(plain), plain.fingerprint()
        assert known == contents_fingerprint([path])
        path.write_text(lines, encoding="utf-8-sig")
        assert texts(plain) == wanted
        assert plain.splits().quarantined == []
        assert plain.fingerprint() == f"{contents_fingerprint([path])}-2"


def test_a_folder_says_which_file_is_wrong_and_passes_over_hidden_ones(tmp_path):
    for i in range(4):
        (tmp_path / f"{i}.txt").write_text(sentence(i))
    task = Language(data=str(tmp_path))
    known = task.fingerprint()
    (tmp_path / "._0.txt").write_bytes(b"\0\5\x16\7\xb0")
    (tmp_path / ".hidden.txt").write_text("Not the user's.")
    assert texts(task) == set(map(sentence, range(4)))
    assert task.fingerprint() == known
    (tmp_path / "bad.txt").write_bytes(b"Caf\xe9.")
    splits = task.splits()
    assert sum(len(getattr(splits, split)) for split in SPLITS) == 4
    assert [(row.file, row.reason) for row in splits.quarantined] == [
        (str(tmp_path / "bad.txt"), "not UTF-8 (invalid continuation byte at its byte 3)")
    ]
    (tmp_path / "wide.txt").write_text("Wide.", encoding="utf-16")
    with pytest.raises(UserError, match=r"must be UTF-8, but .*wide\.txt is UTF-16; convert it"):
        task.splits()


def test_a_carriage_return_alone_ends_no_line_of_any_reader(tmp_path):
    rows = [json.dumps({"text": sentence(i)}) for i in range(6)]
    path = tmp_path / "ends.jsonl"
    lines = [rows[0], rows[1].replace(":", ":\r"), "\r".join(rows[2:4]), *rows[4:]]
    path.write_bytes("\r\n".join([*lines, "\r\n"]).encode())
    task = Language(data=str(path))
    splits = task.splits()
    assert [row.index for row in splits.quarantined] == ["line 3"]
    found = {
        text: name
        for split in SPLITS
        for text, name in zip(*(getattr(splits, split)[c] for c in ("input", "group")), strict=True)
    }
    assert found == {sentence(i): f"{path}:{n}" for i, n in {0: 0, 1: 1, 4: 3, 5: 4}.items()}
    read = [row.document for row in activation_rows(path, "text", 0, path.stat().st_size)]
    assert [text for text in read if isinstance(text, str)] == [sentence(i) for i in (0, 1, 4, 5)]
    assert task.fingerprint() == f"{contents_fingerprint([path])}-2", "they were other documents once"
    path.write_bytes("\r\n".join(rows).encode())
    assert task.fingerprint() == contents_fingerprint([path])
    path = tmp_path / "ends.txt"
    path.write_bytes("\r\n\r\n".join([*map(sentence, range(4)), "a\r\rb"]).encode())
    assert Language(data=str(path)).fingerprint() == f"{contents_fingerprint([path])}-2"
    assert "a\r\rb" in texts(Language(data=str(path)))
    path = tmp_path / "twice.jsonl"
    for twice, mark in (('"text": "a b c", "text"', "-2"), ('"n": 1, "n": 2, "text"', "")):
        path.write_text("\n".join([*rows, rows[0].replace('"text"', twice)]))
        assert Language(data=str(path)).fingerprint() == contents_fingerprint([path]) + mark


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.txt").write_text("\n\n".join(map(sentence, range(5))))
    task = Language(data="~/mine.txt")
    task.check_data()
    assert texts(task) == set(map(sentence, range(5)))
    assert task.fingerprint() == Language(data=str(tmp_path / "mine.txt")).fingerprint()
    with pytest.raises(UserError, match="no home folder for '~nobody-of-this-name"):
        Language(data="~nobody-of-this-name/a.txt").fingerprint()


def test_a_look_reads_no_further_than_it_has_to(tmp_path):
    path = tmp_path / "mine.jsonl"
    rows = [json.dumps({"text": sentence(i)}).encode() for i in range(3)]
    path.write_bytes(gzip.compress(b"\n".join(rows) + b"\n" * 5000)[:-9])
    Language(data=str(path.rename(tmp_path / "cut.jsonl.gz"))).check_data()


def test_a_repeated_document_counts_once(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"text": sentence(i % 5)}) + "\n" for i in range(12)))
    splits = Language(data=str(path)).splits()
    assert splits.notes == {"repeated_documents": 7}
    assert sum(len(getattr(splits, split)) for split in SPLITS) == 5


def test_c4_is_streamed_from_the_hub(documents, monkeypatch):
    hub = use(monkeypatch, lambda _: load_dataset("json", data_files=str(documents), streaming=True)["train"])
    assert texts(Language(data="c4")) == texts(Language(data=str(documents)))
    ((name, config, revision, split, streaming),) = hub.asked
    assert (name, config, split, streaming) == ("allenai/c4", "en", "train", True)
    assert len(revision) == 40


def test_more_training_documents_leave_the_tested_ones_where_they_are(tmp_path):
    path = tmp_path / "large.jsonl"
    path.write_text("".join(json.dumps({"text": sentence(i)}) + "\n" for i in range(6000)))
    counts = {"validation_examples": 90, "test_examples": 90}
    small = Language(data=str(path), train_examples=800, **counts).splits()
    large = Language(data=str(path), train_examples=3000, **counts).splits()
    assert len(small.train) < len(large.train) < 6000
    assert set(small.test["input"]) < set(large.test["input"])
    assert not set(small.test["input"]) & set(large.train["input"])


@pytest.mark.parametrize("begins", [False, True])
def test_a_document_is_cut_into_chunks(make_tokenizer, begins):
    tokenizer = make_tokenizer(begins)
    text = " ".join(map(sentence, range(10)))
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    rows = Language(length=50).rows(Example("d", text, None, (), "d"), tokenizer)
    assert [row.id for row in rows] != sorted(row.id for row in rows)
    rows.sort(key=lambda row: int(row.id.removeprefix("d-")))
    start = [tokenizer.bos_token_id] if begins else []
    assert all(row.tokens[: len(start)] == start for row in rows)
    joined = [token for row in rows for token in row.tokens[len(start) :]]
    assert joined == tokens[: len(joined)]
    assert len(tokens) - len(joined) < 16
    assert {len(row.tokens) for row in rows[:-1]} == {50}
    assert [row.id for row in rows] == [f"d-{i}" for i in range(len(rows))]


def test_the_last_chunk_is_kept_from_sixteen_tokens_on(tokenizer):
    text = " ".join(map(sentence, range(10)))
    tokens = len(tokenizer(text)["input_ids"])
    example = Example("d", text, None, (), "d")
    last = tokenizer(text)["input_ids"][-16:]
    assert last in [row.tokens for row in Language(length=tokens - 16).rows(example, tokenizer)]
    assert len(Language(length=tokens - 15).rows(example, tokenizer)) == 1
    assert Language().row(example._replace(input="Too short."), tokenizer) is None


def test_few_chunks_still_come_from_many_documents(documents, tokenizer):
    task = Language(data=str(documents), length=16, train_examples=40, validation_examples=4, test_examples=4)
    prepared = prepare(task, tokenizer, "t")
    ids = [prepared.train.row(i).id for i in range(len(prepared.train))]
    number = len(task.splits().train)
    assert len(ids) == 40
    assert len({name.split("-")[0] for name in ids[:number]}) == number
    assert len(set(ids)) == 40


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("two.txt", "one\n\ntwo", "at least 3 different documents, but .*two.txt has 2"),
        ("table.csv", "a,b", "cannot be read from .*table.csv"),
        ("missing.txt", None, "does not exist"),
        ("empty", "folder", "contains no .txt files .*; add some, or name one file"),
        ("nothing.jsonl", "", r"the data file .*nothing\.jsonl is empty \(0 bytes\); write data into it"),
        ("nothing.txt", "", r"the data file .*nothing\.txt is empty \(0 bytes\); write data into it"),
        (
            "broken.json.gz",
            "not gzip",
            r"has 0 \(in .*, line 1: .*damaged here .*; mend it or fetch it again\)",
        ),
        (
            "stack.jsonl",
            '{"content": "x", "id": 1}\n' * 9,
            "9 malformed rows .*: no 'text'; it has content, id",
        ),
        ("array.json", '[{"text": "x"}]', r"line 1: not an object but \[.*one object per line, the text"),
        ("nul.txt", "a\0b\0c\0", "nul.txt is full of NUL bytes, as UTF-16 is"),
    ],
)
def test_sources_that_cannot_be_used(tmp_path, name, content, sentence):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    for read in (Language.check_data, Language.splits):
        with pytest.raises(UserError, match=sentence):
            read(Language(data=str(path)))


def test_an_unknown_source():
    with pytest.raises(UserError, match="did you mean 'wikipedia-106'"):
        validate(Language, {"data": "wikipedia"}, "study.yaml")


def test_another_mode_is_refused_with_the_task_for_it():
    with pytest.raises(
        UserError,
        match=r"mode = 'close': must be continue, the default, so leave it out; .* use the task cloze",
    ):
        validate(Language, {"mode": "close"}, "study.yaml")


def test_the_identity_is_frozen():
    frozen = (
        '{"data":"wikipedia-106","length":128,"max_new_tokens":32,"test_examples":256,'
        '"train_examples":2000,"validation_examples":256}'
    )
    assert Language().canonical() == Language(mode="continue").canonical() == frozen
    assert Language.model_validate_json(frozen) == Language()


def test_nothing_is_generated():
    task = Language()
    assert (task.generates, task.headline, task.metrics, task.positions()) == (False, "loss", (), 128)
    assert task.score("words", ()) == {}
