"""Whether a trial's numbers are what they seem: checks on a few rows of the test split.

The passes are few: one row alone, again with moved labels; and for tasks with answers one pass over the
first `TOKENS` tokens of two answers that were generated on the test split, so that four rows go forward.
Answers too short for that are generated again without an end, which adds two. A saved posterior that differs
from the vectors in memory adds one. The other checks read what has been measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from softprior.assets.tokens import Tokenizer
from softprior.inputs.specs import EvaluationSpec
from softprior.liveness import alive
from softprior.models.protocol import FrozenLM
from softprior.prompt import Prompt, Row, collate
from softprior.results.posteriors import load_posterior
from softprior.results.records import StepPoint
from softprior.results.sanity import Check, Verdict
from softprior.results.storage import Location
from softprior.tasks import Task
from softprior.tasks.base import Example
from softprior.tasks.batching import evaluation_batches
from softprior.tasks.prepared import Prepared, PreparedSplit
from softprior.training.evaluation import Evaluation, Evaluator

TOKENS = 4
"""Most tokens that are checked of each of two answers; fewer in both together say too little."""

CLOSE = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.1}
"""Nats per label token by which two ways to the same loss may differ. Rows alone have other sizes of matrix
products than in a batch: in float32 that was some 1e-5 of a loss where measured, and half precision rounds
logits of about 20 to 1/64 and 1/8."""

TIES = {"float32": 1, "float16": 2, "bfloat16": 2}
"""Most generated tokens that need not be the other path's first choice, of `TOKENS` at least. Where the first
two choices are equal up to rounding, each path may take another, and both go on from the one that was
generated, so that a tie costs one token. On `tiny` the first two logits are closer than d at 0.35 d of
the tokens (3.4% at 0.1). Rounding of some 1e-5 in float32 therefore makes a tie in one of 10,000 trials of
eight tokens: one is to be expected in large studies, two in one trial never. In half precision ties are
common."""

ALIKE = 0.9
"""Share of answers that are the same from which they are called one constant."""


@dataclass(frozen=True)
class Sanity:
    """Checks a trial that has been evaluated.

    Attributes:
        host, tokenizer, task, evaluation: as of the trial.
        evaluator: of the trial, whose rows may have an instruction in front.
        dtype: of the trial.
    """

    host: FrozenLM
    tokenizer: Tokenizer
    task: Task
    evaluation: EvaluationSpec
    evaluator: Evaluator
    dtype: Literal["float32", "bfloat16", "float16"]

    def checks(
        self,
        prompt: Prompt,
        prepared: Prepared,
        test: Evaluation,
        steps: Sequence[StepPoint],
        posterior: Location | None,
    ) -> tuple[Check, ...]:
        """All checks that apply to the trial.

        Args:
            prompt: the trained one; empty for baselines.
            test: what was measured with it on the test split.
            posterior: the saved file; None for baselines.

        Raises:
            UserError: the posterior's file cannot be read.
        """
        return (
            *self.passes(prompt, prepared.test, test, posterior),
            self.labels(prepared.test),
            *self.answers(prepared, test, trained=bool(steps)),
            *of_numbers(test, steps),
        )

    def passes(
        self, prompt: Prompt, split: PreparedSplit, test: Evaluation, posterior: Location | None
    ) -> Iterator[Check]:
        """The checks that ask the host again."""
        pair = self._pair(split, self.evaluation.examples)
        first = self.evaluator.prefixed(split.row(pair[0]))
        close = CLOSE[self.dtype]

        def apart(one: float, other: float) -> float:
            return abs(one - other) / sum(first.labels)

        alone = self._alone(prompt, first)
        yield _at_most("batch_mates", apart(alone, test.rows[pair[0]].nll or 0.0), close)
        change: float | None = None
        for moved in _with_moved_labels(first):
            change = apart(alone, self._alone(prompt, moved))
            if change > close:
                break
        if change is not None:
            yield Check(name="moved_labels", number=change, verdict=_verdict(change > close, "fault"))
        if posterior is not None:
            saved = load_posterior(posterior).final
            # The same bits give the same loss without a pass.
            again = alone if _same(saved, prompt) else self._alone(saved, first)
            yield _at_most("posterior", apart(alone, again), close)
        if self.task.new_tokens:
            agreed, told = self._agreement(prompt, split, test)
            good = told - agreed <= min(TIES[self.dtype], told // TOKENS)
            yield Check(name="generation", number=agreed / told, verdict=_verdict(good, "fault"))

    def labels(self, split: PreparedSplit) -> Check:
        """Whether labels are where answers are; in running text, everywhere but at the first token."""
        count = min(len(split), self.evaluation.examples)
        right = sum(self._labelled(split, i) for i in range(count)) / count
        return Check(name="labels", number=right, verdict=_verdict(right == 1, "fault"))

    def answers(self, prepared: Prepared, test: Evaluation, *, trained: bool) -> Iterator[Check]:
        """Whether the answers are one constant, or no better than one."""
        given = [row.answer for row in test.rows if row.answer is not None]
        if not given:
            return
        share = _commonest(given)[1]
        accepted = [prepared.test.answers(i) for i in range(len(given))]
        constant = share >= ALIKE and _commonest([first for first, *_ in accepted])[1] < ALIKE
        yield Check(name="one_answer", number=share, verdict=_verdict(not constant, "alarm"))
        if trained and self.task.headline in test.score.metrics:
            always = _commonest(prepared.train.answered)[0]
            scores = [self.task.score(always, found)[self.task.headline] for found in accepted]
            majority = sum(scores) / len(scores)
            above = test.score.metrics[self.task.headline] - majority
            good = above > 0 or majority == 0
            yield Check(name="majority", number=above, verdict=_verdict(good, "alarm"))

    def _pair(self, split: PreparedSplit, count: int) -> list[int]:
        """The first row with the most padding in its batch, and the longest of that batch if it is another.

        Args:
            count: of rows that are looked at.
        """
        lengths = split.lengths[:count]
        batches = evaluation_batches(lengths, self.evaluation.batch)
        batch = max(batches, key=lambda found: lengths[found[-1]] - lengths[found[0]])
        return list(dict.fromkeys((batch[0], batch[-1])))

    def _alone(self, prompt: Prompt, row: Row) -> float:
        found = float(self.host.loss(prompt, collate([row])).nll.double())
        alive()
        return found

    def _agreement(self, prompt: Prompt, split: PreparedSplit, test: Evaluation) -> tuple[int, int]:
        """How many of the first generated tokens the pass with labels would choose too, of how many."""
        pair = self._pair(split, len(test.generated) or self.evaluation.examples)
        inputs = {i: self.evaluator.prefixed(split.input_row(i)) for i in pair}
        told = {i: list(test.generated[i][:TOKENS]) for i in pair if i < len(test.generated)}
        if sum(map(len, told.values())) < TOKENS:
            new = min(TOKENS, self.task.max_new_tokens)
            batch = collate(list(inputs.values()))
            written = self.host.generate(prompt, batch, max_new=new, stop=frozenset())
            told = dict(zip(pair, written, strict=True))
        rows = [_continued(inputs[i], tokens) for i, tokens in told.items() if tokens]
        losses = self.host.loss(prompt, collate(rows))
        return int(losses.correct.sum()), int(losses.scored.sum())

    def _labelled(self, split: PreparedSplit, index: int) -> bool:
        row = split.row(index)
        if not self.task.generates:
            return not row.labels[0] and all(row.labels[1:])
        text = self.tokenizer.decode(split.input_row(index).tokens)
        answer = self.task.trained_answer(Example(row.id, text, None, split.answers(index), ""))
        # There and back, as some tokenizers lose characters.
        tokens = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        return self._text(list(tokens)) == self._text(
            [token for token, label in zip(row.tokens, row.labels, strict=True) if label]
        )

    def _text(self, tokens: list[int]) -> list[str]:
        return self.tokenizer.decode(tokens, skip_special_tokens=True).split()


def of_numbers(test: Evaluation, steps: Sequence[StepPoint]) -> Iterator[Check]:
    """What the numbers of the trial say by themselves."""
    if test.score.shuffled_loss is not None:
        gap = test.score.shuffled_loss - test.score.loss
        yield Check(name="swapped_context", number=gap, verdict=_verdict(gap > 0, "alarm"))
    if steps:
        norm = steps[0].gradient
        yield Check(name="gradient", number=norm, verdict=_verdict(norm > 0, "alarm"))


def _verdict(good: bool, otherwise: Verdict) -> Verdict:
    return "passed" if good else otherwise


def _at_most(name: str, number: float, close: float) -> Check:
    return Check(name=name, number=number, verdict=_verdict(number <= close, "fault"))


def _same(one: Prompt, other: Prompt) -> bool:
    """Whether two prompts have the same places, and there the same vectors bit for bit."""
    return one.keys() == other.keys() and all(
        one[place].dtype == other[place].dtype and torch.equal(one[place], other[place].to(one[place].device))
        for place in one
    )


def _with_moved_labels(row: Row) -> Iterator[Row]:
    """The row with as many labels at its beginning, behind its first token or its second.

    No prompt makes the beginning of a text as likely as an answer. The token in front of an answer and the
    one that ends it are both certain once a prompt is trained: labels moved by one token may change nothing.
    What follows them stays: a host that does not look at labels is found by the same loss of the same tokens.

    One row in a thousand of a model that knows nothing has the same loss at two places by chance, hence two
    of them. Running text has labels everywhere but at its first token, and none can be moved.
    """
    length, count = len(row.labels), sum(row.labels)
    for start in (1, 2):
        labels = [start <= i < start + count for i in range(length)]
        if start + count <= length and labels != row.labels:
            yield replace(row, labels=labels, scored=[False] * length)


def _continued(row: Row, tokens: Sequence[int]) -> Row:
    before, new = [False] * len(row.tokens), [True] * len(tokens)
    return Row(row.id, [*row.tokens, *tokens], [*before, *new], [*before, *new])


def _commonest(answers: Sequence[str]) -> tuple[str, float]:
    """The commonest answer and its share."""
    answer, count = Counter(answers).most_common(1)[0]
    return answer, count / len(answers)
