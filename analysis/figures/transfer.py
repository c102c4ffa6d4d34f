"""What prompts trained for one task do on others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures.style import NORMAL, PAGE, SMALL, page


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Losses of prompts on the tasks that they were not trained for.

    Attributes:
        trained: tasks the prompts were trained for; rows.
        tested: tasks they are evaluated on; columns.
        change: loss with the prompt minus without, mean over seeds, in nats; nan where it was not measured.
        spread: its standard deviation over seeds; nan for one seed.
        seeds: the smallest number of seeds of a cell.
        where: prior and method.
    """

    trained: tuple[str, ...]
    tested: tuple[str, ...]
    change: Float[np.ndarray, "R C"]
    spread: Float[np.ndarray, "R C"]
    seeds: int
    where: str = ""


def draw_transfer(found: Transfer, width: float = PAGE / 2) -> Figure:
    """A matrix with a number in every cell; a task's own cell has a frame."""
    caption = (
        f"Test loss with the prompt minus without, in nats: mean ± standard deviation over n = {found.seeds} "
        "seeds at least. Below 0 (blue) the prompt helps. Framed: the task that it was trained for."
    )
    height = 1.0 + 0.42 * len(found.trained)
    figure, (panel,) = page(1, caption, width=width, height=height, title=found.where)
    largest = float(np.nanmax(np.abs(found.change), initial=1e-9))
    norm = TwoSlopeNorm(0, -largest, largest)
    panel.imshow(found.change, cmap="RdBu_r", norm=norm, aspect="auto")
    for row, column in np.ndindex(found.change.shape):
        value, spread = found.change[row, column], found.spread[row, column]
        text = "none" if np.isnan(value) else f"{value:+.2f}"
        if np.isfinite(value) and np.isfinite(spread):
            text += f"\n± {spread:.2f}"
        colour = "white" if abs(value) > 0.7 * largest else "black"
        own = found.trained[row] == found.tested[column]
        panel.text(
            column,
            row,
            text,
            fontsize=SMALL,
            ha="center",
            va="center",
            color=colour,
            weight="bold" if own else "normal",
        )
        if own:
            frame = Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, fill=False, edgecolor="black")
            panel.add_patch(frame)
    panel.set_xticks(range(len(found.tested)), found.tested, rotation=30, ha="right")
    panel.set_yticks(range(len(found.trained)), found.trained)
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)
    panel.set_xlabel("tested on", fontsize=NORMAL)
    panel.set_ylabel("trained for", fontsize=NORMAL)
    return figure
