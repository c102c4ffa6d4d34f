"""Evaluation on a split: loss and accuracy with the right answer fed in, then answers of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from softprior.assets.tokens import Tokenizer
from softprior.errors import UserError
from softprior.inputs.specs import EvaluationSpec
from softprior.liveness import alive
from softprior.models.protocol import FrozenLM
from softprior.prompt import Prompt, Row, collate
from softprior.results.records import Prediction, Score
from softprior.tasks.base import Task
from softprior.tasks.batching import evaluation_batches
from softprior.tasks.prepare import PreparedSplit
from softprior.training.failure import require_finite


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
        rows = [split.row(i) for i in range(min(len(split), self._evaluation.examples))]
        nll, tokens, correct, scored = self._totals(prompt, rows)
        require_finite(step, "evaluation loss", nll / tokens)
        return Score(
            step=step,
            loss=nll / tokens,
            accuracy=correct / scored if scored else None,
            examples=len(rows),
            tokens=tokens,
        )

    def full(self, prompt: Prompt | None, split: PreparedSplit, step: int) -> tuple[Score, list[Prediction]]:
        """`loss`, the context-shuffle control, and the task's metrics over generated answers."""
        score = self.loss(prompt, split, step)
        shuffled = None
        if self._evaluation.context_shuffle:
            controls = [split.control_row(i) for i in range(score.examples)]
            rows = [row for row in controls if row is not None]
            if rows:
                nll, tokens, _, _ = self._totals(prompt, rows)
                shuffled = nll / tokens
                require_finite(step, "loss with swapped contexts", shuffled)
        predictions, metrics = self._answers(prompt, split)
        full = score.model_copy(
            update={"shuffled_loss": shuffled, "metrics": metrics, "generated": len(predictions)}
        )
        return full, predictions

    def _totals(self, prompt: Prompt | None, rows: list[Row]) -> tuple[float, int, int, int]:
        nll, tokens, correct, scored = 0.0, 0, 0, 0
        for batch in self._batches(rows):
            losses = self._host.loss(prompt, collate(batch))
            alive()
            nll += float(losses.nll.double().sum())
            tokens += int(losses.tokens.sum())
            correct += int(losses.correct.sum())
            scored += int(losses.scored.sum())
        return nll, tokens, correct, scored

    def _batches(self, rows: Sequence[Row]) -> list[list[Row]]:
        rows = [self._prefixed(row) for row in rows]
        order = evaluation_batches([len(row.tokens) for row in rows], self._evaluation.batch)
        return [[rows[i] for i in indices] for indices in order]

    def _prefixed(self, row: Row) -> Row:
        """The row with the instruction in front, but behind special tokens that begin every text."""
        special = set(self._tokenizer.all_special_ids)
        start = next((i for i, token in enumerate(row.tokens) if token not in special), 0)
        blank = [False] * len(self._prefix)
        return Row(
            row.id,
            [*row.tokens[:start], *self._prefix, *row.tokens[start:]],
            [*row.labels[:start], *blank, *row.labels[start:]],
            [*row.scored[:start], *blank, *row.scored[start:]],
        )

    def _answers(
        self, prompt: Prompt | None, split: PreparedSplit
    ) -> tuple[list[Prediction], dict[str, float]]:
        count = min(len(split), self._evaluation.generate) if self._task.generates else 0
        if not count:
            return [], {}
        rows = [self._prefixed(split.input_row(i)) for i in range(count)]
        answers = [""] * count
        stop = stop_tokens(self._tokenizer, self._task.stop)
        for indices in evaluation_batches([len(row.tokens) for row in rows], self._evaluation.batch):
            batch = collate([rows[i] for i in indices])
            outputs = self._host.generate(prompt, batch, max_new=self._task.max_new_tokens, stop=stop)
            for i, tokens in zip(indices, outputs, strict=True):
                answers[i] = self._tokenizer.decode(tokens, skip_special_tokens=True).strip()
        scores = [self._task.score(answer, split.answers(i)) for i, answer in enumerate(answers)]
        unlike = next((score for score in scores if set(score) != set(self._task.metrics)), None)
        if unlike is not None:
            raise UserError(
                f"the task's `metrics` are {', '.join(self._task.metrics)}, but its `score` returns "
                f"{', '.join(unlike) or 'nothing'}; declare what it returns"
            )
        means = {name: sum(score[name] for score in scores) / count for name in scores[0]}
        predictions = [Prediction(example=row.id, answer=a) for row, a in zip(rows, answers, strict=True)]
        return predictions, means


@lru_cache(maxsize=4)
def stop_tokens(tokenizer: Tokenizer, stop: tuple[str, ...]) -> frozenset[int]:
    """The end-of-sequence token and every token whose text contains one of the stop texts.

    Whatever precedes the stop text in such a token is lost with it. Tokenizers join line breaks only with
    white space or punctuation, which the metrics drop anyway.
    """
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    ends = {i for i, text in enumerate(texts) if any(s in text for s in stop)}
    end = tokenizer.eos_token_id
    return frozenset(ends if end is None else ends | {end})
