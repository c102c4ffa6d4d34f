"""Options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path

STUDIED = "the Python file with components of your own that the study was run with"


def add_code(parser: argparse.ArgumentParser, explained: str = STUDIED) -> None:
    """Adds `--code FILE`, which can be given several times; `options.code` has the paths."""
    parser.add_argument("--code", type=Path, action="append", default=[], metavar="FILE", help=explained)
