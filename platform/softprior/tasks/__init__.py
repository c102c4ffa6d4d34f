"""Tasks that a prompt is trained for, one per file, all of them in `TASKS`."""

from softprior.inputs.components import Table
from softprior.inputs.entries import Entry
from softprior.tasks.arithmetic import Arithmetic
from softprior.tasks.base import Task
from softprior.tasks.choices import Choices
from softprior.tasks.cloze import Cloze
from softprior.tasks.language import Language
from softprior.tasks.pairs import Pairs
from softprior.tasks.squad import Squad

__all__ = ["TASKS", "Arithmetic", "Choices", "Cloze", "Language", "Pairs", "Squad", "Task"]

TASKS: Table[Task] = Table(
    Task,  # type: ignore[type-abstract]
    "tasks",
    {
        "squad": Squad,
        "arithmetic": Arithmetic,
        "language": Language,
        "cloze": Cloze,
        "pairs": Pairs,
        "choices": Choices,
    },
    written_as={"cloze": Entry(name="language", params={"mode": "cloze"})},  # cloze was a mode of it once
)
