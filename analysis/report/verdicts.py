"""The verdict table, in the page and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.findings.sentences import ABOVE, beside
from analysis.findings.values import Comparison, Finding
from analysis.inference.values import POWER, Interval
from analysis.report.values import Block, Cell, Items, Section, Table, compact, missing, number, sentence

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
    "could have seen",
    "90% interval",
    "margin",
    "noise of twins",
)

NUMBERS = tuple(name for name in COLUMNS[5:] if name != "settles it")


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
    caption = (
        "What the study says about each claim. A number is a difference or ratio as the claim defines it "
        "(docs/findings.md), the mean over seeds. Where equality is tested, the 90% interval has to lie "
        "inside the margin. Could have seen: the smallest effect (distance from the rule's limit; of "
        "equality the difference beyond the margin) that these seeds would have shown with "
        f"{POWER:.0%} power at the level of Holm's first test; empty where they could not reach it. Noise of "
        "twins: what rounding alone does to this number in one seed, and whether the number (its distance "
        "from the limit) is above it. p-values are of the comparison that decides: raw, then corrected over "
        "all tests of the study's list, or of all exploratory claims (Holm). Planned are the claims in the "
        "study's list when it started; all others are exploratory, and so is what rests on seeds or priors "
        "that were added after the first results."
    )
    return compact(caption, COLUMNS, [row(finding) for finding in findings], NUMBERS)


def _unjudged(finding: Finding) -> str:
    return sentence(f"{finding.claim.number}. {finding.claim.words}: {_with_settle(finding)}")


def _with_settle(finding: Finding) -> str:
    settle = f"; {finding.settle}" if finding.settle and finding.settle not in finding.reason else ""
    return f"{finding.reason}{settle}"


def markdown(findings: Sequence[Finding]) -> str:
    """The verdict table for papers, issues and notes."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for finding in findings:
        cells = (cell.text.replace("|", "\\|").replace("\n", " ") for cell in row(finding))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def row(finding: Finding) -> tuple[Cell, ...]:
    first = finding.primary
    return (
        Cell(f"{finding.claim.number}. {finding.claim.words}"),
        Cell(_planned(finding)),
        Cell(finding.where),
        Cell(finding.decided, flag=FLAGS[finding.verdict]),
        *((Cell(""),) * 3 + (Cell("0"),) if first is None else _numbers(finding, first)),
        Cell(_settled(finding)),
        *((Cell(""),) * 4 if first is None else _beside(finding, first)),
    )


def _settled(finding: Finding) -> str:
    """Why a finding is open where it has no number to show that, and what would settle it."""
    if finding.primary is not None and finding.settle:
        return finding.settle
    return _with_settle(finding)


def _numbers(finding: Finding, first: Comparison) -> tuple[Cell, ...]:
    """The numbers of the comparison that decides, each with the trials that it comes from."""
    unit = "" if finding.claim.quantity == first.what else finding.claim.quantity
    told, trials = f"{first.what}: {number(first.value)} {unit}".strip(), first.trials
    return (
        Cell(told, first.value, trials),
        Cell(_ends(first.interval), trials=trials),
        Cell(_p(first), first.adjusted, trials),
        Cell(str(first.seeds), float(first.seeds), trials),
    )


def _beside(finding: Finding, first: Comparison) -> tuple[Cell, ...]:
    """What the number is read against."""
    trials = first.trials
    return (
        Cell(number(first.detectable), first.detectable, trials),
        Cell("" if first.equivalence is None else _ends(first.equivalence), trials=trials),
        Cell(number(finding.margin), finding.margin, finding.margin_trials),
        _noise(finding),
    )


def _noise(finding: Finding) -> Cell:
    """The difference between twins, and a warning where the number is not well above it."""
    if finding.noise is None:
        return Cell("")
    stands = beside(finding.effect, finding.noise)
    flag = "" if stands == ABOVE else "open"
    return Cell(f"{number(finding.noise)}: {stands} it", finding.noise, finding.twins, flag=flag)


def _planned(found: Finding) -> str:
    """Whether it was planned; of an exploratory one, what it rests on that was added."""
    if not found.exploratory:
        return "planned"
    return f"exploratory: rests on {found.added}" if found.added else "exploratory"


def _ends(found: Interval) -> str:
    return found.missing or f"{number(found.low)} to {number(found.high)}"


def _p(found: Comparison) -> str:
    if math.isnan(found.adjusted):
        return ""
    return f"{found.p:.3g} ({found.adjusted:.3g})"
