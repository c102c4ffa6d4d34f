"""Draws the pictures of docs/priors.md; python -m jobs.pictures --radii also measures its tables."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.support.exits import FINISHED, status_of
from jobs.support.screen import printable
from softprior.assets.cache import VARIABLE
from softprior.errors import UserError
from softprior.training.threads import limit_threads

if TYPE_CHECKING:
    from softprior.models.load import Loaded

MODEL = "smollm2-135m-instruct-q4_1"
WIDE = 2048
"""Dimensions of the synthetic vocabulary."""


def main(arguments: list[str] | None = None) -> int:
    """Draws, and on demand measures; returns 2 if the user has to fix something."""
    options = _parser().parse_args(arguments)
    printable()
    limit_threads(options.threads)
    return status_of(lambda: _pictures(options))


def _pictures(options: argparse.Namespace) -> int:
    for name in ("model", "wide"):
        given = getattr(options, name)
        if given is not None and not options.radii:
            raise UserError(
                f"--{name} {given} has no effect on pictures in a plane; add --radii, or leave it out"
            )
    if not options.radii:
        _draw(options.folder)
        return FINISHED
    from softprior.inputs.specs import ModelSpec
    from softprior.models.load import load_local

    model = options.model or MODEL
    loaded = load_local(ModelSpec(id=model, device="cpu"))  # first: a wrong one leaves no pictures behind
    _draw(options.folder)
    _measure(model, loaded, WIDE if options.wide is None else options.wide, options.folder)
    return FINISHED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.pictures",
        description="Draw every prior in a plane and, with --radii, measure each in high dimension.",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("results/pictures"),
        help="where pictures go (default: results/pictures; those of the docs are in docs/images)",
    )
    parser.add_argument(
        "--radii", action="store_true", help="also measure radii and print the tables (some minutes)"
    )
    parser.add_argument(
        "--model",
        help=f"with --radii: whose tokens to measure against (default: {MODEL})",
    )
    parser.add_argument(
        "--wide",
        type=int,
        metavar="H",
        help="with --radii: width of the synthetic vocabulary made after that model's; 0 leaves it out "
        f"(default: {WIDE})",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser


def _draw(folder: Path) -> None:
    from analysis.figures.priors import draw_priors, every_panel

    with _scratch():
        for path in draw_priors(folder, every_panel()):
            _say(f"wrote {path}")


def _measure(model: str, loaded: Loaded, wide: int, folder: Path) -> None:
    from analysis.figures.prior_radii import draw_radii, every_row, markdown, measure, wider
    from analysis.figures.priors import Table
    from softprior.prompt import Place
    from softprior.training.source import PlaceSource

    with _scratch():
        source = PlaceSource(loaded.host, loaded.tokenizer, Place(0), tokens=20)
        tables = {f"{model}, H = {source.hidden}": measure(source, every_row(), _say)}
        if wide:
            wordless = {name: row for name, row in every_row().items() if row[0] != "instruction"}
            made = Table(wider(source, wide), source.tokens, source.place)
            tables[f"synthetic, H = {wide}"] = measure(made, wordless, _say)
    for title, found in tables.items():
        _say(f"\n{title}\n\n{markdown(found)}")
    _say(f"wrote {draw_radii(folder, tables)}")


@contextmanager
def _scratch() -> Iterator[None]:
    """Fits go to a folder that is removed: nobody needs them again, and those at H = 2048 have 34 MB each."""
    users = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory(prefix="softprior-pictures-") as folder:
        os.environ[VARIABLE] = folder
        try:
            yield
        finally:
            os.environ.pop(VARIABLE)
            if users is not None:
                os.environ[VARIABLE] = users


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
