"""Tables of published studies in docs/findings.md, made from their trials: python -m benchmarks.study_tables

A table stands between `<!-- study: NAME -->` and `<!-- end study -->`, and comes from
`docs/studies/NAME/trials.parquet` alone: mean and standard deviation over seeds, each prior at the rate with
its lowest mean validation loss.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pandas as pd

from softprior.library.results import Results

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "findings.md"
BLOCK = re.compile(r"(<!-- study: ([\w-]+) -->\n)(.*?)(<!-- end study -->)", re.DOTALL)

HEADING = "| method | prior | rate | test loss | {headline} | forgetting |\n|---|---|---|---|---|---|\n"


def main() -> None:
    """Renews the tables of the page, or says that they are as they should be."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.study_tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    before = PAGE.read_text(encoding="utf-8")
    after = renewed(before)
    PAGE.write_text(after, encoding="utf-8")
    print(f"{PAGE.name}: {'renewed' if after != before else 'nothing has changed'}")


def renewed(page: str) -> str:
    """A page with its tables as the studies have them."""
    return BLOCK.sub(
        lambda found: f"{found[1]}\n{study_table(DOCS / 'studies' / found[2])}\n{found[4]}", page
    )


def study_table(folder: Path) -> str:
    """The table of a study in Markdown: the best prior of each method first."""
    trials = Results(folder).trials.dropna(subset=["prior"])
    rows = [
        (method, prior, chosen(own))
        for (method, prior), own in trials.groupby(["method_label", "prior_label"], sort=False)
    ]
    methods = list(dict.fromkeys(method for method, _, _ in rows))
    rows.sort(key=lambda row: (methods.index(row[0]), row[2].test_loss.mean()))
    headline = trials.headline.iloc[0].replace("_", " ")
    return HEADING.format(headline=headline) + "".join(f"{_row(*row)}\n" for row in rows)


def chosen(trials: pd.DataFrame) -> pd.DataFrame:
    """Those at the rate with the lowest mean validation loss."""
    return trials[trials.rate == trials.groupby("rate").validation_loss.mean().idxmin()]


def _row(method: str, prior: str, own: pd.DataFrame) -> str:
    forgotten = own["also/language/loss"] - own["also/language/baseline_loss"]
    cells = (
        method,
        prior,
        f"{own.rate.iloc[0]:g}",
        f"{own.test_loss.mean():.3f} ± {own.test_loss.std():.3f}",
        f"{own[own.headline.iloc[0]].mean():.0%}",
        f"{forgotten.mean():.3f} ± {forgotten.std():.3f}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
