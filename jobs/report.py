"""Writes the report of a study: python -m jobs.report results/quickstart"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jobs.support.exits import FINISHED, status_of
from jobs.support.options import add_code
from jobs.support.screen import printable
from softprior.errors import UserError
from softprior.inputs.paths import home_path
from softprior.library.results import Results


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 2 where there is no study to report on."""
    options = _parser().parse_args(arguments)
    printable()
    return status_of(lambda: _report(options), options.folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.report",
        description="Write the report of a study: one HTML file that opens offline, and its verdict table as "
        "Markdown. A study that has not ended gives a partial report.",
        epilog="Example: python -m jobs.report results/quickstart",
    )
    parser.add_argument("folder", help="results/NAME of a study, or its address in a bucket")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where the page goes, with the Markdown beside it (default: report.html and verdicts.md in the "
        "study's folder)",
    )
    add_code(parser)
    return parser


def _report(options: argparse.Namespace) -> int:
    Results(options.folder)  # or refuses it
    # torch and matplotlib; neither --help nor a wrong folder should wait for them.
    from analysis.report.page import write_report
    from softprior.library.studies import use_code

    for path in options.code:
        use_code(path)
    target = None if options.output is None else home_path(options.output).resolve()
    if target is not None and target.suffix != ".html":
        raise UserError(f"--output {options.output} must end with .html, because the report is an HTML page")
    try:
        written = write_report(options.folder, target)
    except OSError as error:
        raise UserError(f"the report cannot be written ({error}); name another file with --output") from None
    for note in written.notes:
        print(f"note: {note}")
    print(f"report    {written.page}")
    print(f"verdicts  {written.verdicts}")
    return FINISHED


if __name__ == "__main__":
    sys.exit(main())
