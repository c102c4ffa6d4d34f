"""The verdict table, in the page and in Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from textwrap import wrap

from analysis.findings.sentences import ABOVE, beside, settling
from analysis.findings.values import Claim, Comparison, Finding
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
    "claimed",
    "p (Holm)",
    "seeds",
    "would settle it",
    "other numbers",
    "detectable",
    "90% interval",
    "twin noise",
)

NUMBERS = ("p (Holm)", "seeds")

UNDER = {"planned": "verdict", "95% interval": "number", "claimed": "number"}
"""What stands under what in the page, whose table is then no wider than a small screen."""

OPENED = ("other numbers", "detectable", "90% interval", "twin noise")
"""What a row of the page shows once it is opened."""

MEANINGS = {
    "planned": "Planned claims were in the study's list when it started; all others are exploratory, and "
    "so is what rests on seeds, priors or steps that were added after the first results.",
    "number": "A number is a difference or ratio as the claim defines it (docs/findings.md), the mean over "
    "seeds: the one that decides, or, if several leave the verdict open, the one closest to deciding it.",
    "claimed": "Claimed: where the claim says the number lies; 'within' gives the margin of equality.",
    "p (Holm)": "p-values are of that number: raw, then corrected over all tests of the study's list, or of "
    "all exploratory claims (Holm). For equality it is that of a difference within the margin, or if the "
    "claim is contradicted, of one beyond it: a large p does not say that there is no difference.",
    "would settle it": "Would settle it: seeds to add for the claim as it is worded, at the spread and "
    f"effect found here, for {POWER:.0%} power at the level of the first of all tests in the list (Holm); "
    "for equality, seeds that show it or, if the difference is beyond the margin, that it is. Seeds that are "
    "added to this study make the finding exploratory; a new study (name=...) with all of them from its "
    "start gives a planned verdict. The table of differences is corrected over its own rows and needs fewer.",
    "other numbers": "Other numbers: those of the claim's other metrics, which have to agree.",
    "detectable": "Detectable: the smallest effect (distance from the limit; for equality the "
    f"difference beyond the margin) that these seeds would have shown with {POWER:.0%} power at the level of "
    "Holm's first test; empty where they could not reach it.",
    "90% interval": "90% interval: where equality is tested, it has to lie inside the margin.",
    "twin noise": "Twin noise: what rounding alone does to this number in one seed, and whether the "
    "number (its distance from the limit) is above it.",
}
"""What a column has, for readers of the page; only what a table has is explained."""

WIDTH = 120
"""Letters on a line of Markdown that is prose."""

SEPARATOR = " · "
"""Between the parts of `Finding.where`."""

ELSEWHERE = (
    "Claims 5, 6, 11, 12 and 14 are about activations, which python -m jobs.activations judges "
    "(docs/claims.md). No command judges claim 15."
)
"""Where the numbers went that no claim on trials has."""


def section(findings: Sequence[Finding], reason: str) -> Section:
    """A row per finding with a number; the claims for which the study has none in a list."""
    if not findings:
        return missing(KEY, TITLE, sentence(f"No claim is judged: {reason or 'no trial has finished'}"))
    known = [finding for finding in findings if finding.primary is not None]
    blocks: list[Block] = []
    if known:
        table = _table(known)
        blocks.append(table)
        meanings = [MEANINGS[table.columns[i]] for i in sorted(table.opened)]
        if meanings:
            blocks.append(Items(tuple(meanings), "What a row shows once it is opened", folded=True))
        blocks.append(Items(tuple(sentence(found.sentence) for found in known), "In sentences", folded=True))
    others = unjudged(findings)
    if others:
        blocks.append(Items(tuple(others), _heading(findings), folded=bool(known)))
    return Section(key=KEY, title=TITLE, blocks=tuple(blocks))


def _table(findings: Sequence[Finding]) -> Table:
    table = compact("", COLUMNS, [row(finding) for finding in findings], NUMBERS, UNDER, OPENED)
    seen = [
        MEANINGS[name] for i, name in enumerate(table.columns) if i not in table.opened and name in MEANINGS
    ]
    return replace(table, caption=" ".join(["What the study says about each claim.", *seen, ELSEWHERE]))


def unjudged(findings: Iterable[Finding]) -> list[str]:
    """One sentence for each claim that lacks a number somewhere: why, what would settle it, and where."""
    claims: dict[Claim, dict[str, list[str]]] = {}
    for finding in findings:
        if finding.primary is None:
            claims.setdefault(finding.claim, {}).setdefault(_with_settle(finding), []).append(finding.where)
    return [
        sentence(
            f"{claim.number}. {claim.words}: "
            + "; ".join(f"{why} [{places(where)}]" for why, where in reasons.items())
        )
        for claim, reasons in claims.items()
    ]


def in_lines(findings: Sequence[Finding]) -> list[str]:
    """The findings that have a number, one sentence each, and below them what is not judged."""
    others = unjudged(findings)
    known = [sentence(found.sentence) for found in findings if found.primary is not None]
    return [*known, *([f"{_heading(findings)}."] if others else []), *(f"  {text}" for text in others)]


def counts(findings: Sequence[Finding]) -> str:
    """How often each verdict was given, and how many are exploratory: `2 supported, 3 undecided`.

    Empty where nothing has a number.
    """
    known = [finding for finding in findings if finding.primary is not None]
    given = Counter[str](finding.verdict for finding in known)
    told = ", ".join(f"{given[verdict]} {verdict}" for verdict in FLAGS if given[verdict])
    exploratory = sum(finding.exploratory for finding in known)
    if not exploratory:
        return told
    many = "all" if exploratory == len(known) else f"{exploratory} of them"
    return f"{told} ({many} exploratory; a new study, name=..., plans them)"


def places(where: Sequence[str]) -> str:
    """Places with what they share said once: `arithmetic · soft · isotropic, fitted`."""
    shared: dict[str, list[str]] = {}
    for place in where:
        front, _, last = place.rpartition(SEPARATOR)
        shared.setdefault(front, []).append(last)
    return "; ".join(f"{front}{SEPARATOR if front else ''}{', '.join(own)}" for front, own in shared.items())


def _heading(findings: Sequence[Finding]) -> str:
    """The numbers of the claims without any number, and of those that lack one in places."""
    lacking = dict.fromkeys(found.claim.number for found in findings if found.primary is None)
    judged = {found.claim.number for found in findings if found.primary is not None}
    whole = [str(claim) for claim in lacking if claim not in judged]
    parts = [str(claim) for claim in lacking if claim in judged]
    told = [f"claims {', '.join(whole)}"] if whole else []
    told += [f"in places {', '.join(parts)}"] if parts else []
    return f"Not judged in this study: {'; '.join(told)}"


def _with_settle(finding: Finding) -> str:
    settle = f"; {settling(finding)}" if finding.settle and finding.settle not in finding.reason else ""
    return f"{finding.reason}{settle}"


def markdown(findings: Sequence[Finding]) -> str:
    """The verdict table for papers, issues and notes, and below it the claims without a number."""
    known = [finding for finding in findings if finding.primary is not None]
    lines = []
    if known:
        lines += [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for finding in known:
        cells = (cell.text.replace("|", "\\|").replace("\n", " ") for cell in row(finding))
        lines.append(f"| {' | '.join(cells)} |")
    others = unjudged(findings)
    if others:
        lines += [*([""] if known else []), *_wrapped(f"{_heading(findings)}."), ""]
        lines += [line for text in others for line in _wrapped(f"- {text}", "  ")]
    return "\n".join([*lines, "", *_wrapped(ELSEWHERE)]) + "\n"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def row(finding: Finding) -> tuple[Cell, ...]:
    """A finding with a number, by `COLUMNS`."""
    first = finding.primary
    assert first is not None
    return (
        Cell(f"{finding.claim.number}. {finding.claim.words}"),
        Cell(_planned(finding)),
        Cell(finding.where),
        Cell(finding.decided, flag=FLAGS[finding.verdict]),
        *_numbers(finding, first),
        Cell(finding.settle or finding.reason),
        *_beside(finding, first),
    )


def _numbers(finding: Finding, first: Comparison) -> tuple[Cell, ...]:
    """The numbers of the comparison that decides, each with the trials that it comes from."""
    unit = "" if finding.claim.quantity == first.what else finding.claim.quantity
    told, trials = f"{first.what}: {number(first.value)} {unit}".strip(), first.trials
    return (
        Cell(told, first.value, trials),
        Cell(_ends(first.interval), trials=trials),
        Cell(finding.claimed, trials=finding.margin_trials),
        Cell(_p(first), first.adjusted, trials),
        Cell(str(first.seeds), float(first.seeds), trials),
    )


def _beside(finding: Finding, first: Comparison) -> tuple[Cell, ...]:
    """What the number is read against."""
    trials = first.trials
    others = (f"{own.what}: {number(own.value)} ({_ends(own.interval)})" for own in finding.others)
    return (
        Cell("; ".join(others), trials=tuple(dict.fromkeys(i for own in finding.others for i in own.trials))),
        Cell(number(first.detectable), first.detectable, trials),
        Cell("" if first.equivalence is None else _ends(first.equivalence), trials=trials),
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
