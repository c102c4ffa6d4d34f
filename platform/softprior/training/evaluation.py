"""Evaluation on a split: loss and accuracy with the right answer fed in, then answers of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

from softprior.assets.tokens import Tokenizer, stopping
from softprior.errors import UserError
from softprior.inputs.specs import EvaluationSpec
from softprior.models.lanes import dealt
from softprior.models.protocol import FrozenLM
from softprior.prompt import Prompt, Row, collate
from softprior.results.examples import ExampleRow
from softprior.results.records import Prediction, Score
from softprior.tasks.base import Task
from softprior.tasks.batching import evaluation_batches
from softprior.tasks.choosing import Options
from softprior.tasks.prepared import PreparedSplit
from softprior.training.failure import require_finite
from softprior.training.row_losses import RowLosses, row_losses
from softprior.training.untrained import Untrained

ValueT = TypeVar("ValueT")


class Answer(NamedTuple):
    """An answer and the task's metrics of it.

    Attributes:
        tokens: that were generated; none of a chosen answer.
    """

    text: str
    metrics: dict[str, float]
    tokens: tuple[int, ...] = ()


class Evaluation(NamedTuple):
    """What is known of a prompt on a split, from one reading of it.

    Attributes:
        score: of the prompt.
        untrained: of the untrained sample; None without one.
        rows: of every example, of which the scores are the means.
        generated: tokens of the answers to the first examples, without what ended them.
    """

    score: Score
    untrained: Score | None
    rows: list[ExampleRow]
    generated: list[tuple[int, ...]]

    @property
    def predictions(self) -> list[Prediction]:
        """The generated answers."""
        return [
            Prediction(example=row.example, answer=row.answer) for row in self.rows if row.answer is not None
        ]


class _Measured(NamedTuple):
    score: Score
    losses: RowLosses


class _Controls(NamedTuple):
    """Losses of control rows, and the examples that they are of."""

    examples: list[int]
    losses: RowLosses


class Evaluator:
    """Evaluates prompts of one trial on one task."""

    def __init__(
        self, host: FrozenLM, tokenizer: Tokenizer, task: Task, evaluation: EvaluationSpec, prefix: list[int]
    ) -> None:
        """`prefix` are the tokens of a written instruction, put in front of every input."""
        self._host = host
        self._tokenizer = tokenizer
        self._task = task
        self._evaluation = evaluation
        self._prefix = prefix

    def loss(self, prompt: Prompt | None, split: PreparedSplit, step: int) -> Score:
        """Loss and teacher-forced accuracy on the first examples of a split."""
        return self._measure(prompt, split, step).score

    def start(self, untrained: Untrained, split: PreparedSplit) -> Score:
        """`loss` of the sample that a trial starts from."""
        return self._start(untrained, split).score

    def full(
        self, prompt: Prompt | None, split: PreparedSplit, step: int, untrained: Untrained | None = None
    ) -> Evaluation:
        """`loss`, the context-shuffle control, and the task's metrics over generated answers.

        Args:
            untrained: the sample that a trained prompt started from; its loss is measured too.
        """
        score, losses = self._measure(prompt, split, step)
        controls = self._controls(prompt, split, step) if self._evaluation.context_shuffle else None
        together: dict[str, float] = {}
        if split.choices(0) is None:
            answers = self._answers(prompt, split)
        else:
            answers, together = self._chosen(prompt, split, step)
        score = score.model_copy(
            update={
                "shuffled_loss": None if controls is None else controls.losses.mean,
                "metrics": self._declared(_means([answer.metrics for answer in answers]) | together),
                "generated": len(answers),
            }
        )
        start = None if untrained is None else self._start(untrained, split)
        shuffled = {} if controls is None else dict(zip(controls.examples, controls.losses.nll, strict=True))
        ids, groups = split.column("id"), split.column("group")
        rows = [
            ExampleRow(
                example=ids[i],
                group=groups[i],
                tokens=_at(losses.tokens, i),
                nll=_at(losses.nll, i),
                correct=_at(losses.correct, i),
                scored=_at(losses.scored, i),
                shuffled_nll=shuffled.get(i),
                untrained_nll=None if start is None else _at(start.losses.nll, i),
                answer=answers[i].text if i < len(answers) else None,
                metrics=answers[i].metrics if i < len(answers) else {},
                expected=split.answers(i),
            )
            for i in range(max(score.examples, len(answers)))
        ]
        generated = [answer.tokens for answer in answers]
        return Evaluation(score, None if start is None else start.score, rows, generated)

    def _measure(self, prompt: Prompt | None, split: PreparedSplit, step: int) -> _Measured:
        return self._measured(self._losses(prompt, self._rows(split)), step)

    def _start(self, untrained: Untrained, split: PreparedSplit) -> _Measured:
        rows = [*map(self.prefixed, self._rows(split))]
        return self._measured(untrained.losses(self._host, rows, self._evaluation.batch), 0)

    def _rows(self, split: PreparedSplit) -> list[Row]:
        return [split.row(i) for i in range(min(len(split), self._evaluation.examples))]

    def _measured(self, losses: RowLosses, step: int) -> _Measured:
        require_finite(step, "evaluation loss", losses.mean)
        scored = sum(losses.scored)
        score = Score(
            step=step,
            loss=losses.mean,
            accuracy=sum(losses.correct) / scored if scored else None,
            examples=len(losses.nll),
            tokens=sum(losses.tokens),
        )
        return _Measured(score, losses)

    def _controls(self, prompt: Prompt | None, split: PreparedSplit, step: int) -> _Controls | None:
        """Losses with contexts swapped between examples; None for a task without contexts."""
        found = [(i, split.control_row(i)) for i in range(min(len(split), self._evaluation.examples))]
        rows = {i: row for i, row in found if row is not None}
        if not rows:
            return None
        losses = self._losses(prompt, list(rows.values()))
        require_finite(step, "loss with swapped contexts", losses.mean)
        return _Controls(list(rows), losses)

    def _losses(self, prompt: Prompt | None, rows: Sequence[Row]) -> RowLosses:
        return row_losses(self._host, prompt, [*map(self.prefixed, rows)], self._evaluation.batch)

    def prefixed(self, row: Row) -> Row:
        """The row with the instruction in front of its input, behind what begins every text or chat."""
        start = self._task.lead(self._tokenizer)
        if start is None:
            special = set(self._tokenizer.all_special_ids)
            start = next((i for i, token in enumerate(row.tokens) if token not in special), 0)
        blank = [False] * len(self._prefix)
        return Row(
            row.id,
            [*row.tokens[:start], *self._prefix, *row.tokens[start:]],
            [*row.labels[:start], *blank, *row.labels[start:]],
            [*row.scored[:start], *blank, *row.scored[start:]],
        )

    def _answers(self, prompt: Prompt | None, split: PreparedSplit) -> list[Answer]:
        """Answers to the first examples, in their order."""
        count = min(len(split), self._evaluation.generate) if self._task.generates else 0
        rows = [self.prefixed(split.input_row(i)) for i in range(count)]
        told: list[tuple[int, ...]] = [()] * count
        stop = stop_tokens(self._tokenizer, self._task.stop) | self._task.ends(self._tokenizer)
        lengths, lanes = [len(row.tokens) for row in rows], self._host.info().lanes
        for indices in answer_batches(lengths, self._evaluation.batch, lanes):
            batch = collate([rows[i] for i in indices])
            outputs = self._host.generate(prompt, batch, max_new=self._task.max_new_tokens, stop=stop)
            for i, tokens in zip(indices, outputs, strict=True):
                told[i] = tuple(tokens)
        return [self._answer(tokens, split.answers(i)) for i, tokens in enumerate(told)]

    def _answer(self, tokens: tuple[int, ...], accepted: tuple[str, ...]) -> Answer:
        written = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        text = _before(written, self._task.stop).strip()
        return Answer(text, self._metrics(text, accepted), tokens)

    def _chosen(
        self, prompt: Prompt | None, split: PreparedSplit, step: int
    ) -> tuple[list[Answer], dict[str, float]]:
        """The likeliest choices of the first examples, and metrics of all of them together.

        All choices are rows of the same passes. What follows no input is the same in many examples, and
        measured once.
        """
        found = [split.choices(i) for i in range(min(len(split), self._evaluation.examples))]
        choices = [one for one in found if one is not None]
        rows = [row for one in choices for row in one.given]
        given = self._losses(prompt, rows)
        require_finite(step, "loss of choices", given.total)
        distinct = {(*row.tokens, sum(row.labels)): row for one in choices for row in one.alone}
        alone = self._losses(prompt, list(distinct.values()))
        require_finite(step, "loss of choices without input", alone.total)
        known = dict(zip(distinct, alone.nll, strict=True))
        options, at = [], 0
        for one in choices:
            end = at + len(one.texts)
            likely = tuple(-nll for nll in given.nll[at:end])
            without = tuple(-known[(*row.tokens, sum(row.labels))] for row in one.alone)
            options.append(
                Options(one.texts, one.right, likely, tuple(given.tokens[at:end]), without or None)
            )
            at = end
        chosen = self._task.choose(options)
        answers = [Answer(*both) for both in zip(chosen.answers, chosen.metrics, strict=True)]
        return answers, chosen.together

    def _metrics(self, answer: str, accepted: tuple[str, ...]) -> dict[str, float]:
        return self._declared(self._task.score(answer, accepted))

    def _declared(self, found: dict[str, float]) -> dict[str, float]:
        """The metrics, if they are those that the task says it has, optional ones apart; or none at all."""
        names, declared = set(found), set(self._task.metrics)
        if found and not declared - set(self._task.optional) <= names <= declared:
            raise UserError(
                f"the task's `metrics` are {', '.join(self._task.metrics)}, but its `score` returns "
                f"{', '.join(found) or 'nothing'}; declare what it returns"
            )
        return found


def answer_batches(lengths: Sequence[int], batch: int, lanes: int) -> list[list[int]]:
    """Indices of the rows of each call of `FrozenLM.generate`, in order of length.

    Two batches share a call where passes side by side divide them: each then has a batch at most, and a token
    that needs all weights serves as many rows as one thread's pass may have.

    Args:
        lengths: tokens of each row.
        batch: rows of a pass, at most.
        lanes: see `ModelInfo`.
    """
    found = []
    waiting = evaluation_batches(lengths, batch)
    while waiting:
        two = [row for rows in waiting[:2] for row in rows]
        together = len(waiting) > 1 and len(dealt([lengths[row] for row in two], lanes)) > 1
        found.append(two if together else waiting[0])
        waiting = waiting[2 if together else 1 :]
    return found


def _before(text: str, stop: Sequence[str]) -> str:
    """What comes before the first of the stop texts."""
    return text[: min((at for end in stop if (at := text.find(end)) >= 0), default=len(text))]


def _at(values: Sequence[ValueT], index: int) -> ValueT | None:
    """The value of an example, if it was measured."""
    return values[index] if index < len(values) else None


def _means(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each metric that all examples have."""
    names = [name for name in scores[0] if all(name in score for score in scores)] if scores else []
    return {name: sum(score[name] for score in scores) / len(scores) for name in names}


@lru_cache(maxsize=4)
def stop_tokens(tokenizer: Tokenizer, stop: tuple[str, ...]) -> frozenset[int]:
    """`stopping`, found once."""
    return stopping(tokenizer, stop)
