"""Draws a study's prompts among activations: python -m jobs.maps results/NAME results/activations/store"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.support.exits import FINISHED, status_of
from jobs.support.screen import printable
from softprior.library.results import Results

if TYPE_CHECKING:
    from analysis.figures.posterior_maps import Embedding


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 2 where study and store do not fit together."""
    options = _parser().parse_args(arguments)
    printable()
    return status_of(lambda: _maps(options), options.folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.maps",
        description="Draw where a study's prompts start and end among the activations of tasks, at every "
        "place that the activation run has read: maps with arrows, and the samples of each prior.",
        epilog="Example: python -m jobs.maps results/NAME results/activations/store --tasks squad",
    )
    parser.add_argument("folder", help="results/NAME of a study, or its address in a bucket")
    parser.add_argument("store", type=Path, help="the store of an activation run of the same model")
    parser.add_argument("--tasks", nargs="+", default=[], help="tasks of the store (default: all)")
    parser.add_argument("--tsne", action="store_true", help="t-SNE in place of principal components")
    return parser


def _maps(options: argparse.Namespace) -> int:
    Results(options.folder)  # or refuses it
    from analysis.figures.activation_maps import activation_maps  # matplotlib and scikit-learn
    from analysis.figures.left_out import collected
    from analysis.figures.style import save
    from analysis.findings.reading import read_studies
    from softprior.errors import UserError
    from softprior.inputs.paths import home_path

    reading = read_studies([options.folder])
    target = reading.folder.root / "figures" / "activations"
    embedding: Embedding = "t-SNE" if options.tsne else "pca"
    drawn = 0
    with collected() as notes:
        for name, figure in activation_maps(reading, home_path(options.store), options.tasks, embedding):
            print(f"figure    {save(figure, target / f'{name}.png')}")
            drawn += 1
    if not drawn:
        raise UserError(notes[0])
    for note in notes:
        print(f"note: {note}")
    return FINISHED


if __name__ == "__main__":
    sys.exit(main())
