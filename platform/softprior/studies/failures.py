"""What a trial that could not go on leaves: the reason in a line, and a record."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING

from softprior.errors import UserError, hidden
from softprior.inputs.specs import TrialSpec
from softprior.results.files import write_atomically
from softprior.results.records import Record
from softprior.results.storage import Location
from softprior.training.recognised import own_label

if TYPE_CHECKING:
    from softprior.training.checkpoint import TrialState


def explain(error: Exception, where: str, trace: Location) -> str:
    """Says in one line why a trial could not go on; writes the traceback of an unforeseen failure to a file.

    Args:
        where: how far the trial was.
        trace: the file.
    """
    from softprior.training.failure import TrialFailedError, shortage

    if isinstance(error, UserError | TrialFailedError):
        return str(error)
    short = shortage(error)
    if short:
        return f"{where}: {short}"
    text = hidden("".join(traceback.format_exception(error)))
    write_atomically(trace, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return f"{type(error).__name__}: {hidden(str(error))} (unexpected; please report {trace})"


def failed(
    spec: TrialSpec, reason: str, environment: Mapping[str, object], state: TrialState | None = None
) -> Record:
    """The record of a trial that did not finish, with its curves so far."""
    return Record(
        id=spec.id,
        label=own_label(spec),
        spec=spec,
        status="failed",
        error=reason,
        steps=tuple(state.steps) if state else (),
        validation=tuple(state.validation) if state else (),
        environment=environment,
    )
