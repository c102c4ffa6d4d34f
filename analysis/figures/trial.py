"""A single trial: where its prompt started, how training went, and where it ended."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA

from analysis.figures.palette import BACKGROUND, LINE, Look, entry_looks
from analysis.figures.style import NORMAL, PAGE, PANELS, SMALL, TITLE, Margins, fit_window, page, save
from softprior.inputs.labels import counted
from softprior.prompt import Place
from softprior.results.background import load_background
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Posterior, load_posterior
from softprior.results.records import Record
from softprior.results.storage import Location

MARGINS = Margins(left=0.8, right=0.25, below=0.42, above=0.34)
"""Room for a label of eight letters at each tick, at the end of an axis too, and a title of two lines."""

ACROSS, UP = 2, 4
"""Most steps between the ticks of an axis, so that labels of eight letters do not touch."""


def draw_trial(
    record: Record, folder: StudyFolder, label: str, look: Look | None = None, *, pdf: bool = True
) -> Location | None:
    """Draws prior and posterior of a finished trial, one panel per place; returns the file.

    The plane is spanned by the first two principal components of the vocabulary (at the model's
    input) and the prompt's own vectors together.

    Args:
        label: what the trial is called in the title.
        look: of its prior within its study; by default that of the prior alone.
        pdf: whether there is a PDF beside the PNG, which takes twice as long or more.
    """
    path = folder.posterior(record.id)
    if record.status != "finished" or record.spec.prior is None or not path.exists():
        return None
    posterior = load_posterior(path)
    places = _shown(sorted(posterior.initial))
    background = load_background(folder, record.spec.model_fingerprint)
    (own,) = entry_looks([record.spec.prior]).values() if look is None else (look,)
    behind = background is not None and any(map(_embedded, places))
    loss = f" · test loss {record.test.loss:.3f}" if record.test else ""
    figure, panels = page(
        len(places),
        _caption(record, posterior, places, background if behind else None),
        width=PAGE if len(places) > 1 else PAGE / 2,
        height=2.7,
        keys=_keys(own, behind),
        title=label + loss,
        margins=MARGINS,
    )
    for panel, place in zip(panels, places, strict=True):
        _draw_place(panel, posterior, place, own, background if _embedded(place) else None)
    return save(figure, folder.figure(record.id), pdf=pdf)


def _caption(record: Record, posterior: Posterior, places: list[Place], background: np.ndarray | None) -> str:
    tokens = len(posterior.initial[places[0]])
    steps = sorted(posterior.snapshots)
    via = f", through {counted(len(steps), 'snapshot')} in between" if steps else ""
    text = f"Seed {record.spec.seed}: {counted(tokens, 'vector')} per place, from sample to posterior{via}."
    if background is not None:
        text += f" Behind them {len(background):,} tokens of the vocabulary, which decide the plane."
    left_out = len(posterior.initial) - len(places)
    return text + (f" {counted(left_out, 'more place')} not shown." if left_out else "")


def _keys(own: Look, behind: bool) -> list[Line2D]:
    start = Line2D([], [], color=own.colour, marker="o", markerfacecolor="white", markersize=5, linewidth=0)
    end = Line2D([], [], color=own.colour, marker="^", markersize=5, linewidth=0)
    tokens = Line2D([], [], color=BACKGROUND, marker="o", markersize=4, linewidth=0)
    named = [(start, "prior sample"), (end, "posterior"), *([(tokens, "vocabulary")] if behind else [])]
    for handle, label in named:
        handle.set_label(label)
    return [handle for handle, _ in named]


def _embedded(place: Place) -> bool:
    """Whether the vocabulary's embeddings stand where the place's vectors do."""
    return place.block == 0 and place.kind == "residual"


def _shown(places: list[Place]) -> list[Place]:
    """At most `PANELS` places from first to last; for prefixes, keys and values of the same blocks."""
    if len(places) <= PANELS:
        return places
    blocks = sorted({place.block for place in places})
    count = PANELS // (len(places) // len(blocks))
    chosen = {blocks[round(i * (len(blocks) - 1) / (count - 1))] for i in range(count)}
    return [place for place in places if place.block in chosen]


def _draw_place(
    panel: Axes, posterior: Posterior, place: Place, own: Look, background: Float[np.ndarray, "N H"] | None
) -> None:
    moments = [posterior.initial, *posterior.snapshots.values(), posterior.final]
    path = np.stack([vectors[place].numpy() for vectors in moments])
    points = path.reshape(-1, path.shape[-1])
    # The vocabulary decides the plane where there is one; a few prompt vectors would not span it.
    pca = PCA(2, random_state=0).fit(
        points if background is None else np.concatenate([background, path[0], path[-1]])
    )
    flat = pca.transform(points).reshape(*path.shape[:2], 2)
    shown = flat[:0, 0]
    if background is not None:
        shown = pca.transform(background)
        panel.scatter(shown[:, 0], shown[:, 1], s=3, color=BACKGROUND, linewidths=0, rasterized=True)
    for token in range(flat.shape[1]):
        panel.plot(*flat[:, token].T, color=LINE, linewidth=0.7, zorder=2)
    start, end = flat[0], flat[-1]
    panel.scatter(
        start[:, 0], start[:, 1], s=34, marker="o", facecolors="white", edgecolors=own.colour, zorder=3
    )
    panel.scatter(end[:, 0], end[:, 1], s=13, marker="^", color=own.colour, linewidths=0, zorder=4)
    fit_window(panel, shown, flat.reshape(-1, 2))
    label_axes(panel, pca.explained_variance_ratio_)
    raw = ",\nbefore the block's norm" if place.after == "cut" else ""
    what = place.after if place.kind == "residual" else f"{place.kind}s"
    panel.set_title(f"block {place.block}, {what}{raw}", fontsize=SMALL if raw else TITLE)


def label_axes(panel: Axes, shares: Sequence[float]) -> None:
    """Names both axes, with few ticks.

    Args:
        shares: of the variance along each.
    """
    panel.locator_params("x", nbins=ACROSS)
    panel.locator_params("y", nbins=UP)
    panel.xaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_major_formatter("{x:g}")
    panel.set_xlabel(f"PC 1 ({shares[0]:.0%} of variance)", fontsize=NORMAL)
    panel.set_ylabel(f"PC 2 ({shares[1]:.0%})", fontsize=NORMAL)
