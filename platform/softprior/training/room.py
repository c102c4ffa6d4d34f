"""Whether a task's texts fit a model, with everything that stands in front of them."""

from __future__ import annotations

from collections.abc import Sequence

from softprior.assets.tokens import require_rows
from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.models.protocol import ModelInfo
from softprior.tasks import Task
from softprior.tasks.prepared import Prepared, PreparedSplit


def require_room(
    info: ModelInfo,
    model: str,
    name: str,
    task: Task,
    prepared: Prepared,
    splits: Sequence[PreparedSplit],
    front: int,
) -> None:
    """Checks that every text that will be read or written fits the model's positions and vocabulary.

    Args:
        model, name: of the model and the task, for the error.
        splits: those of `prepared` that will be read.
        front: positions in front of each text.

    Raises:
        UserError: the longest does not fit, or one has a token that the embedding table does not have.
    """
    require_rows([prepared.largest], info.vocabulary, f"the texts of task {name}")
    longest = max(max(split.lengths) for split in splits)
    written = task.new_tokens
    need = longest + written + front
    if need > info.positions:
        raise UserError(
            f"the longest example ({counted(longest, 'token')}) with prompt and "
            f"{counted(written, 'new token')} takes {need} positions, but {model} has {info.positions}; "
            f"lower the length of task {name} or the prompt's tokens"
        )
