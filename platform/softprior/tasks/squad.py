"""Question answering on SQuAD: a paragraph, a question, and an answer that occurs in the paragraph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from softprior.assets.data import data_fingerprint, squad_shifts_files
from softprior.assets.hub import hub_dataset_commit
from softprior.assets.tokens import Tokenizer
from softprior.errors import UserError
from softprior.inputs.base import SaysWhere
from softprior.inputs.labels import counted
from softprior.inputs.paths import home_path
from softprior.prompt import Row
from softprior.tasks.answered import Answered
from softprior.tasks.base import SPLITS, Example, Look, Split, Splits, require_usable, table
from softprior.tasks.hub_data import hub_rows
from softprior.tasks.partition import donors, keyed_order, round_robin
from softprior.tasks.sources import (
    REREAD,
    check_source,
    contents_fingerprint,
    is_path,
)
from softprior.tasks.squad_files import part_files
from softprior.tasks.squad_metrics import METRICS, exact_match, overlap
from softprior.tasks.squad_source import Question, Reading, Survey, same_context, survey
from softprior.tasks.squad_splits import SHARED_ARTICLE, SHARED_CONTEXT, Division, Standing, divide

_ARTICLES = len(SPLITS)
"""Fewest articles that can be divided."""
_QUESTION, _ANSWER = "\nQuestion: ", "\nAnswer:"
_RESPACED = "-respaced"
_ALL_ANSWERS = "-all-answers"
_OFFICIAL = "rajpurkar/squad@"


class Squad(Answered):
    """SQuAD v1.1 with splits by article, scored as by its official script.

    Where the source has a training and an evaluation part, articles of the second are halved into
    validation and test; a single file's articles are divided 80 : 10 : 10. A training paragraph that
    also occurs in an evaluation article is left out. Examples are chosen round-robin over articles
    and their paragraphs, so that few examples still come from many articles. In the control an
    example's paragraph is replaced by another of about the same length.

    Attributes:
        data: `squad-shifts` (training: new Wikipedia articles; evaluation: SQuAD's development set),
            a file in SQuAD's JSON or of records as the hub has them (JSON, JSON lines, Parquet), a folder
            with two such files called train and dev, or `hub:rajpurkar/squad`.
        context_tokens: longest example in tokens, question and answer included; if it or its control is
            longer, it is dropped and counted, never cut.
    """

    headline: ClassVar[str] = "f1"
    instruction: ClassVar[str] = "Answer the question with a few words taken from the text."

    data: Annotated[str, SaysWhere()] = "squad-shifts"
    context_tokens: Annotated[int, Field(ge=16)] = 384

    @field_validator("data")
    @classmethod
    def _source(cls, data: str) -> str:
        return check_source(data, ["squad-shifts"], hub=True)

    def fingerprint(self) -> str:
        """Identifies the catalogue's entry, the local files' contents, or the hub's commit.

        It is marked where an answer may span several lines, and where a question has more answers than
        `answer_start` has numbers, as data of the hub other than SQuAD itself may have. Such answers were
        once trained unchanged, or left out, and results of those rows must not be taken for results of these.
        """
        if is_path(self.data):
            files = self._files()
            found, seen = contents_fingerprint(files), survey(files)
            found += REREAD if seen.reread else ""
            found += _ALL_ANSWERS if seen.unpaired else ""
            return found + (_RESPACED if any("\n" in answer for answer in seen.odd) else "")
        if self.data.startswith("hub:"):
            found = self._on_hub()
            return found + _RESPACED + ("" if found.startswith(_OFFICIAL) else _ALL_ANSWERS)
        return data_fingerprint(self.data)

    @property
    def sources(self) -> tuple[str, ...]:
        return () if is_path(self.data) else (self.data,)

    def check_data(self) -> None:
        """Reads local files, once for all that planning needs."""
        self._check(SPLITS)

    def check_test_data(self) -> None:
        self._check(("test",))

    def _check(self, needs: Sequence[Split]) -> None:
        if is_path(self.data):
            found, division = self._surveyed()
            require_usable(self._faults(division, found.lost), needs)

    def look(self) -> Look:
        if not is_path(self.data):
            return Look()
        found, division = self._surveyed()
        notes = {**found.look.notes, **+division.notes, **self.short(division.sizes)}
        return found.look._replace(notes=notes)

    def told(self, notes: Mapping[str, int]) -> list[str]:
        """How many questions or answers are left out, and how many have an id or article made for them."""
        also = "is also in a split that is evaluated on"
        what = {
            "ids_made": ("question", "without a unique id; the position in the file serves as one"),
            "titles_made": ("question", "without a title; the document or the paragraph serves as one"),
            "answers_removed": ("answer", "left out, empty or not in the paragraph, beside others that are"),
            SHARED_ARTICLE: ("question", f"left out, whose article {also}"),
            SHARED_CONTEXT: ("question", f"left out, whose paragraph {also}"),
        }
        return [
            f"{counted(notes[name], noun)} {line}" for name, (noun, line) in what.items() if notes.get(name)
        ]

    def positions(self) -> int:
        """SQuAD's examples have 180 tokens on average; those below a low limit come close to it."""
        return min(180 + self.turns(), round(0.8 * self.context_tokens))

    def sampled(self, here: Callable[[], Tokenizer | None]) -> float | None:
        """Of local files, the mean over the first questions of up to 100 articles."""
        tokenizer = here() if is_path(self.data) else None
        if tokenizer is None:
            return None
        examples = (_example(question, None) for question in survey(self._files()).sample)
        return self.mean_length(examples, tokenizer)

    def longest(self) -> int:
        return self.context_tokens

    def misfit(self) -> str:
        return f"longer than context_tokens = {self.context_tokens} (with their own context or a swapped one)"

    @property
    def metrics(self) -> tuple[str, ...]:
        return METRICS

    def score(self, prediction: str, answers: Sequence[str]) -> dict[str, float]:
        """`exact_match`, `f1`, and the `precision` and `recall` whose harmonic mean that F1 is."""
        return {"exact_match": exact_match(prediction, answers), **overlap(prediction, answers)._asdict()}

    def question(self, example: Example) -> tuple[int, int]:
        """What stands between "Question: " and the last line."""
        start = example.input.rindex(_QUESTION) + len(_QUESTION)
        return start, len(example.input) - len(_ANSWER)

    def own_text(self, example: Example) -> tuple[tuple[int, int], ...]:
        """What introduces the question, and the last line."""
        first, last = self.question(example)
        return (first - len(_QUESTION), first), (last, len(example.input))

    def spells(self, token: str) -> bool:
        return is_path(self.data) and any(token in answer for answer in survey(self._files()).odd)

    def document(self, example: Example) -> str:
        """The article: its questions share paragraphs, and its paragraphs a subject."""
        return example.group

    def row(self, example: Example, tokenizer: Tokenizer) -> Row | None:
        """The example as tokens, or None where it is longer than `context_tokens`."""
        row = super().row(example, tokenizer)
        return row if row is not None and len(row.tokens) <= self.context_tokens else None

    def splits(self) -> Splits:
        """Reads the source and divides it by article."""
        reading = Reading()
        training, evaluation = self._read(reading)
        lost = reading.lost()
        division = self._divide(_standing(training), _standing(evaluation), lost)
        pools: dict[Split, list[Question]] = {split: [] for split in SPLITS}
        splits = chain(division.training, division.evaluation)
        for question, split in zip(chain(training, evaluation), splits, strict=True):
            if split is not None:
                pools[split].append(question)
        return Splits(
            **{split: table(_examples(pool)) for split, pool in pools.items()},
            quarantined=reading.quarantined,
            notes=dict(+(reading.notes + division.notes)),
            faults=self._faults(division, lost),
        )

    def _on_hub(self) -> str:
        """The data set with its commit."""
        repo, _, revision = self.data.removeprefix("hub:").partition("@")
        return f"{repo}@{hub_dataset_commit(repo, revision or 'main')}"

    def _surveyed(self) -> tuple[Survey, Division]:
        """What is known of local files, and the splits of their questions."""
        found = survey(self._files())
        training, *rest = found.questions
        return found, self._divide(training, rest[0] if rest else (), found.lost)

    def _files(self) -> list[Path]:
        return part_files(home_path(self.data))

    def _read(self, reading: Reading) -> tuple[list[Question], list[Question]]:
        """Questions to train on and to evaluate on; the second is empty where there is only one part."""
        if self.data.startswith("hub:"):
            name = self._on_hub()
            parts = [hub_rows(name, None, split, streaming=False) for split in ("train", "validation")]
            training, evaluation = (reading.rows(part, self.data) for part in parts)
            return training, evaluation
        if is_path(self.data):
            found = [list(reading.file(path)) for path in self._files()]
            return found[0], found[1] if len(found) == 2 else []
        files = squad_shifts_files()
        return list(reading.file(files["new_wiki"])), list(reading.file(files["squaddev"]))

    def _divide(self, training: Sequence[Standing], evaluation: Sequence[Standing], lost: str) -> Division:
        """The splits of questions.

        Raises:
            UserError: there are too few articles: for three splits, or two where training has its own part.
        """
        articles = {question.title for question in evaluation or training}
        least = _ARTICLES - bool(evaluation)
        if len(articles) < least:
            raise UserError(
                f"splitting by article needs at least {least} articles, but {self.data} has "
                f"{len(articles)}{lost}; add articles or choose other data"
            )
        return divide(training, evaluation)

    def _faults(self, division: Division, lost: str) -> dict[Split, str]:
        """For each split without a question, why it has none."""
        why = f"{' and '.join(self.told(division.notes))}{lost}; add articles with paragraphs of their own"
        return {
            split: f"{self.data} leaves no question for {split}: {why}"
            for split, size in division.sizes.items()
            if not size
        }


def _standing(questions: Iterable[Question]) -> list[Standing]:
    return [Standing(question.title, same_context(question.context)) for question in questions]


def _examples(questions: Sequence[Question]) -> Iterable[Example]:
    ordered = _interleaved(questions)
    givers = donors([question.context for question in ordered])
    for i, question in enumerate(ordered):
        yield _example(question, None if givers is None else ordered[givers[i]])


def _example(question: Question, other: Question | None) -> Example:
    """A question about its paragraph; in the control, about that of another one."""
    return Example(
        id=question.id,
        input=_input(question.context, question.question),
        control=None if other is None else _input(other.context, question.question),
        answers=question.answers,
        group=question.title,
    )


def _input(context: str, question: str) -> str:
    return f"{context}{_QUESTION}{question}{_ANSWER}"


def _interleaved(questions: Sequence[Question]) -> list[Question]:
    """In keyed order, then one question of each article in turn, each from the article's next paragraph."""
    by_id = {question.id: question for question in questions}
    articles: dict[str, dict[str, list[Question]]] = {}
    for name in keyed_order(by_id, "order"):
        question = by_id[name]
        articles.setdefault(question.title, {}).setdefault(question.context, []).append(question)
    return round_robin(round_robin(paragraphs.values()) for paragraphs in articles.values())
