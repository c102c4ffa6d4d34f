"""What a trial's own checks found: a number and a verdict each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from softprior.inputs.base import Spec

Verdict = Literal["passed", "note", "alarm", "fault"]
"""`fault`: numbers of the trial are wrong. `alarm`: they are right, but may not mean what one would think.
`note`: an alarm of a trial without a trained prompt, which says something of the model, not of a prompt."""


class Check(Spec):
    """One check of a trial.

    Attributes:
        name: a key of `SAID`.
        number: what was measured; `SAID` says of what.
        verdict: see `Verdict`.
    """

    name: str
    number: float
    verdict: Verdict

    @property
    def words(self) -> str | None:
        """What is wrong, with the number; None if the check passed."""
        if self.verdict == "passed":
            return None
        if self.verdict == "note" and self.name in NOTED:
            return NOTED[self.name].format(self.number)
        return SAID[self.name].format(self.number) if self.name in SAID else f"{self.name}: {self.number:g}"


SUPERSEDED = frozenset({"shifted_label"})
"""Checks of older records that are no longer read. This one found fault with prompts that answer well: it
compared the loss of the token that ends an answer with that of the one in front of it, and training brings
both to zero."""

SAID: Mapping[str, str] = {
    "labels": "the labels of only {:.0%} of the test examples are their answers",
    "moved_labels": "labels moved to the row's beginning change the loss by only {:.2g} nats per label token",
    "batch_mates": "alone, a row's loss is {:.2g} nats per label token from that among others of its batch",
    "generation": "only {:.0%} of generated tokens are the first choice of the pass that measures losses",
    "posterior": "the saved posterior, read back, gives a loss {:.2g} nats per label token away",
    "swapped_context": "swapped contexts change the loss by {:+.3f} nats: it does not come from reading them",
    "one_answer": "{:.0%} of the answers are the same one",
    "majority": "its answers score no better than always giving the most common training answer ({:+.1%})",
    "gradient": "the norm of the first step's gradient is {:g}",
    "no_prompt_answers": "{:.0%} of the answers are those of the model without a prompt",
    "kept_context": "swapped contexts cost only {:.0%} of what they cost the model without a prompt",
}
"""By check, what is said if it did not pass. Differences of losses in faults are absolute, and of one row."""

NOTED: Mapping[str, str] = {
    "swapped_context": "without a trained prompt the model does not use its context on this task: swapped "
    "contexts change its loss by {:+.3f} nats",
    "one_answer": "without a trained prompt {:.0%} of the model's answers are the same one",
}
"""By check, what is said of the model where no prompt is trained."""
