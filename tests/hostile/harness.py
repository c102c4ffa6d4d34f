"""One bad input, what is done with it, and what must come of that: a sentence, or right handling."""

from __future__ import annotations

import os
import re
import resource
import signal
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from softprior.errors import UserError

PROCESSOR = 5.0
"""Seconds of processor time after which a reader counts as hanging; whole seconds less than it ever takes."""

MEMORY = 2**31
"""Bytes of addresses that a reader may ask for beyond those that the process has."""

LONGEST = 1500
"""Characters of a sentence, the paths in it included."""


class Case(NamedTuple):
    """A bad input.

    Attributes:
        name: says what is wrong with it.
        make: writes it into an empty folder, and returns what reads it. That may assert what it finds.
        says: a pattern of the sentence that refuses it; None where it is handled without one.
    """

    name: str
    make: Callable[[Path], Callable[[], object]]
    says: str | None


class EndlessError(BaseException):
    """A reader used up its processor time."""


@contextmanager
def limited() -> Iterator[None]:
    """Ends what runs without end or asks for gigabytes."""

    def stop(_: int, __: FrameType | None) -> None:
        raise EndlessError

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    old = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, PROCESSOR)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def tree(folder: Path) -> set[tuple[str, int, int]]:
    """Every file below a folder, its size and when it was written, whether or not names are UTF-8."""
    found = set()
    for at, folders, files in os.walk(folder):
        found |= {(os.path.join(at, name), 0, 0) for name in folders}
        for path in (os.path.join(at, name) for name in files):
            state = os.lstat(path)
            found.add((path, state.st_size, state.st_mtime_ns))
    return found


def check(case: Case, around: Path) -> None:
    """Reads a bad input in a folder of `around`, the working folder; nothing in it may change.

    An exception other than a sentence fails the test that calls this.
    """
    folder = around / "input"
    folder.mkdir()
    act = case.make(folder)
    before = tree(around)
    sentence = None
    with limited(), chdir(around):
        try:
            act()
        except UserError as error:
            sentence = str(error)
        except AssertionError:
            raise
        except BaseException as error:  # not with its values, which may be gigabytes
            last = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__} at {last.filename}:{last.lineno}: {str(error)[:300]}"
            raise AssertionError(said) from None
    assert tree(around) == before, "reading changed files"
    if case.says is None:
        assert sentence is None, sentence
        return
    assert sentence is not None, "it was accepted"
    assert re.search(case.says, sentence), sentence
    assert_one_sentence(sentence)


def assert_one_sentence(sentence: str) -> None:
    """A sentence is short, on one line, and safe to print on any terminal."""
    odd = [c for c in sentence if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not odd, f"unprintable characters: {odd[:3]!a}"
    assert len(sentence) <= LONGEST, f"{len(sentence)} characters: {sentence[:300]}"
    assert "Traceback" not in sentence
