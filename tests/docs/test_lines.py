"""Pages are read in editors too: no line of prose is longer than 120 characters."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def test_prose_wraps_at_120() -> None:
    """Tables, code, what a test writes, and lines that are one link are as long as they are."""
    long = []
    for page in PAGES:
        fenced = written = False
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            fenced ^= line.lstrip().startswith("```")
            written ^= re.fullmatch("<!-- .* -->", line) is not None
            prose = not (fenced or written or line.startswith("|"))
            if len(line) > 120 and prose and " " in line.strip():
                long.append(f"{page.relative_to(ROOT)}:{number}")
    assert long == []
