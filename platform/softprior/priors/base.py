"""What a prior is: parameters from a study file, and the distribution that they define at a place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.inputs.base import Spec
from softprior.prompt import Kind, Place, Shape
from softprior.statistics.reference import Reference


@runtime_checkable
class PriorSource(Protocol):
    """What a prior may be fitted on: the frozen model, as seen from one place of the prompt.

    At a residual place the vectors are what the embedding layer returns, whatever the block. At key and
    value places they are what the block's own norm and projections make of those, keys before rotary:
    exactly what a cut prompt of the same vectors would be attended to as.

    Attributes:
        place: where the sampled vectors will be.
        hidden: their dimension.
        places: all places of the prompt.
        tokens: P, how many vectors the prompt has at the place (xavier's bound depends on it).
        model: fingerprint of the frozen weights.
        fingerprint: identifies the vectors of `vocabulary`: equal where they are.
        view: what `seen` does to vectors, as it enters records and keys; empty where it leaves them alone.
    """

    @property
    def place(self) -> Place: ...

    @property
    def places(self) -> tuple[Place, ...]: ...

    @property
    def hidden(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    @property
    def model(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def view(self) -> str: ...

    def vocabulary(self) -> Float[Tensor, "V H"]:
        """The vector of every token of the vocabulary."""

    def text(self, text: str) -> Float[Tensor, "T H"]:
        """The vectors of a text's tokens, without special tokens.

        At key and value places the text runs through the model, so these are the keys (before rotary)
        and values that it really has in the block.
        """

    def unplaced(self, vectors: Float[Tensor, "P H"]) -> Float[Tensor, "P H"]:
        """Vectors of a prompt at this place as priors see them: keys before rotary, others unchanged."""

    def seen(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
        """Vectors of the place, given as in a store, in the coordinates of this source (see `view`)."""

    def reference(self) -> Reference:
        """The vocabulary's own radii, for priors that were fitted on nothing."""


@dataclass(frozen=True)
class Outline:
    """A `PriorSource` before the model is loaded: what a plan knows of it.

    Attributes:
        place, places, tokens, model: as in `PriorSource`.
        hidden: the same, or None where it is not known.
        vocabulary: rows of the embedding table: most vectors there can be; None where it is not known.
    """

    place: Place
    places: tuple[Place, ...]
    tokens: int
    model: str
    hidden: int | None = None
    vocabulary: int | None = None


Support = Literal["everywhere", "outside", "bounded", "shell", "points"]
"""Where a distribution puts its mass: anywhere, anywhere but around the centre of its data, in a bounded
region, on a shell of one Mahalanobis radius, on finitely many points."""


class Distribution(ABC):
    """A prior at a place, ready to sample.

    The vectors of a sample are independent. Most distributions draw all of them alike; one may have
    a distribution for each place in the order.

    Attributes:
        support: where there is mass.
        has_density: whether `log_prob` exists.
        without_density: why there is no density, as the end of a sentence.
    """

    support: Support = "everywhere"
    has_density: bool = True
    without_density: str = "samples from finitely many vectors and has no density"

    @abstractmethod
    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        """Draws `count` float32 vectors; the generator is the only source of randomness."""

    def log_prob(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N"]:  # noqa: ARG002
        """Log-density of each vector in nats, float64; -inf outside of the support.

        Row i is the density of the i-th vector of a sample, so a prompt has the sum of its rows.

        Raises:
            ValueError: when `has_density` is False.
        """
        raise ValueError(f"{type(self).__name__.strip('_')} {self.without_density}")

    def reference(self) -> Reference | None:
        """The radii of the data that the distribution was fitted on; None for one without data."""
        return None

    def record(self) -> dict[str, object]:
        """Facts about the fit that are recorded with every result (JSON values)."""
        return {}

    def warnings(self) -> tuple[str, ...]:
        """Warnings about a fit that is not as it should be, shown while the study runs."""
        return ()


class FitKey(NamedTuple):
    """Identifies a fit in a plan: trials that have the same share it.

    Attributes:
        kind: of fit, with what else decides it.
        vectors: what it is fitted to.
        store: whether these come from a statistics store, and not from the model's vocabulary.
    """

    kind: str
    vectors: str
    store: bool = False


class Prior(Spec, ABC):
    """Parameters of a prior. `fit` makes the distribution; a prior itself contains no data."""

    @abstractmethod
    def fit(self, source: PriorSource) -> Distribution:
        """The distribution for one place of the prompt.

        Raises:
            UserError: the source cannot carry this prior with these parameters.
        """

    def check_outline(self, outline: Outline) -> None:
        """Refuses before anything is loaded what `fit` would refuse at this place, as far as that is known.

        It is called after `contents`, so files are known to exist and to be intact. It may read their headers
        but not their data, because it is called for every place.

        Raises:
            UserError: the place cannot have this prior with these parameters.
        """

    def outline_notes(self, outline: Outline) -> tuple[str, ...]:  # noqa: ARG002
        """What a user should know of the fit to come at this place; called after `check_outline`."""
        return ()

    def work(self, place: Place, shape: Shape) -> dict[FitKey, float | None]:  # noqa: ARG002
        """What `fit` computes once for all trials at a place, and the operations that takes.

        Args:
            shape: of the model; the operations are None where they depend on a size that is not known.
        """
        return {}

    def draws(self, place: Place) -> str:
        """Names the random numbers of a place; places with one name draw with the same.

        Placement is not part of it, so that trials that differ in it alone start from the same vectors.
        """
        return place.in_front.name

    def kinds(self) -> frozenset[Kind]:
        """The kinds of places it can start, in some block; a study leaves it out for methods with others."""
        return frozenset(get_args(Kind))

    def limits(self) -> str:
        """Why it cannot start places of other kinds, as the end of a sentence; empty if it can."""
        return ""

    def smooth(self) -> bool:
        """Whether the density is finite and differentiable everywhere, to pull a prompt from anywhere."""
        return False

    def fixed(self) -> bool:
        """Whether there is nothing to draw, so that all seeds start from the same vectors."""
        return False

    def contents(self) -> tuple[str, ...]:
        """Fingerprints of what decides its draws besides parameters, model and seed: the files it reads.

        They belong to a trial's identity; paths do not. Draws that come out otherwise than in earlier
        releases have a mark here, so that earlier results are not taken for theirs.

        Raises:
            UserError: a file is missing or damaged.
        """
        return ()

    def corrections(self, density: bool) -> tuple[str, ...]:  # noqa: ARG002
        """Corrections that changed the samples of equal parameters or, if `density`, their densities.

        They belong to the identity of the trials they concern, so that no result from before is reused.

        Args:
            density: whether the trial asks for `log_prob`, and not for samples alone.
        """
        return ()
