"""Every parser of our own on generated input: a result or one sentence, and what was written reads back.

Few inputs each, always the same ones; `python -m tests.hostile.fuzz` has new ones guided by coverage.
"""

from __future__ import annotations

import csv
import io
import json
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any, TypeVar, cast, get_args

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save

from softprior.activations.spec import ActivationsSpec
from softprior.assets.conversion import check_gguf, gguf_sizes
from softprior.assets.wikipedia import plain_text
from softprior.errors import UserError, hidden
from softprior.exchange.embedded import KEY, TENSOR, load_embedded
from softprior.inputs.data_files import Malformed, lines, parsed
from softprior.inputs.row_files import ENDINGS, rows
from softprior.inputs.study_files import INVISIBLE, load_grid, load_spec, parse_value
from softprior.inputs.validation import validate
from softprior.prompt import After, Kind, Place, Stack
from softprior.results.posteriors import Posterior, load_posterior, save_posterior
from softprior.results.records import load_record, read_study
from softprior.results.storage import RemotePath, location, tensor_header, tensor_metadata
from softprior.statistics.store import site_order
from softprior.studies.search.space import Space
from softprior.studies.search.spec import SearchStudy, load
from softprior.tasks import TASKS
from softprior.tasks.pairs_metrics import contains, equal_numbers, exact_match, number
from softprior.tasks.squad_metrics import overlap
from softprior.tasks.squad_source import survey
from softprior.tasks.templates import Template, columns, filled, spans
from softprior.training.checkpoint import load_checkpoint
from softprior.training.own_code import read_code
from tests.assets.gguf_files import write_gguf
from tests.hostile.harness import assert_one_sentence, limited
from tests.hostile.study_files import GOOD
from tests.hostile.tensors import READERS

few = settings(max_examples=6, derandomize=True, database=None)

_SCRATCH = tempfile.TemporaryDirectory(prefix="softprior-parsers-")
HERE = Path(_SCRATCH.name)
RECORD = Path(__file__).parents[2] / "docs/studies/smollm2-priors/records/d11f2829ce91e0b7.json"

Found = TypeVar("Found")


def found(act: Callable[[], Found]) -> Found | None:
    """What a reader returns; None if it refuses with a sentence. Nothing else may be raised."""
    with limited():
        try:
            return act()
        except UserError as error:
            assert_one_sentence(str(error))
            return None


def file(name: str, content: bytes) -> Path:
    """The one file of this name, with another content."""
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


WORDS = ["null", "NaN", "-1", "1e999", "0x10", "010", "1:30", "../..", "!!python/name:os"]
SIGNS = ["/", "\\", "=", ",", ".", "%", '"', "'", "{", "}", "[", "]", "*a", "#"]
UNSEEN = ["", "\0", "\ufeff", "\ud800", "\u2028", "\x1b[", "\t", "\r", "\n"]
YAML = ["- ", ": ", "&a ", "<<: ", "{search: {low: 0, high: 1}}", "{search: {choices: [a, b]}}", "9" * 5000]
HOSTILE = st.sampled_from(WORDS + SIGNS + UNSEEN + YAML)
TEXT = st.lists(HOSTILE | st.text(max_size=8), max_size=8).map("".join)


def utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


BYTES = st.binary(max_size=60) | TEXT.map(utf8)


@st.composite
def _changed(draw: st.DrawFn, sound: bytes) -> bytes:
    """A sound content in which some pieces are others, doubled or gone, and which may still be equal."""
    content = sound
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(0, 12)))
        piece = draw(HOSTILE.map(utf8) | st.binary(max_size=6) | st.just(2 * content[start:stop]))
        content = content[:start] + piece + content[stop:]
    return content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content


def damaged(sound: bytes) -> st.SearchStrategy[bytes]:
    """Contents that differ from a sound one."""
    return _changed(sound).filter(lambda content: content != sound)


def json_values(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    return st.recursive(
        st.none() | st.booleans() | numbers | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=6,
    )


JSON = json_values(st.text())
SEARCH = GOOD.replace("[0.05]", "{search: {low: 0.01, high: 1, log: true}}") + "search: {trials: 3}\n"
RUN = "name: small\nmodel: {id: tiny}\ntasks: [arithmetic]\nsites: [resid.0, key.1]\nsample: 10\n"


@few
@given(damaged(GOOD.encode()))
def test_study_files(content: bytes) -> None:
    found(lambda: load_grid(file("study.yaml", content)))


@few
@given(damaged(RUN.encode()))
def test_files_of_the_activation_job(content: bytes) -> None:
    found(lambda: load_spec(ActivationsSpec, file("run.yaml", content)))


@few
@given(damaged(SEARCH.encode()))
def test_searches_and_their_ranges(content: bytes) -> None:
    def read() -> None:
        study = load(file("search.yaml", content))
        if isinstance(study, SearchStudy):
            space = Space(study, "search.yaml")
            space.corners()
            space.shown_parameters()

    found(read)


def test_what_is_damaged_was_sound() -> None:
    """A reader that refuses everything would pass the other tests."""
    assert found(lambda: load_grid(file("study.yaml", GOOD.encode())))
    assert found(lambda: load_spec(ActivationsSpec, file("run.yaml", RUN.encode())))
    assert found(lambda: load(file("search.yaml", SEARCH.encode())))
    assert found(lambda: list(rows(file("rows.csv", TABLE))))
    assert found(lambda: list(rows(file("rows.jsonl", LINES))))
    assert found(lambda: survey([file("questions.json", ASKED)]))
    assert found(lambda: read_code(file("own.py", CODE)))
    assert found(lambda: load_record(file(RECORD.name, RECORD.read_bytes())))
    content = save({TENSOR: torch.ones(1, 2)}, {KEY: EMBEDDED.decode()})
    assert found(lambda: load_embedded(file("embedded.safetensors", content)))
    for kind in READERS:
        assert found(lambda kind=kind: [READ[kind](_written(kind)[0])])


KEYS = st.sampled_from(["rates", "priors[0]", "training.steps", "model", "methods[0].soft.tokens", "x"])


@few
@given(KEYS | TEXT, TEXT)
def test_overrides(key: str, value: str) -> None:
    found(lambda: load_grid(file("study.yaml", GOOD.encode()), (f"{key}={value}", value)))


PLAIN = st.text(st.characters(exclude_categories=["Cs", *INVISIBLE], max_codepoint=0xFFFF), max_size=8)
HIDDEN = st.characters(categories=sorted(INVISIBLE), exclude_characters=" ", max_codepoint=0xFFFF)


@few
@given(json_values(PLAIN), HIDDEN)
def test_a_value_of_json_is_the_same_on_the_command_line(value: object, key: str) -> None:
    """Only a key that nobody sees is refused (and one of more than 1,024 characters, which YAML has not)."""
    assert found(lambda: [parse_value(json.dumps(value))]) == [value]
    assert found(lambda: [parse_value(json.dumps({key: value}))]) is None


def some(*pieces: str) -> st.SearchStrategy[str]:
    """Texts that are made of these pieces."""
    return st.lists(st.sampled_from(pieces), max_size=8).map("".join)


@few
@given(TEXT | some("decoder", "encoder", ".", "0", "12", "residual", "key", "keep", "after_bos"))
def test_names_of_places(name: str) -> None:
    try:
        place = Place.parse(name)
    except ValueError:
        return
    assert place.name == name


@few
@given(*(st.sampled_from(get_args(part)) for part in (Stack, Kind, After)), st.integers(0), st.booleans())
def test_names_of_places_read_back(stack: str, kind: str, after: str, block: int, behind: bool) -> None:
    name = f"{stack}.{block}.{kind}.{after}{'.after_bos' if behind else ''}"
    assert Place.parse(name).name == name


SITES = [
    *("encoder.resid.2", "encoder.resid.10", "encoder.final", "encoder.key.1"),
    *("decoder.resid.0", "decoder.final", "decoder.key.7", "decoder.value.3"),
]
"""Some sites in the order of a pass through the model."""


@few
@given(st.permutations(SITES), st.lists(TEXT.filter(lambda name: len(name) < 256), max_size=4))
def test_names_of_sites(sites: list[str], others: list[str]) -> None:
    """They are in the order of a pass, whatever lies beside them."""
    known = sorted([*others, *sites], key=site_order)
    assert [name for name in known if name in SITES] == SITES


TABLE = b'q,a\n"one, two",1\n2,"3 ""x"""\n'
LINES = b'{"q": "a", "a": [1, 2.50]}\n\n{"q": null}\r\n'


@few
@given(st.sampled_from(ENDINGS[:4]), BYTES | damaged(TABLE) | damaged(LINES))
def test_rows_of_files(ending: str, content: bytes) -> None:
    found(lambda: list(rows(file(f"rows{ending}", content))))


@few
@given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=4))
def test_json_lines_read_back(values: list[dict[str, Any]]) -> None:
    content = "".join(json.dumps(value) + "\n" for value in values)
    assert [item.value for item in rows(file("back.jsonl", content.encode()))] == values


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=8)


@few
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4))
def test_tables_read_back(values: list[tuple[str, str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("first", "second"), *values])
    known = found(lambda: list(rows(file("back.csv", text.getvalue().encode()))))
    assert known is not None
    assert [item.value for item in known] == [{"first": a, "second": b} for a, b in values]


@few
@given(st.binary(max_size=60) | damaged(LINES), st.lists(st.integers(0, 70), max_size=3))
def test_parts_of_a_file_have_each_of_its_lines_once(content: bytes, cuts: list[int]) -> None:
    path = file("parts.jsonl", content)
    whole = found(lambda: list(lines(path)))
    assume(whole is not None)
    ends = [0, *sorted(cuts), 2**40]
    assert [line for a, b in pairwise(ends) for line in lines(path, a, b)] == whole


@few
@given(TEXT | st.recursive(st.just("1"), lambda inner: inner.map(lambda text: f"[{text}]")))
def test_rows_of_json(text: str) -> None:
    known = parsed(text)
    assert isinstance(known, Malformed) or repr(known) == repr(json.loads(text))


ASKED = b"""{"version": "1.1", "data": [{"title": "t", "paragraphs": [
{"context": "The keeper was Ines.", "qas": [
{"id": "1", "question": "Who was it?", "answers": [{"text": "Ines", "answer_start": 15}]}]}]}]}"""


@few
@given(damaged(ASKED))
def test_questions(content: bytes) -> None:
    found(lambda: survey([file("questions.json", content)]))


TEMPLATE: TypeAdapter[str] = TypeAdapter(Template)


@few
@given(st.lists(TEXT | st.sampled_from(["{q}", "{a.b}", "{{", "}}"]), max_size=4).map("".join), TEXT)
def test_templates(template: str, value: str) -> None:
    try:
        template = TEMPLATE.validate_python(template.replace("\ud800", ""))  # which study files cannot have
    except ValidationError:
        return
    text = filled(template, dict.fromkeys(columns(template), value))
    if isinstance(text, str):
        assert all(0 <= start < stop <= len(text) for start, stop in spans(template, text))


@few
@given(TEXT | some("hub:", "OWNER", "/", "NAME", "@", "#", "s3://", "gs://", ".jsonl", "~"))
def test_sources_of_rows_and_places_of_results(text: str) -> None:
    written = {"data": text, "input": "{q}", "answer": "{a}"}
    found(lambda: validate(TASKS["pairs"], written, "study.yaml", "tasks[0]"))
    where = found(lambda: location(text))
    assert where is None or isinstance(where, RemotePath | PurePath)


@few
@given(TEXT, TEXT)
def test_answers(prediction: str, answer: str) -> None:
    for judge in (contains, equal_numbers, exact_match):
        with suppress(ValueError):
            assert judge(prediction, [answer]) in (0.0, 1.0)
    assert all(0 <= value <= 1 for value in overlap(prediction, [answer]))


@few
@given(st.fractions(max_denominator=10**6) | st.integers().map(Fraction))
def test_numbers_in_answers_read_back(value: Fraction) -> None:
    assert number(str(value)) == value


CODE = b"import torch\nclass A:\n    from x import y\n"


@few
@given(st.binary(max_size=40) | TEXT.map(utf8) | damaged(CODE))
def test_code_of_ones_own_is_read_and_not_run(content: bytes) -> None:
    found(lambda: read_code(file("own.py", content)))


@few
@given(BYTES | (BYTES | JSON.map(json.dumps).map(utf8)).map(lambda text: struct.pack("<Q", len(text)) + text))
def test_headers_of_tensors_in_a_bucket(content: bytes) -> None:
    stored = cast(RemotePath, SimpleNamespace(read_start=lambda count: content[:count]))
    with limited(), suppress(ValueError):
        header = tensor_header(stored)
        assert content.startswith(struct.pack("<Q", len(header)) + header)
        assert isinstance(tensor_metadata(stored), dict)


MOMENTS = (
    "initial",
    "final",
    "step-000012",
    "step-x",
    "snapshot",
    "optimizer",
    "12",
    "decoder.0.residual.keep",
)
NAMES = (
    st.lists(st.sampled_from(MOMENTS) | TEXT, min_size=1, max_size=4).map("/".join).filter(str.isprintable)
)
SHAPES = st.sampled_from([(), (2,), (1, 4), (3, 0)])
DEEP = "[" * 2000 + "]" * 2000
HEADERS = JSON.map(json.dumps) | st.sampled_from(
    [DEEP, f'{{"format": 1, "deep": {DEEP}}}', "not json", "\ud7ff"]
)
HEADER = b'{"format": 1, "trial": "t", "model": {"fingerprint": "f"}}'
EMBEDDED = (
    b'{"text": "a", "tokens": [1], "prompt": 1, "fingerprint": "f", "dtype": "float32", "placement": "front"}'
)


def text_of(content: bytes) -> str:
    return content.decode("utf-8", "replace")


@few
@given(
    st.sampled_from(sorted(READERS)),
    st.dictionaries(NAMES, SHAPES, max_size=4),
    HEADERS | damaged(HEADER).map(text_of),
)
def test_tensors_of_any_name(kind: str, shapes: dict[str, tuple[int, ...]], header: str) -> None:
    folder, path = _written(kind)
    known = _metadata(path)
    metadata = dict.fromkeys(known, header) if header != "null" else known
    path.write_bytes(save({name: torch.ones(shape) for name, shape in shapes.items()}, metadata))
    found(lambda: READ[kind](folder))


@few
@given(st.sampled_from(sorted(READERS)), st.data())
def test_damaged_tensors(kind: str, data: st.DataObject) -> None:
    folder, path = _written(kind)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    found(lambda: READ[kind](folder))


READ = {kind: reader.read for kind, reader in READERS.items()}
# Numbers may be other ones, which nobody can see.
READ["checkpoint"] = lambda folder: load_checkpoint(folder / "c.safetensors", "t")


def _written(kind: str) -> tuple[Path, Path]:
    """A sound folder of tensors, and its file."""
    folder = HERE / kind.replace(" ", "-")
    folder.mkdir(exist_ok=True)
    return folder, READERS[kind].write(folder)


def _metadata(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    return dict(header.get("__metadata__", {}))


@few
@given(HEADERS | damaged(EMBEDDED).map(text_of))
def test_prompt_embeddings(header: str) -> None:
    content = save({TENSOR: torch.ones(1, 2)}, {KEY: header})
    found(lambda: load_embedded(file("embedded.safetensors", content)))


@few
@given(some("postgresql", "https", "://", ":", "@", "/", "?", "=", "token", "user", "***", " ", "hub", "10"))
def test_secrets_in_addresses(text: str) -> None:
    assert hidden(hidden(text)) == hidden(text)
    assert "s3cr3t" not in hidden(f"{text} postgresql://user:s3cr3t@host/db")


SENTENCE = "The keeper of the light was Ines."
MARKUP = ("[[", "]]", "{{", "}}", "|", "<ref>", "</ref>", "File:", "'''", "==", "* ", "a word, and (more)")


@few
@given(TEXT | some(*MARKUP, f"\n\n{SENTENCE}\n\n"))
def test_articles(markup: str) -> None:
    """What stands before any markup is kept, and no markup is."""
    with limited():
        text = plain_text(f"{SENTENCE}\n\n{markup}")
    assert text.startswith(SENTENCE)
    assert not any(sign in text for sign in ("[[", "]]", "{", "}", "|", "<", ">", "="))


@few
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=3), st.sets(st.integers(0, 2000), max_size=3))
def test_posteriors_read_back(header: dict[str, Any], steps: set[int]) -> None:
    vectors = {Place(0): torch.ones(2, 3)}
    wanted = Posterior(header, vectors, vectors, dict.fromkeys(sorted(steps), vectors))
    save_posterior(HERE / "back.safetensors", wanted)
    known = load_posterior(HERE / "back.safetensors")
    assert known.header == {"format": 1, **header}
    assert list(known.snapshots) == sorted(steps)


@few
@given(damaged(RECORD.read_bytes()))
def test_records(content: bytes) -> None:
    found(lambda: load_record(file(RECORD.name, content)))
    found(lambda: read_study(file("study.json", content)))


@few
@given(damaged(write_gguf(HERE / "sound.gguf").read_bytes()))
def test_files_of_gguf(content: bytes) -> None:
    def read() -> None:
        path = file("model.gguf", content)
        check_gguf(path)
        gguf_sizes(path)

    found(read)
