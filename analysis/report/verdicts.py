"""The verdict table, in the page and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.findings.values import Comparison, Finding
from analysis.report.values import Block, Cell, Items, Section, Table, missing, number, sentence

KEY, TITLE = "verdicts", "Verdicts"

FLAGS = {
    "supported": "good",
    "contradicted": "bad",
    "undecided": "open",
    "depends on the metric": "open",
}

COLUMNS = (
    "claim",
    "planned",
    "where",
    "verdict",
    "number",
    "95% interval",
    "p (Holm)",
    "seeds",
    "settles it",
)


def section(findings: Sequence[Finding], reason: str) -> Section:
    """A row per finding with a number; the claims for which the study has none in a list."""
    if not findings:
        return missing(KEY, TITLE, sentence(f"No claim is judged: {reason or 'no trial has finished'}"))
    known = [finding for finding in findings if finding.primary is not None]
    blocks: list[Block] = []
    if known:
        blocks.append(_table(known))
        blocks.append(Items(tuple(sentence(found.sentence) for found in known), "In sentences", folded=True))
    others = dict.fromkeys(_unjudged(finding) for finding in findings if finding.primary is None)
    if others:
        blocks.append(Items(tuple(others), "Claims that this study cannot judge", folded=bool(known)))
    return Section(key=KEY, title=TITLE, blocks=tuple(blocks))


def _table(findings: Sequence[Finding]) -> Table:
    return Table(
        caption="What the study says about each claim. A number is a difference or ratio as the claim "
        "defines it (docs/findings.md), the mean over seeds. p-values are of the comparison that "
        "decides: raw, then corrected over all tests of the study's list, or of all exploratory "
        "claims (Holm). Planned are the claims in the study's list when it started; all others "
        "are exploratory, and so is what rests on seeds or priors that were added after the first "
        "results.",
        columns=COLUMNS,
        rows=tuple(_row(finding) for finding in findings),
        numbers=frozenset({6, 7}),
    )


def _unjudged(finding: Finding) -> str:
    settle = f"; {finding.settle}" if finding.settle and finding.settle not in finding.reason else ""
    return sentence(f"{finding.claim.number}. {finding.claim.words}: {finding.reason}{settle}")


def markdown(findings: Sequence[Finding]) -> str:
    """The verdict table for papers, issues and notes."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for finding in findings:
        cells = (cell.text.replace("|", "\\|").replace("\n", " ") for cell in _row(finding))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _row(finding: Finding) -> tuple[Cell, ...]:
    first = finding.primary
    numbers = (Cell(""), Cell(""), Cell(""), Cell("0", 0.0))
    if first is not None:
        unit = "" if finding.claim.quantity == first.what else finding.claim.quantity
        numbers = (
            Cell(f"{first.what}: {number(first.value)} {unit}".strip(), first.value),
            Cell(_ends(first)),
            Cell(_p(first), first.adjusted),
            Cell(str(first.seeds), float(first.seeds)),
        )
    return (
        Cell(f"{finding.claim.number}. {finding.claim.words}"),
        Cell(_planned(finding)),
        Cell(finding.where),
        Cell(finding.decided, flag=FLAGS[finding.verdict]),
        *numbers,
        Cell(finding.settle or finding.reason),
    )


def _planned(found: Finding) -> str:
    """Whether it was planned; of an exploratory one, what it rests on that was added."""
    if not found.exploratory:
        return "planned"
    return f"exploratory: rests on {found.added}" if found.added else "exploratory"


def _ends(found: Comparison) -> str:
    if math.isnan(found.interval.low):
        return ""
    return f"{number(found.interval.low)} to {number(found.interval.high)}"


def _p(found: Comparison) -> str:
    if math.isnan(found.adjusted):
        return ""
    return f"{found.p:.3g} ({found.adjusted:.3g})"
