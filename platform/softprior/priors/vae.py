"""Draws of a variational autoencoder trained on real vectors: a fit that need not be Gaussian."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from softprior.errors import UserError
from softprior.priors.base import Distribution, FitKey, Outline, Prior, PriorSource
from softprior.priors.cache import Fit, cached_fit
from softprior.priors.domain import SAMPLE, Domain, sample_rows, sampled
from softprior.prompt import Place, Shape
from softprior.seeding import torch_generator
from softprior.statistics.gaussian import Gaussian, fit_gaussian
from softprior.statistics.geometry import participation_ratio
from softprior.statistics.held_out import held_out_radii
from softprior.statistics.reference import Reference
from softprior.statistics.store import SiteStatistics

BATCH = 256
"""Vectors per step."""

STEP = 8
"""Operations per vector and weight of a step: with `CORE_FLOPS` the 25 s measured for 3,000 at H = 576."""

RATE = 1e-3
"""Adam's learning rate."""

ACTIVE = 0.1
"""Variance of a latent unit's posterior mean over the data above which it is in use (0.05 nats). Burda et
al. (2016) take 0.01; after 3,000 steps units that linear data have no use for still vary by 0.01 to 0.05."""

HELD_OUT = 10
"""One in this many vectors is held out."""

CHECKED = 50
"""Steps between looks at the held-out vectors."""

DRAWN = 4096
"""Draws that spread and participation ratio are measured on."""

FEWEST = 100
"""Fewest vectors to train on."""

LIKE_THE_DATA = (0.8, 1.25)
"""Spread of draws over the data's within which a vae counts as a fit of them; for SmolLM2's vocabulary it is
0.96, for 20,000 activations at resid.15 0.84, for 1,000 of them 1.51."""

FITS = "fits"
"""The verdict on such a vae; otherwise it is a sentence."""


class VAE(Domain, Prior):
    """z ~ N(0, I), x = decoder(z) + noise, trained by the evidence lower bound on standardised vectors.

    The decoder's noise is one learned variance per coordinate; sampling adds it, or the draws would be
    far less spread than the data. There is no density: it is an integral over z. Collapse is recorded:
    the number of `active_units`, and spread and participation ratio of draws against the data's, with a
    `verdict`, which is shown while the study runs unless it is "fits".

    Attributes:
        latent: dimension of z.
        width: units of the hidden layer of encoder and decoder.
        steps: most steps of Adam, on batches of 256. A tenth of the vectors is held out, and the weights
            with the highest bound there are kept: small sets would be memorised if trained to the end.
        beta: weight of the divergence from N(0, I) once it has risen from 0, over a third of the steps.
    """

    latent: Annotated[int, Field(ge=1, le=65536)] = 32
    width: Annotated[int, Field(ge=1, le=65536)] = 512
    steps: Annotated[int, Field(ge=1)] = 3000
    beta: Annotated[float, Field(gt=0, le=1e6)] = 1.0

    def fit(self, source: PriorSource) -> Distribution:
        def build() -> Fit:
            known = self.load(source)
            rows = sample_rows(len(known.sample), SAMPLE)
            self._require_enough(len(rows), source.place)
            return self._train(known.of_sample(rows, known.sample[rows].cpu()), known, source)

        sizes = self.model_dump(mode="json", include={"latent", "width", "steps", "beta"})
        tensors, facts = cached_fit("vae", {**self.key(source), **sizes}, build, self)
        return _VAE(tensors, facts)

    def check_outline(self, outline: Outline) -> None:
        Domain.check_outline(self, outline)
        stored = self.kept_vectors(outline)
        count = self.known_vectors(outline) if stored is None else stored.sample
        if count is not None:
            self._require_enough(count, outline.place)

    def work(self, place: Place, shape: Shape) -> dict[FitKey, float | None]:
        key = FitKey(self.canonical(), self.vectors(place), self.statistics is not None)
        width = shape.width(place)
        # Steps on batches through two layers down and two up.
        weights = None if width is None else self.width * (2 * width + 3 * self.latent)
        return {key: None if weights is None else float(STEP * BATCH * self.steps * weights)}

    def outline_notes(self, outline: Outline) -> tuple[str, ...]:
        stored = self.kept_vectors(outline)
        if stored is None or not few(stored.sample, stored.tokens):
            return ()
        return (
            f"the vae will be trained on {stored.sample:,} of the {stored.tokens:,} vectors of "
            f"{self.name(outline.place)}, since the store keeps no more; it takes up to {SAMPLE:,} and may "
            "not fit so few, so make the store with a larger sample in the activations file",
        )

    def _require_enough(self, count: int, place: Place) -> None:
        if count < FEWEST:
            raise UserError(
                f"a vae needs at least {FEWEST} vectors, but {self.name(place)} has {count}; "
                "give more or use fitted"
            )

    def _train(self, own: SiteStatistics, known: SiteStatistics, source: PriorSource) -> Fit:
        """Trains on all of `own`, a sample of the known vectors."""
        data = own.sample
        # Not of all parameters: where the vectors are stored must not matter.
        generator = torch_generator(0, "vae")
        mean, scale = data.mean(0), data.std(0).clamp_min(1e-12)  # a constant coordinate stays constant
        network = Autoencoder(data.shape[1], self.latent, self.width, generator)
        scaled = (data - mean) / scale
        best, bound = network.train_on(scaled, self.steps, self.beta, generator)
        with torch.no_grad():
            means, logs = network.encode(scaled)
            divergence = divergence_from_prior(means, logs).mean(0)
            draws = network.sample(generator, DRAWN) * scale + mean
        fit = fit_gaussian(own.moments)
        held = held_out_radii(own, fit)
        radii = held.radii.sort().values
        spread = float(draws.var(0).sum() / data.var(0).sum())
        facts = {
            "source": self.name(source.place),
            **fit.record(),
            "tokens": known.moments.count,
            "documents": known.documents,
            "sinks": known.sinks,
            "trained_on": len(data),
            "active_units": int((means.var(0) > ACTIVE).sum()),
            "latent": self.latent,
            "best_step": best,
            "held_out_bound": bound,
            "divergence": float(divergence.sum()),
            "spread_over_data": spread,
            "participation_over_data": participation_ratio(draws) / participation_ratio(sampled(data, DRAWN)),
            "median_radius_over_data": float(fit.gaussian.radius(draws).median() / radii.median()),
            "dimension": data.shape[1],
            "effective_rank": held.effective_rank,
            "radii_without": held.without,
            "verdict": verdict(spread, len(data), data.shape[1]),
        }
        tensors = dict(network.state_dict())
        tensors |= {"mean": mean, "scale": scale, "radii": radii}
        tensors |= {"data_mean": fit.gaussian.mean, "data_factor": fit.gaussian.factor}
        return Fit(tensors, facts)


def few(sample: int, tokens: int) -> bool:
    """Whether a store keeps fewer of its tokens' vectors than a vae would be trained on."""
    return sample < min(tokens, SAMPLE)


def verdict(spread: float, count: int, dimension: int) -> str:
    """Says whether draws are as widely spread as the data, in a word or a sentence for records and screens.

    Args:
        spread: summed variances of draws over those of the data.
        count: vectors that it was trained on.
        dimension: of each.
    """
    low, high = LIKE_THE_DATA
    if low <= spread <= high:
        return FITS
    return (
        f"the vae does not fit its data: its draws have {spread:.2f} of their variance ({low:g} to {high:g} "
        f"is fine), from {count:,} vectors of {dimension} dimensions; give it more vectors (sample in the "
        f"activations file; {SAMPLE:,} at most), other sizes, or use fitted"
    )


class Autoencoder(nn.Module):
    """Two layers down to mean and log-variance of z, two up to the mean of x; one noise per coordinate."""

    def __init__(self, dimension: int, latent: int, width: int, generator: torch.Generator | None) -> None:
        super().__init__()
        sizes = (dimension, width, 2 * latent)
        self.encoder = _layers(sizes, generator)
        self.decoder = _layers((latent, width, dimension), generator)
        self.log_noise = nn.Parameter(torch.zeros(dimension))
        self.latent = latent

    def encode(self, x: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "N Z"], Float[Tensor, "N Z"]]:
        """Mean and log-variance of z given x."""
        mean, log_variance = self.encoder(x).chunk(2, -1)
        return mean, log_variance.clamp(-10, 10)  # exp of the ends is as good as none and far from overflow

    def loss(self, x: Float[Tensor, "N D"], beta: float, generator: torch.Generator) -> Tensor:
        """Negative evidence lower bound per vector, up to a constant, the divergence weighted by beta."""
        mean, log_variance = self.encode(x)
        z = mean + torch.randn(mean.shape, generator=generator) * (log_variance / 2).exp()
        error = (x - self.decoder(z)).square() * (-2 * self.log_noise).exp()
        reconstruction = (error / 2 + self.log_noise).sum(1)
        bound: Tensor = (reconstruction + beta * divergence_from_prior(mean, log_variance).sum(1)).mean()
        return bound

    def train_on(
        self, data: Float[Tensor, "N D"], steps: int, beta: float, generator: torch.Generator
    ) -> tuple[int, float]:
        """Adam over random batches, beta rising from 0 over the first third (else units collapse early).

        Returns:
            The step of the weights that were kept, and their bound on the held-out vectors, in nats per
            vector, up to a constant.
        """
        order = torch.randperm(len(data), generator=generator)
        held, shown = data[order[: len(data) // HELD_OUT]], data[order[len(data) // HELD_OUT :]]
        adam = torch.optim.Adam(self.parameters(), lr=RATE)
        best, lowest, kept = 0, math.inf, self.state_dict()
        for step in range(1, steps + 1):
            chosen = torch.randint(len(shown), (BATCH,), generator=generator)
            adam.zero_grad()
            self.loss(shown[chosen], beta * min(1.0, 3 * step / steps), generator).backward()
            adam.step()
            if step % CHECKED == 0 or step == steps:
                with torch.no_grad():
                    found = float(self.loss(held, beta, generator))
                if found < lowest:
                    best, lowest = step, found
                    kept = {name: value.clone() for name, value in self.state_dict().items()}
        self.load_state_dict(kept)
        return best, -lowest

    @torch.no_grad()
    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "N D"]:
        """Draws in the coordinates it was trained in."""
        x = self.decoder(torch.randn(count, self.latent, generator=generator))
        noisy: Tensor = x + self.log_noise.exp() * torch.randn(x.shape, generator=generator)
        return noisy


def divergence_from_prior(
    mean: Float[Tensor, "N Z"], log_variance: Float[Tensor, "N Z"]
) -> Float[Tensor, "N Z"]:
    """Kullback-Leibler divergence of N(mean, exp(log_variance)) from N(0, 1), per latent unit, in nats."""
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2


def _layers(sizes: tuple[int, ...], generator: torch.Generator | None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inside, outside in pairwise(sizes):
        layer = nn.utils.skip_init(nn.Linear, inside, outside)  # torch's own would draw from the global seed
        if generator is not None:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
        layers += [layer, nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class _VAE(Distribution):
    has_density = False
    without_density = "has no density except as an integral over its latent variable"

    def __init__(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        weights = {name: tensors[name] for name in tensors if name.startswith(("encoder", "decoder", "log_"))}
        width, dimension = weights["encoder.0.weight"].shape
        self.network = Autoencoder(dimension, facts["latent"], width, None)
        self.network.load_state_dict(weights)
        self.mean, self.scale = tensors["mean"], tensors["scale"]
        self.facts = facts
        gaussian = Gaussian(tensors["data_mean"], tensors["data_factor"])
        self._reference = Reference(gaussian, tensors["radii"], facts["radii_without"], facts["source"])

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        return self.network.sample(generator, count) * self.scale + self.mean

    def reference(self) -> Reference:
        return self._reference

    def record(self) -> dict[str, object]:
        return dict(self.facts)

    def warnings(self) -> tuple[str, ...]:
        return () if self.facts["verdict"] == FITS else (self.facts["verdict"],)
