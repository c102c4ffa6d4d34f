"""Verdicts and tables of published studies: python -m benchmarks.study_tables renews them.

`docs/studies/NAME/verdicts.md` is what the rules of today say about the study's records (`published`); that
of a study without records stays as it is. In docs/findings.md, between `<!-- study: NAME -->` and `<!-- end
study -->` stands a table of losses from `docs/studies/NAME/trials.parquet`: mean and standard deviation over
seeds, each prior at the rate with its lowest mean validation loss. Between `<!-- verdicts: NAME -->` and
`<!-- end verdicts -->` stand the rows of `verdicts.md` that have a number, those of one claim and method
together. Numbers in the text of the page are checked against the same files (`study_numbers`).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis.report.verdicts import markdown
from benchmarks.published import DOCS, STUDIES, VERDICTS, published_findings
from benchmarks.study_numbers import FORGOTTEN, by_prior, phrases
from softprior.library.results import Results

PAGE = DOCS / "findings.md"
BLOCK = re.compile(r"(<!-- (study|verdicts): ([\w-]+) -->\n)(.*?)(<!-- end \2 -->)", re.DOTALL)

HEADING = "| method | prior | rate | test loss | {headline} | forgetting |\n|---|---|---|---|---|---|\n"
SUMMARY = "| claim | where | findings | numbers |\n|---|---|---|---|\n"

DECIDED = ("supported", "contradicted")


def main() -> int:
    """Renews the tables of the page, and says which numbers of its text are other ones now; 1 if some are."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.study_tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    for folder in studies():
        verdicts = markdown(published_findings(folder))
        (folder / VERDICTS).write_text(verdicts, encoding="utf-8")
    before = PAGE.read_text(encoding="utf-8")
    after = renewed(before)
    PAGE.write_text(after, encoding="utf-8")
    print(f"{PAGE.name}: {'renewed' if after != before else 'nothing has changed'}")
    lost = absent(after, phrases(STUDIES / "tiny-priors"))
    for phrase in lost:
        print(f"NOT in the text: {phrase}")
    return 1 if lost else 0


def studies() -> list[Path]:
    """The published studies."""
    return sorted(path for path in STUDIES.iterdir() if path.is_dir())


def absent(page: str, known: Sequence[str]) -> list[str]:
    """Phrases that a page does not have, however its lines are broken."""
    text = " ".join(page.split())
    return [phrase for phrase in known if phrase not in text]


def renewed(page: str) -> str:
    """A page with its tables as the studies have them."""
    tables = {"study": study_table, "verdicts": verdict_table}
    return BLOCK.sub(lambda found: f"{found[1]}\n{tables[found[2]](STUDIES / found[3])}\n{found[5]}", page)


def study_table(folder: Path) -> str:
    """The table of a study in Markdown: the best prior of each method first."""
    trials = Results(folder).trials
    rows = list(by_prior(trials))
    methods = list(dict.fromkeys(method for method, _, _ in rows))
    rows.sort(key=lambda row: (methods.index(row[0]), row[2].test_loss.mean()))
    headline = trials.headline.dropna().iloc[0].replace("_", " ")
    return HEADING.format(headline=headline) + "".join(f"{_row(*row)}\n" for row in rows)


def _row(method: str, prior: str, own: pd.DataFrame) -> str:
    forgotten = own[FORGOTTEN[0]] - own[FORGOTTEN[1]]
    cells = (
        method,
        prior,
        f"{own.rate.iloc[0]:g}",
        f"{own.test_loss.mean():.3f} ± {own.test_loss.std():.3f}",
        f"{own[own.headline.iloc[0]].mean():.0%}",
        f"{forgotten.mean():.3f} ± {forgotten.std():.3f}",
    )
    return f"| {' | '.join(cells)} |"


class Verdict(NamedTuple):
    """A row of verdicts.md that has a number."""

    claim: str
    where: str
    verdict: str
    what: str
    value: float
    unit: str

    @property
    def group(self) -> tuple[str, str]:
        """The claim, and task and method."""
        return self.claim, " · ".join(self.where.split(" · ")[:2])


def verdict_table(folder: Path) -> str:
    """A row per claim, task and method: how many findings have which verdict, and the range of their numbers.

    Of findings that were decided, or of all where none was.
    """
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for one in read_verdicts(folder):
        groups.setdefault(one.group, []).append(one)
    rows = []
    for (claim, where), own in groups.items():
        counts = Counter(one.verdict for one in own)
        told = ", ".join(
            f"{verdict} {count}" if len(own) > 1 else verdict for verdict, count in counts.items()
        )
        rows.append(f"| {claim} | {where} | {told} | {_range(own)} |\n")
    return SUMMARY + "".join(rows)


def read_verdicts(folder: Path) -> list[Verdict]:
    """The rows of verdicts.md that have a number."""
    lines = (folder / VERDICTS).read_text(encoding="utf-8").splitlines()
    columns, *rows = [split_row(line) for line in lines if line.startswith("| ")]
    found = []
    for cells in rows:
        row = dict(zip(columns, cells, strict=True))
        if row["number"]:
            what, _, told = row["number"].rpartition(": ")
            value, _, unit = told.partition(" ")
            number = float(value.replace("\N{MINUS SIGN}", "-").replace(",", ""))
            found.append(Verdict(row["claim"], row["where"], row["verdict"], what, number, unit))
    return found


def split_row(line: str) -> list[str]:
    """The cells of a row of a Markdown table, in which a bar that is part of a cell is escaped."""
    cells = re.split(r"(?<!\\)\|", line.strip())[1:-1]
    return [cell.strip().replace("\\|", "|") for cell in cells]


def _range(own: list[Verdict]) -> str:
    """The range of each kind of number, as different metrics have none in common."""
    kinds: dict[str, list[float]] = {}
    units: dict[str, str] = {}
    for one in [one for one in own if one.verdict in DECIDED] or own:
        kinds.setdefault(one.what, []).append(one.value)
        units[one.what] = one.unit if one.unit != one.what else ""
    return "; ".join(f"{what}: {_ends(values)} {units[what]}".strip() for what, values in kinds.items())


def _ends(values: list[float]) -> str:
    low, high = min(values), max(values)
    ends = f"{low:,.4g}" if low == high else f"{low:,.4g} to {high:,.4g}"
    return ends.replace("-", "\N{MINUS SIGN}")


if __name__ == "__main__":
    sys.exit(main())
