"""The progress of a download: a bar on a terminal, elsewhere a line for each tenth of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn


def say(message: str) -> None:
    """Prints one line for the user, on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(message, markup=False)


def megabytes(size: int) -> str:
    """A human-readable size in megabytes, of a million bytes each."""
    return f"{size / 1e6:.0f} MB" if size >= 10e6 else f"{size / 1e6:.1f} MB"


@contextmanager
def fetching(name: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Shows a download; the function it yields takes the number of bytes received.

    Args:
        total: bytes of the whole file.
        done: bytes that were already present.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(f"fetching {name}", total=total, completed=done)
            yield lambda count: bar.advance(task, count)
        return
    say(f"fetching {name} ({megabytes(total)})")
    arrived = done
    tenth = 10 * arrived // total

    def advance(count: int) -> None:
        nonlocal arrived, tenth
        arrived += count
        if 10 * arrived // total > tenth:
            tenth = 10 * arrived // total
            say(f"fetching {name}: {10 * tenth}%")

    yield advance
