"""SQuAD: reading, quarantine, splits by article, order, dropping."""

import copy
import itertools
import json
from pathlib import Path
from statistics import fmean

import pytest
from datasets import Dataset

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.tasks import Squad
from softprior.tasks.base import SPLITS
from softprior.tasks.prepare import prepare
from softprior.tasks.sources import contents_fingerprint
from tests.tasks.hub import use

QUESTIONS = Path(__file__).parents[1] / "data" / "questions.json"


@pytest.fixture
def source():
    return json.loads(QUESTIONS.read_text(encoding="utf-8"))


@pytest.fixture
def write(tmp_path):
    def write(content, name="mine.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)

    return write


def groups(splits):
    return {split: set(getattr(splits, split)["group"]) for split in SPLITS}


def test_the_projects_own_questions_are_sound():
    splits = Squad(data=str(QUESTIONS)).splits()
    assert splits.quarantined == []
    assert splits.notes == {}
    assert sum(len(getattr(splits, split)) for split in SPLITS) >= 36


def test_the_format_of_an_input():
    splits = Squad(data=str(QUESTIONS)).splits()
    record = splits.train[0]
    context, question, end = record["input"].split("\n")
    assert question.startswith("Question: ")
    assert question.endswith("?")
    assert end == "Answer:"
    assert all(answer in context for answer in record["answers"])


def test_one_file_is_divided_by_article(source):
    found = groups(Squad(data=str(QUESTIONS)).splits())
    assert {split: len(titles) for split, titles in found.items()} == {
        "train": 10,
        "validation": 1,
        "test": 1,
    }
    assert len(set.union(*found.values())) == len(source["data"])


def test_an_added_article_moves_no_other_between_the_small_splits(source, write):
    before = groups(Squad(data=write(source)).splits())
    source["data"] = [a for a in source["data"] if a["title"] != min(before["train"])]
    after = groups(Squad(data=write(source)).splits())
    assert after["test"] == before["test"]
    assert after["validation"] == before["validation"]


def test_a_folder_trains_on_one_file_and_evaluates_on_the_other(source, write, tmp_path):
    train, dev = copy.deepcopy(source), copy.deepcopy(source)
    train["data"], dev["data"] = source["data"][:7], source["data"][7:]
    write(train, "both/train.json")
    write(dev, "both/dev.json")
    found = groups(Squad(data=str(tmp_path / "both")).splits())
    assert found["train"] == {article["title"] for article in train["data"]}
    assert found["validation"] | found["test"] == {article["title"] for article in dev["data"]}
    assert {len(found["validation"]), len(found["test"])} == {2, 3}
    assert not found["validation"] & found["test"]


def test_nothing_evaluated_is_trained_on(source, write, tmp_path):
    dev = {"data": source["data"][7:]}
    copied = copy.deepcopy(dev["data"][0]["paragraphs"][0])
    copied["context"] = "  ".join(copied["context"].split()).upper()
    for i, question in enumerate(copied["qas"]):
        question["id"] = f"copied-{i}"
        question["answers"] = [{"text": copied["context"][:4], "answer_start": 0}]
    same_title = copy.deepcopy(dev["data"][1])
    for paragraph in same_title["paragraphs"]:
        for question in paragraph["qas"]:
            question["id"] += "-again"
    train = {"data": [*source["data"][:7], {"title": "Copied", "paragraphs": [copied]}, same_title]}
    write(train, "both/train.json")
    write(dev, "both/dev.json")
    splits = Squad(data=str(tmp_path / "both")).splits()
    assert splits.notes["shared_context"] == len(copied["qas"])
    assert splits.notes["shared_article"] == sum(len(p["qas"]) for p in same_title["paragraphs"])
    assert groups(splits)["train"] == {article["title"] for article in source["data"][:7]}
    task = Squad(data=str(tmp_path / "both"))
    assert {name: task.look().notes[name] for name in splits.notes} == splits.notes
    sizes = {split: len(getattr(splits, split)) for split in SPLITS}
    assert task.short(sizes).items() <= task.look().notes.items()
    also = "is also in a split that is evaluated on"
    assert task.told(task.look().notes) == [
        f"{splits.notes['shared_article']} questions left out, whose article {also}",
        f"{splits.notes['shared_context']} questions left out, whose paragraph {also}",
    ]


def test_lengths_are_sampled_before_a_file_is_tokenised(source, write, tokenizer):
    """Of the first question of each article that fits; the catalogue's data are not read for a plan."""

    def length(article):
        context, one = article["paragraphs"][0]["context"], article["paragraphs"][0]["qas"][0]
        text = f"{context}\nQuestion: {one['question']}\nAnswer: {one['answers'][0]['text']}"
        return len(tokenizer(text)["input_ids"]) + 1

    lengths = [length(article) for article in source["data"]]
    task = Squad(data=write(source))
    assert task.sampled(lambda: tokenizer) == pytest.approx(fmean(lengths))
    long = source["data"][0]["paragraphs"][0]
    long["context"] += " and so on" * 500
    assert Squad(data=write(source, "long.json")).sampled(lambda: tokenizer) == pytest.approx(
        fmean(lengths[1:])
    )
    assert Squad(data=write(source), context_tokens=16).sampled(lambda: tokenizer) is None
    assert task.sampled(lambda: None) is None
    assert Squad().sampled(lambda: tokenizer) is None


def test_a_split_that_shares_all_it_has_is_refused_by_the_plan_where_it_is_needed(source, write):
    """One paragraph under every title: the test split takes it, and nothing is left to train on."""
    paragraph = source["data"][0]["paragraphs"][0]
    for number, article in enumerate(source["data"]):
        article["paragraphs"] = [copy.deepcopy(paragraph)]
        for question in article["paragraphs"][0]["qas"]:
            question["id"] += f"-{number}"
            question["question"] += str(number)
    task = Squad(data=write(source))
    with pytest.raises(UserError, match=r"leaves no question for train: \d+ questions left out, whose"):
        task.check_data()
    task.check_test_data()
    splits = task.splits()
    assert set(splits.faults) == {"train", "validation"}
    assert len(splits.test) > 0


def asked(answers):
    """A row per question, as the hub has them."""
    return [
        {"id": str(i), "title": str(i), "context": f"a mat {i} a cat", "question": "?", "answers": answers}
        for i in range(5)
    ]


def answers_of(splits):
    return {answers for split in SPLITS for answers in map(tuple, getattr(splits, split)["answers"])}


@pytest.mark.parametrize("starts", [[], [0], [0, None, 7, 9], [1, 2, 3], None])
def test_no_answer_is_lost_for_want_of_where_it_starts(write, monkeypatch, starts):
    """In records, one list of texts and one of numbers. Where answers were once lost, ids are others."""
    rows = asked({"text": ["a", "mat", "cat"]} | ({} if starts is None else {"answer_start": starts}))
    task = Squad(data=write({"data": rows}))
    assert answers_of(task.splits()) == {("a", "mat", "cat")}
    once_lost = starts is not None and len(starts) < 3
    assert task.fingerprint().endswith("-all-answers") == once_lost
    use(monkeypatch, {"train": rows[:3], "validation": rows[3:]}.__getitem__)
    monkeypatch.setattr("softprior.tasks.squad.hub_dataset_commit", lambda *_: "c")
    hub = Squad(data="hub:somebody/questions")
    assert answers_of(hub.splits()) == {("a", "mat", "cat")}
    assert hub.fingerprint() == "somebody/questions@c-respaced-all-answers"
    assert Squad(data="hub:rajpurkar/squad").fingerprint() == "rajpurkar/squad@c-respaced"


def test_answers_that_never_counted_change_no_id(write):
    given = {"text": ["mat", "nowhere", ""], "answer_start": [0]}
    task = Squad(data=write({"data": asked(given)}))
    assert not task.fingerprint().endswith("-all-answers")
    assert answers_of(task.splits()) == {("mat",)}
    assert task.told(task.look().notes) == [
        "10 answers left out, empty or not in the paragraph, beside others that are"
    ]


def test_malformed_rows_are_set_aside_and_named(source, write):
    paragraphs = source["data"][0]["paragraphs"]
    qas = paragraphs[0]["qas"]
    good = copy.deepcopy(qas[0])
    qas += [
        {**good, "id": "a", "question": "  "},
        {**good, "id": "b", "answers": []},
        {**good, "id": "c", "answers": [{"text": "nowhere at all", "answer_start": 0}]},
        {**good},
        {"id": "d", "answers": good["answers"]},
        "not a question",
        {**good, "id": 7, "question": 7},
    ]
    paragraphs.append({"context": "No questions."})
    source["data"].append({"title": "No paragraphs"})
    path = write(source)
    splits = Squad(data=path).splits()
    at = "data[0].paragraphs[0].qas"
    assert {row.file for row in splits.quarantined} == {path}
    assert [(row.index, row.reason) for row in splits.quarantined] == [
        (f"{at}[3]", "'question' is empty"),
        (f"{at}[4]", "there are no answers"),
        (f"{at}[5]", "no answer's text stands in the context"),
        (f"{at}[6]", f"the id '{good['id']}' appears twice"),
        (f"{at}[7]", "no 'question'; it has id, answers"),
        (f"{at}[8]", "the question is not an object"),
        (f"{at}[9]", "'question' is not a text: 7"),
        ("data[0].paragraphs[2]", "the paragraph has no list 'qas'; it has context"),
        ("data[12]", "the article has no list 'paragraphs'; it has title"),
    ]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ("Paris", """'answers' is not a list but 'Paris'; write [{"text": ..., "answer_start": ...}]"""),
        (["Paris"], """'answers' has no objects but 'Paris'; write [{"text": ..., "answer_start": ...}]"""),
        (None, "there are no answers"),
        ({"text": [], "answer_start": []}, "there are no answers"),
    ],
)
def test_answers_of_another_form_are_named(source, write, answers, reason):
    source["data"][0]["paragraphs"][0]["qas"][0]["answers"] = answers
    (row,) = Squad(data=write(source)).splits().quarantined
    assert (row.index, row.reason) == ("data[0].paragraphs[0].qas[0]", reason)


@pytest.mark.parametrize("name", ["mine.json", "mine.jsonl", "mine.parquet"])
def test_an_empty_file_is_called_empty(write, name):
    task = Squad(data=write("", name))
    for read in (Squad.check_data, Squad.splits):
        with pytest.raises(
            UserError, match=r"the data file .*mine\.\w+ is empty \(0 bytes\); write data into it"
        ):
            read(task)


def test_a_wrong_answer_start_is_mended_and_counted(source, write):
    answers = source["data"][0]["paragraphs"][0]["qas"][0]["answers"]
    answers[0]["answer_start"] += 5
    answers.append({"text": "stands nowhere", "answer_start": 0})
    splits = Squad(data=write(source)).splits()
    assert splits.quarantined == []
    assert splits.notes == {"answer_start_mended": 1, "answers_removed": 1}


def test_the_first_examples_come_from_many_articles():
    train = Squad(data=str(QUESTIONS)).splits().train
    assert len(set(train["group"][:10])) == 10
    contexts = [text.split("\n")[0] for text in train["input"]]
    assert len(set(contexts[:20])) == 20


def test_examples_that_do_not_fit_are_dropped_and_counted_never_cut(tokenizer):
    generous = prepare(Squad(data=str(QUESTIONS)), tokenizer, "t")
    # The tightest limit that leaves an example, with its control, in every split.
    limit = max(
        min(max(found.lengths[i], len(found.control_row(i).tokens)) for i in range(len(found)))
        for found in (generous.train, generous.validation, generous.test)
    )
    tight = prepare(Squad(data=str(QUESTIONS), context_tokens=limit), tokenizer, "t")
    assert generous.dropped == 0
    assert tight.dropped == sum(
        len(getattr(generous, split)) - len(getattr(tight, split)) for split in SPLITS
    )
    assert tight.dropped > 0
    assert max(tight.train.lengths) <= limit
    kept = {tight.train.row(i).id: tight.train.row(i).tokens for i in range(len(tight.train))}
    whole = {generous.train.row(i).id: generous.train.row(i).tokens for i in range(len(generous.train))}
    assert all(tokens == whole[name] for name, tokens in kept.items())
    assert all(len(tight.train.control_row(i).tokens) <= limit for i in range(len(tight.train)))


def test_nothing_fits(tokenizer):
    with pytest.raises(UserError, match=r"none of the .* for train fits"):
        prepare(Squad(data=str(QUESTIONS), context_tokens=16), tokenizer, "t")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "mine.json is not valid JSON"),
        ({"data": {"a": 1}}, "has no list under the key 'data' but a dict"),
        ({"data": None}, "has no list under the key 'data' but null"),
        ({"version": 1}, "has no list under the key 'data'; it has version"),
        (
            [1, 2],
            r"no usable question \(2 malformed rows .*, the first in mine.json, \[0\]: the article has no",
        ),
        (
            {"data": [{"text": "x"}]},
            r"1 malformed row left out, the first in .*data\[0\]: the article .*; it has text",
        ),
        ([{"question": "Who?", "answer": "I"}] * 9, r"\[0\]: no 'context'; it has question, answer"),
        (
            '{"question": "Who?"}\n{"question": "I?"}\n',
            "2 malformed rows .* line 1: no 'context'; it has quest",
        ),
        ("[" * 9999, "is not valid JSON .it is nested too deeply"),
    ],
)
def test_a_file_that_is_not_squad(write, content, sentence):
    for read in (Squad.check_data, Squad.splits):
        with pytest.raises(UserError, match=sentence):
            read(Squad(data=write(content)))


def records(source):
    """One record a question, as the hub has SQuAD."""
    return [
        {
            "id": question["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": question["question"],
            "answers": {
                "text": [answer["text"] for answer in question["answers"]],
                "answer_start": [answer["answer_start"] for answer in question["answers"]],
            },
        }
        for article in source["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def nested(change):
    """SQuAD's own file with every question changed."""

    def make(source):
        for article in source["data"]:
            for paragraph in article["paragraphs"]:
                paragraph["qas"] = [change(question) for question in paragraph["qas"]]
        return source

    return make


def lines(source):
    return "".join(json.dumps(row) + "\n" for row in records(source))


def articles_on_lines(source):
    return '{"data": [\n' + "\n,".join(map(json.dumps, source["data"])) + "\n]}"


def renamed(question):
    return {"guid": question["id"], **{key: value for key, value in question.items() if key != "id"}}


def of_lists(question):
    answers = question["answers"]
    lists = {key: [answer[key] for answer in answers] for key in ("text", "answer_start")}
    return {**question, "answers": lists}


LAYOUTS = {
    "guid": ("mine.json", nested(renamed)),
    "answers of two lists": ("mine.json", nested(of_lists)),
    "records under data": ("mine.json", lambda source: {"version": "1", "data": records(source)}),
    "a list of records": ("mine.json", records),
    "lines": ("mine.jsonl", lines),
    "lines called JSON": ("mine.json", lines),
    "articles on lines": ("mine.json", articles_on_lines),
    "a mark": ("mine.json", lambda source: "\ufeff" + json.dumps(source)),
    "lines with a mark": ("mine.jsonl", lambda source: "\ufeff" + lines(source)),
    "pretty": ("mine.json", lambda source: json.dumps(source, indent=2)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_squad_as_the_world_writes_it(source, write, layout):
    wanted = plain_splits(Squad(data=write(source, "sound.json")).splits())
    name, make = LAYOUTS[layout]
    task = Squad(data=write(make(source), name))
    task.check_data()
    splits = task.splits()
    assert splits.quarantined == []
    assert splits.notes == {}
    assert plain_splits(splits) == wanted


@pytest.mark.parametrize("bad", ['{"id": 1, "context": "cut', "[1]", b"\xff"])
def test_a_bad_first_line_costs_that_line_alone(source, tmp_path, bad):
    """Whatever the file is called."""
    first = bad if isinstance(bad, bytes) else bad.encode()
    found = []
    for name in ("mine.json", "mine.jsonl"):
        path = tmp_path / name
        path.write_bytes(first + b"\n" + lines(source).encode())
        task = Squad(data=str(path))
        task.check_data()
        splits = task.splits()
        assert [row.index for row in splits.quarantined] == ["line 1"]
        found.append((plain_splits(splits), task.fingerprint()[16:]))
    assert found[0] == found[1]


def plain_splits(splits):
    return {split: getattr(splits, split).to_list() for split in SPLITS}


def test_records_in_parquet_and_a_folder_of_them(source, write, tmp_path):
    wanted = plain_splits(Squad(data=write(source, "sound.json")).splits())
    Dataset.from_list(records(source)).to_parquet(tmp_path / "mine.parquet")
    task = Squad(data=str(tmp_path / "mine.parquet"))
    task.check_data()
    assert plain_splits(task.splits()) == wanted
    Dataset.from_list([{"question": "Who?", "answer": "I"}]).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="no column 'context'; it has question, answer; SQuAD"):
        Squad(data=str(tmp_path / "other.parquet")).check_data()
    parts = {"train": {"data": source["data"][:7]}, "validation": {"data": source["data"][7:]}}
    for name, part in parts.items():
        write(part, f"nested/{ {'train': 'train', 'validation': 'dev'}[name] }.json")
        (tmp_path / "tables").mkdir(exist_ok=True)
        Dataset.from_list(records(part)).to_parquet(tmp_path / "tables" / f"{name}.parquet")
    one, two = (Squad(data=str(tmp_path / name)).splits() for name in ("nested", "tables"))
    assert plain_splits(one) == plain_splits(two)


def test_numbers_are_ids_and_a_paragraph_without_a_title_is_an_article(source, write):
    number = itertools.count(30_000)
    sound = Squad(data=write(source, "sound.json")).splits()
    for article in source["data"]:
        del article["title"]
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                question["id"] = next(number)
    splits = Squad(data=write(source)).splits()
    total = sum(len(getattr(sound, split)) for split in SPLITS)
    assert sum(len(getattr(splits, split)) for split in SPLITS) == total
    assert splits.notes == {"titles_made": total}
    paragraphs = sum(len(article["paragraphs"]) for article in source["data"])
    assert len(set.union(*groups(splits).values())) == paragraphs
    assert {one["id"] for split in SPLITS for one in getattr(splits, split)} == {
        str(30_000 + i) for i in range(total)
    }
    for i, article in enumerate(source["data"]):
        for paragraph in article["paragraphs"]:
            paragraph["document_id"] = i // 2
    assert set.union(*groups(Squad(data=write(source)).splits()).values()) == {
        f"document {i}" for i in range(len(source["data"]) // 2)
    }


@pytest.mark.parametrize("restart", ["in every paragraph", "everywhere", "none"])
def test_ids_that_repeat_are_made_from_their_place(source, write, restart):
    sound = Squad(data=write(source, "sound.json")).splits()
    for article in source["data"]:
        for paragraph in article["paragraphs"]:
            for i, question in enumerate(paragraph["qas"]):
                question["id"] = {"in every paragraph": str(i), "everywhere": "same", "none": None}[restart]
    copied = source["data"][0]["paragraphs"][0]["qas"]
    copied.append(dict(copied[1]))
    splits = Squad(data=write(source)).splits()
    assert [row.index for row in splits.quarantined] == [f"data[0].paragraphs[0].qas[{len(copied) - 1}]"]
    assert "appears twice" in splits.quarantined[0].reason
    ids = [one["id"] for split in SPLITS for one in getattr(splits, split)]
    assert len(set(ids)) == len(ids) == sum(len(getattr(sound, split)) for split in SPLITS)
    kept = {"in every paragraph": len(copied) - 1, "everywhere": 1, "none": 0}[restart]
    assert splits.notes["ids_made"] == len(ids) - kept
    assert groups(splits) == groups(sound)


def test_ids_that_two_files_share_are_told_apart(source, write, tmp_path):
    for name, articles in (("train", source["data"][:6]), ("dev", source["data"][6:])):
        part = copy.deepcopy({"data": articles})
        for article in part["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    question["id"] = "same"
        write(part, f"both/{name}.json")
    splits = Squad(data=str(tmp_path / "both")).splits()
    ids = [one["id"] for split in SPLITS for one in getattr(splits, split)]
    assert len(set(ids)) == len(ids)
    assert splits.quarantined == []


def test_only_files_that_are_read_otherwise_have_another_fingerprint(source, write):
    """Trials of files that were read before keep their ids, malformed rows and all."""
    qas = source["data"][0]["paragraphs"][0]["qas"]
    qas += [{**qas[0], "question": " "}, dict(qas[0]), {**qas[0], "id": "x", "answers": []}]
    path = Path(write(source))
    assert Squad(data=str(path)).fingerprint() == contents_fingerprint([path])
    qas.append({**qas[0], "id": 7})
    path = Path(write(source))
    assert Squad(data=str(path)).fingerprint() == f"{contents_fingerprint([path])}-2"
    path = Path(write(json.dumps(source).replace('"version"', '"data": [], "version"')))
    with pytest.raises(UserError, match="'data' is there twice"):
        Squad(data=str(path)).fingerprint()


def test_one_odd_row_costs_that_row_alone(source, write):
    rows = records(source)
    total = sum(len(getattr(Squad(data=write(source)).splits(), split)) for split in SPLITS)
    odd = {
        "digits": json.dumps({**rows[0], "id": "a", "n": 0}).replace('"n": 0', '"n": ' + "9" * 5000),
        "deeper": json.dumps({**rows[0], "id": "b", "n": 0}).replace('"n": 0', '"n": ' + "[" * 9999),
        "half a character": json.dumps({**rows[0], "id": "c", "question": "Who \ud800?"}),
        "'question' is there twice": json.dumps({**rows[0], "id": "d"})[:-1] + ', "question": "Who?"}',
        "not valid JSON": '{"id": ',
    }
    good = [json.dumps(row) for row in rows]
    content = "\n".join([*good[:3], *odd.values(), *good[3:]])
    splits = Squad(data=write(content, "mine.jsonl")).splits()
    assert [row.index for row in splits.quarantined] == [f"line {i}" for i in range(4, 9)]
    assert all(word in row.reason for word, row in zip(odd, splits.quarantined, strict=True))
    assert sum(len(getattr(splits, split)) for split in SPLITS) == total
    # In SQuAD's own file too, as far as it can be read at all.
    qas = source["data"][0]["paragraphs"][0]["qas"]
    qas += [{**qas[0], "id": "a", "n": [{"n": 1234567}]}, {**qas[0], "id": "b", "question": "Who \ud800?"}]
    splits = Squad(data=write(json.dumps(source).replace("1234567", "9" * 5000))).splits()
    assert [row.reason.partition(" (")[0] for row in splits.quarantined] == [
        "a number has more than 4,300 digits",
        "'question' is half a character",
    ]
    assert sum(len(getattr(splits, split)) for split in SPLITS) == total


TWICE = {
    "'question' is there twice": ('"question": "Who', '"question": "Where?", "question": "Who'),
    "in its paragraph, 'context' is there twice": ('"context": ', '"context": "Another.", "context": '),
    "'id' is there twice": ('"id": ', '"id": 7, "id": '),
    "'answers' is there twice": ('"answers": ', '"answers": [], "answers": '),
    "in 'answers', 'text' is there twice": ('"answers": [{', '"answers": [{"text": "Another", '),
    "in its article, 'title' is there twice": ('"title": ', '"title": "Another", "title": '),
    "'paragraphs' is there twice": ('"paragraphs": ', '"paragraphs": [], "paragraphs": '),
    "'qas' is there twice": ('"qas": ', '"qas": [], "qas": '),
    "": ('"question": "Who', '"unread": 1, "unread": {"a": 1, "a": 2}, "question": "Who'),
}


@pytest.mark.parametrize("reason", TWICE)
def test_a_member_that_is_there_twice_costs_who_reads_it(source, write, reason):
    plain = json.dumps(source).replace('"question": "', '"question": "Who ')
    total = sum(len(getattr(Squad(data=write(plain)).splits(), split)) for split in SPLITS)
    once, doubled = TWICE[reason]
    assert once in plain
    before, _, after = plain.rpartition(once)
    path = Path(write(before + doubled + after))
    splits = Squad(data=str(path)).splits()
    assert {row.reason for row in splits.quarantined} == ({reason} if reason else set())
    left = sum(len(getattr(splits, split)) for split in SPLITS)
    assert left < total if reason else left == total
    # What was once read otherwise has another fingerprint.
    assert Squad(data=str(path)).fingerprint() == contents_fingerprint([path]) + ("-2" if reason else "")


@pytest.mark.parametrize("part", ["paragraph", "article"])
def test_a_document_id_that_is_there_twice_is_of_its_part(source, write, part):
    name = '"context": ' if part == "paragraph" else '"title": '
    text = json.dumps(source).replace(name, '"document_id": 1, "document_id": 2, ' + name, 1)
    splits = Squad(data=write(text.replace('"title": ', '"name": '))).splits()
    reasons = {row.reason for row in splits.quarantined}
    assert reasons == {f"in its {part}, 'document_id' is there twice"}


def test_numbers_are_names_as_they_are_written(source, write):
    rows = [
        f'{json.dumps({**row, "title": "t"})[:-1]}, "id": {i}.10, "title": {i % 4}.{"1" if i % 2 else "10"}}}'
        for i, row in enumerate(
            ({k: v for k, v in row.items() if k not in ("id", "title")}) for row in records(source)
        )
    ]
    rows = [row.replace('"title": "t", ', "") for row in rows]
    listed, lines = Path(write(f"[{', '.join(rows)}]")), Path(write("\n".join(rows), "mine.jsonl"))
    one, other = (Squad(data=str(path)).splits() for path in (listed, lines))
    for split in SPLITS:
        assert getattr(one, split)["id"] == getattr(other, split)["id"], split
    assert all(name.endswith(".10") for split in SPLITS for name in getattr(one, split)["id"])
    assert Squad(data=str(listed)).fingerprint() == f"{contents_fingerprint([listed])}-2"
    assert Squad(data=str(lines)).fingerprint() == contents_fingerprint([lines])


def test_too_few_articles(source, write):
    source["data"] = source["data"][:2]
    with pytest.raises(UserError, match=r"at least 3 articles, but .* has 2"):
        Squad(data=write(source)).splits()


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Squad(data=str(tmp_path / "missing.json")).fingerprint()


@pytest.mark.parametrize("data", ["squad-shift", "hub:squad", "c4"])
def test_an_unknown_source(data):
    with pytest.raises(UserError, match=r"data = .* is not a source of data; .*squad-shifts"):
        validate(Squad, {"data": data}, "study.yaml")


def test_an_address_is_no_source():
    with pytest.raises(UserError, match=r"data = 'https://.*': is an address; fetch the file, and give its"):
        validate(Squad, {"data": "https://example.org/squad.json"}, "study.yaml")


def test_the_fingerprint_follows_the_contents(source, write):
    first = Squad(data=write(source)).fingerprint()
    source["data"].pop()
    assert Squad(data=write(source)).fingerprint() != first
    assert (
        Squad(data="squad-shifts").fingerprint()
        == Squad(data="squad-shifts", context_tokens=96).fingerprint()
    )


def test_rows_of_the_hub_give_the_same_questions(source, monkeypatch):
    parts = {
        "train": Dataset.from_list(records({"data": source["data"][:8]})),
        "validation": Dataset.from_list(records({"data": source["data"][8:]})),
    }

    hub = use(monkeypatch, parts.__getitem__)
    monkeypatch.setattr(
        "softprior.tasks.squad.hub_dataset_commit", lambda _, revision: f"commit of {revision}"
    )
    task = Squad(data="hub:rajpurkar/squad")
    assert task.fingerprint() == "rajpurkar/squad@commit of main-respaced"
    splits = task.splits()
    assert hub.asked == [("rajpurkar/squad", None, "commit of main", split, False) for split in parts]
    assert splits.quarantined == []
    assert splits.notes == {}
    assert len(splits.train) == len(parts["train"])
    assert len(splits.validation) + len(splits.test) == len(parts["validation"])


def test_a_hub_that_cannot_be_reached(monkeypatch):
    def unreachable(split):
        raise ConnectionError("Couldn't reach the Hub")

    use(monkeypatch, unreachable)
    with pytest.raises(UserError, match=r"not read the data 'rajpurkar/squad@a+' from the Hugging Face hub"):
        Squad(data=f"hub:rajpurkar/squad@{'a' * 40}").splits()


@pytest.mark.parametrize("broken", [{"data": []}, {"data": [{"title": "T", "paragraphs": []}]}])
def test_no_question_at_all(write, broken):
    with pytest.raises(UserError, match="contains no usable question"):
        Squad(data=write(broken)).splits()


def test_a_look_at_a_file_says_how_many_questions_splits_have(tmp_path: Path):
    """One file's articles are divided; a training file's own articles all stay there."""
    task = Squad(data=str(QUESTIONS), train_examples=5)
    splits = task.splits()
    sizes = {split: len(getattr(splits, split)) for split in ("train", "validation", "test")}
    assert task.look().notes.items() >= task.short(sizes).items()
    assert task.look().notes["test_short"] == 256 - sizes["test"]
