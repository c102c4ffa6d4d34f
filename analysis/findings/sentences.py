"""Findings in words."""

from __future__ import annotations

import re

from analysis.findings.rules import BEYOND
from analysis.findings.values import Comparison, Finding
from analysis.inference.power import MOST
from analysis.inference.values import LEVEL, Interval
from softprior.inputs.labels import counted

FOUR = 4
"""Fewest seeds whose spread says roughly how many are needed.

The upper end of the 95% interval of the true spread is 32 times that of two seeds, 6 times that of three and
4 times that of four.
"""

CLEAR = 2
"""Multiple of the difference between twins from which a number is said to be above it."""


ABOVE = "above"
"""How a number stands to the difference between twins if nothing speaks against it."""


SEEDS = re.compile(r"\badd ([\d,]+ )?seeds?\b")
"""Where a remedy asks for seeds."""

LATER = "exploratory if added to this study, planned in a new one"
"""What a finding is once it has more seeds."""

ANEW = "in a new study (name=...): in this one it stays exploratory"
"""Where an exploratory finding gets more seeds."""


def sentence(found: Finding) -> str:
    """One plain sentence: the claim, the verdict, the number with its interval, and what would settle it."""
    text = f"{found.claim.words}: {found.decided} for {found.where}"
    if found.reason:
        text += f", because {found.reason}"
    if found.primary is not None:
        about = "" if found.margin is None else tested(found.primary)
        text += f"; {number(found.primary, found.claim.quantity, about)}"
        text += f", the claim is: {found.claimed}" if found.limit else ""
    if found.margin is not None:
        text += f", margin {found.margin:.3g}"
    text += seen(found)
    if found.primary is not None and found.noise is not None:
        what = f"the distance from {found.limit:g}" if found.limit else "it"
        text += f"; {what} is {beside(found.effect, found.noise)} the difference between twins"
        text += f" ({found.noise:.2g})"
    if found.others:
        text += f"; other numbers: {', '.join(short(own) for own in found.others)}"
    if found.settle:
        text += f"; to settle it, {settling(found)}"
    if found.exploratory and found.primary is not None:
        text += " (exploratory"
        text += f": it rests on {found.added}, added after the first results)" if found.added else ")"
    return f"{text}."


def seen(found: Finding) -> str:
    """The smallest effect that the study could have detected; empty where that is not known."""
    if found.primary is None or found.primary.detectable is None:
        return ""
    told = f"{found.primary.detectable:.3g}"
    if found.margin is not None:
        return f"; the smallest difference it could have shown to be beyond the margin is {told}"
    what = f"distance from {found.limit:g}" if found.limit else "effect"
    return f"; the smallest {what} it could have detected is {told}"


def beside(effect: float, noise: float) -> str:
    """How an effect stands to the difference between twins."""
    if effect <= noise:
        return "not above"
    return ABOVE if effect >= CLEAR * noise else "less than twice"


def settling(found: Finding) -> str:
    """What would settle a finding, and if that is seeds, whether it is planned once they are added."""
    if not SEEDS.search(found.settle):
        return found.settle
    return f"{found.settle}, {ANEW}" if found.exploratory else f"{found.settle} ({LATER})"


def settled_by(found: Finding, fewest: int | None = None) -> str:
    """What would settle an undecided finding that has numbers; empty if nothing has to be settled.

    Args:
        fewest: seeds below which no p is small enough; None where that is not known or not so.
    """
    if found.verdict != "undecided" or found.primary is None:
        return ""
    own = found.primary
    more, purpose, beyond = own.more_seeds, "", found.margin is not None and abs(own.value) > found.margin
    if found.margin is not None:
        # Seeds that find a difference are another number, which stands in the tables of differences.
        purpose, margin = " to show that they are equal", found.margin
        far = [one for one in found.comparisons if one.referenced and abs(one.value) > margin]
        if beyond and not far:
            return (
                f"run a study whose first prior is one of the two of {own.what}: they differ by more than "
                "the margin, and only differences from the first prior are tested for that"
            )
        if beyond:
            nearest = min(far, key=lambda one: MOST + 1 if one.more_seeds is None else one.more_seeds)
            more, purpose = nearest.more_seeds, f" to show that {nearest.what} lies beyond the margin"
    if more != 0 and own.seeds < FOUR:
        few = "two" if own.seeds == 2 else "three"
        if fewest is None:
            return f"add seeds: {few} seeds do not tell how many are needed"
        return f"add seeds: at least {fewest} are needed, and {few} seeds do not tell how many more"
    if more is None and found.effect == 0 and own.interval.missing:
        shown = "no seed shows a difference" if not found.limit else f"all seeds are at {found.limit:g}"
        return f"compare what may differ: {shown}, and more of them would hardly show one"
    if more is None:
        return f"over {MOST:,} seeds are needed at this spread{purpose}; look for what makes seeds differ"
    return f"add {counted(more, 'seed')} at this spread{purpose}" if more else ""


def tested(own: Comparison) -> str:
    """What the p of a finding of equality is of, as that of its other test says the opposite."""
    beyond = own.test.endswith(BEYOND)
    return f" for a difference {'beyond' if beyond else 'within'} the margin"


def number(own: Comparison, quantity: str, about: str = "") -> str:
    """A comparison with its interval, p and seeds.

    Args:
        about: what p is of, where that is not clear.
    """
    unit = f" {quantity}" if quantity not in ("", own.what) else ""
    p = f"p {_p(own.p)}{about}, {_p(own.adjusted)} after Holm"
    wider = f" ({ends(own.wider)} for other examples too)" if own.wider is not None else ""
    level = "" if own.interval.missing else "95% "
    return f"{short(own)}{unit}, {level}{ends(own.interval)}{wider}, {p}, {counted(own.seeds, 'seed')}"


def short(own: Comparison) -> str:
    return f"{own.what} {own.value:.3g}"


def ends(interval: Interval) -> str:
    return interval.missing or f"[{interval.low:.3g}, {interval.high:.3g}]"


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= LEVEL / 100 else f"{value:.1e}"
