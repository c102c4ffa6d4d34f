"""A process that draws what is left of a study while the driver goes on to its tables and its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

from analysis.figures.beside import ONE_THREAD, Drawing
from analysis.figures.left_out import Drawn
from softprior.results.folder import StudyFolder
from softprior.results.storage import location
from softprior.training.own_code import in_use


class Ending:
    """The process of `at_the_end`, which imports what it needs while the last trial runs.

    It has the driver's own priority, as a study waits for it at its end. If the driver is gone it ends by
    itself.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "analysis.figures.at_the_end"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what it cannot draw, the driver tries and says why
            env=os.environ | ONE_THREAD,
            start_new_session=True,  # Ctrl-C is for the study alone
            text=True,
        )
        self._tell([str(folder.root), [[code.name, code.text] for code in in_use()]])

    def trials(self, drawings: Sequence[Drawing], seconds: float) -> list[Drawing] | None:
        """Has trials drawn and waits for them, while the process goes on with the study.

        Returns those that cannot be drawn; None if the process draws nothing.

        Args:
            seconds: after which it is taken to hang.
        """
        self._tell([[drawing.record.id, drawing.label, drawing.look] for drawing in drawings])
        failed = self._answer(seconds)
        return None if failed is None else [drawing for drawing in drawings if drawing.record.id in failed]

    def study(self, seconds: float) -> Drawn | None:
        """Waits for the study's figures; None if the process has not drawn them.

        Args:
            seconds: after which it is taken to hang.
        """
        found = self._answer(seconds)
        if found is None:
            return None
        files, widths, sentences = found
        return Drawn([location(file) for file in files], widths, sentences)

    def stop(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        with suppress(OSError):  # it has not read all it was told
            self._process.communicate()

    def _tell(self, value: object) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended, as the missing answer will show
            print(json.dumps(value), file=self._process.stdin, flush=True)

    def _answer(self, seconds: float) -> Any:
        """What it says next; None if it has ended, or needs longer."""
        stream = self._process.stdout
        assert stream is not None
        line = stream.readline() if wait([stream.fileno()], seconds) else ""
        return json.loads(line) if line.endswith("\n") else None
