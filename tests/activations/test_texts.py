"""Shards: every document once, whoever reads which part, and malformed rows told."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, GPT2Config, GraniteConfig, LlamaConfig

from softprior.activations.file_texts import FileTexts
from softprior.activations.plan import plan_activations
from softprior.activations.spec import ActivationsSpec, FilesSpec
from softprior.activations.task_texts import TaskTexts
from softprior.activations.texts import batches
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.models.load import load_tokenizer
from softprior.tasks.arithmetic import Arithmetic
from softprior.tasks.language import Language
from softprior.tasks.parts import PARTS
from softprior.tasks.prepared import Text

DOCUMENTS = [
    "One line of text.",
    "Another, longer line of text that is cut.",
    "",
    "Grüße, 世界!",
    "The end",
] * 7
TINY = ModelSpec(id="tiny")


@pytest.fixture(scope="module")
def loaded():
    return load_tokenizer(TINY)


def written(folder: Path, kind: str) -> Path:
    path = folder / f"documents{kind}"
    if kind == ".parquet":
        parquet.write_table(
            pa.table({"text": DOCUMENTS, "id": range(len(DOCUMENTS))}), path, row_group_size=4
        )
        return path
    lines = [
        d if kind.startswith(".txt") else json.dumps({"id": i, "text": d}) for i, d in enumerate(DOCUMENTS)
    ]
    data = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("kind", [".jsonl", ".txt", ".parquet", ".jsonl.gz"])
@pytest.mark.parametrize("tokens", [1, 7, 40, 10_000])
def test_shards_of_files_hold_every_document_once(tmp_path, loaded, kind, tokens):
    files = FileTexts(FilesSpec(name="mine", path=str(written(tmp_path, kind)), length=8), loaded.tokenizer)
    shards = files.shards(tokens)
    readings = [files.read(shard) for shard in shards]
    assert not any(reading.skipped for reading in readings)
    texts = [text for reading in readings for text in reading.texts]
    assert len({text.id for text in texts}) == len(texts)
    wanted = [loaded.tokenizer(document)["input_ids"] for document in DOCUMENTS if document]
    found: dict[str, list[int]] = {}
    for text in texts:
        assert 2 <= len(text.tokens) <= 8
        found.setdefault(text.document, []).extend(text.tokens)
    # A last piece of one token is no text; everything else is there, in order.
    assert [tokens[: len(own)] for tokens, own in zip(wanted, found.values(), strict=True)] == [
        *found.values()
    ]
    assert all(len(tokens) - len(own) <= 1 for tokens, own in zip(wanted, found.values(), strict=True))
    if tokens == 1 and kind != ".jsonl.gz":
        assert len(shards) > 5
    owners = [{text.document for text in reading.texts} for reading in readings]
    assert sum(map(len, owners)) == len(set().union(*owners))


def test_files_of_one_name_in_two_folders_stay_apart(tmp_path, loaded):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part-0.txt").write_text(f"A line of folder {folder}.\nThe same line.\n")
    files = FileTexts(FilesSpec(name="mine", path=str(tmp_path / "*" / "part-0.txt")), loaded.tokenizer)
    texts = [text for shard in files.shards(10_000) for text in files.read(shard).texts]
    wanted = [f"{folder}/part-0.txt:byte {byte}" for folder in "ab" for byte in (0, 20)]
    assert [text.document for text in texts] == wanted
    assert len({text.id for text in texts}) == 4


def test_malformed_rows_are_told_and_the_rest_is_read(tmp_path, loaded):
    path = tmp_path / "some.jsonl"
    path.write_bytes(
        b'{"text": "Fine and dandy."}\n{"text": 3}\n[1]\n{"no": 1}\n{broken\n{"text": "caf\xe9"}\n'
        b'{"text": "This one.", "text": "That one."}\n{"text": "a"}\n{"text": "Also fine."}\n'
    )
    files = FileTexts(FilesSpec(name="mine", path=str(path)), loaded.tokenizer)
    (shard,) = files.shards(10_000)
    reading = files.read(shard)
    assert len(reading.texts) == 2
    wanted = ["line 2: not a text: 3", "line 3: not an object but [1]", "line 4: no 'text'; it has no"]
    assert reading.skipped[:3] == [f"some.jsonl, {reason}" for reason in wanted]
    assert "not valid JSON" in reading.skipped[3]
    assert "not UTF-8" in reading.skipped[4]
    assert reading.skipped[5] == "some.jsonl, line 7: 'text' is there twice"
    assert reading.skipped[6] == "some.jsonl, line 8: 1 token, but a text has 2 or more"
    assert len(reading.skipped) == 7


def test_a_malformed_row_has_the_line_that_an_editor_shows(tmp_path, loaded, monkeypatch):
    """Whichever part it is in, whatever line breaks there are; far into a large file its byte will do."""
    path = tmp_path / "some.jsonl"
    lines = [json.dumps({"text": f"Document {i}, and what it says."}) for i in range(40)]
    for number in (3, 17, 40):
        lines[number - 1] = "{broken"
    lines[9] = ""
    path.write_bytes("\ufeff".encode() + "\r\n".join(lines).encode())
    files = FileTexts(FilesSpec(name="mine", path=str(path)), loaded.tokenizer)
    shards = files.shards(20)
    assert len(shards) > 9
    places = [line.partition(": ")[0] for shard in shards for line in files.read(shard).skipped]
    assert places == [f"some.jsonl, line {number}" for number in (3, 17, 40)]
    monkeypatch.setattr("softprior.activations.rows.COUNTED", 200)
    places = [line.partition(": ")[0] for shard in shards for line in files.read(shard).skipped]
    assert places[0] == "some.jsonl, line 3"
    assert [place.partition(" byte ")[0] for place in places[1:]] == ["some.jsonl,"] * 2


def test_a_damaged_archive_is_read_up_to_the_damage(tmp_path, loaded):
    path = tmp_path / "rows.jsonl.gz"
    # Numbers that repeat nowhere, so that the archive is no single block.
    rows = [f"{i * 7919 % 10007} and {i * 104729 % 99991} of many." for i in range(2000)]
    whole = gzip.compress("".join(json.dumps({"text": row}) + "\n" for row in rows).encode())
    path.write_bytes(whole[: len(whole) // 2])
    files = FileTexts(FilesSpec(name="mine", path=str(path)), loaded.tokenizer)
    (shard,) = files.shards(10_000)
    reading = files.read(shard)
    found = [loaded.tokenizer.decode(text.tokens) for text in reading.texts]
    assert found == rows[: len(found)]
    assert 800 < len(found) < 1200
    assert reading.skipped == []
    (lost,) = reading.lost
    assert re.search(r"the file is damaged here \(Compressed .*\), and the rest of it is lost", lost)


def test_a_nested_column_in_front_changes_no_part_of_a_table(tmp_path, loaded):
    """Chunks of a Parquet file belong to leaves, and a struct or a list of them has other numbers of them."""
    table = {"text": ["A line of some words, and a few more of them. " * 9] * 60}
    parquet.write_table(pa.table(table), tmp_path / "plain.parquet", row_group_size=5, compression="none")
    nested = {"meta": [{"id": i, "tags": [{"a": 1, "b": 2}]} for i in range(60)], **table}
    parquet.write_table(pa.table(nested), tmp_path / "nested.parquet", row_group_size=5, compression="none")
    plain, same = (
        [
            (shard.first, shard.last, shard.tokens)
            for shard in FileTexts(
                FilesSpec(name="mine", path=str(tmp_path / f"{name}.parquet")), loaded.tokenizer
            ).shards(200)
        ]
        for name in ("plain", "nested")
    )
    assert same == plain
    files = FileTexts(FilesSpec(name="m", path=str(tmp_path / "nested.parquet"), column="meta"), None)
    with pytest.raises(UserError, match=r"column 'meta' of .*nested.parquet contains struct<.*>, not text"):
        files.shards(200)


def test_a_table_with_a_text_that_is_not_utf8_loses_that_row_alone(tmp_path, loaded):
    texts, ends = b"Some text.Caf\xe9 au lait.More of it.", [0, 10, 23, 34]
    offsets = pa.array(ends, pa.int32()).buffers()[1]
    column = pa.StringArray.from_buffers(3, offsets, pa.py_buffer(texts))
    parquet.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    files = FileTexts(FilesSpec(name="m", path=str(tmp_path / "a.parquet")), loaded.tokenizer)
    reading = files.read(*files.shards(200))
    assert len(reading.texts) == 2
    assert reading.skipped == [
        "a.parquet, group 0 row 1: not UTF-8 (invalid continuation byte at its byte 3)"
    ]


def test_a_path_that_exists_is_taken_as_it_is(tmp_path, loaded):
    folder = tmp_path / "data [v1]"
    folder.mkdir()
    (folder / "plain [a].txt").write_text("A line of text.\n")
    (folder / "._plain.txt").write_bytes(b"\0\5\x16\7 of macOS")
    for name in ("plain [a].txt", "*.txt"):
        files = FileTexts(FilesSpec(name="mine", path=str(folder / name)), loaded.tokenizer)
        assert files.files() == [folder / "plain [a].txt"]
        reading = files.read(*files.shards(100))
        assert [text.id for text in reading.texts] == ["plain [a].txt:byte 0-0"]


def test_a_mark_is_passed_over_and_another_store_is_made(tmp_path, loaded):
    found = {}
    for name, mark in (("plain", b""), ("marked", b"\xef\xbb\xbf")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_bytes(mark + b'{"text": "First of all."}\n{"text": "Second."}\n')
        (tmp_path / name / "a.txt").write_bytes(mark + b"First of all.\nSecond.\n")
        for kind in ("jsonl", "txt"):
            files = FileTexts(FilesSpec(name="m", path=str(tmp_path / name / f"a.{kind}")), loaded.tokenizer)
            reading = files.read(*files.shards(100))
            assert reading.skipped == []
            found[name, kind] = [text.tokens for text in reading.texts]
            path = files.files()[0]
            facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns)]
            old = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
            assert (files.fingerprint == old) == (not mark)
    assert len(set(map(str, found.values()))) == 1


@pytest.mark.parametrize(
    ("name", "column", "sentence"),
    [
        ("none.jsonl", "text", "names no file"),
        ("data.csv", "text", "is of an unknown kind"),
        ("empty.txt", "text", r"files\.mine: the files of .* are empty; give documents"),
        ("blank.txt", "text", "are empty; give documents"),
        ("short.txt", "text", r"have no text \(short\.txt, line 2: 1 token, but a text has 2 or more\)"),
        ("numbers.jsonl", "text", r"have no text \(numbers\.jsonl, line 1: not an object but 3\)"),
        ("good.parquet", "number", r"have no text \(good\.parquet, group 0 row 0: not a text: 3\)"),
        ("folder", "text", r"/folder' is a folder; name the files in it, such as '.*folder/\*"),
        ("https://host/a.txt", "text", "path = 'https://host/a.txt' is an address; fetch the file"),
        ("good.parquet", "body", r"has no column 'body'; it has text, number"),
        ("broken.parquet", "text", "is damaged or not a Parquet file"),
        ("wide.txt", "text", "text must be UTF-8, but .*wide.txt is UTF-16; convert it"),
    ],
)
def test_files_that_cannot_be_read_are_refused_before_anything_runs(tmp_path, loaded, name, column, sentence):
    (tmp_path / "data.csv").write_text("a,b")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text("\n  \n\n")
    (tmp_path / "short.txt").write_text("\na\n")
    (tmp_path / "numbers.jsonl").write_text("3\n4\n")
    (tmp_path / "wide.txt").write_text("A line.\nAnother one.\n", encoding="utf-16")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and so on")
    parquet.write_table(pa.table({"text": ["Some text."], "number": [3]}), tmp_path / "good.parquet")
    path = name if "://" in name else str(tmp_path / name)
    files = FileTexts(FilesSpec(name="mine", path=path, column=column), loaded.tokenizer)
    with pytest.raises(UserError, match=sentence):
        files.shards(100)


def test_shards_of_a_task_keep_documents_together_and_fill_the_budget(loaded):
    task = Arithmetic(train_examples=60, validation_examples=9, test_examples=9)
    texts = TaskTexts.of(task, "arithmetic", "train", None, loaded)
    assert len(texts.groups) == 9
    shards = texts.shards(300)
    assert len(shards) > 3
    read = [text for shard in shards for text in texts.read(shard).texts]
    assert len(read) == len({text.id for text in read}) == 60
    # What is read has no end-of-sequence token, which the lengths count.
    assert sum(shard.tokens for shard in shards) == sum(len(text.tokens) for text in read) + 60
    read = [text for shard in texts.shards(500) for text in texts.read(shard).texts]
    assert texts.longest == max(len(text.tokens) for text in read)
    some = TaskTexts.of(task, "arithmetic", "train", 500, loaded)
    assert 400 < sum(shard.tokens for shard in some.shards(10_000)) <= 500


def test_malformed_rows_of_a_task_are_noted_in_the_plan(tmp_path):
    path = tmp_path / "some.jsonl"
    rows = [json.dumps({"text": f"Document {i} says {i} and so on, at some length."}) for i in range(12)]
    path.write_text("\n".join([*rows, '{"body": "x"}']))
    task = {
        "data": str(path),
        "length": 16,
        "train_examples": 2,
        "validation_examples": 1,
        "test_examples": 1,
    }
    assert plan_activations(spec(tasks=[{"language": task}])).notes == (
        "language: 1 malformed row left out, the first in some.jsonl, line 13: no 'text'; it has body",
    )


def test_parts_of_a_question_are_its_own_words(loaded):
    task = Arithmetic(
        modules=("two_digit_addition",), train_examples=5, validation_examples=5, test_examples=5
    )
    texts = TaskTexts.of(task, "arithmetic", "train", None, loaded)
    (shard,) = texts.shards(10_000)
    for text in texts.read(shard).texts:
        pairs = list(zip(text.tokens, text.parts, strict=True))
        words = {n: loaded.tokenizer.decode([t for t, p in pairs if PARTS[p] == n]) for n in PARTS}
        assert words["question"].strip().startswith("What is")
        assert words["question"].strip().endswith("?")
        assert words["template"].strip() == "Answer:"
        assert words["input"] == ""
        numbers = [int(word) for word in words["question"].strip(" ?").split() if word.isdecimal()]
        assert int(words["answer"]) == sum(numbers)


@given(st.lists(st.integers(2, 40), max_size=40), st.integers(1, 100))
def test_batches_hold_every_text_once_within_the_limit(lengths, limit):
    texts = [Text(f"{i}", "", "", [0] * n, [0] * n) for i, n in enumerate(lengths)]
    found = list(batches(texts, limit))
    assert sorted(t.id for batch in found for t in batch) == sorted(t.id for t in texts)
    assert all(len(batch) == 1 or len(batch) * len(batch[-1].tokens) <= limit for batch in found)


def spec(**changes) -> ActivationsSpec:
    return ActivationsSpec.model_validate({"name": "a", "model": "tiny", "tasks": ["arithmetic"], **changes})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sites": ["resid.5"]}, r"sites names resid\.5, but tiny has 4 blocks"),
        ({"sites": ["key.4"]}, r"sites names key\.4, but tiny has 4 blocks"),
        ({"tasks": ["arithmetics"]}, r"tasks\[0\] = 'arithmetics' does not exist"),
        ({"prompt": "none.safetensors"}, "there is no posterior file none.safetensors"),
    ],
)
def test_what_cannot_be_is_said_while_planning(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        plan_activations(spec(**changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tasks": []}, "tasks and files are both empty"),
        ({"tasks": ["squad", "squad"]}, "name 'squad' twice"),
        ({"sites": []}, "is empty; name a site, such as resid.0, or write residual"),
        ({"sites": ["resid0"]}, "names 'resid0', which is not a site"),
        ({"sites": ["resid.1", "resid.1"]}, "names a site twice"),
        ({"files": [{"name": "vocabulary", "path": "x"}]}, "the name vocabulary"),
    ],
)
def test_specs_that_make_no_sense(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        spec(**changes)


def test_the_plan_hangs_on_what_decides_the_result_alone():
    few = {
        "tasks": [{"arithmetic": {"train_examples": 90, "validation_examples": 9, "test_examples": 9}}],
        "sequences": 64,
    }
    one = plan_activations(spec(**few))
    assert one.key == plan_activations(spec(**few, resources={"cpus": 1}, description="other")).key
    assert one.key != plan_activations(spec(**few, sample=7)).key
    assert one.shuffled_tokens > 0
    assert sum(shard.sequences for shard in one.shards if shard.source == "arithmetic") == 64


def test_a_store_of_before_in_other_units_is_of_another_run(tmp_path):
    """Granite's `resid.0` was 12 times its embeddings; a plan has the config alone, and Llama's stays."""
    (tmp_path / "some.txt").write_text("An even line of it.\n" * 9)
    own = {"tasks": [], "files": [{"name": "some", "path": str(tmp_path / "some.txt"), "length": 5}]}
    sizes = {"vocab_size": len(load_tokenizer(TINY).tokenizer), "hidden_size": 8, "num_hidden_layers": 1}
    sizes |= {"intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2}
    configs = {
        "granite": GraniteConfig(**sizes, embedding_multiplier=12.0),
        "llama": LlamaConfig(**sizes),
        "gpt2": GPT2Config(vocab_size=sizes["vocab_size"], n_embd=8, n_layer=1, n_head=2),
    }
    for name, config in configs.items():
        folder = str(tmp_path / name)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        load_tokenizer(TINY).tokenizer.save_pretrained(folder)
        found = plan_activations(spec(model=folder, **own)).identity
        assert found.get("resid.0") == (None if name == "llama" else "embeddings")
    assert "resid.0" not in plan_activations(spec(model=folder, sites=["resid.1"], **own)).identity


def test_a_task_is_other_data_only_where_its_texts_are_others_since(tmp_path, loaded):
    """A template is a part of its own since; running text without special tokens is as it was."""
    path = tmp_path / "some.txt"
    path.write_text("\n\n".join(f"Document {i} has a sentence of {i} words." for i in range(60)))
    few = {"train_examples": 2, "validation_examples": 2, "test_examples": 2}
    for task, mark in ((Language(data=str(path), length=16, **few), ""), (Arithmetic(**few), "-template")):
        texts = TaskTexts.of(task, "a", "test", 100, loaded)
        assert texts.fingerprint == f"{task.fingerprint()}{mark}"


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("I am. You are. We x y z.", 6000),
        ("Incomprehensibilities notwithstanding", 6000),
        ("We x y z. " * 8000, 3),
    ],
    ids=["short words", "long words", "long lines"],
)
def test_the_tokens_of_a_file_are_estimated_from_its_beginning(tmp_path, loaded, text, times):
    path = tmp_path / "some.txt"
    path.write_text(f"{text}\n" * times)
    plan = plan_activations(spec(tasks=[], files=[{"name": "some", "path": str(path)}], sequences=10))
    whole = times * len(loaded.tokenizer(text)["input_ids"])
    assert plan.tokens == pytest.approx(whole, rel=0.01)
    assert sum(shard.tokens for shard in plan.shards) == pytest.approx(path.stat().st_size / 4, rel=0.01)


def test_texts_to_shuffle_are_dealt_in_proportion(tmp_path):
    """A short last shard gets few of them: 200 documents of 5 tokens in shards of 60, 60, 60 and 20."""
    path = tmp_path / "some.txt"
    path.write_text("An even line of it.\n" * 200)
    files = [{"name": "some", "path": str(path), "length": 5}]
    plan = plan_activations(spec(tasks=[], files=files, shard_tokens=300, sequences=97))
    shards = [shard for shard in plan.shards if shard.source == "some"]
    whole = sum(shard.texts for shard in shards)
    assert len(shards) == 4
    assert shards[-1].texts < shards[0].texts / 2
    assert sum(shard.sequences for shard in shards) == 97
    assert all(abs(shard.sequences - 97 * shard.texts / whole) < 1 for shard in shards)
    assert [shard.paths for shard in shards] == [8, 0, 0, 0]
    assert shards[1].place == f"bytes 1,200 to 2,399 of {path}"
