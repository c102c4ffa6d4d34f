"""Performance profiles: the share of seeds and tasks in which a prior scores above each threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from analysis.figures.palette import LINE, Looks
from analysis.figures.settings import CHOSEN, looks_for, prior_keys, seeds_text
from analysis.figures.style import COLUMN, NORMAL, limits, page
from analysis.findings.study import Study
from analysis.inference.across import profile
from analysis.overall import scored_cells
from softprior.inputs.labels import counted


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Scores of a study's priors between no prompt (0) and the best prior (1).

    Attributes:
        scores: of each prior, seed and cell (task, method and regularisers).
        seeds: those that all priors have.
    """

    priors: tuple[str, ...]
    scores: Float[np.ndarray, "N S K"]
    seeds: tuple[int, ...]

    def shares(self, thresholds: Float[np.ndarray, "T"]) -> Float[np.ndarray, "N T"]:
        """Share of each prior's scores above each threshold."""
        return profile(self.scores, thresholds)


def profile_of(study: Study) -> Profile | None:
    """The scores of `overall`; None where a study has none."""
    found = scored_cells(study)
    if found is None:
        return None
    return Profile(priors=tuple(found.names), scores=found.scores, seeds=tuple(found.seeds))


def draw_profile(found: Profile, width: float = COLUMN, looks: Looks | None = None) -> Figure:
    """One falling line per prior; of two the higher one scores higher in more seeds and tasks."""
    cells = found.scores.shape[-1]
    low, high = limits(found.scores.ravel(), np.array([0.0, 1.0]))
    left = int((found.scores < low).sum())
    caption = (
        f"Share of {seeds_text([found.seeds])} in {counted(cells, 'combination')} of task, method and "
        "regularisers in which a prior scores above the number on the axis (0: no prompt, 1: the best "
        f"prior's mean). {CHOSEN}"
    )
    if left:
        caption += f" {left} of {found.scores.size} scores lie left of the axis."
    looks = looks_for(found.priors, looks)
    figure, (panel,) = page(1, caption, width=width, height=2.3, keys=prior_keys(looks, line=True))
    for i, (prior, scores) in enumerate(zip(found.priors, found.scores, strict=True)):
        look = looks[prior]
        steps = np.unique(scores)
        x = np.array([low, *steps[(steps > low) & (steps < high)], high])
        shares = found.shares(x)[i]
        panel.step(x, shares, where="post", color=look.colour, linestyle=look.dash, linewidth=1.3)
    panel.axvline(0, color=LINE, linestyle=":", linewidth=1, zorder=0)
    panel.set_xlim(low, high)
    panel.set_ylim(-0.04, 1.04)
    panel.set_xlabel("score", fontsize=NORMAL)
    panel.set_ylabel("share above it", fontsize=NORMAL)
    return figure
