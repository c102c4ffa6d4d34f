"""Pictures of priors: what each draws in a plane."""

from __future__ import annotations

import hashlib
import math
import tempfile
import textwrap
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from analysis.figures.palette import BACKGROUND, BLUE, LINE, TEXT, prior_looks
from analysis.figures.style import SMALL, page, save
from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS, Distribution
from softprior.priors.domain import Domain, Shrinkage, fit_domain
from softprior.prompt import Kind, Place
from softprior.results.posteriors import Posterior, save_posterior
from softprior.seeding import derive, torch_generator
from softprior.statistics.reference import Reference

DRAWS = 300
"""Vectors that a panel shows."""

WINDOW = (-0.52, 0.48, -0.48, 0.52)
"""Left, right, bottom and top of every panel."""

MASSES = (0.5, 0.9)
"""A density's contours enclose these shares of it, in the smallest area."""

GRID, WIDER = 400, 2
"""Points along a side of the grid that densities are drawn on, which is so much wider than the window: four
points to an isotropic sample's deviation, and hardly any mass left out."""

TUNED = "TUNED"
"""Stands for the posterior file of the plane."""

CAPTION = (
    f"{DRAWS} vectors from each prior (seed 0; vectors drawn more than once are shown once, larger) over a "
    "vocabulary of {count} tokens, in grey, that no Gaussian describes. Lines hold 50% and 90% of a density."
)

WORDS = "the words of an instruction stand where tokens do"


class Panel(NamedTuple):
    """One prior in the plane.

    Attributes:
        picture: the file it belongs to.
        prior: its name in study files.
        params: its parameters.
        title: what differs from the defaults.
        tokens: P.
        places: where it is drawn, one colour each.
        zoom: how much wider than `WINDOW` it is.
    """

    picture: str
    prior: str
    params: dict[str, object] = {}
    title: str = ""
    tokens: int = 20
    places: tuple[Place, ...] = (Place(0),)
    zoom: float = 1.0


PANELS = (
    Panel("blind", "zeros", places=(Place(0, "value"),)),
    Panel("blind", "isotropic"),
    # Its width depends on P + H alone; this number of tokens gives it the width of 20 tokens at H = 576.
    Panel("blind", "xavier", title="as wide as at P + H = 596", tokens=594),
    Panel("fitted", "fitted"),
    Panel("fitted", "exclusion", title="zoomed out", zoom=2.4),
    Panel("fitted", "exclusion", {"quantile": 0.95}, "quantile: 0.95"),
    Panel("fitted", "interpolation"),
    Panel("fitted", "low_density"),
    Panel("fitted", "vae", {"latent": 2, "width": 64}, "latent: 2, width: 64"),
    Panel("vectors", "vocabulary"),
    Panel("vectors", "instruction", {"text": WORDS}, "nine words"),
    Panel("vectors", "posterior", {"file": TUNED, "spread": 0.1}, "eight vectors, spread: 0.1", tokens=8),
    Panel(
        "vectors",
        "mixture",
        {"priors": ["isotropic", {"fitted": {"part": [0.5, 1.0]}}]},
        "isotropic and fitted, part: [0.5, 1]",
    ),
    Panel(
        "vectors",
        "by_place",
        {"default": {"exclusion": {"quantile": 0.5}}, "blocks": {"0": "vocabulary"}},
        "two of the places",
        places=(Place(0), Place(9)),
    ),
)
"""Panels with parameters or tokens of their own; every other prior without required ones gets a plain one."""

OTHERS = "others"
"""The picture of the priors without a panel in `PANELS`."""


class Table:
    """A `PriorSource` without a model: the rows of a table."""

    def __init__(self, rows: Float[Tensor, "V H"], tokens: int, place: Place) -> None:
        self.place = place
        self.places = (place,)
        self.tokens = tokens
        self.hidden = rows.shape[1]
        self.model = "table"
        self.fingerprint = hashlib.sha256(rows.numpy().tobytes()).hexdigest()
        self.view = ""
        self._rows = rows

    def vocabulary(self) -> Float[Tensor, "V H"]:
        return self._rows

    def text(self, text: str) -> Float[Tensor, "T H"]:
        return self._rows[[derive(0, word) % len(self._rows) for word in text.split()]]

    def unplaced(self, vectors: Float[Tensor, "P H"]) -> Float[Tensor, "P H"]:
        return vectors

    def seen(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
        return vectors

    def reference(self) -> Reference:
        return fit_domain(Domain(), Shrinkage(), self).reference


def plane() -> Float[Tensor, "V 2"]:
    """A vocabulary that no Gaussian describes: a bent band, then (in the other half of the ids) two knots.

    Its coordinates spread as SmolLM2's do, with a deviation of about 0.14, so that scales mean the same.
    """
    generator = torch_generator(0, "plane")

    def normal(count: int) -> Tensor:
        return torch.randn(count, 2, generator=generator)

    angle = (0.55 + 0.95 * torch.rand(450, generator=generator)) * math.pi
    band = torch.stack([angle.cos(), angle.sin()], 1) * 0.30 + torch.tensor([0.02, -0.02])
    band = band + 0.016 * normal(450)
    large = torch.tensor([0.17, 0.19]) + normal(290) * torch.tensor([0.055, 0.03])
    small = torch.tensor([0.22, -0.13]) + normal(160) * 0.018
    return torch.cat([band, large, small])


def every_panel() -> tuple[Panel, ...]:
    """The panels of softprior's priors: those of `PANELS`, then one for each of the other `plain_priors`."""
    others = plain_priors({panel.prior for panel in PANELS})
    return (*PANELS, *(Panel(OTHERS, name, places=(_first_place(name),)) for name in others))


def plain_priors(shown: Container[str]) -> Iterator[str]:
    """Softprior's priors that are not shown yet and need no parameter: those that defaults can show."""
    for name, kind in PRIORS.kinds.items():
        if name not in shown and not any(field.is_required() for field in kind.model_fields.values()):
            yield name


def draw_priors(folder: Path, panels: Sequence[Panel]) -> list[Path]:
    """Draws every picture of the panels as `priors-PICTURE.png`; returns the files.

    The panel of a prior that refuses the plane says why.
    """
    rows, looks = plane(), prior_looks(PRIORS.kinds)
    paths = []
    with tempfile.TemporaryDirectory() as scratch:
        tuned = _tuned(Path(scratch) / "tuned.safetensors")
        for name in dict.fromkeys(panel.picture for panel in panels):
            shown = [panel for panel in panels if panel.picture == name]
            figure, axes = page(len(shown), CAPTION.format(count=len(rows)), width=9.3, height=3.25)
            for panel, at in zip(shown, axes, strict=True):
                _draw(at, panel, rows, tuned, looks[panel.prior].colour)
            paths.append(save(figure, folder / f"priors-{name}.png"))
    return paths


def _first_place(name: str) -> Place:
    """A place that the prior is for, at the model's input if it can be."""
    kinds = PRIORS.kinds[name]().kinds()
    return Place(0, next(kind for kind in get_args(Kind) if kind in kinds))


def _tuned(path: Path) -> Path:
    """A posterior file of eight vectors that training has carried off the tokens."""
    angle = torch.arange(8) / 8 * 2 * math.pi
    vectors = torch.stack([angle.cos(), angle.sin()], 1) * 0.33 + torch.tensor([0.05, 0.05])
    vectors = vectors + 0.05 * torch.randn(8, 2, generator=torch_generator(0, "tuned"))
    final = {Place(0): vectors}
    save_posterior(path, Posterior({"model": {"fingerprint": "table"}}, final, final, {}))
    return path


def _draw(at: Axes, panel: Panel, rows: Float[Tensor, "V 2"], tuned: Path, own: str) -> None:
    params = {key: str(tuned) if value == TUNED else value for key, value in panel.params.items()}
    window = [panel.zoom * edge for edge in WINDOW]
    at.scatter(rows[:, 0], rows[:, 1], s=3, color=BACKGROUND, linewidths=0)
    try:
        _draw_vectors(at, panel, params, rows, own, window)
    except UserError as error:
        reason = textwrap.fill(f"refused: {error}", 36)
        at.text(
            0.5, 0.5, reason, transform=at.transAxes, ha="center", va="center", fontsize=SMALL, color=TEXT
        )
    at.set_title(panel.prior + (f"  ({panel.title})" if panel.title else ""), fontsize=9)
    at.set_xlim(*window[:2])
    at.set_ylim(*window[2:])
    at.set_aspect("equal")
    # The origin: what zeros, isotropic and xavier are drawn around, tokens or not.
    at.axhline(0, color=LINE, linewidth=0.4, zorder=0)
    at.axvline(0, color=LINE, linewidth=0.4, zorder=0)


def _draw_vectors(
    at: Axes,
    panel: Panel,
    params: dict[str, object],
    rows: Float[Tensor, "V 2"],
    own: str,
    window: list[float],
) -> None:
    """Draws a sample at each place of the panel, the first in the prior's own colour, and its density."""
    prior = validate(PRIORS[panel.prior], params, panel.prior)
    for place, colour, marker in zip(panel.places, (own, BLUE), ("o", "^"), strict=False):
        distribution = prior.fit(Table(rows, panel.tokens, place))
        draws = distribution.sample(torch_generator(0, "picture"), DRAWS)
        different = draws.unique(dim=0)
        few = len(different) < DRAWS / 10
        label = f"block {place.block}" if len(panel.places) > 1 else None
        x, y = (different if few else draws).T
        size = 34 if few else 6
        at.scatter(x, y, s=size, color=colour, marker=marker, linewidths=0, label=label)
        if distribution.has_density:
            _contours(at, distribution, window)
    if len(panel.places) > 1:
        at.legend(loc="lower left", fontsize=SMALL, frameon=False)


def _contours(at: Axes, distribution: Distribution, window: list[float]) -> None:
    """Draws the smallest areas that contain `MASSES` of the density."""
    left, right, bottom, top = (WIDER * edge for edge in window)
    x, y = np.linspace(left, right, GRID), np.linspace(bottom, top, GRID)
    points = torch.from_numpy(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2))
    density = distribution.log_prob(points).exp().numpy()
    ordered = np.sort(density)[::-1]
    held = ordered.cumsum() / ordered.sum()
    levels = {float(ordered[held.searchsorted(mass)]) for mass in MASSES}
    # A hair lower, or a uniform density's edge would not be crossed.
    heights = sorted(level * (1 - 1e-6) for level in levels)
    at.contour(x, y, density.reshape(GRID, GRID), heights, colors="black", linewidths=0.8)
