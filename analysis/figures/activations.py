"""All figures of a statistics store, drawn from it and its findings alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from analysis.figures.activation_depth import draw_depth
from analysis.figures.activation_groups import draw_groups, noise_floor
from analysis.figures.activation_means import draw_means, panels_of_means
from analysis.figures.activation_planes import draw_planes
from analysis.figures.style import PANELS
from softprior.activations.findings.record import Findings, known

Report = Callable[[int, int, str], None]
"""Told how many panels of planes are done, of how many, and which comes next; the rest takes no time."""


def draw_activations(store: Path, found: Findings, folder: Path, report: Report) -> list[Path]:
    """Draws planes, groups and curves over depth into a folder; returns the files, curves over depth last."""
    groups = {task: known(sites) for task, sites in found.groups.items()}
    means = sum(len(panels_of_means(sites)) for sites in groups.values())
    done, total = count(), 2 * min(PANELS, len(found.sites)) + means

    def drawing(what: str) -> None:
        report(next(done), total, what)

    paths: list[Path | None] = [
        draw_planes(store, found, folder, "pca", drawing),
        draw_planes(store, found, folder, "tsne", drawing),
    ]
    for task, sites in groups.items():
        floor = partial(noise_floor, store, task)
        paths += [draw_means(store, task, sites, folder, drawing), draw_groups(task, sites, folder, floor)]
    return [*(path for path in paths if path is not None), draw_depth(found, folder)]
