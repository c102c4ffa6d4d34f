"""Whether the trials are sound: swapped contexts, failures, exclusions, and deviations from the plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from analysis.findings.changes import added
from analysis.findings.reading import Reading
from analysis.findings.study import Run, Side, Study, is_faulty
from analysis.inference.intervals import over_seeds
from analysis.report.answer import context_gap
from analysis.report.intervals import ends, explained
from analysis.report.spread import spread_of
from analysis.report.values import Block, Cell, Items, Section, Table, Words, missing, number, sentence
from softprior.errors import UserError
from softprior.inputs.labels import by_number, counted
from softprior.library.sanity import verdicts
from softprior.results.provenance import named
from softprior.results.records import Record
from softprior.studies.describe import closing_notes

COMPUTED = {
    "frozen_cache": "with model.frozen_cache",
    "device": "on device",
    "kernels": "with kernels",
    "threads": "with threads:",
}
"""What a record says of how its numbers were computed, and is no part of a trial's identity."""

WAYS = {"True": "on", "None": "off"}
"""How its values are told."""

KEY, TITLE = "checks", "Sanity, failures, exclusions, deviations"


def section(reading: Reading) -> Section:
    """Everything that limits what the numbers above say."""
    if not reading.records:
        return missing(KEY, TITLE, "No trial has ended, so there is nothing to check.")
    checked = verdicts(reading.ended, reading.labels).lines
    own = [Items(tuple(sentence(line[:1].upper() + line[1:]) for line in checked))] if checked else []
    measured = [*_contexts(reading.study.runs), *_twins(reading.study), *spread_of(reading)]
    blocks: list[Block] = [*own, *measured, *_failures(reading)]
    told = [*_exclusions(reading.ended.values()), *_deviations(reading)]
    if told:
        blocks.append(Items(tuple(sentence(text) for text in told)))
    return Section(key=KEY, title=TITLE, blocks=tuple(blocks))


def problems(reading: Reading) -> list[str]:
    """Files that are missing or damaged, one sentence each; of single trials those that were read so far."""
    return [*reading.damaged, *filter(None, [reading.table_problem]), *reading.lost]


def excluded(reading: Reading) -> list[str]:
    """Trials with a fault in their own checks, which no number counts; nothing without any."""
    faulty = [reading.ids[trial] for trial, record in reading.ended.items() if is_faulty(record)]
    if not faulty:
        return []
    what, are = counted(len(faulty), "trial"), by_number(len(faulty), "is", "are")
    have = by_number(len(faulty), "has a fault in its", "have a fault in their")
    return [f"{what} {have} own checks and {are} in no mean, figure or finding: {', '.join(faulty)}"]


def _contexts(runs: Iterable[Run]) -> list[Block]:
    """What swapping contexts between examples costs, by setting."""
    settings: dict[tuple[str, ...], dict[str, float]] = {}
    for run in runs:
        gap = context_gap(run.record)
        if gap is not None:
            axes = (run.axes["task"], run.axes["method"], run.axes["prior"], run.axes["regularisers"])
            settings.setdefault((*axes, run.axes["rate"]), {})[run.id] = gap
    if not settings:
        return [Words("Contexts were not swapped in this study, so nothing shows whether prompts read them.")]
    rows, intervals = [], []
    for setting, gaps in settings.items():
        values = np.array(list(gaps.values()))
        intervals.append(over_seeds(values))
        text = f"{number(values.mean())}{ends(intervals[-1])}"
        flag = "good" if values.min() > 0 else "bad"
        what = " · ".join(part for part in setting if part != "none")
        rise = Cell(text, float(values.mean()), tuple(gaps), flag=flag)
        up = int((values > 0).sum())
        rows.append((Cell(what), rise, Cell(f"{up} of {len(values)}", float(up), tuple(gaps))))
    return [
        Table(
            caption="Swapped contexts: test loss with the contexts (in arithmetic: questions) of other "
            f"examples, minus test loss, in nats per label token.{explained(intervals)} A "
            "prompt whose loss does not rise answers without reading. From shuffled_loss and test_loss in "
            "trials.parquet.",
            columns=("setting", "rise", "seeds in which it rises"),
            rows=tuple(rows),
            numbers=frozenset({1, 2}),
        )
    ]


def _twins(study: Study) -> list[Block]:
    """What rounding alone does to test losses, by task and method."""
    settings: dict[tuple[str, str], dict[str, float]] = {}
    for run, twin in study.pairs(study.runs, study.twins):
        if run.loss is not None and twin.loss is not None:
            apart = settings.setdefault((run.axes["task"], run.axes["method"]), {})
            apart[run.id] = abs(run.loss - twin.loss)
    rows = []
    for setting, apart in settings.items():
        values, trials = np.array(list(apart.values())), tuple(apart)
        most, middle = float(values.max()), float(np.median(values))
        rows.append(
            (
                Cell(" · ".join(setting)),
                Cell(str(len(values)), float(len(values)), trials),
                Cell(f"{most:.2g}", most, (trials[int(values.argmax())],)),
                Cell(f"{middle:.2g}", middle, trials),
            )
        )
    if not rows:
        return []
    caption = (
        "Twins: how far the test losses of the same training end apart, in nats, if its initial vectors are "
        "moved by rounding's size. One seed's difference that is not well above it says nothing. From "
        "test_loss and twin in trials.parquet."
    )
    columns = ("task and method", "pairs", "largest", "median")
    return [Table(caption=caption, columns=columns, rows=tuple(rows), numbers=frozenset({1, 2, 3}))]


def _failures(reading: Reading) -> list[Block]:
    lost = [record for record in reading.ended.values() if record.status != "finished"]
    if not lost:
        return [Words(f"No trial failed: all {len(reading.ended):,} that have ended are finished.")]
    rows = tuple(
        (
            Cell(reading.ids[record.id], trials=(record.id,)),
            Cell(reading.labels[record.id]),
            Cell(record.status, flag="bad" if record.status == "failed" else "open"),
            Cell(record.error or ""),
        )
        for record in lost
    )
    caption = "Trials without a result, and why; in no mean and in no test. From records/TRIAL.json."
    return [Table(caption=caption, columns=("trial", "what", "status", "why"), rows=rows)]


def _exclusions(records: Iterable[Record]) -> list[str]:
    """Malformed rows, short splits, gradients of zero."""
    known = list(records)
    try:
        return closing_notes(known, limits=False)
    except UserError as error:  # a task of the user's own that is not known here
        return [f"what was left out of the data is not listed, because {error}"]


def _deviations(reading: Reading) -> list[str]:
    """Where the study is not what its file says, or not of one piece."""
    found = [*problems(reading), *excluded(reading)]
    if reading.missing:
        ids = ", ".join(reading.ids[trial] for trial in reading.missing[:10])
        more = f" and {len(reading.missing) - 10:,} more" if len(reading.missing) > 10 else ""
        has = by_number(len(reading.missing), "has", "have")
        found.append(f"{counted(len(reading.missing), 'planned trial')} {has} no record: {ids}{more}")
    begun = Counter(record.continued.step for record in reading.ended.values() if record.continued)
    found += [
        f"{counted(count, 'trial')} {by_number(count, 'goes', 'go')} on from step {step:,}: training.steps "
        "was raised after earlier results"
        for step, count in sorted(begun.items())
    ]
    found += [
        f"{addition.words}: added after the first results, so findings that rest on this are exploratory"
        for addition in added(reading.study.runs, reading.study.design)[1]
        if addition.words.startswith(("seed", "prior"))
    ]
    made = Counter(named(record.environment) for record in reading.ended.values())
    if len(made) > 1:
        told = ", ".join(f"{counted(count, 'trial')} by {code}" for code, count in made.most_common())
        found.append(f"the trials were not made by one version of the code: {told}")
    machines = Counter(str(r.environment.get("machine", "unknown")) for r in reading.ended.values())
    if len(machines) > 1:
        found.append(
            f"the trials ran on {len(machines)} machines, whose rounding differs: {', '.join(machines)}"
        )
    found += _computed(reading)
    uneven = [
        f"{cell.where} · {side.name}: {_seeds(side)}"
        for cell in reading.study.cells("prior")
        for side in cell.sides.values()
        if len({len(runs) for runs in side.rates.values()}) > 1
    ]
    return [*found, *(f"rates have unlike numbers of seeds: {text}" for text in uneven)]


def _computed(reading: Reading) -> list[str]:
    """In which ways trials were computed that are equal up to rounding only, where a study mixes some."""
    found = []
    for key, name in COMPUTED.items():
        ways = Counter(
            WAYS.get(str(way), str(way))
            for record in reading.ended.values()
            # Only `frozen_cache` is left out where it is off; the others are missing from earlier records.
            if key in record.environment or (key == "frozen_cache" and record.status == "finished")
            for way in [record.environment.get(key)]
        )
        if len(ways) > 1:
            told = ", ".join(f"{counted(count, 'trial')} {name} {way}" for way, count in ways.most_common())
            found.append(f"the trials were computed in different ways and agree only up to rounding: {told}")
    return found


def _seeds(side: Side) -> str:
    return ", ".join(f"{counted(len(runs), 'seed')} at rate {rate}" for rate, runs in side.rates.items())
