"""The tables of a study's results, and its comparisons, on the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from rich.console import Console

from analysis.comparison_table import comparison_table
from analysis.comparisons import compare, differing
from analysis.findings.study import Study, repeats_of, runs_of
from analysis.inference.intervals import FEWEST
from analysis.overall import in_words as scores_in_words
from analysis.overall import overall
from analysis.spread import in_words as spread_in_words
from analysis.spread import spreads
from analysis.tables import results_table
from jobs.support.screen import tell
from softprior.inputs.specs import REPEATS
from softprior.library.repeats import in_words
from softprior.library.results import Results
from softprior.results.records import Record
from softprior.results.storage import Location


def print_results(console: Console, results: Results) -> None:
    """Prints the table of all trials, and how far twins and reordered trials end from their originals."""
    console.print(results_table(results.table, results.folder.root.name, console.width))
    for line in (in_words(results.pairs.apart), in_words(results.reordered_pairs.apart, "reordered")):
        if line:
            console.print(line, soft_wrap=True)


def print_comparisons(console: Console, records: Iterable[Record], folder: Location) -> None:
    """Prints tables for every axis with two values and three seeds, scores of priors, and why seeds differ.

    But for the task: losses on different problems do not compare, unless somebody asks for it. Two seeds have
    no intervals, and so one line in place of all this.

    Args:
        records: repeated trials among them, which say how much of a difference is rounding or order.
        folder: of the study.
    """
    known = list(records)
    runs, baselines = runs_of(known)
    twins, reordered = (repeats_of(known, runs, kind) for kind in REPEATS)
    study = Study(runs, baselines, twins=twins, reordered=reordered)
    tables = {axis: compare(study, axis) for axis in differing(study) if axis != "task"}
    if tables and all(row.seeds < FEWEST for rows in tables.values() for row in rows):
        command = f"python -m jobs.compare {shlex.quote(str(folder))} {next(iter(tables))}"
        console.print(
            f"two seeds have no intervals, so nothing is compared along {', '.join(tables)}; add seeds "
            f"({command} prints the differences of these)",
            soft_wrap=True,
        )
        return
    for axis, rows in tables.items():
        console.print(comparison_table(rows, axis, console.width))
    tell(console, [*scores_in_words(overall(study)), *spread_in_words(spreads(study))])
