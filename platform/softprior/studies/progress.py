"""Progress for people: bars on a terminal, occasional lines in a log."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from softprior.inputs.labels import labels, short_ids
from softprior.inputs.specs import TrialSpec
from softprior.results.records import Record
from softprior.studies.cluster import WAIT
from softprior.training.events import Event, Failed, Notice, Observer, Phase, Step, Validation

QUIET = 15.0
"""Seconds between lines of one running trial where there is no terminal."""

ENDING = "drawing figures"
"""What is left once all trials have ended, which takes seconds."""

NUMBER = re.compile(r"\d[\d.,]*")


class Watch(Observer):
    """An observer that shows the study and its running trials."""

    def __init__(
        self,
        console: Console,
        trials: Sequence[TrialSpec],
        done: int,
        quiet: float = QUIET,
        total: int | None = None,
        searched: bool = False,
    ) -> None:
        """`trials` are all trials of the study, of which `done` finished earlier.

        Args:
            total: final number of trials, for a search that has yet to propose them.
            searched: whether it is one.
        """
        self._console = console
        self._live = console.is_terminal
        self._total = total or len(trials)
        self._searched = searched
        self._labels = self._named(trials)
        self._ids = short_ids([trial.id for trial in trials])
        self._done = done
        self._quiet = quiet
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}
        self._unsaid: dict[str, str] = {}
        self._warned: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._clock = threading.Thread(target=self._watch_clock, name="watch", daemon=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        # Its processes need seconds, and no trial tells anything before they are there.
        waiting = done < self._total
        self._waiting_since = time.monotonic() if waiting else None
        note = "starting Ray" if waiting else ENDING
        self._study = self._bars.add_task("study", total=self._total, completed=done, note=note)

        if self._live:
            self._bars.start()
        else:
            self._clock.start()

    def close(self, records: Mapping[str, Record] | None, metrics: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        """Releases the terminal."""
        if self._live:
            self._bars.stop()
        else:
            self._left.set()
            self._clock.join()

    def added(self, trials: Sequence[TrialSpec]) -> None:
        """Registers the trials that a search has added."""
        self._labels = self._named(trials)
        self._ids = short_ids([trial.id for trial in trials])

    def _named(self, trials: Sequence[TrialSpec]) -> dict[str, str]:
        """Labels; in a search with all that is no default, in which trials to come may differ."""
        return labels(trials, beside_defaults=self._searched)

    def progress(self, trial: TrialSpec, events: Sequence[Event]) -> None:
        self._bars.update(self._study, note="")
        self._started()
        for event in events:
            match event:
                case Notice(again=True):
                    self._announce(trial, event.text)
                case Notice():
                    self._warn(trial, event.text)
                case Step():
                    self._show(trial, event.step, event.steps, f"loss {event.point.loss:.3f}")
                case Validation():
                    self._show(trial, event.step, None, f"validation {event.score.loss:.3f}")
                case Phase():
                    self._show(trial, event.step, None, f"{event.name} {event.part}".rstrip())
                case Failed():
                    self._show(trial, event.step, None, "failed")

    def ended(self, record: Record) -> None:
        self._done += 1
        if record.status == "failed":
            outcome = f"failed: {record.error}"
        elif record.status == "stopped":
            outcome = f"stopped early, validation {record.validation[-1].loss:.3f}"
        else:
            outcome = f"test loss {record.test.loss:.3f}" if record.test else "done"
        count = f"{self._done:>3}/{self._total}"
        with self._lock:
            self._unsaid.pop(record.id, None)
            self._console.print(
                f"{count}  {self._ids[record.id]}  {self._labels[record.id]}  {outcome}", soft_wrap=True
            )
        self._bars.update(self._study, completed=self._done)
        if self._done == self._total:
            self._bars.update(self._study, note=ENDING)
        task = self._tasks.pop(record.id, None)
        if task is not None:
            self._bars.remove_task(task)

    def _started(self) -> None:
        """Says how long Ray took if it took long; on a terminal the bar has shown the seconds."""
        since, self._waiting_since = self._waiting_since, None
        if since is not None and not self._live and time.monotonic() - since >= self._quiet:
            with self._lock:
                self._console.print(
                    f"         Ray started after {time.monotonic() - since:.0f} s", soft_wrap=True
                )

    def _warn(self, trial: TrialSpec, sentence: str) -> None:
        """Prints a warning about a prior once: records have the numbers of other places and trials."""
        kind = ("" if trial.prior is None else trial.prior.model_dump_json(), NUMBER.sub("#", sentence))
        if kind not in self._warned:
            self._warned.add(kind)
            self._announce(trial, sentence)

    def _announce(self, trial: TrialSpec, notice: str) -> None:
        """Prints at once a notice that should not be lost among other messages."""
        with self._lock:
            self._console.print(
                f"         {self._ids[trial.id]}  {self._labels[trial.id]}  {notice}", soft_wrap=True
            )

    def _show(self, trial: TrialSpec, step: int, steps: int | None, note: str) -> None:
        if self._live:
            if trial.id not in self._tasks:
                total = None if trial.training is None else trial.training.steps
                self._tasks[trial.id] = self._bars.add_task(self._labels[trial.id], total=total, note="")
            self._bars.update(self._tasks[trial.id], completed=step, note=note)
            return
        at = f"step {step}/{steps}  " if steps else f"step {step}  " if step else ""
        with self._lock:
            self._unsaid[trial.id] = f"         {self._ids[trial.id]}  {self._labels[trial.id]}  {at}{note}"
        self._say()

    def _say(self) -> None:
        """Prints the latest message of every trial that has been quiet long enough."""
        now = time.monotonic()
        with self._lock:
            for trial in list(self._unsaid):
                if now - self._said.get(trial, -self._quiet) >= self._quiet:
                    self._said[trial] = now
                    self._console.print(self._unsaid.pop(trial), soft_wrap=True)

    def _watch_clock(self) -> None:
        told = False
        # What begins right after a line was printed may last for minutes, and no event follows it.
        while not self._left.wait(self._quiet / 10):
            if not told and self._waiting_since is not None:
                told = True
                with self._lock:
                    self._console.print(
                        f"         starting Ray, which takes seconds, and on a busy machine up to {WAIT} s",
                        soft_wrap=True,
                    )
            self._say()
