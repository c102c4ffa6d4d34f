"""All figures of a statistics store, drawn from it and its findings alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analysis.activation_figures_common import PANELS
from analysis.activation_figures_depth import draw_depth, draw_groups
from analysis.activation_figures_planes import draw_planes

STEPS = 2 * PANELS
"""Panels of planes, at most: what takes the time."""


def draw_activations(
    store: Path, found: Mapping[str, Any], folder: Path, report: Callable[[str], None] = lambda what: None
) -> list[Path]:
    """Draws planes, groups and curves over depth into a folder; returns the files, curves over depth last.

    Args:
        found: what `findings` computes of the store, or its file.
        report: told what is drawn next, `STEPS` times at most.
    """
    paths = [draw_planes(store, folder, kind, report) for kind in ("pca", "tsne")]
    groups = [draw_groups(task, sites, folder) for task, sites in found["groups"].items()]
    return [*paths, *(path for path in groups if path is not None), draw_depth(found, folder)]
