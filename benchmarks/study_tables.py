"""Tables of published studies in docs/findings.md: python -m benchmarks.study_tables makes them anew.

Between `<!-- study: NAME -->` and `<!-- end study -->` stands a table of losses from
`docs/studies/NAME/trials.parquet`: mean and standard deviation over seeds, each prior at the rate with its
lowest mean validation loss. Between `<!-- verdicts: NAME -->` and `<!-- end verdicts -->` stand the rows of
`docs/studies/NAME/verdicts.md` that have a number, those of one claim and method together. Numbers in the
text of the page are checked against the same files (`study_numbers`).
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmarks.study_numbers import FORGOTTEN, by_prior, phrases
from softprior.library.results import Results

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "findings.md"
STUDIES = DOCS / "studies"
BLOCK = re.compile(r"(<!-- (study|verdicts): ([\w-]+) -->\n)(.*?)(<!-- end \2 -->)", re.DOTALL)

HEADING = "| method | prior | rate | test loss | {headline} | forgetting |\n|---|---|---|---|---|---|\n"
VERDICTS = "| claim | where | findings | numbers |\n|---|---|---|---|\n"

DECIDED = ("supported", "contradicted")


def main() -> None:
    """Renews the tables of the page, and says which numbers of its text are other ones now."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.study_tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    before = PAGE.read_text(encoding="utf-8")
    after = renewed(before)
    PAGE.write_text(after, encoding="utf-8")
    print(f"{PAGE.name}: {'renewed' if after != before else 'nothing has changed'}")
    text = " ".join(after.split())
    for phrase in phrases(STUDIES / "tiny-priors"):
        print(f"{'as in the text' if phrase in text else 'NOT in the text'}: {phrase}")


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
    """A row of verdicts.md."""

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
    return VERDICTS + "".join(rows)


def read_verdicts(folder: Path) -> list[Verdict]:
    """The rows of verdicts.md that have a number."""
    lines = (folder / "verdicts.md").read_text(encoding="utf-8").splitlines()
    table = [
        [cell.strip() for cell in line.strip("|").split(" |")] for line in lines if line.startswith("| ")
    ]
    columns, *rows = table
    found = []
    for cells in rows:
        row = dict(zip(columns, cells, strict=True))
        if row["number"]:
            what, _, told = row["number"].rpartition(": ")
            value, _, unit = told.partition(" ")
            number = float(value.replace("\N{MINUS SIGN}", "-").replace(",", ""))
            found.append(Verdict(row["claim"], row["where"], row["verdict"], what, number, unit))
    return found


def _range(own: list[Verdict]) -> str:
    decided = [one for one in own if one.verdict in DECIDED] or own
    what = decided[0].what if len({one.what for one in decided}) == 1 else ""
    low, high = (pick(one.value for one in decided) for pick in (min, max))
    ends = f"{low:,.4g}" if low == high else f"{low:,.4g} to {high:,.4g}"
    unit = decided[0].unit if decided[0].unit != what else ""
    return f"{f'{what}: ' if what else ''}{ends.replace('-', chr(0x2212))} {unit}".strip()


if __name__ == "__main__":
    main()
