"""How far out vectors lie against data: Mahalanobis radii as quantiles of the data's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from softprior.statistics.gaussian import Gaussian
from softprior.statistics.geometry import quantile_among

Without = Literal["document", "vector", "nothing"]
"""What the covariance behind a radius leaves out: the vector's document; only the vector, where its document
is unknown or too little of it is known; or nothing, where the rest would be singular."""


@dataclass(frozen=True)
class Reference:
    """A Gaussian and the radii of the vectors it was fitted on, or of a sample of them.

    "Expect sqrt(D)" holds only for draws of that Gaussian; real tokens spread much wider, so a radius
    means something only next to theirs.

    Attributes:
        radii: as `softprior.statistics.held_out` measures them, so that fresh data have the same.
        without: what was held out.
        source: the data, for records.
    """

    gaussian: Gaussian
    radii: Float[Tensor, "N"]
    without: Without = "nothing"
    source: str = ""

    def quantiles(self, vectors: Float[Tensor, "P D"]) -> Float[Tensor, "P"]:
        """Share of the data that lies at most as far out as each vector, in [0, 1]."""
        return quantile_among(self.gaussian.radius(vectors), self.radii)
