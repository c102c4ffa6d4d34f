"""Draws the last trials of a study and then the study, in a process beside its driver; see `ending`.

It is told, a line each, where the study is and which code it uses, and then what to draw. It answers with the
trials that it could not draw, and then with the study's figures and what they leave out.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import TextIO

from analysis.figures.beside import draw, drawing_of
from analysis.figures.study import draw_study
from analysis.findings.reading import read
from softprior.results.folder import StudyFolder
from softprior.results.records import load_record
from softprior.results.storage import location
from softprior.training.own_code import OwnCode, use_code


def main(told: TextIO, answers: TextIO) -> None:
    """Draws what it is told, unless the study ends before it says so."""
    root, code = json.loads(told.readline())
    for name, text in code:
        use_code(OwnCode(name, text))
    trials = told.readline()
    if not trials:
        return
    folder = StudyFolder(location(root))
    drawings = [drawing_of(load_record(folder.record(trial)), *how) for trial, *how in json.loads(trials)]
    print(json.dumps(list(draw(folder, drawings))), file=answers, flush=True)
    drawn = draw_study(read(folder.root))
    files = [str(file) for file in drawn.files]
    print(json.dumps([files, drawn.widths, drawn.left_out]), file=answers, flush=True)


if __name__ == "__main__":
    screen = sys.stdout
    with redirect_stdout(sys.stderr):  # a user's own code may print
        main(sys.stdin, screen)
