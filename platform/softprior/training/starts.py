"""Where a prompt starts: a draw of its prior at every place, and how far out among the data it lies."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from softprior.assets.tokens import Tokenizer
from softprior.inputs.specs import TrialSpec
from softprior.methods import Method
from softprior.models.protocol import FrozenLM
from softprior.priors import PRIORS, Distribution, Prior, assignment
from softprior.prompt import Place
from softprior.seeding import torch_generator
from softprior.training.draws import draw_names
from softprior.training.events import Notice, Phase, Report
from softprior.training.source import PlaceSource, SeenSource
from softprior.training.twins import moved


class Start(NamedTuple):
    """Where the vectors of one place come from.

    Attributes:
        source: the model, seen from the place.
        distribution: the prior fitted there; None once it is no longer needed: it may contain real vectors.
        sample: the draw, keys before rotary.
        facts: for the record: those of the fit, and `radius_quantiles`.
        warnings: sentences about a fit that is not as it should be.
    """

    source: PlaceSource
    distribution: Distribution | None
    sample: Float[Tensor, "P H"]
    facts: dict[str, object]
    warnings: tuple[str, ...]

    @property
    def vectors(self) -> Float[Tensor, "P H"]:
        """The draw as the prompt has it, keys turned to their positions."""
        return self.source.placed(self.sample)


def starts_of(
    spec: TrialSpec, host: FrozenLM, tokenizer: Tokenizer, method: Method, report: Report
) -> dict[Place, Start]:
    """A draw of a trial's prior at every place of its method; reports each fit as it begins.

    Raises:
        UserError: a place cannot have this prior, or a file of it is missing or damaged.
    """
    assert spec.prior is not None
    assert spec.seed is not None
    prior, info = PRIORS.component(spec.prior), host.info()
    names = draw_names(spec, prior)
    places = method.places(info.blocks, info.stack)
    starts = {}
    for i, place in enumerate(places, start=1):
        part = f"place {i} of {len(places)}" if len(places) > 1 else ""
        report(Phase(0, f"fitting {spec.prior.name}", part))
        given = (host, tokenizer, assignment(prior).at(place), place, method.count())
        start = start_at(*given, seed=spec.seed, places=places, names=names, twin=spec.twin)
        for sentence in start.warnings:
            report(Notice(0, sentence))
        # Regularisers alone need it again.
        starts[place] = start if spec.regularisers else start._replace(distribution=None)
    return starts


def start_at(
    host: FrozenLM,
    tokenizer: Tokenizer,
    prior: Prior,
    place: Place,
    tokens: int,
    *,
    seed: int,
    places: tuple[Place, ...] = (),
    names: tuple[str, ...] = ("prior",),
    twin: float | None = None,
) -> Start:
    """Fits a prior at a place and draws `tokens` vectors.

    Args:
        prior: the one at this place, see `Assignment.at`.
        places: all places of the prompt; this one alone by default.
        names: those between the seed and the place, see `draw_names`.
        twin: by which share of its norm each vector is moved, see `TrialSpec`.

    Raises:
        UserError: the place cannot have this prior.
    """
    source = PlaceSource(host, tokenizer, place, tokens, places)
    distribution = prior.fit(source)
    sample = distribution.sample(torch_generator(seed, *names, prior.draws(place)), tokens)
    if twin is not None:
        sample = moved(sample, twin, place)
    seen = SeenSource(host, tokenizer, place, tokens)
    facts = {**distribution.record(), **_radii(prior, distribution, seen, sample)}
    return Start(source, distribution, sample, facts, distribution.warnings())


def _radii(
    prior: Prior, distribution: Distribution, seen: SeenSource, sample: Float[Tensor, "P H"]
) -> dict[str, object]:
    """Each vector's Mahalanobis radius as a quantile of the data's, and which data these are."""
    reference = seen.reference_of(prior, distribution)
    if reference is None:
        return {"radius_quantiles": None}
    quantiles = [round(q, 4) for q in reference.quantiles(seen.seen(sample)).tolist()]
    named = {"data": reference.source, "without": reference.without}
    return {"radius_quantiles": quantiles, "radius_reference": named}
