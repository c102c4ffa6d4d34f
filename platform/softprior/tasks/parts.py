"""Which part of an example a token belongs to: input, question or answer."""

from __future__ import annotations

from typing import Any

from softprior.prompt import Row
from softprior.tasks.base import Example, Task

PARTS = ("input", "question", "answer")
"""Every token has exactly one; `input` is what is neither of the others (context, "Answer:", whole texts)."""

INPUT, QUESTION, ANSWER = range(len(PARTS))


def parts_of(task: Task, example: Example, row: Row, tokenizer: Any) -> list[int]:
    """The part of each token of a row, as an index into `PARTS`.

    The end-of-sequence label is no token of the answer. A tokenizer without offsets cannot say where the
    question stands; its tokens then count as input.
    """
    answered = bool(example.answers)
    parts = [ANSWER if answered and scored else INPUT for scored in row.scored]
    question = task.question(example)
    if question is not None and tokenizer.is_fast:
        first, last = question
        offsets = tokenizer(example.input, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        for index, (start, end) in enumerate(offsets):
            if start < end and start < last and end > first:
                parts[index] = QUESTION
    return parts
