"""How far out the draws of every prior lie in high dimension, against real tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.figures.palette import BACKGROUND, LINE, TEXT, prior_looks
from analysis.figures.priors import Table, plain_priors
from analysis.figures.style import NORMAL, SMALL, TITLE, page, save
from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS, PriorSource
from softprior.prompt import Place
from softprior.seeding import torch_generator
from softprior.statistics import geometry

MEASURED = 2000
"""Draws whose radii and norms are taken; of the first `COMPARED` also the nearest token."""

COMPARED = 300
"""Draws, and tokens, whose nearest token is looked up."""

RADII = (
    f"Median and central 90% of the radii of {MEASURED:,} draws of each prior (seed 0) around the "
    "vocabulary, in the metric of its covariance. Band and line: the tokens' own, each left out of its fit."
)

CHOSEN: dict[str, tuple[str, dict[str, object]]] = {
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
"""What is measured, by the name of its row: a prior and its parameters.

Every other prior that needs no parameter gets a row of defaults.
"""

UNMEASURED = {
    "posterior": "stands where the earlier study ended",
    "by_place": "is at each place the prior that it names there",
}
"""Priors without a row, and why."""


def every_row() -> dict[str, tuple[str, dict[str, object]]]:
    """What is measured of softprior's priors, by the name of its row: `CHOSEN`, then the `plain_priors`."""
    known = {prior for prior, _ in CHOSEN.values()} | set(UNMEASURED)
    return CHOSEN | {name: (name, {}) for name in plain_priors(known)}


class Far(NamedTuple):
    """How far out vectors lie.

    Attributes:
        name: the prior, or tokens.
        radii: Mahalanobis radius from the vocabulary's mean: 5%, median, 95%.
        quantiles: the same three as shares of real tokens that lie no farther out.
        norm: median Euclidean norm.
        token_distance: median Euclidean distance to the nearest token, over the same from token to token.
        facts: what the fit recorded; a reason, where the prior refuses.
    """

    name: str
    radii: tuple[float, ...]
    quantiles: tuple[float, ...]
    norm: float
    token_distance: float
    facts: dict[str, object]


def measure(
    source: PriorSource, chosen: dict[str, tuple[str, dict[str, object]]], say: Callable[[str], None]
) -> list[Far]:
    """Tokens first, then every prior; one that refuses the source has no numbers and says why."""
    table = source.vocabulary()
    reference = source.reference()
    compared = torch.randperm(len(table), generator=torch_generator(0, "compared"))[:COMPARED]
    between = geometry.nearest(table[compared], table, 2)[0][:, 1].median()

    def far(name: str, vectors: Tensor, found: Tensor, near: Tensor, facts: dict[str, object]) -> Far:
        radii = found.quantile(torch.tensor([0.05, 0.5, 0.95]).double())
        shares = geometry.quantile_among(radii, reference.radii)
        norm = float(vectors.double().norm(dim=1).median())
        row = Far(name, tuple(radii.tolist()), tuple(shares.tolist()), norm, float(near / between), facts)
        say(f"{row.name}: median radius {row.radii[1]:.1f}" if row.radii else f"{row.name}: refused")
        return row

    sample = table[torch.randperm(len(table), generator=torch_generator(0, "tokens"))[: 4 * MEASURED]]
    rows = [far("tokens", sample, reference.radii, between, {"nearest": float(between)})]
    for name, (prior, params) in chosen.items():
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
        lines.append(f"| {row.name} | {radius} | {share} | {row.norm:.2f} | {row.token_distance:.2f} |")
    return "\n".join(lines)


def draw_radii(folder: Path, tables: dict[str, list[Far]]) -> Path:
    """Draws radii of every prior, one panel per table, the central 90% of the tokens' as a band behind."""
    priors = {name: prior for name, (prior, _) in every_row().items()}
    looks = prior_looks(PRIORS.kinds)
    figure, axes = page(len(tables), RADII, width=9.3, height=4.0, columns=2)
    for at, (title, rows) in zip(axes, tables.items(), strict=True):
        rows = [row for row in rows if row.radii]
        low, middle, high = rows[0].radii
        at.axvspan(low, high, color=BACKGROUND, alpha=0.6, linewidth=0)
        at.axvline(middle, color=LINE, linewidth=1)
        for i, row in enumerate(rows):
            own = looks[priors[row.name]] if row.name in priors else None
            colour, marker = (own.colour, own.marker) if own else (TEXT, "o")
            at.plot(row.radii[::2], (i, i), color=colour, linewidth=2, solid_capstyle="butt")
            at.plot(row.radii[1], i, marker=marker, color=colour, markersize=5)
        at.set_yticks(range(len(rows)), [row.name.replace(" of ", " of\n") for row in rows], fontsize=SMALL)
        at.invert_yaxis()
        at.set_xlabel("Mahalanobis radius", fontsize=NORMAL)
        at.set_title(title, fontsize=TITLE)
    return save(figure, folder / "priors-radii.png")
