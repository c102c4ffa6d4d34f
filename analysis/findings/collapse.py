"""Posteriors do not collapse into the pre-trained cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from analysis.findings.common import (
    NO_POSTERIORS,
    ONE_SEED,
    SEEDS,
    Judged,
    about,
    of_twins,
    places_of,
    together,
)
from analysis.findings.evidence import Evidence, Noise
from analysis.findings.rules import Direction
from analysis.findings.study import Cell, Run, Study
from analysis.findings.values import Claim
from analysis.inference.values import SHARE
from softprior.prompt import Place
from softprior.seeding import numpy_generator
from softprior.training.probes import ELSEWHERE, NEIGHBOURS

QUANTILE = 0.95
"""Quantile of the distances of held-out tokens up to which a vector is near to tokens."""

METRICS = 3
"""Number of metrics of `Cluster`, each of which has a test."""

COMPONENTS = 64
"""Most principal components in which distances are measured."""

HALF = 0.5
"""The limit of the share: most vectors lie outside the cluster, or inside."""

AT = Place(0)
"""Where prompt vectors and tokens are vectors of one kind."""

NO_VOCABULARY = (
    "the study keeps no sample of the vocabulary; every trial that runs keeps one, so add a seed or a rate"
)

CLAIM = Claim(
    name="collapse",
    number=2,
    words="Posteriors do not collapse into the pre-trained cluster",
    primary="Share of the posterior's vectors whose distance to their tenth nearest token is at most the 95% "
    "quantile of the same distance of held-out tokens. Half of the study's sample of the vocabulary is held "
    "out, the other half are the tokens that both are measured against.",
    rule="For each prior and metric (L2, cosine, the 64 largest principal components whitened): supported "
    "if the 95% interval over seeds lies below 0.5 and the corrected p of the sign-flip test is at most "
    "0.05, contradicted if it lies above 0.5 in the same way. If one metric supports the claim and another "
    "contradicts it, it depends on the metric; if some do not decide, it is undecided.",
    possible=SHARE,
)


class Cluster:
    """The pre-trained cluster in each metric: what vectors are measured against, computed once."""

    def __init__(self, tokens: Float[np.ndarray, "N H"], held_out: Float[np.ndarray, "M H"]) -> None:
        """
        Args:
            tokens: what distances are measured to.
            held_out: whose distances decide which ones are near.
        """
        self._whitened = _whitening(tokens)
        # Rows of zeros, such as those of reserved tokens, have no direction.
        pointing = [rows[np.linalg.norm(rows, axis=1) > 0] for rows in (tokens, held_out)]
        self._metrics = {
            "L2": _Metric("euclidean", tokens, held_out),
            "cosine": _Metric("cosine", *pointing),
            "whitened": _Metric("euclidean", self._whitened(tokens), self._whitened(held_out)),
        }

    def shares(self, vectors: Float[np.ndarray, "P H"]) -> dict[str, float]:
        """Share of vectors as near to tokens as 95% of the held-out tokens are, by metric."""
        return {
            name: metric.share(self._whitened(vectors) if name == "whitened" else vectors)
            for name, metric in self._metrics.items()
        }


class _Metric:
    """Tokens in one metric, and the distance up to which a vector is near."""

    def __init__(self, kind: str, tokens: np.ndarray, held_out: np.ndarray) -> None:
        self._kind, self._tokens = kind, tokens
        self._limit = np.quantile(_tenth(held_out, tokens, kind), QUANTILE)

    def share(self, own: np.ndarray) -> float:
        return float((_tenth(own, self._tokens, self._kind) <= self._limit).mean())


def evidence(study: Study) -> list[Evidence]:
    """A finding for each cell and prior."""
    found = []
    cluster = None if study.vocabulary is None else Cluster(*_halves(study.vocabulary))
    for cell in study.cells("prior"):
        noise = None if cluster is None else _noise(study, cell, cluster)
        for name, side in cell.sides.items():
            known = replace(about(cell, name), noise=noise)
            few = f"the prior {ONE_SEED}" if len(side.runs) < SEEDS else ""
            there = any(place.in_front == AT for run in side.runs.values() for place in places_of(run))
            lost = METRICS if there and not few else 0
            if cluster is None:
                found.append(replace(known, missing=together(NO_VOCABULARY, few), lost=lost))
                continue
            tables = [
                cluster.shares(v) for run in side.runs.values() if (v := _vectors(study, run)) is not None
            ]
            if any(run.id not in study.posteriors for run in side.runs.values()):
                found.append(replace(known, missing=together(NO_POSTERIORS, few), lost=lost))
            elif few or len(tables) < len(side.runs):
                elsewhere = ELSEWHERE if len(tables) < len(side.runs) else ""
                found.append(replace(known, missing=together(elsewhere, few)))
            else:
                numbers = {metric: np.array([table[metric] for table in tables]) for metric in tables[0]}
                trials = dict.fromkeys(numbers, side.trials(side.runs))
                found.append(replace(known, numbers=numbers, trials=trials))
    return found


def _noise(study: Study, cell: Cell, cluster: Cluster) -> Noise | None:
    """The noise of shares, in the metric in which a cell's twins are farthest from their trials."""
    apart: dict[str, list[float]] = {}
    twins = []
    for pair in study.pairs(cell.runs, study.twins):
        both = [_vectors(study, one) for one in pair]
        known = [cluster.shares(own) for own in both if own is not None]
        if len(known) == 2:
            twins.append(pair[1].id)
            for metric, share in known[0].items():
                apart.setdefault(metric, []).append(share - known[1][metric])
    found = [value for own in apart.values() if (value := of_twins(own, twins)) is not None]
    return max(found, default=None)


def _vectors(study: Study, run: Run) -> Float[np.ndarray, "P H"] | None:
    posterior = study.posteriors.get(run.id)
    final = {} if posterior is None else posterior.final
    vectors = next((own for place, own in final.items() if place.in_front == AT), None)
    return None if vectors is None else vectors.double().numpy()


def _halves(vocabulary: np.ndarray) -> tuple[Float[np.ndarray, "N H"], Float[np.ndarray, "M H"]]:
    """Tokens to measure against, and held-out ones."""
    order = numpy_generator(0, "held-out tokens").permutation(len(vocabulary))
    cut = len(vocabulary) // 2
    return vocabulary[order[:cut]].astype(float), vocabulary[order[cut:]].astype(float)


def _tenth(own: np.ndarray, reference: np.ndarray, kind: str) -> Float[np.ndarray, "N"]:
    """Distance to the tenth nearest."""
    nearest = min(NEIGHBOURS, len(reference)) - 1
    found: np.ndarray = np.partition(cdist(own, reference, kind), nearest, axis=1)[:, nearest]
    return found


def _whitening(tokens: Float[np.ndarray, "N H"]) -> Callable[[np.ndarray], np.ndarray]:
    """Coordinates along the largest principal components, in their standard deviations."""
    centre = tokens.mean(0)
    _, values, axes = np.linalg.svd(tokens - centre, full_matrices=False)
    rank = min(COMPONENTS, int((values > 1e-9 * values[0]).sum()))
    scale = values[:rank] / np.sqrt(len(tokens) - 1)
    return lambda vectors: (vectors - centre) @ axes[:rank].T / scale


JUDGED = Judged(CLAIM, Direction(HALF, above=False), evidence)
