"""What commands print, on any terminal: characters that it cannot show are replaced."""

from __future__ import annotations

import io
import os
import shlex
import sys
import textwrap
from collections.abc import Iterable

from rich.console import Console


def printable() -> None:
    """Makes a terminal or file in an encoding such as Latin-1 show `?` for characters it lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


ENDLESS = 10_000
"""Characters on a line of a file or a pipe, where tables are as wide as they need."""


def screen() -> Console:
    """A console as wide as the window or as COLUMNS says, and without end if nothing says so."""
    printable()
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(highlight=False, markup=False, width=None if known else ENDLESS)


COMMAND = f"{shlex.quote(sys.executable)} -m "
"""How a command begins that people copy: with this Python, as another may not have softprior."""


def tell(console: Console, lines: Iterable[str]) -> None:
    """Prints lines that are broken between words in a narrow window, what goes on being indented further.

    A line that is a command stays whole: its parts would run as commands of their own.
    """
    parts: list[str] = []
    for line in lines:
        if line.lstrip().startswith(COMMAND):
            parts.append(line)
            continue
        inside = " " * (len(line) - len(line.lstrip()) + 2)
        words = textwrap.TextWrapper(
            console.width, subsequent_indent=inside, break_long_words=False, break_on_hyphens=False
        )
        parts += words.wrap(line) or [""]
    if parts:
        console.print("\n".join(parts), soft_wrap=True)


def tell_unsent(console: Console, uri: str, problem: str) -> None:
    """Says that MLflow could not be written, and what to do.

    Args:
        uri: where to, without a password.
    """
    console.print(f"note: could not write to MLflow at {uri}: {problem}", soft_wrap=True)
    console.print(
        "      the results folder has everything; run the same command again to send it", soft_wrap=True
    )
