"""Exit statuses of the commands, and the one place that turns errors into them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from softprior.errors import LeftOutWarning, UserError, full_disk

FINISHED, FAILED, WRONG = 0, 1, 2
"""Everything requested is done; some trials failed; the user has to fix something.

Ctrl-C gives 130, SIGTERM 143.
"""


@contextmanager
def _notes() -> Iterator[None]:
    """Prints what is left out as a note; other warnings stay as they are."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, LeftOutWarning):
            print(f"note: {message}", file=sys.stderr)
        else:
            shown(message, category, *where, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


def status_of(work: Callable[[], int], where: str | None = None) -> int:
    """Does the work and returns its status; a user's mistake becomes a sentence on stderr.

    Args:
        where: the folder that is written to, for the sentence about a full disk.
    """
    try:
        with _notes():
            return work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    except Exception as error:
        reason = full_disk(error) if where is not None else None
        if reason is None:
            raise
        kept = "finished trials and checkpoints are kept, so free some space and run the command again"
        print(f"error: {where} cannot be written ({reason}); {kept}", file=sys.stderr)
        return WRONG
