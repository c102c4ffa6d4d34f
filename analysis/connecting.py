"""Measures losses along the lines between posteriors; see `connectivity`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from analysis.connectivity import Connectivity, Line, digest
from analysis.findings.posteriors import posterior_of
from analysis.findings.reading import Reading
from analysis.findings.study import Cell, Run, Study
from softprior.errors import UserError
from softprior.models.load import Loaded
from softprior.prompt import Prompt
from softprior.results.provenance import SOURCES
from softprior.training.as_planned import require_same_losses
from softprior.training.failure import TrialFailedError
from softprior.training.own_code import require_origins
from softprior.training.prober import Prober
from softprior.training.setup import Setup

POINTS, SEEDS = 9, 3
"""Prompts on a line, both ends among them; seeds of a pair."""

OTHERS = 5
"""Most priors that are connected with a study's first one."""

Say = Callable[[str], None]


class Pair(NamedTuple):
    """Pairs of posteriors of one cell, one for each of some seeds."""

    name: str
    runs: tuple[tuple[Run, Run], ...]


def pairs_of(cell: Cell, seeds: int = SEEDS) -> list[Pair]:
    """The first prior with each other one, seed by seed, each at its chosen rate; then the first with itself.

    The last pair takes two seeds of the first prior, which differ in their draws and in the order of the
    data. Trials of one seed share both, so its barrier is not a null for the other pairs.
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
        raise UserError(f"--seeds {seeds}: a line needs at least one seed; give 1 or more")
    if points < 3:
        raise UserError(f"--points {points}: a line needs both ends and a point between them; give 3 or more")


def measure(
    reading: Reading, loaded: Loaded, say: Say, seeds: int = SEEDS, points: int = POINTS
) -> Connectivity:
    """Measures the lines of every cell of a study, on the test examples of its probes.

    What cannot be measured is left out and said; the rest is measured.

    Raises:
        UserError: the model is not the study's, or no line could be measured.
    """
    if loaded.fingerprint != reading.header.get("model_fingerprint"):
        raise UserError(
            "the model on this machine is not the one that the study ran on, so its losses would differ; "
            "run this where the study ran"
        )
    left_out: list[str] = []

    def leave(what: str) -> None:
        left_out.append(what)
        say(what)

    wanted = []
    for cell in reading.study.cells("prior"):
        others = len(cell.sides) - 1
        if others > OTHERS:
            leave(f"{cell.where}: the first {OTHERS} of {others} other priors have lines")
        known = [_readable(reading.study, cell, pair, leave) for pair in pairs_of(cell, seeds)]
        wanted.append((cell, [pair for pair in known if pair.runs]))
    total, found = sum(len(pairs) for _, pairs in wanted), list[Line]()
    if not total and not left_out:
        raise UserError(
            f"no two posteriors of {reading.name} share a task and a method; add a prior or a seed"
        )
    done = 0
    for cell, pairs in wanted:
        if not pairs:
            continue
        try:
            prober = _prober(loaded, pairs[0].runs[0][0])
            nothing = _loss(prober, {}, "without a prompt")
        except UserError as error:
            leave(f"{cell.where}: no line is measured: {error}")
            total -= len(pairs)
            continue
        for pair in pairs:
            done += 1
            say(f"line {done} of {total}: {cell.where}, {pair.name}")
            try:
                found.append(_line(reading.study, prober, pair, np.linspace(0, 1, points), nothing))
            except UserError as error:
                leave(f"{cell.where}, {pair.name}: no line is measured: {error}")
    if not found:
        raise UserError(f"no line could be measured; {left_out[-1]}")
    return Connectivity(lines=tuple(found), left_out=tuple(left_out), sources=SOURCES)


def _readable(study: Study, cell: Cell, pair: Pair, leave: Say) -> Pair:
    """A pair without the seeds of which a posterior cannot be read."""
    kept = []
    for runs in pair.runs:
        try:
            for run in runs:
                posterior_of(study, run)
        except UserError as error:
            leave(f"{cell.where}, {pair.name}: seed {runs[0].seed} is left out: {error}")
        else:
            kept.append(runs)
    return pair._replace(runs=tuple(kept))


def _prober(loaded: Loaded, run: Run) -> Prober:
    """The trials of a cell that share what losses depend on.

    Raises:
        UserError: model, data or code are not those that the study ran with.
    """
    spec = run.record.spec
    require_origins(spec.code)
    setup = Setup(spec, *loaded)
    require_same_losses(setup)
    return setup.prober


def _line(study: Study, prober: Prober, pair: Pair, at: Float[np.ndarray, "K"], nothing: float) -> Line:
    losses, digests = [], []
    for runs in pair.runs:
        a, b = (posterior_of(study, run).final for run in runs)
        ids = " and ".join(run.id for run in runs)
        words = f"between the posteriors of trials {ids}"
        losses.append(tuple(_loss(prober, between(a, b, t), words) for t in at.tolist()))
        digests.append((digest(a), digest(b)))
    return Line(
        name=pair.name,
        seeds=tuple((a.seed, b.seed) for a, b in pair.runs),
        trials=tuple((a.id, b.id) for a, b in pair.runs),
        posteriors=tuple(digests),
        at=tuple(at.tolist()),
        losses=tuple(losses),
        nothing=nothing,
        examples=prober.count,
    )


def _loss(prober: Prober, prompt: Prompt, words: str) -> float:
    """A loss of a finished prompt, for which the prober's own error has no remedy: it is about training."""
    try:
        return prober.loss(prompt)
    except TrialFailedError:
        raise UserError(f"the loss {words} is not finite") from None


def between(a: Prompt, b: Prompt, share: float) -> Prompt:
    """The prompt a share of the way from one to another of the same places and numbers of vectors."""
    return {place: torch.lerp(vectors, b[place].to(vectors), share) for place, vectors in a.items()}
