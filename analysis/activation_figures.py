"""All figures of a statistics store, drawn from it and its findings alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from analysis.activation_figures_common import PANELS
from analysis.activation_figures_depth import draw_depth, draw_groups
from analysis.activation_figures_planes import draw_planes

Report = Callable[[int, int, str], None]
"""Told how many panels of planes are done, of how many, and which comes next; the rest takes no time."""


def draw_activations(store: Path, found: Mapping[str, Any], folder: Path, report: Report) -> list[Path]:
    """Draws planes, groups and curves over depth into a folder; returns the files, curves over depth last.

    Args:
        found: what `findings` computes of the store, or its file.
    """
    done, total = count(), 2 * min(PANELS, len(found["sites"]))

    def drawing(what: str) -> None:
        report(next(done), total, what)

    paths = [
        draw_planes(store, found, folder, "pca", drawing),
        draw_planes(store, found, folder, "tsne", drawing),
    ]
    groups = [draw_groups(task, sites, folder) for task, sites in found["groups"].items()]
    return [*paths, *(path for path in groups if path is not None), draw_depth(found, folder)]
