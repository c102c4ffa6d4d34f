"""Loss along the straight lines between posteriors: whether two prompts lie in one basin. Exploratory."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from pydantic import ValidationError

from analysis.findings.posteriors import posterior_of
from analysis.findings.reading import Reading
from analysis.findings.study import Cell, Run
from softprior.errors import UserError
from softprior.inputs.base import Spec
from softprior.models.load import Loaded
from softprior.prompt import Prompt
from softprior.results.files import write_json
from softprior.results.folder import StudyFolder
from softprior.results.provenance import SOURCES
from softprior.results.storage import Location
from softprior.training.failure import TrialFailedError
from softprior.training.trial import Trial

POINTS, SEEDS = 9, 3
"""Prompts on a line, both ends among them; seeds of a pair."""

OTHERS = 5
"""Most priors that are connected with a study's first one."""

Say = Callable[[str], None]


class Line(Spec):
    """The prompts (1 - t) a + t b between the posteriors of a pair, vector by vector, for some seeds.

    Attributes:
        name: of the pair, such as `isotropic to fitted`.
        seeds: of both trials; of the first one, where the pair is two seeds of one prior.
        trials: the ids of both, by seed.
        at: t, rising from 0 to 1.
        losses: by seed, in nats per label token.
        nothing: loss without a prompt on the same examples.
    """

    name: str
    seeds: tuple[int, ...]
    trials: tuple[tuple[str, str], ...]
    at: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]
    nothing: float


class Connectivity(Spec):
    """All lines of a study.

    Attributes:
        examples: number of test examples behind each loss, the first of the split.
        sources: the code that measured them.
    """

    lines: tuple[Line, ...]
    examples: int
    sources: str


class Pair(NamedTuple):
    """Two posteriors of each of some seeds, in one cell."""

    name: str
    runs: tuple[tuple[Run, Run], ...]


def pairs_of(cell: Cell, seeds: int = SEEDS) -> list[Pair]:
    """The first prior with each other one, seed by seed, each at its chosen rate; then the first with itself.

    The last pair takes two seeds of the first prior: how far apart posteriors are that differ in their
    draws alone.
    """
    first, *others = cell.sides.values()
    found = []
    for side in others[:OTHERS]:
        shared = sorted(first.runs.keys() & side.runs.keys())[:seeds]
        both = tuple((first.runs[seed], side.runs[seed]) for seed in shared)
        found.append(Pair(f"{first.name} to {side.name}", both))
    known = sorted(first.runs)
    alone = tuple((first.runs[a], first.runs[b]) for a, b in pairwise(known))[:seeds]
    found.append(Pair(f"{first.name} to another seed", alone))
    return [pair for pair in found if pair.runs]


def require_sizes(seeds: int, points: int) -> None:
    """Checks what a user chose.

    Raises:
        UserError: there are too few.
    """
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: a line needs a seed; give 1 or more")
    if points < 3:
        raise UserError(f"--points {points}: a line needs both ends and a prompt between; give 3 or more")


def measure(
    reading: Reading, loaded: Loaded, say: Say, seeds: int = SEEDS, points: int = POINTS
) -> Connectivity:
    """Measures the lines of every cell of a study, on the test examples of its probes.

    Raises:
        UserError: the model is not the study's, a posterior is missing, or nothing can be connected.
    """
    if loaded.fingerprint != reading.header.get("model_fingerprint"):
        raise UserError(
            "the model on this machine is not the one that the study ran on, so its losses would be others; "
            "run this where the study ran"
        )
    known = [(cell, pair) for cell in reading.study.cells("prior") for pair in pairs_of(cell, seeds)]
    if not known:
        raise UserError(
            f"in {reading.name} no two posteriors have one task and method; add a prior or a seed"
        )
    found = []
    count = 0
    for i, (cell, pair) in enumerate(known, start=1):
        say(f"line {i} of {len(known)}: {cell.where}, {pair.name}")
        line, count = _line(reading, loaded, pair, np.linspace(0, 1, points))
        found.append(line)
    return Connectivity(lines=tuple(found), examples=count, sources=SOURCES)


def _line(reading: Reading, loaded: Loaded, pair: Pair, at: np.ndarray) -> tuple[Line, int]:
    first = pair.runs[0][0].record.spec
    trial = Trial(first, *loaded, reading.folder, lambda _: None)
    prober = trial.prober
    losses = []
    for runs in pair.runs:
        a, b = (posterior_of(reading.study, run).final for run in runs)
        try:
            losses.append(tuple(prober.loss(between(a, b, t)) for t in at.tolist()))
        except TrialFailedError as error:
            ids = " and ".join(run.id for run in runs)
            raise UserError(f"between the posteriors of trials {ids}: {error}") from None
    line = Line(
        name=pair.name,
        seeds=tuple(run.seed for run, _ in pair.runs),
        trials=tuple((a.id, b.id) for a, b in pair.runs),
        at=tuple(at.tolist()),
        losses=tuple(losses),
        nothing=prober.loss({}),
    )
    return line, prober.count


def between(a: Prompt, b: Prompt, share: float) -> Prompt:
    """The prompt a share of the way from one to another of the same places and numbers of vectors."""
    return {place: torch.lerp(vectors, b[place].to(vectors), share) for place, vectors in a.items()}


def save_connectivity(folder: StudyFolder, found: Connectivity) -> Location:
    """Writes the lines beside the study's table; returns the file."""
    write_json(folder.connectivity, found.model_dump(mode="json"))
    return folder.connectivity


def load_connectivity(folder: StudyFolder) -> Connectivity | None:
    """The lines of a study; None where they were not measured.

    Raises:
        UserError: the file is damaged.
    """
    path = folder.connectivity
    if not path.exists():
        return None
    try:
        return Connectivity.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, ValueError):
        raise UserError(f"{path} is damaged; run python -m jobs.connectivity again") from None
