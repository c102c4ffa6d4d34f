"""The answer in three parts: the result, how certain it is, and whether the trials are sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from analysis.findings.reading import Reading
from analysis.findings.study import Cell, Side, is_faulty
from analysis.findings.values import Finding
from analysis.report.grid import Mean, mean
from analysis.report.values import number, sentence
from analysis.report.verdicts import places
from softprior.inputs.labels import by_number, counted
from softprior.library.sanity import checks

SHOWN = 2
"""Cells (tasks and methods) that the first sentence speaks of, and findings with numbers; tables have all."""

FIRST = ("quality", "cut-or-keep", "regularisers")
"""The claims whose findings the answer quotes: on priors, methods and regularisers, which a study varies."""


def answer(reading: Reading, findings: Sequence[Finding]) -> list[str]:
    """At most three parts, mostly a sentence each; fewer where nothing has finished."""
    found = [_lowest(reading), _certainty(reading, findings), _soundness(reading)]
    return [text for text in found if text]


def _lowest(reading: Reading) -> str:
    """Which prior has the lowest test loss at the rate chosen on validation, in each cell."""
    told = [text for cell in reading.study.cells("prior") if (text := _of_cell(cell))]
    if not told:
        return ""
    more = len(told) - SHOWN
    rest = (
        f"; {counted(more, 'other comparison')} {by_number(more, 'is', 'are')} in the table"
        if more > 0
        else ""
    )
    return sentence("; ".join(told[:SHOWN]) + rest)


def _of_cell(cell: Cell) -> str:
    means = {name: own for name, side in cell.sides.items() if (own := mean(list(side.runs.values())))}
    if not means:
        return ""
    (name, best), *others = sorted(means.items(), key=lambda item: item[1].value)
    among = "the only prior"
    if others:
        second, next_best = others[0]
        among = f"the lowest of {len(means)} priors"
        # Means over other seeds cannot be compared.
        same = cell.sides[name].runs.keys() == cell.sides[second].runs.keys()
        if same and next_best.value > best.value:
            among += f", {number(next_best.value - best.value)} nats below '{second}'"
    text = (
        f"on {cell.where} the prior '{name}' ends at a loss of {_told(best)} on {_split(cell.sides[name])} "
        f"at rate {cell.sides[name].chosen}, {among}"
    )
    if cell.baseline is None or cell.baseline.test is None:
        return text
    nothing = cell.baseline.test.loss
    side = "below" if best.value < nothing else "above"
    return f"{text} and {number(abs(nothing - best.value))} nats {side} no prompt ({number(nothing)})"


def _split(side: Side) -> str:
    """What the losses were measured on: `64 test examples`, or `60 to 64 test examples`."""
    sizes = {run.record.test.examples for run in side.runs.values() if run.record.test is not None}
    least, most = min(sizes), max(sizes)
    return counted(most, "test example") if least == most else f"{least:,} to {most:,} test examples"


def _told(found: Mean) -> str:
    seeds = len(found.trials)
    if found.interval.missing:
        return f"{number(found.value)} nats per label token ({found.interval.missing})"
    ends = f"{number(found.interval.low)} to {number(found.interval.high)}"
    return f"{number(found.value)} nats per label token (95% interval {ends}, {counted(seeds, 'seed')})"


def _certainty(reading: Reading, findings: Sequence[Finding]) -> str:
    seeds = [len(runs) for c in reading.study.cells() for s in c.sides.values() for runs in s.rates.values()]
    if not seeds:
        return ""
    if max(seeds) < 2:
        return (
            "Each setting has one seed, so there is no interval and no test: these differences may be chance."
        )
    known = [found for found in findings if found.primary is not None]
    first = [[found for found in known if found.claim.name == name] for name in FIRST]
    named = [_named(found) for found in first if found]
    if named:
        return " ".join(map(sentence, named))
    priors = [found for found in findings if found.claim.name == FIRST[0]]
    if len(priors) == 1:
        return sentence(_quoted(priors[0]))
    counts = Counter(_decided(found) for found in known)
    if not counts:
        return "No claim has been judged, so differences between priors are described and not tested."
    told = ", ".join(_verdict(verdict, count) for verdict, count in counts.most_common())
    return f"Of {counted(len(known), 'judged finding')}, {told} (table below)."


def _named(findings: Sequence[Finding]) -> str:
    """The verdicts on one claim: one or two with their numbers, more with their places."""
    if len(findings) == 1:
        return _quoted(findings[0])
    if len(findings) <= SHOWN:
        own = "; ".join(f"{_decided(found)} for {found.where} ({_value(found)})" for found in findings)
        return f"{findings[0].claim.words}: {own}"
    where: dict[str, list[str]] = {}
    for found in findings:
        where.setdefault(_decided(found), []).append(found.where)
    told = (f"{verdict} for {places(found)}" for verdict, found in where.items())
    return f"{findings[0].claim.words}: {', '.join(told)}"


def _decided(found: Finding) -> str:
    """The verdict; an exploratory one that decides the claim says so."""
    decides = found.verdict != "undecided" and found.exploratory
    return f"{found.decided} (exploratory)" if decides else found.decided


def _verdict(verdict: str, count: int) -> str:
    """`35 are supported`, `1 depends on the metric`."""
    if verdict.startswith("depends"):
        return f"{count} {verdict if count == 1 else verdict.replace('depends', 'depend', 1)}"
    return f"{count} {by_number(count, 'is', 'are')} {verdict}"


def _value(found: Finding) -> str:
    assert found.primary is not None
    unit = "" if found.claim.quantity == found.primary.what else f" {found.claim.quantity}"
    return f"{found.primary.what} is {number(found.primary.value)}{unit}"


def _quoted(found: Finding) -> str:
    """A finding in words that fit an answer; its own sentence has every detail."""
    text = f"{found.claim.words}: {_decided(found)}"
    if found.primary is None:
        return f"{text}, because {found.reason}"
    own, margin = found.primary, "" if found.margin is None else f", margin {number(found.margin)}"
    interval = f"95% interval {number(own.interval.low)} to {number(own.interval.high)}"
    interval = own.interval.missing or interval
    seeds = counted(own.seeds, "seed")
    return f"{text} ({_value(found)}, {interval}{margin}, {seeds})"


def _soundness(reading: Reading) -> str:
    """How many trials finished, whether trained prompts still read their contexts, and sanity alarms."""
    if not reading.records:
        return ""
    finished, total = len(reading.finished), len(reading.header["trials"])
    text = f"{finished:,} of {counted(total, 'trial')} finished"
    faulty = sum(map(is_faulty, reading.ended.values()))
    if faulty:
        has = by_number(faulty, "has a fault in its", "have a fault in their")
        text += f", of which {faulty:,} {has} own checks and {by_number(faulty, 'counts', 'count')} nowhere"
    gaps = [gap for run in reading.study.runs if (gap := context_gap(run.record)) is not None]
    if gaps:
        up = sum(gap > 0 for gap in gaps)
        text += f"; with contexts swapped between examples the test loss is higher in {up:,} of {len(gaps):,}"
        text += " trained trials"
    return f"{text}{_alarms(reading)}."


def _alarms(reading: Reading) -> str:
    """How many trials with a trained prompt raised an alarm, and what that does to the answer."""
    found = checks(reading.ended)
    own = [run.id for run in reading.study.runs if run.id in found]
    if not own:
        return ""
    raised = sum(any(check.verdict == "alarm" for check in found[trial]) for trial in own)
    if not raised:
        return f"; no sanity alarm among the {counted(len(own), 'trained trial')} that could be checked"
    return (
        f"; {raised:,} of {counted(len(own), 'trained trial')} raised a sanity alarm, so read this answer "
        "together with the section Sanity"
    )


def context_gap(record: object) -> float | None:
    """Test loss with contexts swapped minus without, in nats; None where it was not measured."""
    test = getattr(record, "test", None)
    if test is None or test.shuffled_loss is None:
        return None
    return float(test.shuffled_loss - test.loss)
