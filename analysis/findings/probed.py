"""What probes of finished prompts measured, as claims take it."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.findings.near_tokens import FAR, NEAR, RANDOM
from analysis.findings.study import Run
from analysis.findings.words import NUMBER as PROJECTION

NUMBERS = {
    PROJECTION: "projection/divergence",
    NEAR: "removal/near",
    FAR: "removal/far",
    RANDOM: "removal/random",
}
"""Numbers of records, by their names in `Study.numbers`."""


def probed(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """The numbers of the trials that were probed, for `Study.numbers`."""
    tables = {run.id: run.record.probed for run in runs}
    found = {
        name: {trial: own[number] for trial, own in tables.items() if number in own}
        for name, number in NUMBERS.items()
    }
    return {name: table for name, table in found.items() if table}
