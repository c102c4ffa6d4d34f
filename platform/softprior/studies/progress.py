"""Progress for people: bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from softprior.records import Record
from softprior.specs import TrialSpec

QUIET = 15.0
"""Seconds between lines of one running trial where there is no terminal."""


class Watch:
    """An observer that shows the study and its running trials."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        self._console = console
        self._live = console.is_terminal
        self._total = total
        self._done = done
        self._tasks: dict[str, TaskID] = {}
        self._losses: dict[str, str] = {}
        self._said: dict[str, float] = {}
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._study = self._bars.add_task("study", total=total, completed=done, note="")

    def __enter__(self) -> Watch:
        if self._live:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._bars.stop()

    def progress(self, trial: TrialSpec, points: list[dict[str, Any]]) -> None:
        for point in points:
            phase, steps = point.get("phase"), point.get("steps")
            if "train_loss" in point:
                note = f"loss {point['train_loss']:.3f}"
            elif "validation_loss" in point:
                note = f"validation {point['validation_loss']:.3f}"
            else:
                note = phase or ""
            self._show(trial, point["step"], steps, note)

    def ended(self, record: Record) -> None:
        self._done += 1
        if record.status == "failed":
            outcome = f"failed: {record.error}"
        else:
            outcome = f"test loss {record.test.loss:.3f}" if record.test else "done"
        self._console.print(f"{self._done:>3}/{self._total}  {record.id[:6]}  {record.label}  {outcome}")
        self._bars.update(self._study, completed=self._done)
        task = self._tasks.pop(record.id, None)
        if task is not None:
            self._bars.remove_task(task)

    def _show(self, trial: TrialSpec, step: int, steps: int | None, note: str) -> None:
        if self._live:
            if trial.id not in self._tasks:
                total = None if trial.training is None else trial.training.steps
                self._tasks[trial.id] = self._bars.add_task(trial.label, total=total, note="")
            self._bars.update(self._tasks[trial.id], completed=step, note=note)
            return
        now = time.monotonic()
        if now - self._said.get(trial.id, 0.0) >= QUIET:
            self._said[trial.id] = now
            at = f"step {step}/{steps}" if steps else f"step {step}"
            self._console.print(f"         {trial.id[:6]}  {trial.label}  {at}  {note}")
