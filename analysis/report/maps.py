"""Where each vector of a trial started, passed and ended, in a plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from softprior.prompt import Place
from softprior.results.posteriors import Posterior

PLACES = 4
"""Most places of a trial that are drawn: the first and the last blocks."""

POINTS = 400
"""Tokens of the vocabulary that are drawn; the plane is computed from all that the study keeps."""

DIGITS = 4
"""Significant digits of coordinates: finer than a screen shows."""


class Plane:
    """The first two principal components of a sample of the vocabulary, the same for all of a study."""

    def __init__(self, vocabulary: Float[np.ndarray, "N H"]) -> None:
        self.centre, self.axes, self.share = _components(vocabulary.astype(np.float64))
        self.points = self.project(vocabulary[:POINTS])

    def project(self, vectors: Float[np.ndarray, "N H"]) -> Float[np.ndarray, "N 2"]:
        found: np.ndarray = (vectors - self.centre) @ self.axes.T
        return found

    def to_json(self) -> dict[str, Any]:
        return {"points": rounded(self.points), "share": rounded(self.share)}


def maps(posterior: Posterior, plane: Plane | None) -> list[dict[str, Any]]:
    """One map per place: `name`, `plane` (whose components), `share` of variance, `moments`, `paths`.

    A path has one point per moment. At the model's input the plane is the vocabulary's, so that trials can be
    compared; elsewhere it is spanned by the trial's own vectors, and says nothing about other trials.
    """
    return [_map(posterior, place, plane) for place in shown(sorted(posterior.initial))]


def shown(places: list[Place]) -> list[Place]:
    """At most `PLACES` places, from the first and the last blocks."""
    half = PLACES // 2
    return places if len(places) <= PLACES else [*places[:half], *places[-half:]]


def is_embedded(place: Place) -> bool:
    """Whether vectors at a place stand beside embeddings of tokens."""
    return place.block == 0 and place.kind == "residual"


def _map(posterior: Posterior, place: Place, plane: Plane | None) -> dict[str, Any]:
    moments: Mapping[str, torch.Tensor] = {
        "prior sample": posterior.initial[place],
        **{f"step {step}": vectors[place] for step, vectors in posterior.snapshots.items()},
        "posterior": posterior.final[place],
    }
    path = np.stack([vectors.numpy().astype(np.float64) for vectors in moments.values()])
    flat = path.reshape(-1, path.shape[-1])
    if plane is not None and is_embedded(place):
        whose, points, share = "vocabulary", plane.project(flat), plane.share
    else:
        whose = "own"
        centre, axes, share = _components(flat)
        points = (flat - centre) @ axes.T
    paths = points.reshape(*path.shape[:2], 2).transpose(1, 0, 2)
    return {
        "name": place.name,
        "plane": whose,
        "share": rounded(share),
        "moments": list(moments),
        "paths": rounded(paths),
    }


def _components(
    vectors: Float[np.ndarray, "N H"],
) -> tuple[Float[np.ndarray, "H"], Float[np.ndarray, "2 H"], Float[np.ndarray, "2"]]:
    """Mean, first two principal axes and their shares of the variance.

    Signs are those in which an axis' largest coordinate is positive, so that a study's maps are the same
    each time.
    """
    centre = vectors.mean(0)
    _, values, axes = np.linalg.svd(vectors - centre, full_matrices=False)
    axes = axes[:2] * np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(1)])[:, None]
    total = float((values**2).sum())
    return centre, axes, values[:2] ** 2 / total if total > 0 else np.zeros(2)


def rounded(values: np.ndarray) -> list[Any]:
    """Numbers with `DIGITS` significant digits, as JSON has them."""
    with np.errstate(divide="ignore"):
        size = np.where(values == 0, 0, np.floor(np.log10(np.abs(values))))
    scale = 10.0 ** (DIGITS - 1 - size)
    found: list[Any] = np.vectorize(lambda value: float(f"{value:.{DIGITS}g}"))(
        np.round(values * scale) / scale
    ).tolist()
    return found
