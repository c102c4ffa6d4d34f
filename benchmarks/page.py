"""The tables of docs/performance.md, from the lines in benchmarks/results: python -m benchmarks --page

They have the newest result of each name on each machine; older ones stay in benchmarks/results.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.result import Result

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- results -->\n", "<!-- end -->"

FROM_LOG = """
These were taken from the [log](log.md), which has neither the commit nor more than is shown here, and nobody
has measured them again since:
"""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Where, when and beside what results were measured.

    Attributes:
        load: the machine's load average of the last minute before; None if it was not kept.
        quiet: whether nothing to speak of ran beside; None if that was not kept.
        commit: None if it was not kept.
        began: date and time, as the names of files of results have them; empty where the file's name has it.
    """

    date: str
    machine: str
    load: float | None
    quiet: bool | None
    commit: str | None
    versions: dict[str, str]
    command: str
    began: str = ""


Found = tuple[Header, Sequence[Result]]

COLUMNS = (
    *("what", "value (spread)", "goal", "met", "ours", "peer", "limit", "rounds"),
    *("s", "CPU, s", "MB", "tokens", "TFLOP", "measured"),
)

MACHINES = {
    "two virtual cores of an AMD EPYC (shared)": "AMD EPYC, 2 cores",
    "AMD EPYC, 2 virtual cores (shared)": "AMD EPYC, 2 cores",
}
NAMES = {
    "short texts: ": "texts of up to 160 tokens, passes of up to 1,080 positions: ",
    " (before: a PDF of each trial's figure)": "",
    "step of two threads, ": "step of two threads on four rows of 100 tokens in one pass, ",
}
"""What files of results call a machine, and parts of the names of rows, and what the page calls them now. The
files stay as they were written."""


def kept() -> list[Found]:
    """The results of all files, the newest first, under the names of today."""
    dated = [
        (found[0].began or path.stem, found) for path in RESULTS.glob("*.jsonl") for found in found_in(path)
    ]
    return [found for _, found in sorted(dated, key=lambda one: one[0], reverse=True)]


def found_in(path: Path) -> list[Found]:
    """The results of a file, each run of them behind its header, under the names of today.

    Raises:
        ValueError: it is no file of results, and which line is not.
    """
    found: list[tuple[Header, list[Result]]] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            written = json.loads(line)
            if "machine" in written:
                found.append((_header(written), []))
            else:
                found[-1][1].append(_result(written))
        except (ValueError, TypeError, LookupError, AttributeError):
            raise ValueError(
                f"line {number} of {path} is no result; remove it, and what is below it"
            ) from None
    return [*found]


def _header(written: dict[str, Any]) -> Header:
    machine = written["machine"]
    return Header(**{**written, "machine": MACHINES.get(machine, machine)})


def _result(written: dict[str, Any]) -> Result:
    name = written["name"]
    for old, new in NAMES.items():
        name = name.replace(old, new)
    return Result(**{**written, "name": name})


def newest(found: Sequence[Found]) -> list[tuple[Header, Result]]:
    """Of each name on each machine the first, by name; of one name on two machines, the newer first."""
    rows: dict[tuple[str, str], tuple[Header, Result]] = {}
    for header, results in found:
        for result in results:
            rows.setdefault((result.name, header.machine), (header, result))
    return sorted(rows.values(), key=lambda row: row[1].name.casefold())


def table(found: Sequence[Found]) -> str:
    """Markdown, a row for every result."""
    rows = [
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    return "\n".join(rows + [_row(header, result) for header, results in found for result in results])


def _row(header: Header, result: Result) -> str:
    spread = f" ({_number(result.low)} to {_number(result.high)})" if result.low != result.high else ""
    goal = (
        "-" if result.goal is None else f"{'at most' if result.most else 'at least'} {_number(result.goal)}"
    )
    met = {None: "-", True: "yes", False: "**no**"}[result.met]
    quiet = {None: "quiet or not is not known", True: "quiet", False: "not quiet"}[header.quiet]
    load = "" if header.load is None else f", load {header.load:g}"
    where = f"{header.date}, {header.machine}; {quiet}{load}; {header.commit or 'commit not kept'}"
    numbers = (result.ours, result.peer, result.limit)
    cells = [
        result.name,
        f"{_number(result.value)}{spread} {result.unit}",
        goal,
        met,
        *map(_number, numbers),
        str(result.rounds),
        _number(result.seconds),
        _number(result.cpu),
        _number(result.memory),
        _number(result.tokens),
        _number(None if result.operations is None else result.operations / 1e12),
        f"{where}; `{header.command}`",
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def renewed(page: str) -> str:
    """The page with the tables that the results give."""
    before, _, rest = page.partition(BEGIN)
    rows = [(header, [result]) for header, result in newest(kept())]
    known = table([row for row in rows if row[0].commit])
    old = table([row for row in rows if not row[0].commit])
    return f"{before}{BEGIN}\n{known}\n{FROM_LOG}\n{old}\n\n{END}{rest.partition(END)[2]}"


def write_page() -> None:
    PAGE.write_text(renewed(PAGE.read_text()))
