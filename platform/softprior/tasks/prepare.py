"""Tokenises a task's examples, once, and keeps them in the cache as Arrow tables."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from functools import lru_cache
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from datasets import Dataset, Features, List, Value

from softprior.assets.cache import cache_root, ensure
from softprior.assets.tokens import NotJointError, Tokenizer
from softprior.inputs.data_files import plain
from softprior.prompt import Row
from softprior.results.provenance import SOURCES, edits
from softprior.tasks import TASKS
from softprior.tasks.base import SPLITS, Example, Look, Quarantined, Split, Task, require_usable
from softprior.tasks.choice_rows import FEATURES, NO_CHOICES, ChoiceColumns, choice_columns
from softprior.tasks.partition import round_robin
from softprior.tasks.parts import parts_of
from softprior.tasks.prepared import Prepared, PreparedSplit

FORMAT = 4
"""Increased whenever the same task and tokenizer give other tables."""

FACTS = "facts.json"
"""The file of counts and notes, beside a task's tables."""

_TOKENS, _MASK = List(Value("int32")), List(Value("bool"))
_FEATURES = Features(
    {
        "id": Value("string"),
        "tokens": _TOKENS,
        "labels": _MASK,
        "scored": _MASK,
        "control_tokens": _TOKENS,
        "control_labels": _MASK,
        "control_scored": _MASK,
        "answers": List(Value("string")),
        "length": Value("int32"),
        "parts": List(Value("int8")),
        "document": Value("string"),
        "group": Value("string"),
    }
)


def prepare(
    task: Task, tokenizer: Tokenizer, tokenizer_fingerprint: str, needs: Sequence[Split] = SPLITS
) -> Prepared:
    """Tokenises a task's examples, unless the cache has them for this task, data and tokenizer.

    Each split takes the first examples that fit, as many as the task asks for, in the task's order. An
    example whose tokens are not those of the joined text is left out like one that does not fit. A split
    that other code could not use is looked at again.

    Args:
        needs: the splits that are read; others may be empty.

    Raises:
        UserError: the source data is not available, or a split that is needed has no example that fits.
    """

    def build(folder: Path) -> None:
        _write(task, tokenizer, folder, needs)

    relative = _relative(task, tokenizer_fingerprint)
    folder = ensure(relative, build)
    if set(_opened(folder).faults) & set(needs) and _facts(folder / FACTS).get("sources") != SOURCES:
        folder = ensure(_again(relative), build)
    found = _opened(folder)
    require_usable(found.faults, needs)
    return found


def prepared_here(task: Task, tokenizer_fingerprint: str) -> Prepared | None:
    """What `prepare` returns if the cache has it; None otherwise. Nothing is fetched or tokenised.

    Raises:
        UserError: the source data has no fingerprint, as its file is missing.
    """
    folder = _folder(task, tokenizer_fingerprint)
    return None if folder is None else _opened(folder)


def is_prepared(task: Task, tokenizer_fingerprint: str, needs: Sequence[Split] = SPLITS) -> bool:
    """Whether the cache has what `prepare` returns, so that the source data is not asked again.

    Raises:
        UserError: the source data has no fingerprint, as its file is missing.
    """
    folder = _folder(task, tokenizer_fingerprint)
    return folder is not None and not set(_facts(folder / FACTS).get("faults", {})) & set(needs)


def _folder(task: Task, tokenizer_fingerprint: str) -> Path | None:
    """Where the cache has a task's examples: what was looked at again, if anything was; None without any."""
    relative = _relative(task, tokenizer_fingerprint)
    folders = (cache_root() / place for place in (_again(relative), relative))
    return next((folder for folder in folders if (folder / FACTS).is_file()), None)


def _again(relative: str) -> str:
    """Where the cache has what this code made of a task that other code could not use."""
    return f"{relative}-{SOURCES[:16]}"


@lru_cache(maxsize=8)
def _opened(folder: Path) -> Prepared:
    facts = _facts(folder / FACTS)
    quarantine = tuple(Quarantined(*row) for row in facts["quarantine"])
    return Prepared(
        **{split: PreparedSplit(_table(folder / split)) for split in SPLITS},
        dropped=facts["dropped"],
        quarantined=len(quarantine),
        notes=facts["notes"],
        quarantine=quarantine,
        firsts=facts.get("firsts", {}),  # tables of before do not have it, nor faults
        faults=facts.get("faults", {}),
        largest=facts["largest"],
        path=folder,
    )


def look(task: Task, tokenizer_fingerprint: str) -> Look:
    """What `prepare` has found if the cache has it already; otherwise what the task can say."""
    found = prepared_here(task, tokenizer_fingerprint)
    return task.look() if found is None else found.look


def _table(folder: Path) -> Dataset:
    """The table of a split; empty for one that cannot be used, as `datasets` reads no empty table."""
    if folder.is_dir():
        return Dataset.load_from_disk(str(folder))
    empty: dict[str, list[object]] = {column: [] for column in _FEATURES}
    return Dataset.from_dict(empty, features=_FEATURES)


def _facts(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _relative(task: Task, tokenizer_fingerprint: str) -> str:
    """Where the cache has a task's examples in a tokenizer's tokens."""
    key = json.dumps(
        [
            *(FORMAT, type(task).__name__, task.canonical(), task.fingerprint(), tokenizer_fingerprint),
            *edits(),
            *TASKS.origins(task),
        ]
    )
    return f"prepared/{type(task).__name__.lower()}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _write(task: Task, tokenizer: Tokenizer, folder: Path, needs: Sequence[Split]) -> None:
    splits = task.splits()
    faults = dict(splits.faults)
    require_usable(faults, needs)
    notes, dropped, largest = Counter(splits.notes), 0, 0
    firsts: dict[str, str] = {}
    for split in SPLITS:
        taken = _take(task, getattr(splits, split), tokenizer, split)
        if not taken.records:
            faults.setdefault(split, _none_fits(task, getattr(splits, split), split, taken))
            require_usable(faults, needs)
        dropped += taken.dropped
        notes += taken.notes
        firsts = taken.firsts | firsts
        largest = max([largest, *(max(_ids(record)) for record in taken.records)])
        notes.update(task.short({split: len(taken.records)}))
        if not taken.records:
            continue
        with _quiet():
            features = Features(_FEATURES | FEATURES) if taken.records[0]["choices"] else _FEATURES
            records = [{k: v for k, v in record.items() if k in features} for record in taken.records]
            Dataset.from_list(records, features=features).save_to_disk(str(folder / split))
    facts = {
        "dropped": dropped,
        "notes": dict(notes),
        "quarantine": [astuple(row) for row in splits.quarantined],
        "firsts": firsts,
        "faults": faults,
        "sources": SOURCES,
        "largest": largest,
    }
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")


class _Record(ChoiceColumns):
    """One row of a split's table; see `_FEATURES`. The columns of choices are empty where there are none."""

    id: str
    tokens: list[int]
    labels: list[bool]
    scored: list[bool]
    control_tokens: list[int] | None
    control_labels: list[bool] | None
    control_scored: list[bool] | None
    answers: list[str]
    length: int
    parts: list[int]
    document: str
    group: str


def _ids(record: _Record) -> list[int]:
    """The tokens of an example, of its control and of its choices."""
    choices = chain(*record["choice_tokens"], *record["alone_choices"])
    return [*record["tokens"], *(record["control_tokens"] or ()), *choices, *record["alone_tokens"]]


class _Taken(NamedTuple):
    records: list[_Record]
    dropped: int
    notes: Counter[str]
    firsts: dict[str, str]


def _take(task: Task, pool: Dataset, tokenizer: Tokenizer, split: Split) -> _Taken:
    wanted, dropped = task.examples_of(split), 0
    notes: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    firsts: list[_Record] = []
    others: list[list[_Record]] = []
    for example in map(Example.of, pool):
        if len(firsts) == wanted:
            break
        try:
            records = _records(task, example, tokenizer)
        except NotJointError as error:
            notes[error.note] += 1
            reasons.setdefault(error.note, plain(f"{example.id} ({example.input[:40]!r}): {error}"))
            records = []
        firsts += records[:1]
        others.append(records[1:])
        dropped += not records
        if records and example.answers:
            notes += _answer_notes(task, example, records[0], tokenizer)
    # Second chunks of documents only once every document has given its first, and so on.
    return _Taken(list(islice([*firsts, *round_robin(others)], wanted)), dropped, notes, reasons)


def _none_fits(task: Task, pool: Dataset, split: Split, taken: _Taken) -> str:
    reason = "".join(f"; the first left out is {one}" for one in list(taken.firsts.values())[:1])
    return (
        f"every split needs an example, and none of the {len(pool)} for {split} fits "
        f"({task.canonical()}); allow longer examples or add data{reason}"
    )


def _answer_notes(task: Task, example: Example, record: _Record, tokenizer: Tokenizer) -> Counter[str]:
    """Counts on how an answer is trained.

    `choices_begin_another`: one choice's tokens begin those of another. `choices_not_alone`: they have no
    tokens without the input. `answers_too_long`: it has more
    tokens than are generated, so that no model can write all of it. `answers_respaced`: it is over several
    lines, and trained with single spaces. `answers_not_regained`: a model that writes exactly what it was
    trained on does not get full marks, since the tokenizer has no tokens for the answer or generation stops
    within it.
    """
    labels = [token for token, scored in zip(record["tokens"], record["scored"], strict=True) if scored]
    written = tokenizer.decode(labels, skip_special_tokens=True)
    ends = [end for text in task.stop if (end := written.find(text)) >= 0]
    regained = task.score(written[: min(ends, default=len(written))].strip(), example.answers)
    writes = task.new_tokens > 0
    found = {
        "choices_begin_another": _begins_another(record["choice_tokens"]),
        "choices_not_alone": bool(record["choices"]) and not record["alone_choices"],
        "answers_too_long": 0 < task.new_tokens < len(labels),
        "answers_respaced": writes and task.trained_answer(example) != example.answers[0],
        "answers_not_regained": writes and regained.get(task.headline, 1.0) < 1,
    }
    return Counter({name: 1 for name, holds in found.items() if holds})


def _begins_another(choices: Sequence[Sequence[int]]) -> bool:
    ordered = sorted(map(list, choices))  # what begins another stands directly before one that it begins
    return any(two[: len(one)] == one for one, two in pairwise(ordered))


def _records(task: Task, example: Example, tokenizer: Tokenizer) -> list[_Record]:
    rows = task.rows(example, tokenizer)
    control = task.control_row(example, tokenizer) if rows else None
    if example.control is not None and control is None:
        return []
    choices = choice_columns(task, example, tokenizer) if example.choices else NO_CHOICES
    if choices is None:
        return []
    if control is not None and _labelled(control) != _labelled(rows[0]):
        raise NotJointError(
            f"the tokenizer encodes the answer {task.trained_answer(example)[:20]!r} differently after "
            "another context; leave context out, or choose a model whose tokenizer keeps words apart"
        )
    return [
        {
            "id": row.id,
            "tokens": row.tokens,
            "labels": row.labels,
            "scored": row.scored,
            "control_tokens": None if control is None else control.tokens,
            "control_labels": None if control is None else control.labels,
            "control_scored": None if control is None else control.scored,
            "answers": list(example.answers),
            "length": len(row.tokens),
            "parts": parts_of(task, example, row, tokenizer),
            "document": task.document(example),
            "group": example.group,
            **choices,
        }
        for row in rows
    ]


def _labelled(row: Row) -> list[int]:
    return [token for token, label in zip(row.tokens, row.labels, strict=True) if label]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides the progress bar that `datasets` draws for every table it saves."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
