"""Tasks that a prompt is trained for, one per file, all of them in `TASKS`."""

from softprior.inputs.components import Table
from softprior.tasks.arithmetic import Arithmetic
from softprior.tasks.base import Task
from softprior.tasks.language import Language
from softprior.tasks.squad import Squad

__all__ = ["TASKS", "Arithmetic", "Language", "Squad", "Task"]

TASKS: Table[Task] = Table(
    Task,  # type: ignore[type-abstract]
    "tasks",
    {
        "squad": Squad,
        "arithmetic": Arithmetic,
        "language": Language,
    },
)
