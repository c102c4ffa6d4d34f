"""Prompts in the planes of activations: where their vectors stand among tokens, block after block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.figures.palette import TEXT, look
from analysis.figures.style import SMALL
from softprior.activations.findings.prompts import massive_vectors, prompt_states_of
from softprior.activations.findings.record import Findings, known
from softprior.inputs.labels import counted

MARKER, SIZE = "X", 26


@dataclass(frozen=True)
class Followed:
    """What a panel shows of one prompt.

    Attributes:
        index: of the prompt among all of the run, for its colour.
        vectors: those that are not massive.
        cut: which of them are cut after the block.
        massive: number of the others, which take no part, as massive tokens do not.
    """

    index: int
    vectors: Float[np.ndarray, "P D"]
    cut: Bool[np.ndarray, "P"]
    massive: int


def names_of_prompts(found: Findings) -> list[str]:
    """The prompts of a run, in the order of their names."""
    return sorted({name for site in known(found.prompts).values() for name in site.prompts})


def followed_prompts(store: Path, site: str, found: Findings) -> list[Followed]:
    """The prompts with vectors at a site that could be read."""
    here = known(found.prompts).get(site)
    if here is None:
        return []
    names, shown = names_of_prompts(found), []
    for name, states in prompt_states_of(store, site).items():
        massive = massive_vectors(states, here.token_norm)
        vectors, cut = states.vectors[~massive].numpy(), states.cut[~massive].numpy()
        shown.append(Followed(names.index(name), vectors, cut, int(massive.sum())))
    return shown


def draw_prompts(
    panel: Axes,
    prompts: Sequence[Followed],
    flat: Float[np.ndarray, "P 2"],
    tasks: int,
) -> None:
    """Draws prompts over a panel of texts, whose window stays, and says how many vectors are not in it.

    Args:
        flat: the vectors of all of them in the panel's plane.
        tasks: number of tasks, whose colours come first.
    """
    if not prompts:
        return
    low, high = np.array([panel.get_xlim(), panel.get_ylim()]).T
    inside = ((flat >= low) & (flat <= high)).all(1)
    start = 0
    for prompt in prompts:
        own = slice(start, start + len(prompt.vectors))
        start += len(prompt.vectors)
        colour = look(tasks + prompt.index).colour
        for chosen, face, edge in ((~prompt.cut, colour, "black"), (prompt.cut, "white", colour)):
            points = flat[own][chosen & inside[own]]
            if len(points):
                panel.scatter(
                    points[:, 0],
                    points[:, 1],
                    s=SIZE,
                    marker=MARKER,
                    facecolors=face,
                    edgecolors=edge,
                    linewidths=0.6,
                    zorder=7,
                )
    panel.set_xlim(low[0], high[0])
    panel.set_ylim(low[1], high[1])
    hidden = int((~inside).sum()) + sum(prompt.massive for prompt in prompts)
    if hidden:
        said = f"{counted(hidden, 'prompt vector')} outside"
        panel.text(0.98, 0.02, said, transform=panel.transAxes, ha="right", va="bottom", fontsize=SMALL)


def prompt_legend(found: Findings, tasks: int) -> list[Line2D]:
    """Handles for the prompts of a run, and for cut vectors if there are any."""
    handles = []
    for index, name in enumerate(names_of_prompts(found)):
        colour = look(tasks + index).colour
        handles.append(_mark(colour, "black", f"prompt {name}"))
    sites = known(found.prompts).values()
    if any(prompt.cut for site in sites for prompt in site.prompts.values()):
        handles.append(_mark("white", TEXT, "cut after its block"))
    return handles


def _mark(face: str, edge: str, label: str) -> Line2D:
    return Line2D(
        [],
        [],
        color=face,
        marker=MARKER,
        markersize=6,
        linewidth=0,
        markeredgecolor=edge,
        markeredgewidth=0.6,
        label=label,
    )
