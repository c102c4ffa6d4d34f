"""What prompts trained for one task do on others."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures.style import NORMAL, PAGE, SMALL, TITLE, page
from analysis.findings.study import NONE, Run, Study
from softprior.inputs.entry_texts import names
from softprior.results.records import Record


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


def transfer_of(study: Study) -> list[Transfer]:
    """A matrix for each prior, method and regularisers whose prompts were measured on other tasks.

    Prompts at the chosen rates, each task's against the baseline of the task that it was trained for, on the
    same texts.
    """
    measured = [run.record for run in study.runs if run.record.also]
    tasks = [run.record.spec.task for run in study.runs]
    known = names([*tasks, *(other.task for record in measured for other in record.also)])
    groups: dict[tuple[str, str, str], dict[str, dict[str, list[float]]]] = {}
    for cell in study.cells("prior"):
        for side in cell.sides.values():
            changes: dict[str, list[float]] = {}
            for run in side.runs.values():
                for task, change in changes_of(run, cell.baseline).items():
                    changes.setdefault(known[task], []).append(change)
            first = next(iter(side.runs.values()))
            key = (first.axes["prior"], first.axes["method"], first.axes["regularisers"])
            groups.setdefault(key, {})[known[first.record.spec.task.canonical()]] = changes
    several = any(len(changes) > 1 for own in groups.values() for changes in own.values())
    return [_matrix(key, own) for key, own in groups.items()] if several else []


def changes_of(run: Run, baseline: Record | None) -> dict[str, float]:
    """Loss with the prompt less that without, by the task's canonical text."""
    if baseline is None or baseline.test is None or run.loss is None:
        return {}
    found = {run.record.spec.task.canonical(): run.loss - baseline.test.loss}
    without = {
        (o.task.canonical(), o.fingerprint): o.score.loss for o in baseline.also if o.score is not None
    }
    for other in run.record.also:
        text = other.task.canonical()
        if other.score is not None and (text, other.fingerprint) in without:
            found.setdefault(text, other.score.loss - without[text, other.fingerprint])
    return found


def _matrix(key: tuple[str, str, str], own: Mapping[str, Mapping[str, list[float]]]) -> Transfer:
    prior, method, terms = key
    # The tasks that prompts were trained for come first, so that their own cells are on the diagonal.
    tested = list(dict.fromkeys([*own, *(task for changes in own.values() for task in changes)]))
    table = [[np.array(changes.get(task, [])) for task in tested] for changes in own.values()]
    return Transfer(
        trained=tuple(own),
        tested=tuple(tested),
        change=np.array([[c.mean() if len(c) else np.nan for c in row] for row in table]),
        spread=np.array([[c.std(ddof=1) if len(c) > 1 else np.nan for c in row] for row in table]),
        seeds=min((len(cell) for row in table for cell in row if len(cell)), default=0),
        where=" · ".join(part for part in (prior, method, terms) if part != NONE),
    )


def draw_transfer(cells: Sequence[Transfer], width: float = PAGE) -> Figure:
    """One panel per prior and method, with a number in every cell; a task's own cell has a frame."""
    seeds = min(cell.seeds for cell in cells)
    caption = (
        f"Test loss with the prompt minus without, in nats: mean ± standard deviation over n = {seeds} "
        "seeds at least. Below 0 (blue) the prompt helps. Framed: the task that it was trained for."
    )
    room = (width / min(len(cells), 2) - ASIDE) / max(len(cell.tested) for cell in cells)
    letters = max(5, min(int(room / LETTER), LONGEST))
    tested = max(len(textwrap.wrap(name, letters)) for cell in cells for name in cell.tested)
    trained = max(len(textwrap.wrap(name, LONGEST)) for cell in cells for name in cell.trained)
    rows = max(len(cell.trained) for cell in cells)
    height = 1.1 + LINE * tested + rows * max(0.42, LINE * (trained + 1))
    figure, panels = page(len(cells), caption, width=width, height=height, columns=2)
    largest = max(float(np.nanmax(np.abs(cell.change), initial=1e-9)) for cell in cells)
    for panel, cell in zip(panels, cells, strict=True):
        _draw(panel, cell, largest, letters)
    return figure


LONGEST = 18
"""Letters of a line of a task's name, where there is room."""
LETTER, LINE = 0.062, 0.13
"""Width and height of a small letter in inches."""
ASIDE = 1.5
"""Width beside the cells, with the names of tasks that prompts were trained for, in inches."""


def _draw(panel: Axes, found: Transfer, largest: float, letters: int) -> None:
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
    panel.set_xticks(range(len(found.tested)), [textwrap.fill(name, letters) for name in found.tested])
    panel.set_yticks(range(len(found.trained)), [textwrap.fill(name, LONGEST) for name in found.trained])
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)
    panel.set_xlabel("tested on", fontsize=NORMAL)
    panel.set_ylabel("trained for", fontsize=NORMAL)
    panel.set_title(found.where, fontsize=TITLE)
