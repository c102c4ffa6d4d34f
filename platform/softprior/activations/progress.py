"""How far an activations run is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from softprior.activations.plan import Plan
from softprior.activations.run import Progress as Reached

QUIET = 15.0
"""Seconds between lines where there is no terminal."""


class Watch:
    """Shows what `run_activations` reports."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self._console = console
        self._tokens = plan.tokens + plan.shuffled_tokens
        self._shards = len(plan.shards)
        self._said = time.monotonic()
        self._bar = Progress(
            TextColumn("tokens"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("tokens", total=self._tokens, note="starting")

    def __enter__(self) -> Watch:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, reached: Reached) -> None:
        note = f"{reached.shards}/{self._shards} shards on disk"
        self._bar.update(self._task, completed=reached.tokens, note=note)
        if not self._console.is_terminal and time.monotonic() - self._said > QUIET:
            self._said = time.monotonic()
            self._console.print(f"  {reached.tokens:,} of about {self._tokens:,} tokens, {note}")
