"""Which part of an example a token belongs to: input, question, answer, or the task's own template."""

from __future__ import annotations

from softprior.assets.tokens import Tokenizer
from softprior.prompt import Row
from softprior.tasks.base import Example, Task

PARTS = ("input", "question", "answer", "template")
"""Every token has exactly one. `template` is what the task writes around its data ("Answer:") and what a chat
template writes around that, `input` is everything else: context, a sentence, whole texts."""

INPUT, QUESTION, ANSWER, TEMPLATE = range(len(PARTS))

DATA = tuple(name for name in PARTS if name != "template")
"""The parts that are text of the source; together they are all of it."""


def parts_of(task: Task, example: Example, row: Row, tokenizer: Tokenizer) -> list[int]:
    """The part of each token of a row, as an index into `PARTS`.

    The end-of-sequence label is not part of the answer. A token across a boundary counts as question before
    it counts as input, and as template only if nothing else but spaces is in it. A tokenizer without offsets
    cannot say where a part is; its tokens then count as input.
    """
    answered = bool(example.answers)
    parts = [ANSWER if answered and scored else INPUT for scored in row.scored]
    text, begin, around, special = task.input_text(example, tokenizer)

    def there(span: tuple[int, int]) -> tuple[int, int]:
        return span[0] + begin, span[1] + begin

    within = task.question(example)
    question = None if within is None else there(within)
    template = (*map(there, task.own_text(example)), *around)
    if (question is None and not template) or not tokenizer.is_fast:
        return parts
    offsets = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
    for index, (start, end) in enumerate(offsets["offset_mapping"]):
        if start == end:
            continue
        if question is not None and start < question[1] and end > question[0]:
            parts[index] = QUESTION
        elif any(_within(text, start, end, span) for span in template):
            parts[index] = TEMPLATE
    return parts


def _within(text: str, start: int, end: int, span: tuple[int, int]) -> bool:
    """Whether a token lies in a span, apart from spaces at its ends."""
    first, last = span
    outside = text[start : max(first, start)] + text[min(last, end) : end]
    return start < last and end > first and not outside.strip()
