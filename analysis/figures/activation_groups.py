"""How far the groups of a task (the modules of `arithmetic`) lie apart, at some sites and over depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from analysis.figures.activation_depth import along_depth, name_sites
from analysis.figures.palette import LINE, look
from analysis.figures.style import SMALL, TITLE, page, save, spread_over
from softprior.activations.findings.common import ALL, MEAN
from softprior.activations.findings.groups import GroupFindings
from softprior.statistics.store import load_statistics, load_tables

MAPS = 3
"""Sites whose distances between groups are shown."""


def groups_apart(sites: Mapping[str, GroupFindings]) -> list[str]:
    """The sites at which the means of a task's groups are known and differ."""
    known = {site: found.distances for site, found in sites.items() if found.distances}
    return [site for site, distances in known.items() if np.array(distances).max() > 0]


def noise_floor(store: Path, task: str, site: str) -> Float[np.ndarray, "G G"] | None:
    """How far apart two groups' means would lie by chance, in the units of `GroupFindings.distances`.

    The root mean square distance of the means of two sets of texts without a difference: sqrt(v_a / n_a +
    v_b / n_b), v the variance of a group's text means, n its number of texts. Texts are the unit, as tokens
    of one text are not independent; all count the same, though long ones count more in a group's mean. None
    where the texts' groups are not known, or a group has fewer than two sampled texts.

    Raises:
        UserError: the file is missing or damaged.
    """
    texts = load_statistics(store, task, site, MEAN, None)
    labels = texts.facts.get("group")
    numbers = list(load_tables(store, task, site).groups)
    if labels is None:
        return None
    kinds, of_text = np.unique(labels.numpy(), return_inverse=True)
    sampled = np.bincount(of_text)
    if len(kinds) != len(numbers) or sampled.min() < 2:
        return None
    vectors = texts.sample.double().numpy()
    variances = np.array([vectors[of_text == i].var(0, ddof=1).sum() for i in range(len(kinds))])
    counts = sampled * (texts.moments.count / len(vectors))  # the sample is a fair one of all texts
    spread = float(load_statistics(store, task, site, ALL, None).moments.covariance().trace())
    noise = variances / counts
    floor: np.ndarray = np.sqrt((noise[:, None] + noise) / spread)
    np.fill_diagonal(floor, 0)
    return floor


def draw_groups(
    task: str,
    sites: Mapping[str, GroupFindings],
    folder: Path,
    floor: Callable[[str], Float[np.ndarray, "G G"] | None] = lambda site: None,  # noqa: ARG005
) -> Path | None:
    """Draws how far a task's groups lie apart, at some sites and over depth; returns the file, if any.

    Args:
        floor: of a site, what chance alone gives, as `noise_floor` computes it.
    """
    apart = {site: sites[site] for site in groups_apart(sites)}
    if not apart:
        return None
    shown = spread_over(list(apart), MAPS)
    floors = {site: floor(site) for site in shown}
    texts = max(found.texts for found in apart.values())
    caption = (
        "Distances between means of groups; 1 is the root mean square distance of a token from the mean of "
        "all. In brackets, what two sets of texts without a difference give (the largest over pairs); "
        f"numbers in italics are not above it. Last panel: n = {texts:,} texts."
    )
    figure, panels = page(
        MAPS + 1, caption, height=3.1, columns=2, title=f"{task}: how far its groups lie apart"
    )
    largest = max(max(map(max, apart[site].distances)) for site in shown)
    for panel, site in zip(panels, shown, strict=False):
        _map(panel, site, apart[site], largest, floors[site])
    for panel in panels[len(shown) : MAPS]:
        panel.set_axis_off()
    _draw_share(panels[MAPS], along_depth(list(apart)), apart)
    return save(figure, folder / f"activations-groups-{task}.png")


def _map(
    panel: Axes,
    site: str,
    found: GroupFindings,
    largest: float,
    floor: Float[np.ndarray, "G G"] | None,
) -> None:
    values = np.array(found.distances)
    by_chance = np.zeros_like(values) if floor is None else floor
    panel.imshow(values, cmap="cividis", vmin=0, vmax=largest)
    for row, column in np.ndindex(values.shape):
        if row != column:
            # White on the dark half of the palette.
            colour = "white" if values[row, column] < largest / 2 else "black"
            text = f"{values[row, column]:.2f}".removeprefix("0")
            style = "normal" if values[row, column] > by_chance[row, column] else "italic"
            panel.text(column, row, text, fontsize=6, color=colour, ha="center", va="center", style=style)
    names = [name.replace("_", " ") for name in found.names]
    panel.set_yticks(range(len(names)), names)
    panel.set_xticks(range(len(names)), names, rotation=45, ha="right")
    noise = "chance unknown" if floor is None else f"chance: {floor.max():.2f}"
    panel.set_title(f"{site} ({noise})", fontsize=TITLE)
    for spine in panel.spines.values():
        spine.set_visible(False)
    panel.tick_params(labelsize=SMALL, length=0)


def _draw_share(panel: Axes, sites: Sequence[str], apart: Mapping[str, GroupFindings]) -> None:
    shares, nulls = np.full(len(sites), np.nan), np.full(len(sites), np.nan)
    for i, site in enumerate(sites):
        if site and apart[site].share is not None:
            shares[i], nulls[i] = apart[site].share, apart[site].null_high
    colour, marker, _ = look(0)
    panel.plot(shares, color=colour, marker=marker, markersize=3, linewidth=1, label="groups")
    panel.plot(nulls, color=LINE, linestyle="--", linewidth=1, label="shuffled: 95% below")
    panel.set_ylim(0, 1)
    panel.set_title("variance of text means between groups", fontsize=TITLE)
    if np.isnan(shares).all():
        note = apart[sites[0]].note
        panel.text(0.5, 0.5, note, transform=panel.transAxes, fontsize=SMALL, ha="center", wrap=True)
    else:
        panel.legend(fontsize=SMALL, frameon=False)
    name_sites(panel, sites)
