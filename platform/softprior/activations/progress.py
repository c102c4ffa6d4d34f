"""Progress of an activations run: bars on a terminal, occasional lines in a log."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from softprior.activations.plan import RunPlan
from softprior.activations.run import Reached

QUIET = 15.0
"""Seconds between lines where there is no terminal."""


class _Bar:
    """One bar with a note."""

    def __init__(self, console: Console, name: str, *columns: ProgressColumn) -> None:
        self._console = console
        self._said = time.monotonic()
        self._bar = Progress(
            TextColumn(name),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TimeElapsedColumn(),
            *columns,
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=0, note="starting")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _show(self, done: int, total: int, note: str, line: str) -> None:
        """Moves the bar, or prints the line if none was printed for a while."""
        self._bar.update(self._task, completed=done, total=total, note=note)
        if not self._console.is_terminal and time.monotonic() - self._said > QUIET:
            self._said = time.monotonic()
            self._console.print(f"  {line}")


class Watch(_Bar):
    """Shows what `run_activations` reports."""

    def __init__(self, console: Console, plan: RunPlan) -> None:
        super().__init__(console, "tokens", TimeRemainingColumn())
        self._tokens = plan.tokens + plan.shuffled_tokens
        self._shards = len(plan.shards)

    def __call__(self, reached: Reached) -> None:
        note = f"{reached.shards}/{self._shards} shards on disk"
        line = f"{reached.tokens:,} of about {self._tokens:,} tokens, {note}"
        self._show(reached.tokens, self._tokens, note, line)


class Steps(_Bar):
    """Shows steps that each have a name."""

    def __init__(self, console: Console, name: str) -> None:
        super().__init__(console, name)
        self._name = name

    def __call__(self, done: int, total: int, note: str) -> None:
        self._show(done, total, note, f"{self._name}: {done} of {total} done, {note} next")
