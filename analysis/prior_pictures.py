"""Pictures of priors: what each draws in a plane, and how far out its draws lie in high dimension."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from analysis.figures import END, PATH, START, TOKENS
from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS, Distribution, PriorSource
from softprior.priors.domain import Domain, Shrinkage, fit_domain
from softprior.prompt import Place
from softprior.results.files import write_atomically
from softprior.results.posteriors import Posterior, save_posterior
from softprior.seeding import derive, torch_generator
from softprior.statistics import geometry
from softprior.statistics.reference import Reference

matplotlib.use("Agg")

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
    # Its width depends on P + H alone; in two dimensions so many tokens make it that of 20 at H = 576.
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
"""Every prior has one panel at least."""


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


def draw_priors(folder: Path, panels: tuple[Panel, ...] = PANELS) -> list[Path]:
    """Draws every picture of the panels as `priors-PICTURE.png`; returns the files.

    Raises:
        KeyError: a prior has no panel.
    """
    missing = set(PRIORS.kinds) - {panel.prior for panel in panels}
    if missing:
        raise KeyError(f"no panel for {', '.join(sorted(missing))}: list it in PANELS")
    rows = plane()
    paths = []
    with tempfile.TemporaryDirectory() as scratch:
        tuned = _tuned(Path(scratch) / "tuned.safetensors")
        for name in dict.fromkeys(panel.picture for panel in panels):
            shown = [panel for panel in panels if panel.picture == name]
            lines = -(-len(shown) // 3)
            figure = Figure(figsize=(9.3, 3.25 * lines), layout="constrained")
            axes = figure.subplots(lines, 3, squeeze=False).flatten()
            for panel, at in zip(shown, axes, strict=False):
                _draw(at, panel, rows, tuned)
            for at in axes[len(shown) :]:
                at.set_axis_off()
            paths.append(_save(figure, folder / f"priors-{name}.png"))
    return paths


def _tuned(path: Path) -> Path:
    """A posterior file of eight vectors that training has carried off the tokens."""
    angle = torch.arange(8) / 8 * 2 * math.pi
    vectors = torch.stack([angle.cos(), angle.sin()], 1) * 0.33 + torch.tensor([0.05, 0.05])
    vectors = vectors + 0.05 * torch.randn(8, 2, generator=torch_generator(0, "tuned"))
    final = {Place(0): vectors}
    save_posterior(path, Posterior({"model": {"fingerprint": "table"}}, final, final, {}))
    return path


def _draw(at: Axes, panel: Panel, rows: Float[Tensor, "V 2"], tuned: Path) -> None:
    params = {key: str(tuned) if value == TUNED else value for key, value in panel.params.items()}
    prior = validate(PRIORS[panel.prior], params, panel.prior)
    window = [panel.zoom * edge for edge in WINDOW]
    at.scatter(rows[:, 0], rows[:, 1], s=3, color=TOKENS, linewidths=0)
    for place, colour, marker in zip(panel.places, (START, END), ("o", "^"), strict=False):
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
        at.legend(loc="lower left", fontsize=7, frameon=False)
    at.set_title(panel.prior + (f"  ({panel.title})" if panel.title else ""), fontsize=9)
    at.set_xlim(*window[:2])
    at.set_ylim(*window[2:])
    at.set_aspect("equal")
    # The origin: what zeros, isotropic and xavier are drawn around, tokens or not.
    at.axhline(0, color=PATH, linewidth=0.4, zorder=0)
    at.axvline(0, color=PATH, linewidth=0.4, zorder=0)
    at.tick_params(labelsize=7)


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


def _save(figure: Figure, path: Path) -> Path:
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=100, format="png"))
    return path


# High dimension: the same priors against real tokens.

MEASURED = 2000
"""Draws whose radii and norms are taken; of the first `COMPARED` also the nearest token."""

COMPARED = 300

LAWS: dict[str, tuple[str, dict[str, object]]] = {
    "zeros": ("zeros", {}),
    "isotropic": ("isotropic", {}),
    "xavier": ("xavier", {}),
    "fitted": ("fitted", {}),
    "exclusion": ("exclusion", {}),
    "exclusion, quantile: 0.95": ("exclusion", {"quantile": 0.95}),
    "interpolation": ("interpolation", {}),
    "low_density": ("low_density", {}),
    "vae": ("vae", {}),
    "vocabulary": ("vocabulary", {}),
    "instruction": ("instruction", {"text": "Answer the question with a few words taken from the text."}),
    "mixture of isotropic, fitted, vocabulary": (
        "mixture",
        {"priors": ["isotropic", "fitted", "vocabulary"]},
    ),
}
"""What is measured, by the name of its row: default parameters, where a prior has them."""

UNMEASURED = {
    "posterior": "stands where the earlier study ended",
    "by_place": "is at each place the prior that it names there",
}
"""Priors without a row, and why."""


class Far(NamedTuple):
    """How far out vectors lie.

    Attributes:
        name: the prior, or tokens.
        radii: Mahalanobis radius from the vocabulary's mean: 5%, median, 95%.
        quantiles: the same three as shares of real tokens that lie no farther out.
        norm: median Euclidean norm.
        nearest: median Euclidean distance to the nearest token, over the same from token to token.
        facts: what the fit recorded; a reason, where the prior refuses.
    """

    name: str
    radii: tuple[float, ...]
    quantiles: tuple[float, ...]
    norm: float
    nearest: float
    facts: dict[str, object]


def measure(
    source: PriorSource, laws: dict[str, tuple[str, dict[str, object]]], say: Callable[[str], None]
) -> list[Far]:
    """Tokens first, then every prior; one that refuses the source has no numbers and says why."""
    table = source.vocabulary()
    reference = source.reference()
    chosen = torch.randperm(len(table), generator=torch_generator(0, "compared"))[:COMPARED]
    between = geometry.nearest(table[chosen], table, 2)[0][:, 1].median()

    def far(name: str, vectors: Tensor, found: Tensor, near: Tensor, facts: dict[str, object]) -> Far:
        radii = found.quantile(torch.tensor([0.05, 0.5, 0.95]).double())
        shares = geometry.quantile_among(radii, reference.radii)
        norm = float(vectors.double().norm(dim=1).median())
        row = Far(name, tuple(radii.tolist()), tuple(shares.tolist()), norm, float(near / between), facts)
        say(f"{row.name}: median radius {row.radii[1]:.1f}" if row.radii else f"{row.name}: refused")
        return row

    sample = table[torch.randperm(len(table), generator=torch_generator(0, "tokens"))[: 4 * MEASURED]]
    rows = [far("tokens", sample, reference.radii, between, {"nearest": float(between)})]
    for name, (prior, params) in laws.items():
        try:
            spec = validate(PRIORS[prior], params, prior)
            # Priors of keys and values alone are measured among the same vectors, called values.
            here = source.place.kind in spec.kinds()
            distribution = spec.fit(source if here else Table(table, source.tokens, Place(0, "value")))
        except UserError as error:
            rows.append(Far(name, (), (), math.nan, math.nan, {"refused": str(error)}))
            say(f"{name}: refused, {error}")
            continue
        draws = distribution.sample(torch_generator(0, "radii"), MEASURED)
        near = geometry.nearest(draws[:COMPARED], table)[0].median()
        rows.append(far(name, draws, reference.gaussian.radius(draws), near, distribution.record()))
    return rows


def wider(source: PriorSource, hidden: int) -> Float[Tensor, "V D"]:
    """A synthetic vocabulary of another width with the spectrum and spread of radii of a real one.

    In the coordinates of the principal directions: the logarithms of the real covariance's eigenvalues,
    in order, are interpolated to `hidden` of them and scaled to the real mean variance per coordinate; so
    is the squared whitened mean, scaled to the real mean per coordinate. Row i is the mean plus a Gaussian
    direction (uniform in the whitened coordinates) times the real token i's Mahalanobis radius, scaled by
    sqrt(hidden / H). There are no words and no clusters in it, and directions are independent of radii.
    """
    gaussian = source.reference().gaussian
    values, axes = torch.linalg.eigh(gaussian.factor @ gaussian.factor.T)
    whitened = ((axes.T @ gaussian.mean).square() / values).numpy()

    def stretched(numbers: np.ndarray) -> np.ndarray:
        at, real = ((np.arange(n) + 0.5) / n for n in (hidden, len(numbers)))
        found: np.ndarray = np.interp(at, real, numbers).astype(float)
        return found

    spectrum = np.exp(stretched(np.log(values.numpy())))
    spectrum *= float(values.mean()) / spectrum.mean()
    shift = stretched(whitened)
    shift *= whitened.mean() / shift.mean()
    radii = gaussian.radius(source.vocabulary()).float() * math.sqrt(hidden / len(values))
    generator = torch_generator(0, "wider", hidden)
    rows = torch.randn(len(radii), hidden, generator=generator)
    rows *= (radii / rows.norm(dim=1))[:, None]
    rows += torch.from_numpy(np.sqrt(shift)).float()
    rows *= torch.from_numpy(np.sqrt(spectrum)).float()
    return rows


def markdown(rows: list[Far]) -> str:
    """The table of docs/priors.md."""
    lines = [
        "| prior | radius: median (5% to 95%) | as quantile of tokens' | norm | nearest token |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        if not row.radii:
            lines.append(f"| {row.name} | refused: {row.facts['refused']} | | | |")
            continue
        (low, middle, high), (few, half, most) = row.radii, row.quantiles
        radius = f"{middle:.1f} ({low:.1f} to {high:.1f})"
        share = f"{half:.2f} ({few:.2f} to {most:.2f})"
        lines.append(f"| {row.name} | {radius} | {share} | {row.norm:.2f} | {row.nearest:.2f} |")
    return "\n".join(lines)


def draw_radii(folder: Path, tables: dict[str, list[Far]]) -> Path:
    """Draws radii of every prior, one panel per table, the central 90% of the tokens' as a band behind."""
    figure = Figure(figsize=(9.3, 4.0), layout="constrained")
    axes = figure.subplots(1, len(tables), squeeze=False).flatten()
    for at, (title, rows) in zip(axes, tables.items(), strict=True):
        rows = [row for row in rows if row.radii]
        low, middle, high = rows[0].radii
        at.axvspan(low, high, color=TOKENS, alpha=0.6, linewidth=0)
        at.axvline(middle, color=PATH, linewidth=1)
        for i, row in enumerate(rows):
            at.plot(row.radii[::2], (i, i), color=START, linewidth=2.5, solid_capstyle="butt")
            at.plot(row.radii[1], i, marker="o", color=END, markersize=5)
        at.set_yticks(range(len(rows)), [row.name.replace(" of ", " of\n") for row in rows], fontsize=7)
        at.invert_yaxis()
        at.set_xlabel("Mahalanobis radius: median, 5% to 95%", fontsize=8)
        at.tick_params(axis="x", labelsize=7)
        at.set_title(title, fontsize=9)
    return _save(figure, folder / "priors-radii.png")
