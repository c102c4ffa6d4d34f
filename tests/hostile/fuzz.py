"""The properties of `test_parsers.py` on new inputs, guided by coverage: python -m tests.hostile.fuzz

An input that reaches a line of softprior that none has reached before is kept, and later ones are made of it.
One that fails is written to a file, which the command takes to run it again.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import softprior
from softprior.assets.cache import VARIABLE
from tests.hostile import test_parsers
from tests.hostile.harness import EndlessError

OURS = str(Path(softprior.__file__).parent)
LONGEST = 4096  # bytes of an input
_LINES: set[tuple[CodeType, int]] = set()


def main(arguments: list[str] | None = None) -> int:
    """Runs all properties in turn until the time is over; the status is 1 if one failed.

    With a file, runs the property that the file is named after on what is in it, and raises what that raises.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, help="for the same inputs again (default: another each time)")
    parser.add_argument("file", nargs="?", type=Path, help="an input that has failed, to be run again")
    options = parser.parse_args(arguments)
    os.environ[VARIABLE] = str(test_parsers.HERE / "cache")
    tests = {
        name: test
        for name, test in vars(test_parsers).items()
        if name.startswith("test_") and hasattr(test, "hypothesis")
    }
    if options.file is not None:
        if options.file.name not in tests or not options.file.is_file():
            parser.error(f"{options.file} is no file that is named after a property, as failing inputs are")
        tests[options.file.name].hypothesis.fuzz_one_input(options.file.read_bytes())
        print(f"{options.file.name} holds for this input")
        return 0
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"--seed {seed}", flush=True)
    draws, until = random.Random(seed), time.monotonic() + 60 * options.minutes
    properties = [_Property(*item) for item in tests.items()]
    while True:
        for one in properties:
            one.try_some(draws)
        if time.monotonic() >= until:
            break
    for one in properties:
        print(f"{one.name}: {one.tried:,} inputs, {len(one.kept)} kept, {len(one.failures)} failures")
    print(f"{sum(one.tried for one in properties):,} inputs, {len(_LINES):,} lines of softprior reached")
    return int(any(one.failures for one in properties))


class _Property:
    """A property, the inputs that have reached something new, and the places where it failed."""

    def __init__(self, name: str, test: Any) -> None:
        self.name, self._run, self.tried = name, test.hypothesis.fuzz_one_input, 0
        self.kept: list[bytes] = []
        self.failures: set[str] = set()

    def try_some(self, draws: random.Random, count: int = 50) -> None:
        """Tries some inputs, most of them made of those that are kept."""
        for _ in range(count):
            before, self.tried = len(_LINES), self.tried + 1
            old = self.kept and draws.random() < 0.7
            content = _changed(draws, self.kept) if old else draws.randbytes(draws.randrange(1, 400))
            try:
                pruned = _traced(self._run, content)
            except (Exception, EndlessError) as error:
                self._failed(error, content)
                continue
            if len(_LINES) > before and pruned is not None:
                self.kept.append(pruned[:LONGEST])

    def _failed(self, error: BaseException, content: bytes) -> None:
        """Prints the first failure at each place, and where its input is kept."""
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{self.name}: {type(error).__name__} at {last.filename}:{last.lineno}"
        if where not in self.failures:
            path = Path(tempfile.mkdtemp(prefix="softprior-fuzz-")) / self.name
            path.write_bytes(content)
            print(where, *traceback.format_exception(error, limit=-6), sep="\n")
            print(f"again: python -m tests.hostile.fuzz {path}", flush=True)
        self.failures.add(where)


def _changed(draws: random.Random, kept: list[bytes]) -> bytes:
    """An input made of one or two others; later ones, which reached further, more often."""
    content = bytearray(kept[max(draws.randrange(len(kept)), draws.randrange(len(kept)))])
    for _ in range(draws.choice((1, 1, 2, 4, 8))):
        at, other = draws.randrange(len(content) + 1), draws.choice(kept)
        start = draws.randrange(len(other) + 1)
        piece = draws.choice((draws.randbytes(1), draws.randbytes(8), other[start : start + 32], b"\0", b""))
        content[at : at + draws.choice((0, 1, len(piece)))] = piece
    return bytes(content[:LONGEST])


def _traced(run: Any, content: bytes) -> Any:
    """Runs a property and notes the lines of softprior that it reaches."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        _LINES.add((frame.f_code, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        return run(content)
    finally:
        sys.settrace(None)


if __name__ == "__main__":
    sys.exit(main())
