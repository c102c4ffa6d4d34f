"""Reads question-answer pairs in the layouts of SQuAD v1.1, and sets malformed rows aside."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

from softprior.errors import UserError
from softprior.inputs.data_files import Malformed, Number, sound, text_at
from softprior.results.files import version_of
from softprior.tasks.base import Look, Quarantined
from softprior.tasks.sources import in_brackets, require
from softprior.tasks.squad_files import LAYOUT, is_nested, items
from softprior.tasks.squad_splits import Standing

_SAMPLE = 100
"""Largest number of questions in a survey's sample."""
_ODD = re.compile(r"[\n<\[{]")


class Question(NamedTuple):
    """One question about a paragraph of an article; every answer occurs in the paragraph."""

    id: str
    title: str
    context: str
    question: str
    answers: tuple[str, ...]


@dataclass
class Reading:
    """What all files of one source have yielded besides questions.

    Attributes:
        notes: `answer_start_mended` counts answers whose row does not say where they occur, or says it
            wrongly, `answers_removed` answers that do not occur, where others do, `ids_made` questions
            without an id of their own, `titles_made` those without a title.
        ids: of all questions so far.
        seen: their own ids, if they have any, texts and paragraphs.
        admitted: number of questions that SQuAD v1.1, taken literally, would leave out.
        doubled: number of rows that are malformed because a member that is read is there twice.
        renumbered: number of questions of which a name is a number in another form than a float's, as 1.10.
        unpaired: number of questions with a usable answer beyond the numbers of `answer_start`.
    """

    quarantined: list[Quarantined] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)
    seen: set[tuple[str | None, str, str]] = field(default_factory=set)
    admitted: int = 0
    doubled: int = 0
    renumbered: int = 0
    unpaired: int = 0

    def file(self, path: Path) -> Iterator[Question]:
        """The questions of one local file, read as they are asked for if it has one per row.

        Raises:
            UserError: the file is missing, is not JSON or Parquet, has another layout, or has no
                usable question.
        """
        count = 0
        for at, item in items(path):
            for question in self._item(item, str(path), at):
                count += 1
                yield question
        if not count:
            raise UserError(f"the SQuAD file {path} contains no usable question{self.lost()}; {LAYOUT}")

    def rows(self, rows: Iterable[Mapping[str, object]], source: str) -> list[Question]:
        """The questions of a table with one question per row, as SQuAD has on the Hugging Face hub.

        Raises:
            UserError: no row has the columns context, question and answers.
        """
        questions = [
            question
            for number, row in enumerate(rows)
            for question in self._kept(row, row, row, source, f"row {number}")
        ]
        if not questions:
            raise UserError(
                f"no row of the data '{source}' has the columns id, title, context, question and answers "
                f"of SQuAD v1.1{self.lost()}; choose another dataset"
            )
        return questions

    def lost(self) -> str:
        """How many rows are malformed, and what is wrong with the first; empty if there are none."""
        return in_brackets(self.quarantined)

    def look(self) -> Look:
        """What was found besides questions, with those malformed rows that are reported."""
        rows = [row for row in self.quarantined if not row.rest][:1]
        damaged = [row for row in self.quarantined if row.rest]
        return Look(len(self.quarantined), (*rows, *damaged), dict(+self.notes))

    def _item(self, item: object, file: str, at: str) -> Iterator[Question]:
        """The questions of an article, or of a record, which is article, paragraph and question in one."""
        if (
            isinstance(item, dict)
            and not {"paragraphs", "qas"} & set(item)
            and {"context", "question"} & set(item)
        ):
            yield from self._kept(item, item, item, file, at)
            return
        paragraphs = _list(item, "article", "paragraphs")
        if isinstance(paragraphs, Malformed):
            self._set_aside(file, at, paragraphs)
            return
        for p, paragraph in enumerate(paragraphs):
            place = f"{at}.paragraphs[{p}]"
            questions = _list(paragraph, "paragraph", "qas")
            if isinstance(questions, Malformed):
                self._set_aside(file, place, questions)
                continue
            assert isinstance(item, dict)
            assert isinstance(paragraph, dict)
            for q, raw in enumerate(questions):
                yield from self._kept(raw, paragraph, item, file, f"{place}.qas[{q}]")

    def _kept(
        self, raw: object, paragraph: Mapping[str, object], article: Mapping[str, object], file: str, at: str
    ) -> list[Question]:
        found = self._question(raw, paragraph, article, file, at)
        if isinstance(found, Malformed):
            self._set_aside(file, at, found)
            return []
        return [found]

    def _set_aside(self, file: str, at: str, found: Malformed) -> None:
        self.quarantined.append(Quarantined(file, at, found.reason, found.rest))
        self.doubled += found.twice

    def _question(
        self, raw: object, paragraph: Mapping[str, object], article: Mapping[str, object], file: str, at: str
    ) -> Question | Malformed:
        """The question, or the reason why the row is not one."""
        if isinstance(raw, Malformed):
            return raw
        if not isinstance(raw, dict):
            return Malformed("the question is not an object")
        context, text = _filled(paragraph, "context"), _filled(raw, "question")
        nested = raw is not article
        if isinstance(context, Malformed):
            return _in_its("paragraph", context) if nested else context
        if isinstance(text, Malformed):
            return text
        given = _name(raw.get("id")) or _name(raw.get("guid"))
        numbers = (raw.get("id"), raw.get("guid"), article.get("title"), paragraph.get("document_id"))
        self.renumbered += any(isinstance(n, Number) and str(n) != repr(float(n)) for n in numbers)
        title = _title(paragraph, article, context, nested)
        if isinstance(given, Malformed):
            return given
        if isinstance(title, Malformed):
            return title
        unread = _number(raw)
        if unread is not None:
            return unread
        answers = _answers(raw.get("answers"))
        if isinstance(answers, Malformed):
            return answers
        key = (given, text, context)
        if key in self.seen:
            return Malformed(f"the id '{given}' appears twice" if given else "it appears twice")
        found = [self._answer(answer, context) for answer in answers]
        usable = [text for text in found if text]
        if not usable:
            return Malformed("no answer's text stands in the context")
        name = self._own_id(given, file, at)
        self.seen.add(key)
        self.ids.add(name)
        self.notes["answers_removed"] += len(answers) - len(usable)
        self.notes["ids_made"] += name != given
        self.notes["titles_made"] += _name(article.get("title")) is None
        self.unpaired += any(found[_numbered(raw["answers"], len(found)) :])
        self.admitted += not (
            nested
            and name == raw.get("id")
            and title == article.get("title")
            and isinstance(raw["answers"], list)
        )
        return Question(name, title, context.strip(), text.strip(), tuple(usable))

    def _own_id(self, given: str | None, file: str, at: str) -> str:
        """The id that the row has, or where it is if it has none or another question's."""
        places = (at, f"{at} of {Path(file).name}")
        made = places if given is None else (given, *(f"{given} at {place}" for place in places))
        return next((name for name in made if name not in self.ids), f"{made[-1]} ({len(self.ids)})")

    def _answer(self, answer: object, context: str) -> str | None:
        if not isinstance(answer, dict):
            return None
        text = answer.get("text")
        if not isinstance(text, str) or not text.strip() or text not in context:
            return None
        start = answer.get("answer_start")
        if not isinstance(start, int) or start < 0 or not context.startswith(text, start):
            self.notes["answer_start_mended"] += 1
        return text.strip()


class Survey(NamedTuple):
    """What is known about a source's files before they are actually read.

    Attributes:
        questions: where those of each file stand.
        reread: whether the files were once read otherwise: a nested one has questions that SQuAD v1.1, taken
            literally, would leave out, or names such as 1.10; or of members of one name the last was read.
        unpaired: whether answers beyond the numbers of `answer_start` were once left out.
        lost: the malformed rows that were found, in words.
        look: the same and the notes of `Reading`, for the plan.
        sample: the first question of some articles.
        odd: trained answers that span several lines or have a bracket, as texts of special tokens do.
    """

    questions: tuple[Sequence[Standing], ...]
    reread: bool
    unpaired: bool
    lost: str
    look: Look
    sample: tuple[Question, ...]
    odd: frozenset[str]


def survey(files: Sequence[Path]) -> Survey:
    """Examines files, once for as long as they do not change.

    Raises:
        UserError: a file is missing, of another layout, or without a usable question.
    """
    return _survey(tuple(files), tuple(version_of(require(file)) for file in files))


@lru_cache
def _survey(files: tuple[Path, ...], versions: tuple[tuple[int, ...], ...]) -> Survey:  # noqa: ARG001
    reading, parts, odd = Reading(), [], set()
    contexts: dict[str, int] = {}
    firsts: dict[str, Question] = {}
    for file in files:
        standing = []
        for question in reading.file(file):
            context = same_context(question.context)
            standing.append(Standing(question.title, contexts.setdefault(context, len(contexts))))
            if len(firsts) < _SAMPLE:
                firsts.setdefault(question.title, question)
            if _ODD.search(question.answers[0]):
                odd.add(question.answers[0])
        parts.append(standing)
    nested = any(is_nested(file) for file in files)
    reread = reading.doubled > 0 or (nested and reading.admitted + reading.renumbered > 0)
    unpaired = reading.unpaired > 0
    sample = tuple(firsts.values())
    return Survey(tuple(parts), reread, unpaired, reading.lost(), reading.look(), sample, frozenset(odd))


def same_context(context: str) -> str:
    """What two copies of a paragraph have in common, whatever their case and spacing."""
    return " ".join(context.lower().split())


def _title(
    paragraph: Mapping[str, object], article: Mapping[str, object], context: str, nested: bool
) -> str | Malformed:
    """What splits keep together: the article's title, a document's id, or else the paragraph itself."""
    places = (("article", article, "title"), ("paragraph", paragraph, "document_id"))
    for part, values, name in (*places, ("article", article, "document_id")):
        found = _name(values.get(name))
        if isinstance(found, Malformed):
            return _in_its(part, found) if nested else found
        if found:
            return found if name == "title" else f"document {found}"
    return f"context {hashlib.sha256(same_context(context).encode()).hexdigest()[:16]}"


def _in_its(part: str, found: Malformed) -> Malformed:
    """Why a question is malformed that is not itself at fault."""
    return replace(found, reason=f"in its {part}, {found.reason}")


def _filled(holder: Mapping[str, object], key: str) -> str | Malformed:
    found = text_at(holder, key)
    if isinstance(found, Malformed) and found.twice:
        return found
    if isinstance(found, Malformed):
        return Malformed(f"'{key}' is {found.reason}") if key in holder else found
    return found if found.strip() else Malformed(f"'{key}' is empty")


def _name(value: object) -> str | Malformed | None:
    """An id or a title, which may be a number; None where there is none."""
    if isinstance(value, Malformed):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value != value:
        return None
    text = str(value)
    return sound(text) if text.strip() else None


_ANSWERS = 'write [{"text": ..., "answer_start": ...}]'


def _answers(given: object) -> list[object] | Malformed:
    """Answers as objects; the hub has one object of two lists."""
    if isinstance(given, Malformed):
        return given
    for holder in given if isinstance(given, list) else [given]:
        read = [holder.get("text"), holder.get("answer_start")] if isinstance(holder, dict) else []
        twice = next((value for value in read if isinstance(value, Malformed)), None)
        if twice is not None:
            return replace(twice, reason=f"in 'answers', {twice.reason}")
    if not isinstance(given, dict):
        if given is None or given == []:
            return Malformed("there are no answers")
        if not isinstance(given, list):
            return Malformed(f"'answers' is not a list but {str(given)[:40]!r}; {_ANSWERS}")
        if not any(isinstance(answer, dict) for answer in given):
            return Malformed(f"'answers' has no objects but {str(given[0])[:40]!r}; {_ANSWERS}")
        return given
    texts, starts = given.get("text"), given.get("answer_start")
    if not isinstance(texts, list):
        return [given]
    starts = chain(starts if isinstance(starts, list) else (), repeat(None))
    found: list[object] = [{"text": t, "answer_start": s} for t, s in zip(texts, starts, strict=False)]
    return found or Malformed("there are no answers")


def _numbered(given: object, answers: int) -> int:
    """How many of the answers have a number: all, unless they are one object of two lists that differ."""
    texts, starts = (
        (given.get("text"), given.get("answer_start")) if isinstance(given, dict) else (None, None)
    )
    return len(starts) if isinstance(texts, list) and isinstance(starts, list) else answers


def _number(raw: dict[str, object]) -> Malformed | None:
    """A number of a question, or of what is inside of it, that `items` could not read, if there is one."""
    values = list(raw.values())
    while values:
        value = values.pop()
        if isinstance(value, Malformed) and not value.twice:
            return value
        values += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return None


def _list(holder: object, what: str, key: str) -> list[object] | Malformed:
    if isinstance(holder, Malformed):
        return holder
    found = holder.get(key) if isinstance(holder, dict) else None
    if isinstance(found, list | Malformed):
        return found
    return Malformed(f"the {what} has no list '{key}'{_keys(holder)}")


def _keys(item: object) -> str:
    return f"; it has {', '.join(map(str, item)) or 'nothing'}" if isinstance(item, dict) else ""
