"""Trains the project's own model and checks its card: python -m jobs.tiny --train"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import softprior
from jobs.support.exits import FAILED, FINISHED, status_of
from jobs.support.screen import printable
from softprior.results.files import write_json
from softprior.training.threads import limit_threads

SHIPPED = Path(softprior.__file__).parent / "assets" / "tiny"


def main(arguments: list[str] | None = None) -> int:
    """Trains on demand, measures, prints the card; returns 1 if a promise of the card does not hold."""
    options = _parser().parse_args(arguments)
    printable()
    limit_threads(options.threads)
    return status_of(lambda: _tiny(options))


def _tiny(options: argparse.Namespace) -> int:
    from jobs.tiny.card import measure
    from jobs.tiny.recipe import train

    if options.train:
        options.folder.mkdir(parents=True, exist_ok=True)
        train(options.folder, _say)
    card = measure(options.folder, _say)
    for name, value in card.model_dump().items():
        _say(f"  {name:15} {value:,}")
    broken = card.broken()
    for promise in broken:
        print(f"does not hold: {promise}", file=sys.stderr)
    if not broken and options.train:
        write_json(options.folder / "card.json", card.model_dump())
    _say("the card holds" if not broken else "the card does not hold")
    return FAILED if broken else FINISHED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.tiny",
        description="Measure the shipped model `tiny` against its card, or train it again.",
    )
    parser.add_argument("--train", action="store_true", help="train first (about 45 minutes of one core)")
    parser.add_argument(
        "--folder", type=Path, default=SHIPPED, help="where weights and card are (default: as shipped)"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads; the weights depend on them (default: 1)"
    )
    return parser


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
