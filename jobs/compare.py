"""Compares the trials of a study along one axis: python -m jobs.compare results/quickstart prior"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from jobs.support.exits import FINISHED, status_of
from jobs.support.screen import screen
from softprior.errors import UserError
from softprior.library.results import Results


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = _parser().parse_args(arguments)
    return status_of(lambda: _main(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.compare",
        description="Paired differences of test losses along one axis, with intervals and tests.",
        epilog="Example: python -m jobs.compare results/quickstart prior",
    )
    parser.add_argument(
        "results",
        nargs="+",
        metavar="RESULTS",
        help="the folder of a study (results/NAME); several studies of one model are read as one",
    )
    parser.add_argument("axis", help="what is compared: task, method, prior, regularisers or rate")
    parser.add_argument("--findings", action="store_true", help="also print the verdict on each claim")
    return parser


def _main(options: argparse.Namespace) -> int:
    for folder in options.results:
        Results(folder)  # or refuses it
    # pandas, torch and scipy; a wrong folder should not wait for them.
    from analysis.comparison_table import comparison_table
    from analysis.comparisons import compare, require_axis
    from analysis.findings.judging import judge
    from analysis.findings.reading import read_studies
    from analysis.overall import in_words, overall
    from analysis.report.verdicts import in_lines
    from analysis.spread import in_words as spread_in_words
    from analysis.spread import spreads

    require_axis(options.axis)
    console: Console = screen()
    read = read_studies(options.results)
    for note in read.notes:
        console.print(f"note: {note}", soft_wrap=True)
    try:
        rows = compare(read.study, options.axis)
        console.print(comparison_table(rows, options.axis, console.width))
    except UserError as error:
        if not options.findings:
            raise
        console.print(f"note: {error}", soft_wrap=True)
    if options.axis == "prior":
        for line in (*in_words(overall(read.study)), *spread_in_words(spreads(read.study))):
            console.print(line)
    if options.findings:
        for line in in_lines(judge(read.study)):
            console.print(line, soft_wrap=True)
    for note in read.lost:
        console.print(f"note: {note}; what needs it is left out", soft_wrap=True)
    return FINISHED


if __name__ == "__main__":
    sys.exit(main())
