"""Draws trials in a process beside a running study, which says on its standard input what to draw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

from analysis.figures.palette import Look
from softprior.results.folder import StudyFolder
from softprior.results.records import Record
from softprior.results.storage import location
from softprior.training.threads import thread_environment

NICE = 15
"""As much as Ray's workers: the driver comes first, and a study that waits for the process at its end waits
no longer than it would for a trial."""


ONE_THREAD = thread_environment(1)
"""Of a process that draws: with two, which wait for each other, a trial's figure takes twice the processor
time, and a study whose command waits for its figures has other work for the second core."""


class Drawing(NamedTuple):
    """A trial that is to be drawn; see `draw_trial`."""

    record: Record
    label: str
    look: Look | None


def draw(folder: StudyFolder, drawings: Sequence[Drawing]) -> dict[str, Exception]:
    """Draws trials one after another, without PDFs; returns why some could not be drawn, by their ids."""
    if not drawings:
        return {}
    from analysis.figures.trial import draw_trial  # matplotlib and scikit-learn: no trial waits for them

    failures = {}
    for drawing in drawings:
        try:
            draw_trial(drawing.record, folder, drawing.label, drawing.look, pdf=False)
        except Exception as error:  # those behind it are drawn
            failures[drawing.record.id] = error
    return failures


def start(folder: StudyFolder, drawings: Sequence[Drawing]) -> subprocess.Popen[bytes]:
    """Starts to draw trials in a process of its own, which ends by itself even if this one is gone."""
    told = [str(folder.root), *((one.record.model_dump_json(), one.label, one.look) for one in drawings)]
    with tempfile.TemporaryFile("w+") as handed:  # a pipe would hold this process up
        json.dump(told, handed)
        handed.seek(0)
        return subprocess.Popen(
            [sys.executable, "-m", "analysis.figures.beside"],
            stdin=handed,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what it cannot draw, the study tries at its end and says why
            env=os.environ | ONE_THREAD,
            start_new_session=True,  # Ctrl-C is for the study alone
        )


def drawing_of(record: Record, label: str, look: list[Any] | None) -> Drawing:
    """A trial that is to be drawn.

    Args:
        look: as JSON has it.
    """
    if look is None:
        return Drawing(record, label, None)
    colour, marker, (offset, lengths) = look
    return Drawing(record, label, Look(colour, marker, (offset, tuple(lengths))))


def _main() -> None:
    root, *drawings = json.load(sys.stdin)
    found = [drawing_of(Record.model_validate_json(record), *how) for record, *how in drawings]
    draw(StudyFolder(location(root)), found)


if __name__ == "__main__":
    os.nice(NICE)
    _main()
