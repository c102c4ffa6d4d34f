"""Figures of single trials: where the prompt started, how it went, where it ended."""

from __future__ import annotations

from textwrap import wrap

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from softprior.inputs.labels import counted
from softprior.prompt import Place
from softprior.results.background import load_background
from softprior.results.files import write_atomically
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Posterior, load_posterior
from softprior.results.records import Record
from softprior.results.storage import Location

matplotlib.use("Agg")

PANELS, COLUMNS = 6, 4
"""Most places in one figure, and how many are side by side."""

LETTERS = 55
"""Most letters in a title above one panel."""

START, PATH, END, TOKENS = "#0072B2", "#999999", "#D55E00", "#CCCCCC"
"""Okabe and Ito's palette: told apart by colour-blind readers and in grey print."""


def draw_trial(record: Record, folder: StudyFolder, label: str) -> Location | None:
    """Draws prior and posterior of a finished trial, one panel per place; returns the file.

    The plane is spanned by the first two principal components of the vocabulary (at the model's
    input) and the prompt's own vectors together.

    Args:
        label: what the trial is called in the title.
    """
    path = folder.posterior(record.id)
    if record.status != "finished" or not path.exists():
        return None
    posterior = load_posterior(path)
    places = _shown(sorted(posterior.initial))
    background = load_background(folder, record.spec.model_fingerprint)
    rows = -(-len(places) // COLUMNS)
    columns = min(len(places), COLUMNS)
    figure = Figure(figsize=(4.6 * columns, 4.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, place in zip(axes, places, strict=False):
        embedded = place.block == 0 and place.kind == "residual"
        _draw_place(panel, posterior, place, background if embedded else None)
    for panel in axes[len(places) :]:
        panel.set_axis_off()
    axes[0].legend(loc="best", fontsize=8, frameon=False)
    loss = f"test loss {record.test.loss:.3f}" if record.test else ""
    left_out = len(posterior.initial) - len(places)
    more = f" · {counted(left_out, 'more place')}" if left_out else ""
    title = wrap(f"{label} · {loss}{more}", LETTERS * columns, break_on_hyphens=False)
    figure.suptitle("\n".join(title), fontsize=10)
    target = folder.figure(record.id)
    write_atomically(target, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))
    return target


def _shown(places: list[Place]) -> list[Place]:
    """At most `PANELS` places from first to last; for prefixes, keys and values of the same blocks."""
    if len(places) <= PANELS:
        return places
    blocks = sorted({place.block for place in places})
    count = PANELS // (len(places) // len(blocks))
    chosen = {blocks[round(i * (len(blocks) - 1) / (count - 1))] for i in range(count)}
    return [place for place in places if place.block in chosen]


def _draw_place(panel: Axes, posterior: Posterior, place: Place, background: np.ndarray | None) -> None:
    moments = [posterior.initial, *posterior.snapshots.values(), posterior.final]
    path = np.stack([vectors[place].numpy() for vectors in moments])
    points = path.reshape(-1, path.shape[-1])
    # The vocabulary decides the plane where there is one; a few prompt vectors would not span it.
    pca = PCA(2, random_state=0).fit(
        points if background is None else np.concatenate([background, path[0], path[-1]])
    )
    if background is not None:
        shown = pca.transform(background)
        panel.scatter(shown[:, 0], shown[:, 1], s=3, color=TOKENS, label="vocabulary", rasterized=True)
    flat = pca.transform(points).reshape(*path.shape[:2], 2)
    for token in range(flat.shape[1]):
        panel.plot(*flat[:, token].T, color=PATH, linewidth=0.7, zorder=2)
    panel.scatter(flat[0, :, 0], flat[0, :, 1], s=22, color=START, marker="o", label="prior sample", zorder=3)
    panel.scatter(flat[-1, :, 0], flat[-1, :, 1], s=26, color=END, marker="^", label="posterior", zorder=4)
    share = pca.explained_variance_ratio_
    panel.set_xlabel(f"PC 1 ({share[0]:.0%} of variance)")
    panel.set_ylabel(f"PC 2 ({share[1]:.0%})")
    raw = ", before the block's norm" if place.after == "cut" else ""
    what = place.after if place.kind == "residual" else f"{place.kind}s"
    panel.set_title(f"block {place.block}, {what}{raw}", fontsize=9)
