"""Reading question-answer pairs in the layout of SQuAD v1.1, malformed rows set aside."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from softprior.errors import UserError
from softprior.tasks.base import Quarantined
from softprior.tasks.sources import require


class Question(NamedTuple):
    """One question about a paragraph of an article; every answer stands in the paragraph."""

    id: str
    title: str
    context: str
    question: str
    answers: tuple[str, ...]


@dataclass
class Reading:
    """What all files of one source have yielded besides questions.

    Attributes:
        notes: `answer_start_mended` counts answers that stand elsewhere than their row says,
            `answers_removed` answers that stand nowhere, beside others that do.
    """

    quarantined: list[Quarantined] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)

    def file(self, path: Path) -> list[Question]:
        """The questions of one SQuAD JSON file.

        Raises:
            UserError: the file is missing, is not JSON, or is JSON of another layout.
        """
        layout = 'SQuAD v1.1 is {"data": [{"title": ..., "paragraphs": [{"context": ..., "qas": [...]}]}]}'
        try:
            articles = json.loads(require(path).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"a SQuAD file is JSON, and {path} is not ({error}); {layout}") from None
        except OSError as error:
            raise UserError(f"a SQuAD file must be readable, and {path} is not ({error})") from None
        if not isinstance(articles, dict) or not isinstance(articles.get("data"), list):
            raise UserError(f"a SQuAD file has a list under the key 'data', and {path} has none; {layout}")
        questions = list(self._articles(articles["data"], str(path)))
        if not questions:
            raise UserError(
                f"a SQuAD file has at least one usable question, and {path} has none "
                f"({len(self.quarantined)} rows were malformed{self._first_reason()}); {layout}"
            )
        return questions

    def rows(self, rows: Iterable[dict[str, Any]], source: str) -> list[Question]:
        """The questions of a table with one question a row, as SQuAD has on the Hugging Face hub.

        Raises:
            UserError: no row has the columns id, title, context, question and answers.
        """
        questions = []
        for number, row in enumerate(rows):
            answers = row.get("answers")
            if isinstance(answers, dict):
                starts = answers.get("answer_start") or []
                texts = answers.get("text") or []
                answers = [{"text": t, "answer_start": s} for t, s in zip(texts, starts, strict=False)]
            found = self._question({**row, "answers": answers}, row.get("title"), row.get("context"))
            questions += self._kept(found, source, f"row {number}")
        if not questions:
            raise UserError(
                f"the data '{source}' must have the columns id, title, context, question and answers "
                f"of SQuAD v1.1, and no row of it does{self._first_reason()}; choose another dataset"
            )
        return questions

    def _articles(self, articles: list[Any], file: str) -> Iterator[Question]:
        for a, article in enumerate(articles):
            at = f"data[{a}]"
            if not isinstance(article, dict) or not isinstance(article.get("paragraphs"), list):
                self.quarantined.append(Quarantined(file, at, "the article has no list 'paragraphs'"))
                continue
            for p, paragraph in enumerate(article["paragraphs"]):
                at = f"data[{a}].paragraphs[{p}]"
                if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
                    self.quarantined.append(Quarantined(file, at, "the paragraph has no list 'qas'"))
                    continue
                for q, raw in enumerate(paragraph["qas"]):
                    found = self._question(raw, article.get("title"), paragraph.get("context"))
                    yield from self._kept(found, file, f"{at}.qas[{q}]")

    def _kept(self, found: Question | str, file: str, at: str) -> list[Question]:
        if isinstance(found, str):
            self.quarantined.append(Quarantined(file, at, found))
            return []
        return [found]

    def _question(self, raw: Any, title: Any, context: Any) -> Question | str:
        """The question, or the reason why the row is none."""
        if not isinstance(raw, dict):
            return "the question is not an object"
        texts = {"title": title, "context": context, "id": raw.get("id"), "question": raw.get("question")}
        for key, text in texts.items():
            if not isinstance(text, str):
                return f"'{key}' is missing or not a text"
            if not text.strip():
                return f"'{key}' is empty"
        if not isinstance(raw.get("answers"), list) or not raw["answers"]:
            return "there are no answers"
        if raw["id"] in self.ids:
            return f"the id '{raw['id']}' stands there twice"
        answers = [text for answer in raw["answers"] if (text := self._answer(answer, context))]
        if not answers:
            return "no answer's text stands in the context"
        self.notes["answers_removed"] += len(raw["answers"]) - len(answers)
        self.ids.add(raw["id"])
        return Question(raw["id"], title, context.strip(), raw["question"].strip(), tuple(answers))

    def _answer(self, answer: Any, context: str) -> str | None:
        text = answer.get("text") if isinstance(answer, dict) else None
        if not isinstance(text, str) or not text.strip() or text not in context:
            return None
        start = answer.get("answer_start")
        if not isinstance(start, int) or start < 0 or not context.startswith(text, start):
            self.notes["answer_start_mended"] += 1
        return text.strip()

    def _first_reason(self) -> str:
        if not self.quarantined:
            return ""
        first = self.quarantined[0]
        return f", the first at {first.index}: {first.reason}"
