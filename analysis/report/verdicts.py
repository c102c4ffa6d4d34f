"""The verdict table, in the page and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.findings.values import Comparison, Finding
from analysis.report.values import Cell, Items, Section, Table, missing, number, sentence

KEY, TITLE = "verdicts", "Verdicts"

FLAGS = {
    "supported": "good",
    "contradicted": "bad",
    "undecided": "open",
    "depends on the metric": "open",
}

COLUMNS = ("claim", "where", "verdict", "number", "95% interval", "p (Holm)", "seeds", "could have seen", "settles it")


def section(findings: Sequence[Finding]) -> Section:
    """A row per finding, and its sentences."""
    if not findings:
        return missing(KEY, TITLE, "No claim is judged: the study has no finished trials to compare.")
    table = Table(
        caption="What the study says about each claim. Numbers are differences or ratios as the claim defines "
        "them (docs/findings.md), over seeds; p-values are corrected over all tests of the study (Holm); 'could "
        "have seen' is the smallest effect found with 80% power. Claims marked exploratory were not in the "
        "study's list when it started.",
        columns=COLUMNS,
        rows=tuple(_row(finding) for finding in findings),
        numbers=frozenset({3, 4, 5, 6, 7}),
    )
    told = [sentence(finding.sentence) for finding in findings if finding.sentence]
    return Section(key=KEY, title=TITLE, blocks=(table, *([Items(tuple(told))] if told else [])))


def markdown(findings: Sequence[Finding]) -> str:
    """The verdict table for papers, issues and notes."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for finding in findings:
        cells = (cell.text.replace("|", "\\|").replace("\n", " ") for cell in _row(finding))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _row(finding: Finding) -> tuple[Cell, ...]:
    first = finding.primary
    kind = " (exploratory)" if finding.exploratory else ""
    claim = f"{finding.claim.number}. {finding.claim.words}{kind}"
    settle = finding.settle or finding.reason
    if first is None:
        numbers = (Cell(""), Cell(""), Cell(""), Cell("0", 0.0), Cell(""))
    else:
        numbers = (
            Cell(f"{first.what}: {number(first.value)} {finding.claim.quantity}".strip(), first.value),
            Cell(_ends(first)),
            Cell(_p(first), first.adjusted),
            Cell(str(first.seeds), float(first.seeds)),
            Cell(number(first.detectable)),
        )
    verdict = Cell(finding.verdict, flag=FLAGS[finding.verdict])
    return (Cell(claim), Cell(finding.where), verdict, *numbers, Cell(settle))


def _ends(found: Comparison) -> str:
    if math.isnan(found.interval.low):
        return ""
    return f"{number(found.interval.low)} to {number(found.interval.high)}"


def _p(found: Comparison) -> str:
    if math.isnan(found.adjusted):
        return ""
    return f"{found.p:.3g} ({found.adjusted:.3g})"
