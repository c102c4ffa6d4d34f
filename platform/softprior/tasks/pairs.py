"""A user's own inputs and answers, from JSON lines, CSV, Parquet or the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import field_validator, model_validator

from softprior.inputs.data_files import Malformed
from softprior.inputs.labels import counted
from softprior.tasks.own_data import Answers, OwnData
from softprior.tasks.pairs_metrics import Judge, Metric, judge
from softprior.tasks.templates import Row, Template, cells, columns, filled, only_column


class Pairs(OwnData):
    """Your own rows, with an input and its answer, which is generated and scored.

    Attributes:
        answer: the column of the answer, or a text with columns in braces. A list in a column has all
            accepted answers, of which the first is trained on.
        metric: the headline.
        other_metrics: further metrics.
        pattern: the regular expression of the metric `regex`.
        lines: `one`: an answer ends with its line, and one over several lines is trained with single spaces;
            `several`: it ends only with the end-of-sequence token.
    """

    answer: Template
    metric: Metric = "exact_match"
    other_metrics: tuple[Metric, ...] = ()
    pattern: str | None = None
    lines: Literal["one", "several"] = "one"

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern == "":
            raise ValueError("must not be empty; write what to find in an answer")
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is not a valid regular expression ({error}); correct it") from None
        return pattern

    @model_validator(mode="after")
    def _metrics_fit(self) -> Pairs:
        named = (self.metric, *self.other_metrics)
        if len(set(named)) < len(named):
            raise ValueError("metric and other_metrics name a metric twice; name each once")
        if ("regex" in named) != (self.pattern is not None):
            raise ValueError("the metric regex and a pattern go together; give both, or neither")
        return self

    # What ends and scores answers is a parameter here, so it is known of a task and not of its class.

    @property
    def headline(self) -> str:  # type: ignore[override]
        return self.metric

    @property
    def stop(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("\n",) if self.lines == "one" else ()

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(column for judge in self._judges for column in judge.columns)

    def score(self, prediction: str, answers: Sequence[str]) -> dict[str, float]:
        """The metrics that are named, of which `f1` also gives `precision` and `recall`."""
        return {name: value for one in self._judges for name, value in one.score(prediction, answers).items()}

    @property
    def answer_columns(self) -> tuple[str, ...]:
        return columns(self.answer)

    def answers(self, row: Row) -> Answers | Malformed:
        """The column's texts, or the composed one."""
        found: tuple[str, ...] | Malformed
        column = only_column(self.answer)
        if column is None:
            text = filled(self.answer, row)
            found = text if isinstance(text, Malformed) else (text,)
        else:
            found = cells(row, column)
        if isinstance(found, Malformed):
            return found
        accepted = tuple(dict.fromkeys(text.strip() for text in found))
        if not all(accepted):
            return Malformed("the answer is empty")
        for one in self._judges:
            for text in accepted:
                reason = one.usable(text)
                if reason is not None:
                    return Malformed(f"{reason} the answer '{text[:40]}'")
        return Answers(accepted)

    def told(self, notes: Mapping[str, int]) -> list[str]:
        """Also how many answers are written in one line."""
        respaced = notes.get("answers_respaced", 0)
        line = (
            f"{counted(respaced, 'answer')} over several lines trained with single spaces; set lines: several"
        )
        return [*super().told(notes), *([line] if respaced else [])]

    @property
    def _judges(self) -> list[Judge]:
        return [judge(metric, self.pattern) for metric in (self.metric, *self.other_metrics)]
