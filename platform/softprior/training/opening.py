"""Whether texts begin with the beginning-of-sequence token, where a method's vectors are behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from softprior.assets.tokens import Tokenizer
from softprior.errors import UserError
from softprior.methods import Method
from softprior.models.anchor import misplaced
from softprior.prompt import Shape
from softprior.tasks import TASKS, Task
from softprior.tasks.prepared import PreparedSplit


def check_opening(
    method: Method, shape: Shape, task: Task, model: str, here: Callable[[], Tokenizer | None]
) -> None:
    """Checks it before there is data, as far as the tokenizer says.

    Args:
        model: its id, for the error.
        here: gives the model's tokenizer, if it is available before the model is.

    Raises:
        UserError: they do not.
    """
    tokenizer = here() if _behind(method, shape) else None
    if tokenizer is not None:
        first = task.first_token(tokenizer)
        _require({-1 if first is None else first}, tokenizer, model, TASKS.entry(task).name)


def require_opening(
    method: Method,
    shape: Shape,
    name: str,
    splits: Sequence[PreparedSplit],
    model: str,
    tokenizer: Tokenizer,
) -> None:
    """Checks it in every row that will be read.

    Args:
        name, model: of the task and the model, for the error.

    Raises:
        UserError: one does not.
    """
    if _behind(method, shape):
        _require({first for split in splits for first in split.first_tokens}, tokenizer, model, name)


def require_input(method: Method, shape: Shape, name: str, task: Task, test: PreparedSplit) -> None:
    """Checks that where answers are written, every input has a token behind the first.

    A host continues a text from its last token, which then has to be behind the prompt.

    Args:
        name: of the task, for the error.

    Raises:
        UserError: one does not.
    """
    if task.new_tokens and _behind(method, shape) and test.answers_at_once:
        raise UserError(
            f"placement: after_bos needs a text behind the beginning-of-sequence token, but an input of task "
            f"{name}, behind which an answer is written, has no other token; leave it out, or use the "
            "method's placement: front"
        )


def _behind(method: Method, shape: Shape) -> bool:
    return any(place.placement == "after_bos" for place in method.places(shape.blocks, shape.stack))


def _require(firsts: set[int], tokenizer: Tokenizer, model: str, task: str) -> None:
    bos = tokenizer.bos_token_id
    if bos is None:
        raise misplaced(f"the tokenizer of {model} has no such token")
    if firsts != {bos}:
        text = tokenizer.decode([bos])
        raise misplaced(f"the tokenizer of {model} begins texts of task {task} without its {text}")
