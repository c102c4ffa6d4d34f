"""The contract of priors: what every `Prior` promises, held against a small table of real vectors.

Nothing here knows which priors exist. A prior with a density is held against itself: its samples must
have the mean and covariance that integrating its own density gives, and the density must integrate to
one. A prior without one is given the finite set of vectors it is meant to draw from.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int
from scipy.stats import chi2
from torch import Tensor

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import Distribution, Outline, Prior
from softprior.priors.domain import Domain, Shrinkage, fit_domain
from softprior.prompt import Place
from softprior.seeding import derive, torch_generator
from softprior.statistics.reference import Reference
from softprior.testing.elsewhere import answered, as_json, from_json, is_found

STANDARD_ERRORS = 5
"""Allowed distance of a sample's moment from theory: chance exceeds it once in two million numbers."""

DRAWS = 20_000
"""Vectors of a sample whose moments are taken: a standard error is 0.7% of a standard deviation."""

DENSITIES = 2000
"""Vectors of a sample that have their density taken, where there is nothing to estimate from it."""

GRID = {1: 25_001, 2: 1001}
"""Points along a side of the grid on which densities are integrated, by dimension."""

GRID_ERROR = {1: 5e-4, 2: 3e-2}
"""Relative error of such an integral. Smooth densities are exact to 1e-6; the edge of a uniform one falls
between points, which costs up to a cell a side. A wrong constant is off by a factor of 1.25 or more."""


AROUND_THE_CENTRE = 0.01
"""Mass of the data's Gaussian nearest to its centre, of which a distribution on the outside draws nothing. Of
its `DRAWS` the Gaussian itself has two hundred there."""

TOKEN_LEVEL = Place(0)


class TableSource:
    """A `PriorSource` without a model: a few correlated vectors off the origin, one token a word.

    Attributes:
        hidden: H.
        tokens: P.
        size: V, the number of rows.
        place: where the vectors will stand; the table is the same everywhere.
    """

    def __init__(self, hidden: int = 4, tokens: int = 6, size: int = 120, place: Place = TOKEN_LEVEL) -> None:
        self.place = place
        self.hidden = hidden
        self.tokens = tokens
        self.size = size
        generator = torch_generator(0, "table", hidden, size)
        mixing = torch.eye(hidden) + 0.5 * torch.randn(hidden, hidden, generator=generator)
        self._table = 0.3 * torch.randn(size, hidden, generator=generator) @ mixing + 0.7

    def vocabulary(self) -> Float[Tensor, "V H"]:
        return self._table

    @property
    def places(self) -> tuple[Place, ...]:
        return (self.place,)

    @property
    def fingerprint(self) -> str:
        return f"table-{self.hidden}-{self.size}"

    @property
    def view(self) -> str:
        return ""

    def seen(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
        return vectors

    @property
    def model(self) -> str:
        return "table"

    def encode(self, text: str) -> Int[Tensor, "T"]:
        """Row of each word."""
        return torch.tensor([derive(0, word) % self.size for word in text.split()], dtype=torch.long)

    def text(self, text: str) -> Float[Tensor, "T H"]:
        return self._table[self.encode(text)]

    def unplaced(self, vectors: Float[Tensor, "P H"]) -> Float[Tensor, "P H"]:
        return vectors

    def reference(self) -> Reference:
        return fit_domain(Domain(), Shrinkage(), self).reference


def source_of(prior: Prior) -> TableSource:
    """The table at a place that the prior can start."""
    return TableSource(place=Place(0, "residual" if "residual" in prior.kinds() else "value"))


def outline_of(source: TableSource) -> Outline:
    """The source as a plan sees it."""
    return Outline(source.place, source.places, source.tokens, source.model, source.hidden, source.size)


def check_samples(prior: Prior, source: TableSource) -> None:
    """Samples are finite float32 of shape [count, H], belong to the caller, and have one distribution.

    A plan does not refuse what can be fitted.
    """
    prior.check_outline(outline_of(source))
    distribution = prior.fit(source)
    for count in (1, source.tokens):
        sample = distribution.sample(torch_generator(0), count)
        assert sample.shape == (count, source.hidden)
        assert sample.dtype == torch.float32
        assert sample.device.type == "cpu"
        assert bool(sample.isfinite().all())
    before = distribution.sample(torch_generator(0), source.tokens)
    table = source.vocabulary().clone()
    distribution.sample(torch_generator(0), source.tokens).fill_(math.pi)
    assert torch.equal(distribution.sample(torch_generator(0), source.tokens), before)
    assert torch.equal(source.vocabulary(), table)


def check_seeds(prior: Prior, source: TableSource) -> None:
    """The generator's seed alone decides a sample; a prior with nothing to draw always gives the same."""
    one, again = prior.fit(source), prior.fit(source)
    draws = [one.sample(torch_generator(seed, "prior"), source.tokens) for seed in range(5)]
    for seed, draw in enumerate(draws):
        assert torch.equal(again.sample(torch_generator(seed, "prior"), source.tokens), draw)
    for a in range(5):
        for b in range(a):
            same = torch.equal(draws[a], draws[b])
            assert same is prior.fixed(), f"fixed() is {prior.fixed()}, but two seeds say {same}"
    generator = torch_generator(0, "prior")
    one.sample(generator, source.tokens)
    assert torch.equal(one.sample(generator, source.tokens), draws[0]) is prior.fixed()


def check_global_state(prior: Prior, source: TableSource) -> None:
    """Fitting, sampling and densities neither read nor move the global generators."""
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()
    distribution = prior.fit(source)
    first = distribution.sample(torch_generator(3), source.tokens)
    if distribution.has_density:
        distribution.log_prob(first)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    for now, before in zip(np.random.get_state(), numpy_state, strict=True):
        np.testing.assert_array_equal(now, before)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        assert torch.equal(prior.fit(source).sample(torch_generator(3), source.tokens), first)


def check_other_process(priors: Mapping[str, Prior], source: TableSource) -> None:
    """The same parameters and seed give the same bits in another process, for all priors at once.

    Their classes must be found by name in modules that can be imported.
    """
    sizes = [source.hidden, source.tokens, source.size]
    job = {"source": sizes, "place": source.place.name, "priors": as_json(priors)}
    assert answered(__name__, job) == {name: _sampled(prior, source) for name, prior in priors.items()}


def answer() -> None:
    """The other process of `check_other_process`: reads the job, with every global seed changed."""
    job = json.load(sys.stdin)
    torch.manual_seed(4711)
    np.random.seed(4711)
    hidden, tokens, size = job["source"]
    source = TableSource(hidden, tokens, size, Place.parse(job["place"]))
    priors = from_json(job["priors"], Prior)  # type: ignore[type-abstract]
    print(json.dumps({name: _sampled(prior, source) for name, prior in priors.items()}))


def _sampled(prior: Prior, source: TableSource) -> list[list[float]]:
    values: list[list[float]] = prior.fit(source).sample(torch_generator(7, "a"), source.tokens).tolist()
    return values


def check_serialisation(prior: Prior, source: TableSource) -> None:
    """A prior survives JSON, the loaded one makes the same distribution, and unknown keys are refused."""
    params = json.loads(prior.canonical())
    loaded = validate(type(prior), params, "contract")
    assert loaded == prior
    assert loaded.canonical() == prior.canonical()
    assert _sampled(loaded, source) == _sampled(prior, source)
    with pytest.raises(UserError, match="unknown key 'no_such_parameter'"):
        validate(type(prior), {**params, "no_such_parameter": 1}, "contract")


def check_record(prior: Prior, source: TableSource) -> None:
    """The facts of a fit are JSON values, the same for every fit, and without not-a-number."""
    record = prior.fit(source).record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert prior.fit(source).record() == record


def check_density(prior: Prior, source: TableSource) -> None:
    """`log_prob` is float64, finite on samples, invariant to the input's precision; or a ValueError."""
    distribution = prior.fit(source)
    sample = distribution.sample(torch_generator(1), source.tokens)
    if not distribution.has_density:
        with pytest.raises(ValueError, match="no density"):
            distribution.log_prob(sample)
        return
    density = distribution.log_prob(sample)
    assert density.shape == (source.tokens,)
    assert density.dtype == torch.float64
    assert bool(density.isfinite().all())
    assert torch.equal(distribution.log_prob(sample.double()), density)
    far = distribution.log_prob(sample + 1e6)
    assert bool((far < density.min() - 100).all())
    assert not bool(far.isnan().any())


def check_support(prior: Prior, source: TableSource) -> None:
    """Draws lie where the distribution declares its mass; where there is a density, it says the same."""
    distribution = prior.fit(source)
    generator = torch_generator(6)
    rounds = DRAWS // source.size
    sample = torch.cat([distribution.sample(generator, source.size) for _ in range(rounds)])
    if distribution.support == "points":
        first, second = (set(map(tuple, half.tolist())) for half in sample.chunk(2))
        assert second <= first, "finitely many points come again"
    else:
        assert len(sample.unique(dim=0)) > source.size, "draws are those of finitely many points"
    data = distribution.reference() or source.reference()
    radii = data.gaussian.radius(sample)
    if distribution.support == "shell":
        assert float(radii.max() - radii.min()) < 1e-4 * float(radii.max()), "the radius is always the same"
    if distribution.support == "outside":
        assert float(radii.min()) > float(chi2.ppf(AROUND_THE_CENTRE, source.hidden)) ** 0.5
    if not distribution.has_density:
        return
    some = sample[:DENSITIES]
    assert bool(distribution.log_prob(some).isfinite().all())
    middle = sample.mean(0)
    from_middle = some - middle
    reach = from_middle.norm(dim=1, keepdim=True)
    far = middle + 4 * float(reach.max()) * from_middle / reach
    assert bool((distribution.log_prob(far) > -math.inf).all()) is (distribution.support != "bounded")
    at_centre = float(distribution.log_prob(data.gaussian.mean[None])) > -math.inf
    assert at_centre is (distribution.support in ("everywhere", "bounded"))


def check_integral(prior: Prior, source: TableSource) -> None:
    """In one or two dimensions the density integrates to one and has the moments of its samples."""
    distribution = prior.fit(source)
    sample = distribution.sample(torch_generator(2), DRAWS).double()
    whole = integrated(distribution, sample)
    error = GRID_ERROR[source.hidden]
    assert whole.mass == pytest.approx(1, abs=error)
    spread = float(whole.covariance.diagonal().max())
    check_moments(sample, whole.mean, whole.covariance, error * spread**0.5, error * spread)


def check_draws(prior: Prior, source: TableSource, support: Float[Tensor, "N H"]) -> None:
    """A prior without a density draws vectors of a finite set, each as often as any other."""
    distribution = prior.fit(source)
    rounds = DRAWS // source.tokens
    generator = torch_generator(2)
    sample = torch.cat([distribution.sample(generator, source.tokens) for _ in range(rounds)])
    same = (sample[: 20 * source.tokens, None] == support[None]).all(2).any(1)
    assert bool(same.all())
    exact = support.double()
    centred = exact - exact.mean(0)
    # Draws without repetition vary less than independent ones, so the errors below are generous.
    check_moments(sample.double(), exact.mean(0), centred.T @ centred / len(support), 1e-12, 1e-12)


CHECKS: tuple[Callable[[Prior, TableSource], None], ...] = (
    check_samples,
    check_seeds,
    check_global_state,
    check_serialisation,
    check_record,
    check_density,
    check_support,
)
"""The part of the suite that needs to know nothing but the prior; `check_prior` has all of it."""


def check_prior(
    prior: Prior,
    source: TableSource | None = None,
    *,
    widths: Sequence[int] = tuple(GRID),
    vectors: Float[Tensor, "N H"] | None = None,
) -> None:
    """Runs the whole suite.

    Another process is asked too, if it can import the class.

    Args:
        source: what it is fitted on; the table of `source_of` by default.
        widths: of the vectors for which a density is integrated; empty for a prior that fits one width alone.
        vectors: the finite set that a prior without a density draws from, each as often as any other.

    Raises:
        AssertionError: the prior breaks its contract.
    """
    source = source or source_of(prior)
    for check in CHECKS:
        check(prior, source)
    if prior.fit(source).has_density:
        for hidden in widths:
            # A prompt of one vector, since each may have a density of its own.
            check_integral(prior, TableSource(hidden, tokens=1, place=source.place))
    if vectors is not None:
        check_draws(prior, source, vectors)
    if is_found(type(prior)):
        check_other_process({"prior": prior}, source)


class Law(NamedTuple):
    """A distribution by integrals over its density."""

    mass: float
    mean: Float[Tensor, "H"]
    covariance: Float[Tensor, "H H"]


def integrated(distribution: Distribution, sample: Float[Tensor, "N H"]) -> Law:
    """Integrates the density on a grid that reaches three times as far as a large sample."""
    centre = (sample.amin(0) + sample.amax(0)) / 2
    reach = 1.5 * (sample.amax(0) - sample.amin(0))
    hidden = sample.shape[1]
    steps = (torch.arange(GRID[hidden], dtype=torch.float64) + 0.5) / GRID[hidden] * 2 - 1
    points = torch.cartesian_prod(*[steps * r + c for r, c in zip(reach, centre, strict=True)])
    points = points.view(-1, hidden)
    weights = distribution.log_prob(points).exp() * float((2 * reach / GRID[hidden]).prod())
    mass = weights.sum()
    mean = (weights[:, None] * points).sum(0) / mass
    centred = points - mean
    return Law(float(mass), mean, (weights[:, None] * centred).T @ centred / mass)


def check_moments(
    sample: Float[Tensor, "N H"],
    mean: Float[Tensor, "H"],
    covariance: Float[Tensor, "H H"],
    mean_error: float,
    covariance_error: float,
) -> None:
    """The sample's mean and covariance are within `STANDARD_ERRORS` of theory, plus theory's own error."""
    count = len(sample)
    allowed = STANDARD_ERRORS * covariance.diagonal().clamp_min(0).sqrt() / math.sqrt(count) + mean_error
    assert bool(((sample.mean(0) - mean).abs() <= allowed).all()), "the mean is not that of the distribution"
    centred = sample - mean
    products = centred[:, :, None] * centred[:, None, :]
    allowed = STANDARD_ERRORS * products.std(0) / math.sqrt(count) + covariance_error
    found = (products.mean(0) - covariance).abs()
    assert bool((found <= allowed).all()), "the covariance is not that of the distribution"


def check_reference(
    prior: Prior, source: TableSource, reference: Callable[[np.ndarray], np.ndarray], tolerance: float
) -> None:
    """`log_prob` equals an independent log-density, at samples and at points around them."""
    distribution = prior.fit(source)
    sample = distribution.sample(torch_generator(4), 100).double()
    points = torch.cat([sample, sample * 0.5, sample.mean(0) + (sample - sample.mean(0)) * 1.7])
    found = distribution.log_prob(points).numpy()
    np.testing.assert_allclose(found, reference(points.numpy()), rtol=tolerance, atol=tolerance)
